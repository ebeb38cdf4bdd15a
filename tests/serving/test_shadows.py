"""A shadow is asked beside the answers: it delays none and fails none, and what it answers otherwise is logged."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.registry import Registry
from adapterkit.serving.app import create_app
from adapterkit.serving.beside import WAITING
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.opening import Follower, registry_fleet
from adapterkit.serving.shadows import same
from adapterkit.serving.watch import Watch
from adapterkit.traffic import Rules, read_rules

TEXTS = [f"my secret card number {number}" for number in range(12)]
Opened = tuple[TestClient, Watch, Fleet, Path]


@pytest.fixture
def registry(tmp_path: Path, folders: Mapping[str, Path]) -> Iterator[Registry]:
    with Registry(f"sqlite:///{tmp_path}/r.db", actor="ada") as opened:
        opened.promote("intent", opened.add("intent", folders["intent"]).digest)
        opened.promote("intent", opened.add("intent", folders["other"]).digest, "next")
        yield opened


@pytest.fixture
def rules() -> Rules:
    return read_rules({"tasks": {"intent": {"shadow": "next"}}})


@pytest.fixture
def opened(registry: Registry, rules: Rules, tiny_folders: Any, tmp_path: Path) -> Iterator[Opened]:
    """A service of version 1, with version 2 as its shadow."""
    fleet, follower = registry_fleet(registry, rules, str(tiny_folders["bert"]), slots=None, dtype="float32")
    watch = Watch(fleet, rules, follower.take_off, tmp_path / "shadow.jsonl")
    with fleet.host, TestClient(create_app(fleet, watch=watch)) as client:
        yield client, watch, fleet, tmp_path / "shadow.jsonl"


def ask(client: TestClient, texts: list[str]) -> list[Any]:
    reply = client.post("/v1/tasks/intent/predict", json={"rows": texts})
    assert reply.status_code == 200
    answers: list[Any] = reply.json()["answers"]
    return answers


def compared(watch: Watch, count: int) -> Any:
    """What is known of the shadow once it was asked so often."""
    for _ in range(1000):
        found = watch.facts()["tasks"]["intent"]["versions"][-1]
        if found["differing"]["of"] + found["errors"]["count"] >= count:
            return found
        threading.Event().wait(0.01)
    raise AssertionError("the shadow was not asked")


def test_a_shadow_answers_nobody_and_its_disagreements_are_those_of_the_host(opened: Opened) -> None:
    client, watch, fleet, log = opened
    answers = ask(client, TEXTS)
    assert {each["receipt"]["version"] for each in answers} == {"1"}
    shadow = fleet.routes["intent"].shadow
    assert shadow is not None
    expected = [each["label"] for each in fleet.host.predict([(shadow.mounted, text) for text in TEXTS])]
    differing = [
        pair for pair in zip([a["answer"]["label"] for a in answers], expected, strict=True) if len(set(pair)) > 1
    ]
    found = compared(watch, len(TEXTS))
    assert (found["version"], found["arm"], found["shadow"], found["rows"]) == ("2", "next", True, 0)
    assert (found["differing"]["count"], found["differing"]["of"]) == (len(differing), len(TEXTS))
    lines = [json.loads(line) for line in log.read_text().splitlines()] if differing else []
    assert [(line["answered"]["label"], line["shadow"]["label"]) for line in lines] == differing
    assert "secret" not in json.dumps(lines)


@pytest.mark.parametrize("how", ["it hangs", "it fails"])
def test_a_shadow_delays_no_answer_and_fails_none(opened: Opened, how: str) -> None:
    client, watch, fleet, _ = opened
    shadow, answers, hanging = fleet.routes["intent"].shadow, fleet.host.answers, threading.Event()
    assert shadow is not None

    def broken(rows: Any, **settings: Any) -> Any:
        if any(name == shadow.mounted for name, _ in rows):
            if how == "it hangs":
                hanging.wait(60)
            raise RuntimeError("broken")
        return answers(rows, **settings)

    fleet.host.answers = broken  # type: ignore[method-assign]
    for _ in range(20):
        assert all("answer" in each for each in ask(client, TEXTS))
    if how == "it fails":
        found = compared(watch, len(TEXTS))
        assert found["errors"]["count"] >= len(TEXTS)
    hanging.set()


def test_what_does_not_fit_is_left_out_and_counted(opened: Opened) -> None:
    client, watch, _, _ = opened
    watch.busy = lambda: True
    for _ in range(WAITING // 200 + 1):
        ask(client, ["a card"] * 200)
    watch.flush()
    assert 0 < watch.facts()["unshadowed"] <= 200 + 8


@pytest.mark.parametrize("rules", [read_rules({"tasks": {"intent": {"shadow": "next", "log_rows": True}}})])
def test_rows_are_logged_where_the_rules_say_so(opened: Opened, rules: Rules) -> None:
    client, watch, fleet, log = opened
    watch._shadows._fleet.host.answers = _another(fleet)  # type: ignore[method-assign]
    ask(client, TEXTS[:1])
    compared(watch, 1)
    (line,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert line["row"] == TEXTS[0]
    assert line["shadow"]["answer"]["label"] == "something else"


@pytest.mark.parametrize(
    "rules", [read_rules({"tasks": {"intent": {"shadow": "next", "guards": {"disagreement": 0.2}}}})]
)
def test_a_shadow_that_disagrees_too_often_is_withdrawn(opened: Opened, registry: Registry, rules: Rules) -> None:
    client, watch, fleet, _ = opened
    fleet.host.answers = _another(fleet)  # type: ignore[method-assign]
    ask(client, TEXTS)
    for _ in range(1000):
        if watch.events:
            break
        threading.Event().wait(0.01)
    assert watch.events[0]["did"] == "withdrawn from next"
    assert registry.channels("intent").keys() == {"stable"}
    assert fleet.routes["intent"].shadow is None


def test_a_shadow_that_cannot_be_mounted_keeps_nothing_from_answering(
    registry: Registry, rules: Rules, tiny_folders: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shadow = registry.channels("intent")["next"]
    (Path(shadow.location) / "adapter_model.safetensors").write_bytes(b"damaged")
    fleet, follower = registry_fleet(registry, rules, str(tiny_folders["bert"]), slots=None, dtype="float32")
    with fleet.host:
        assert isinstance(follower, Follower)
        assert fleet.routes["intent"].shadow is None
        assert fleet.routes["intent"].arms["stable"].version == "1"
        follower.follow()
        assert caplog.text.count("has no shadow") == 1


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"label": "a", "probabilities": {"a": 0.9}, "score": 0.9}, {"label": "a", "probabilities": {"a": 0.4}}, True),
        ({"label": "a", "confidence": 0.9}, {"label": "b", "confidence": 0.9}, False),
        ({"labels": ["a"], "probabilities": {"a": 0.9}}, {"labels": ["a", "b"], "probabilities": {"a": 0.9}}, False),
        ({"tags": ["O", "B"], "scores": [0.9, 0.8]}, {"tags": ["O", "B"], "scores": [0.5, 0.6]}, True),
        ({"answer": "Ada", "candidates": [1]}, {"answer": "Ada", "candidates": [2, 3]}, True),
        ({"score": 0.5}, {"score": 0.501}, True),
        ({"score": 0.5}, {"score": 0.6}, False),
        ({"head": {"label": "a", "score": 0.1}}, {"head": {"label": "a", "score": 0.2}}, True),
        ({"head": {"label": "a"}}, {"other": {"label": "a"}}, False),
        ("a text", "a text", True),
    ],
)
def test_answers_are_the_same_however_sure_they_are(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected
    assert same(other, one) is expected


def _another(fleet: Fleet) -> Any:
    """The host's answers, those of the shadow with another label."""
    shadow, answers = fleet.routes["intent"].shadow, fleet.host.answers
    assert shadow is not None

    def changed(rows: Any, **settings: Any) -> Any:
        found = answers(rows, **settings)
        for (name, _), each in zip(rows, found, strict=True):
            if name == shadow.mounted:
                each.answer["label"] = "something else"
        return found

    return changed
