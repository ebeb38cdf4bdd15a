"""What is asked over HTTP is what the host answers, each answer with a receipt that says whose it is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.manifest import open_manifest
from adapterkit.serving.figures import MOST_SERIES
from adapterkit.serving.fleet import Fleet, Receipt
from adapterkit.serving.work import Done, Item
from tests.host.artifacts import differences

TEXTS = ("my card was lost", "where is the nearest station", "the quick brown fox")


def predicted(client: TestClient, rows: list[Any], **more: Any) -> list[Any]:
    """The answers to rows."""
    reply = client.post("/v1/predict", json={"rows": rows, **more})
    assert reply.status_code == 200, reply.text
    answers: list[Any] = reply.json()["answers"]
    return answers


def test_a_mixed_batch_is_answered_as_the_host_answers(client: TestClient, fleet: Fleet) -> None:
    rows = [{"task": task, "text": text} for text in TEXTS for task in ("intent", "other", "tags")]
    expected = fleet.host.predict([(fleet.routes[r["task"]].arms["stable"].mounted, r["text"]) for r in rows])
    found = predicted(client, rows)
    assert differences([each["answer"] for each in found], expected) == []


def test_every_receipt_names_the_artifact_that_answered(
    client: TestClient, fleet: Fleet, folders: Mapping[str, Path]
) -> None:
    for task, answer in zip(
        folders, predicted(client, [{"task": task, "text": "a card"} for task in folders]), strict=True
    ):
        manifest = open_manifest(folders[task])
        assert answer["receipt"] == {
            "task": task,
            "version": "1",
            "artifact": manifest.sha256,
            "backbone": manifest.backbone.fingerprint,
            "arm": "stable",
        }


def test_a_bad_row_costs_no_other_its_answer(standing: TestClient) -> None:
    good = {"task": "intent", "text": "a card"}
    alone = predicted(standing, [good])[0]
    bad: list[Any] = [{"task": "intnet", "text": "x"}, {"task": "intent", "text": 5}, {"text": "x"}, {"task": "intent"}]
    found = predicted(standing, [bad[0], good, *bad[1:], good])
    assert [each.get("error", {}).get("code") for each in found] == [
        "not_mounted",
        None,
        "bad_row",
        "bad_row",
        "bad_row",
        None,
    ]
    assert differences([found[1], found[5]], [alone, alone]) == []
    assert "did you mean 'intent'" in found[0]["error"]["message"]


def test_all_tasks_answer_one_row(standing: TestClient, folders: Mapping[str, Path]) -> None:
    found = standing.post("/v1/predict_all", json={"row": "a card"}).json()["answers"]
    assert found.keys() == folders.keys()
    some = standing.post("/v1/predict_all", json={"row": {"text": "a card"}, "tasks": ["tags"]}).json()["answers"]
    assert differences(some["tags"], found["tags"]) == []


def test_one_task_has_a_path_of_its_own(standing: TestClient) -> None:
    found = standing.post("/v1/tasks/intent/predict", json={"rows": ["a card", {"text": "a card"}]}).json()["answers"]
    assert found[0] == found[1]
    assert standing.post("/v1/tasks/none/predict", json={"rows": ["a"]}).status_code == 404


def test_what_can_be_asked_is_listed(standing: TestClient, folders: Mapping[str, Path]) -> None:
    listed = {each["task"]: each for each in standing.get("/v1/tasks").json()["tasks"]}
    assert listed.keys() == folders.keys()
    assert listed["tags"]["kind"] == "token-classification"
    assert listed["tags"]["arms"]["stable"]["artifact"] == open_manifest(folders["tags"]).sha256


def test_it_is_ready_when_every_task_answers(client: TestClient, fleet: Fleet) -> None:
    assert client.get("/readyz").json() == {"ready": True, "draining": False, "wrong": []}
    fleet.wrong["late"] = "late does not answer as when it was saved"
    assert client.get("/readyz").json() == {"ready": False, "draining": False, "wrong": ["late"]}
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").json() == {"status": "alive"}


def test_swaps_under_load_lose_no_row_and_mix_no_receipt(
    client: TestClient, fleet: Fleet, folders: Mapping[str, Path]
) -> None:
    digests = {name: open_manifest(folders[name]).sha256 for name in ("intent", "other")}
    rows = [{"task": "intent", "text": text} for text in TEXTS]
    expected = {}
    for name in ("other", "intent"):
        fleet.mount("intent", str(folders[name]), open_manifest(folders[name]))
        expected[digests[name]] = [each["answer"] for each in predicted(client, rows)]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("other", "intent"):
                fleet.mount("intent", str(folders[name]), open_manifest(folders[name]))

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        found = [predicted(client, rows) for _ in range(40)]
    finally:
        stop.set()
        thread.join()
    seen = set()
    for answers in found:
        for place, answer in enumerate(answers):
            digest = answer["receipt"]["artifact"]
            seen.add(digest)
            assert differences(answer["answer"], expected[digest][place]) == []
    assert seen == set(digests.values())


def test_figures_count_answers_and_hold_no_text(client: TestClient) -> None:
    predicted(client, [{"task": "intent", "text": "my secret card"}] * 3 + [{"task": "secret task", "text": "x"}])
    text = client.get("/metrics").text
    assert 'adapterkit_answers_total{arm="stable",task="intent",version="1"} 3.0' in text
    assert 'adapterkit_row_errors_total{code="not_mounted",task=""} 1.0' in text
    assert "secret" not in text


@pytest.mark.parametrize(("given", "right"), [({"right": True}, "true"), ({"answer": "yes", "label": "no"}, "false")])
def test_feedback_is_counted(client: TestClient, given: dict[str, Any], right: str) -> None:
    assert client.post("/v1/feedback", json={"task": "intent", "version": "1", **given}).json() == {"taken": True}
    assert f'adapterkit_feedback_total{{right="{right}",task="intent",version="1"}} 1.0' in client.get("/metrics").text


def test_a_service_that_swaps_versions_for_months_keeps_the_figures_of_a_few(client: TestClient, fleet: Fleet) -> None:
    predicted(client, [{"task": "intent", "text": "a card"}])
    figures, receipt = client.app._app.state.service.figures, Receipt("intent", "", "", "", "stable")  # type: ignore[attr-defined]
    for number in range(3 * MOST_SERIES):
        done = Done({"confidence": 0.5}, replace(receipt, version=f"old {number}"), None, 1)
        figures.observe(Item("intent", "a card", "", "", None, None), done)  # type: ignore[arg-type]
    text = client.get("/metrics").text
    assert text.count("adapterkit_answers_total{") <= MOST_SERIES
    assert text.count("adapterkit_confidence_count{") <= MOST_SERIES
    assert 'adapterkit_answers_total{arm="stable",task="intent",version="1"} 1.0' in text
