"""Who may steer a service, and what steering does to the rows that are under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.errors import MountError
from adapterkit.manifest import open_manifest
from adapterkit.registry import Registry
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.keys import add_key, read_keys
from adapterkit.serving.opening import registry_fleet
from adapterkit.traffic import read_rules

ROW = {"task": "intent", "text": "a card"}
ACTS: Mapping[str, dict[str, Any]] = {
    "mount": {"task": "intent", "source": "runs/x"},
    "unmount": {"task": "intent"},
    "promote": {"task": "intent", "version": "1"},
    "roll-back": {"task": "intent"},
    "split": {"task": "intent", "split": {"stable": 1}},
    "drain": {"on": True},
}
LOOKS = ("fleet", "audit", "tasks/intent/versions", "tasks/intent/versions/1", "tasks/intent/versions/1/report")


def act(client: TestClient, name: str, **more: Any) -> Any:
    """What an act gives, which was done."""
    reply = client.post(f"/v1/admin/{name}", json=more)
    assert reply.status_code == 200, reply.text
    return reply.json()


def receipt(client: TestClient, **more: Any) -> Any:
    """The receipt of one answer."""
    return client.post("/v1/predict", json={"rows": [ROW], **more}).json()["answers"][0]["receipt"]


@pytest.fixture
def registry(tmp_path: Path, folders: Mapping[str, Path]) -> Iterator[Registry]:
    """Two versions of a task, the first one stable."""
    with Registry(f"sqlite:///{tmp_path}/r.db", actor="ada") as made:
        made.add("intent", folders["intent"])
        made.add("intent", folders["other"])
        made.promote("intent", "1")
        yield made


@pytest.fixture
def steered(registry: Registry, tiny_folders: Any, tmp_path: Path) -> Iterator[TestClient]:
    """A service that follows that registry, asked by its admin."""
    secret = add_key(tmp_path / "keys.json", "grace", ["predict", "admin"])
    fleet, follower = registry_fleet(registry, read_rules({}), str(tiny_folders["bert"]), slots=None, dtype="float32")
    app = create_app(fleet, keys=read_keys(tmp_path / "keys.json"), follower=follower)
    with fleet.host, TestClient(app, headers={"authorization": f"Bearer {secret}"}) as client:
        yield client


def test_nobody_steers_without_the_scope(fleet: Fleet, tmp_path: Path) -> None:
    secret = add_key(tmp_path / "keys.json", "ada", ["predict", "feedback"])
    with TestClient(create_app(fleet, keys=read_keys(tmp_path / "keys.json"))) as client:
        for headers, status in (({}, 401), ({"authorization": f"Bearer {secret}"}, 403)):
            replies = [client.post(f"/v1/admin/{name}", json=body, headers=headers) for name, body in ACTS.items()]
            replies += [client.get(f"/v1/admin/{path}", headers=headers) for path in LOOKS]
            assert {reply.status_code for reply in replies} == {status}
    assert not fleet.draining


def test_a_promotion_by_an_admin_answers_at_once_and_the_audit_says_who(
    steered: TestClient, registry: Registry, folders: Mapping[str, Path]
) -> None:
    assert receipt(steered)["version"] == "1"
    tried = act(steered, "promote", task="intent", version="2", try_only=True)
    assert receipt(steered)["version"] == "1"
    assert {name: found["passed"] for name, found in tried["evidence"].items()} == dict.fromkeys(
        ("files", "contract", "golden rows"), True
    )
    assert tried["problems"] == []
    act(steered, "promote", task="intent", version="2")
    assert receipt(steered)["artifact"] == open_manifest(folders["other"]).sha256
    act(steered, "roll-back", task="intent")
    assert receipt(steered)["artifact"] == open_manifest(folders["intent"]).sha256
    assert [(entry.actor, entry.action) for entry in registry.entries("intent")[-2:]] == [
        ("grace", "promote"),
        ("grace", "roll-back"),
    ]
    told = steered.get("/v1/admin/audit").json()
    assert (told["problems"], told["entries"][0]["actor"]) == ([], "grace")


def test_a_gate_stops_an_admin_who_is_told_why(steered: TestClient, registry: Registry) -> None:
    registry.set_gate({"require": ["compare"]})
    reply = steered.post("/v1/admin/promote", json={"task": "intent", "version": "2"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "gate")
    assert "compare: no evidence" in reply.json()["error"]["message"]
    assert receipt(steered)["version"] == "1"
    act(steered, "promote", task="intent", version="2", force="the comparison is late")
    assert registry.history("intent")[-1].forced == "the comparison is late"


def test_a_split_is_kept_by_the_registry(steered: TestClient, registry: Registry) -> None:
    refused = steered.post("/v1/admin/split", json={"task": "intent", "split": {"stable": 1, "candidate": 1}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "registry")
    act(steered, "promote", task="intent", version="2", channel="candidate")
    act(steered, "split", task="intent", split={"stable": 0.5, "candidate": 0.5})
    assert {receipt(steered, key=f"user {n}")["arm"] for n in range(40)} == {"stable", "candidate"}
    assert registry.shares("intent") == {"stable": 0.5, "candidate": 0.5}
    assert registry.entries("intent")[-1].actor == "grace"
    assert registry.audit()
    act(steered, "split", task="intent", split={"stable": 1})
    assert {receipt(steered, key=f"user {n}")["arm"] for n in range(40)} == {"stable"}


def test_what_is_promoted_keeps_the_service_ready(steered: TestClient) -> None:
    assert steered.get("/readyz").status_code == 200
    act(steered, "promote", task="intent", version="2")
    assert steered.get("/readyz").json() == {"ready": True, "draining": False, "wrong": []}


def test_a_version_shows_its_card_and_no_path_of_the_machine(
    steered: TestClient, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    listed = steered.get("/v1/admin/tasks/intent/versions")
    assert [each["channels"] for each in listed.json()["versions"]] == [["stable"], []]
    about = steered.get("/v1/admin/tasks/intent/versions/2").json()
    assert about["digest"] == open_manifest(folders["other"]).sha256
    assert about["card"].startswith("---\n")
    for reply in (listed, steered.get("/v1/admin/fleet")):
        assert str(tmp_path) not in reply.text
        assert str(folders["intent"].parent) not in reply.text
    assert steered.get("/v1/admin/tasks/intent/versions/9").status_code == 422
    assert steered.get("/v1/admin/tasks/intent/versions/1/report").status_code == 404


def test_without_a_registry_artifacts_are_mounted_and_taken_off(
    client: TestClient, folders: Mapping[str, Path], tmp_path: Path
) -> None:
    act(client, "mount", task="intent", source=str(folders["other"]))
    assert receipt(client)["artifact"] == open_manifest(folders["other"]).sha256
    wrong = client.post("/v1/admin/mount", json={"task": "intent", "source": str(tmp_path / "none")})
    assert wrong.status_code == 422
    assert receipt(client)["artifact"] == open_manifest(folders["other"]).sha256
    act(client, "unmount", task="intent")
    assert client.post("/v1/predict", json={"rows": [ROW]}).json()["answers"][0]["error"]["code"] == "not_mounted"
    assert client.post("/v1/admin/promote", json=ACTS["promote"]).status_code == 422
    assert [done["action"] for done in client.get("/v1/admin/audit").json()["acts"]] == ["unmount", "mount"]
    assert {done["actor"] for done in client.get("/v1/admin/audit").json()["acts"]} == {"anybody"}


def test_what_is_drained_sends_new_requests_elsewhere_and_answers_what_it_took(client: TestClient) -> None:
    found: list[int] = []
    asking = threading.Thread(
        target=lambda: found.append(client.post("/v1/predict", json={"rows": [ROW] * 200}).status_code)
    )
    asking.start()
    act(client, "drain")
    asking.join()
    assert found[0] in (200, 503)
    refused = client.post("/v1/predict", json={"rows": [ROW]})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    act(client, "drain", on=False)
    assert receipt(client)["task"] == "intent"


def test_what_does_not_answer_its_golden_rows_never_answers_anything(
    fleet: Fleet, folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fleet.routes["intent"]
    real = fleet.host.predict
    answers_before = before.arms["stable"].mounted
    monkeypatch.setattr(fleet.host, "predict", lambda rows: real([(answers_before, row) for _, row in rows]))
    fleet.checked.clear()
    manifest = open_manifest(folders["other"])
    with pytest.raises(MountError, match="does not answer as when it was saved"):
        fleet.mount("intent", str(folders["other"]), manifest)
    assert fleet.routes["intent"] is before
    assert f"intent@{manifest.sha256[:16]}" not in fleet.host
