"""Versions are watched while they answer: counted, compared, and taken off when they break a guard."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.host import Host
from adapterkit.manifest import open_manifest
from adapterkit.registry import Registry
from adapterkit.serving.alerts import Alerts
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.opening import registry_fleet
from adapterkit.serving.watch import Watch
from adapterkit.traffic import read_rules

ROW = {"task": "intent", "text": "a card"}


@contextmanager
def listening(statuses: list[int]) -> Iterator[tuple[str, list[Any]]]:
    """A web address that answers with these statuses in turn, the last one for ever, and what it was told."""
    told: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(statuses[min(len(told), len(statuses)) - 1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def registry(tmp_path: Path, folders: Mapping[str, Path]) -> Iterator[Registry]:
    """Two versions, both of which were stable, the second being so now."""
    with Registry(f"sqlite:///{tmp_path}/r.db", actor="ada") as opened:
        for name in ("intent", "other"):
            opened.promote("intent", opened.add("intent", folders[name]).digest)
        yield opened


@contextmanager
def served(registry: Registry, tiny_folders: Any, rules: Any) -> Iterator[tuple[TestClient, Watch, Fleet]]:
    """A service that follows a registry under rules."""
    read = read_rules(rules)
    fleet, follower = registry_fleet(registry, read, str(tiny_folders["bert"]), slots=None, dtype="float32")
    watch = Watch(fleet, read, follower.take_off)
    with fleet.host, TestClient(create_app(fleet, watch=watch)) as client:
        yield client, watch, fleet


def tell(client: TestClient, version: str, right: bool, count: int) -> None:
    for _ in range(count):
        told = {"task": "intent", "version": version, "right": right}
        assert client.post("/v1/feedback", json=told).status_code == 200


def test_what_is_answered_is_counted_per_version(client: TestClient) -> None:
    client.post("/v1/predict", json={"rows": [ROW, ROW, {"task": "intent", "text": 5}]})
    client.post("/v1/feedback", json={"task": "intent", "version": "1", "right": True})
    found: Any = {}
    for _ in range(200):
        (found,) = client.get("/v1/quality").json()["tasks"]["intent"]["versions"]
        if found["right"]["of"]:
            break
    assert (found["version"], found["arm"], found["rows"], found["errors"]["count"]) == ("1", "stable", 2, 0)
    assert found["right"]["count"] == 1
    assert 0 < found["confidence"]["value"] <= 1
    assert sum(found["labels"].values()) == 2


def test_a_stable_version_that_breaks_a_guard_is_rolled_back_and_the_audit_says_why(
    registry: Registry, tiny_folders: Any
) -> None:
    with listening([200]) as (address, told):
        rules = {"tasks": {"intent": {"guards": {"feedback": 0.9}}}, "alerts": [address]}
        with served(registry, tiny_folders, rules) as (client, watch, fleet):
            bad = fleet.routes["intent"].arms["stable"].digest
            tell(client, "2", right=False, count=10)
            watch.flush()
            assert registry.channels("intent")["stable"].number == 1
            assert fleet.routes["intent"].arms["stable"].version == "1"
            (event,) = client.get("/v1/quality").json()["events"]
            assert client.post("/v1/predict", json={"rows": [ROW]}).json()["answers"][0]["receipt"]["version"] == "1"
            tell(client, "1", right=False, count=30)  # nothing is left to go back to: it goes on, and says so
            watch.flush()
            assert fleet.routes["intent"].arms["stable"].version == "1"
            assert "it goes on" in watch.events[-1]["did"]
    last = registry.entries("intent")[-1]
    assert (last.action, last.details["before"]) == ("roll-back", bad)
    assert last.details["why"]["guard"] == "feedback"
    assert last.details["why"]["evidence"]["high"] < 0.9
    assert event["did"] == "rolled back to version 1"
    assert told[0] == event
    assert len(watch.events) == 2


def test_a_candidate_that_breaks_a_guard_is_withdrawn_and_stable_answers_all(
    registry: Registry, tiny_folders: Any
) -> None:
    registry.promote("intent", "1", "candidate")
    rules = {"tasks": {"intent": {"split": {"stable": 0.5, "candidate": 0.5}, "guards": {"feedback": 0.9}}}}
    with served(registry, tiny_folders, rules) as (client, watch, fleet):
        tell(client, "2", right=True, count=30)
        tell(client, "1", right=False, count=30)
        watch.flush()
        assert fleet.routes["intent"].arms.keys() == {"stable"}
        assert watch.events[-1]["did"] == "withdrawn from candidate"
        assert watch.facts()["tasks"]["intent"]["versions"][0]["right"]["count"] == 30
    assert registry.channels("intent").keys() == {"stable"}
    assert registry.audit()


def test_a_running_split_says_which_arm_is_better(registry: Registry, tiny_folders: Any) -> None:
    registry.promote("intent", "1", "candidate")
    with served(registry, tiny_folders, {"tasks": {"intent": {"split": {"stable": 1, "candidate": 1}}}}) as (
        client,
        watch,
        _,
    ):
        for version, right in (("2", 8), ("1", 38)):
            tell(client, version, right=True, count=right)
            tell(client, version, right=False, count=40 - right)
        watch.flush()
        (verdict,) = client.get("/v1/quality").json()["tasks"]["intent"]["verdicts"]
    assert (verdict["arm"], verdict["against"], verdict["says"]) == ("candidate", "stable", "better")
    assert 0 < verdict["difference"]["low"] < 0.75 < verdict["difference"]["high"]


def test_two_replicas_that_see_the_same_roll_back_once(registry: Registry, tiny_folders: Any) -> None:
    third = registry.add("intent", registry.fetch("intent", "1"))
    registry.promote("intent", third.digest)
    rules = {"tasks": {"intent": {"guards": {"feedback": 0.9}}}}
    with (
        served(registry, tiny_folders, rules) as (one, watch_one, _),
        served(registry, tiny_folders, rules) as (other, watch_other, fleet),
    ):
        for client, watch in ((one, watch_one), (other, watch_other)):
            tell(client, "1", right=False, count=10)
            watch.flush()
        assert watch_one.events[-1]["did"] == "rolled back to version 2"
        assert watch_other.events[-1]["did"] == "taken off by somebody else already"
        assert fleet.routes["intent"].arms["stable"].version == "2"
    assert [entry.action for entry in registry.entries("intent")].count("roll-back") == 1


def test_without_a_registry_what_was_mounted_before_answers_again(
    tiny_backbones: Any, folders: Mapping[str, Path]
) -> None:
    with Host(tiny_backbones["bert"]) as host:
        fleet = Fleet(host)
        watch = Watch(fleet, read_rules({"tasks": {"intent": {"guards": {"errors": 0.1}}}}))
        with TestClient(create_app(fleet, watch=watch)) as client:
            for name in ("intent", "other"):
                fleet.mount("intent", str(folders[name]), open_manifest(folders[name]))
            digests = {name: open_manifest(folders[name]).sha256 for name in ("intent", "other")}
            answers, broken = host.answers, fleet.routes["intent"].arms["stable"].mounted

            def failing(rows: Any, **settings: Any) -> Any:
                if any(name == broken for name, _ in rows):
                    raise RuntimeError("broken")
                return answers(rows, **settings)

            host.answers = failing  # type: ignore[method-assign]
            for _ in range(10):
                found = client.post("/v1/predict", json={"rows": [ROW]}).json()["answers"][0]
                watch.flush()
                if "receipt" in found:
                    break
    assert found["receipt"]["artifact"] == digests["intent"]
    assert watch.events[-1]["artifact"] == digests["other"]
    assert watch.events[-1]["did"] == "what was mounted before answers again"


def test_a_version_that_fails_costs_no_other_its_answers_and_is_blamed_alone(client: TestClient, fleet: Fleet) -> None:
    answers, broken = fleet.host.answers, fleet.routes["other"].arms["stable"].mounted

    def failing(rows: Any, **settings: Any) -> Any:
        if any(name == broken for name, _ in rows):
            raise RuntimeError("broken")
        return answers(rows, **settings)

    fleet.host.answers = failing  # type: ignore[method-assign]
    rows = [ROW, {"task": "other", "text": "a card"}, {"task": "tags", "text": "a card"}]
    found = client.post("/v1/predict", json={"rows": rows}).json()["answers"]
    assert ["receipt" in each for each in found] == [True, False, True]
    for _ in range(200):
        tasks = client.get("/v1/quality").json()["tasks"]
        errors = {task: each["versions"][0]["errors"]["count"] for task, each in tasks.items()}
        if errors["other"]:
            break
    assert errors == {"intent": 0, "other": 1, "tags": 0}


def test_an_alert_is_tried_again_and_what_cannot_be_sent_is_counted() -> None:
    with listening([500, 200, 500]) as (address, told):
        alerts = Alerts([address], pause_s=0.0)
        for number in range(2):
            alerts.send({"number": number})
        for _ in range(500):
            if alerts.sent + alerts.lost == 2:
                break
            threading.Event().wait(0.01)
        alerts.stop()
    assert (alerts.sent, alerts.lost) == (1, 1)
    assert [each["number"] for each in told] == [0, 0, 1, 1, 1]
