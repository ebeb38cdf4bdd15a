"""Two backbones in one service: each arm answers on its own, and traffic moves between them and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.errors import ContractError, ServingError
from adapterkit.host import Host
from adapterkit.manifest import open_manifest
from adapterkit.registry import Registry
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.hosts import Hosts
from adapterkit.serving.opening import mounted_fleet, registry_fleet
from adapterkit.traffic import read_rules
from tests.host.artifacts import differences
from tests.serving.conftest import NEW

TEXTS = ("my card was lost", "where is the nearest station")


@pytest.fixture(scope="module")
def changing(
    tmp_path_factory: pytest.TempPathFactory, tiny_folders: Any, folders: Mapping[str, Path], moved: Mapping[str, Path]
) -> Iterator[tuple[TestClient, Registry, Fleet]]:
    """A service on both backbones: the old version of a task is stable, the new one a candidate without traffic."""
    with Registry(f"sqlite:///{tmp_path_factory.mktemp('changing')}/r.db", actor="ada") as registry:
        registry.add("intent", folders["intent"])
        registry.add("intent", moved["intent"])
        registry.add("tags", moved["tags"])
        registry.promote("intent", "1")
        registry.promote("intent", "2", "candidate")
        registry.promote("tags", "1")
        backbones = [str(tiny_folders[name]) for name in ("bert", NEW)]
        fleet, follower = registry_fleet(registry, read_rules({}), *backbones, slots=None, dtype="float32")
        with fleet.host, TestClient(create_app(fleet, follower=follower)) as client:
            yield client, registry, fleet


@pytest.fixture
def expected(tiny_backbones: Any, folders: Mapping[str, Path], moved: Mapping[str, Path]) -> Mapping[str, Any]:
    """Artifact -> (the fingerprint of its backbone, its answers when it is asked alone)."""
    found = {}
    for name, folder in (("bert", folders["intent"]), (NEW, moved["intent"])):
        with Host(tiny_backbones[name]) as host:
            host.mount("it", folder)
            answers = host.predict([("it", text) for text in TEXTS])
        found[open_manifest(folder).sha256] = (tiny_backbones[name].fingerprint, answers)
    return found


def asked(client: TestClient, key: str) -> Any:
    rows = [{"task": "intent", "text": text} for text in TEXTS]
    return client.post("/v1/predict", json={"rows": rows, "key": key}).json()["answers"]


def steer(client: TestClient, act: str, **body: Any) -> None:
    reply = client.post(f"/v1/admin/{act}", json={"task": "intent", **body})
    assert reply.status_code == 200, reply.text


def test_traffic_moves_to_another_backbone_and_back_and_every_receipt_names_its_own(
    changing: tuple[TestClient, Registry, Fleet], expected: Mapping[str, Any]
) -> None:
    client, registry, _ = changing
    stop, seen, wrong = threading.Event(), [], []

    def ask() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for place, found in enumerate(asked(client, f"user {number}")):
                fingerprint, answers = expected[found["receipt"]["artifact"]]
                if found["receipt"]["backbone"] != fingerprint or differences(found["answer"], answers[place]):
                    wrong.append(found)
                seen.append(fingerprint)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        shares = []
        for act, body in (
            ("split", {"split": {"stable": 0.5, "candidate": 0.5}}),
            ("promote", {"version": "2"}),
            ("roll-back", {}),
            ("split", {"split": {"stable": 1}}),
        ):
            steer(client, act, **body)
            answering = [asked(client, f"user {number}")[0]["receipt"]["backbone"] for number in range(30)]
            shares.append({fingerprint: answering.count(fingerprint) for fingerprint in answering})
    finally:
        stop.set()
        asking.join()
    old, new = (fingerprint for fingerprint, _ in expected.values())
    assert wrong == []
    assert set(seen) == {old, new}
    assert shares[0].keys() == {old, new}
    assert shares[1] == {new: 30}
    assert shares[2].keys() == {old, new}  # the candidate still has its half
    assert shares[3] == {old: 30}
    assert registry.audit()


def test_tasks_on_two_backbones_answer_one_text(changing: tuple[TestClient, Registry, Fleet]) -> None:
    client, _, fleet = changing
    answers = client.post("/v1/predict_all", json={"row": TEXTS[0]}).json()["answers"]
    prints = {task: found["receipt"]["backbone"] for task, found in answers.items()}
    assert prints == {"intent": fleet.hosts[0].backbone.fingerprint, "tags": fleet.hosts[1].backbone.fingerprint}
    told = client.get("/v1/admin/fleet").json()
    assert len(set(told["backbones"])) == 2
    assert {arm["backbone"] for task in told["tasks"] for arm in task["arms"]} == set(told["backbones"])


def test_embeddings_are_those_of_the_backbone_that_a_task_sits_on(
    changing: tuple[TestClient, Registry, Fleet], moved: Mapping[str, Path], tiny_backbones: Any
) -> None:
    client, _, _ = changing
    reply = client.post("/v1/embeddings", json={"model": "tags", "input": TEXTS[0]}).json()
    with Host(tiny_backbones[NEW]) as host:
        host.mount("it", moved["tags"])
        (state,) = host.features([TEXTS[0]], "it")
    assert differences(reply["data"][0]["embedding"], state.mean(dim=0).tolist()) == []


def test_a_backbone_named_twice_and_an_adapter_that_fits_none_are_refused(
    tiny_backbones: Any, tiny_folders: Any, folders: Mapping[str, Path]
) -> None:
    with pytest.raises(ServingError, match="named twice"):
        mounted_fleet({}, [str(tiny_folders["bert"])] * 2, slots=None)
    with Hosts([Host(tiny_backbones[name]) for name in (NEW, "roberta")]) as hosts:
        with pytest.raises(ContractError, match="fits none of the 2 backbones") as refused:
            hosts.mount("intent", folders["intent"])
        assert len({problem.partition(":")[0] for problem in refused.value.problems}) == 2
        assert len(hosts) == 0
