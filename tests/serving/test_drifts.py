"""A service says when rows are not like the reference that an artifact keeps, and when its confidence changes."""

from __future__ import annotations

import base64
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from adapterkit.errors import ArtifactError, DataError, ServingError
from adapterkit.evaluation import reference
from adapterkit.host import Host
from adapterkit.manifest import dump_manifest, open_manifest, parse_manifest
from adapterkit.metrics.drift import projected
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.watch import Watch
from adapterkit.traffic import read_rules

USUAL = [f"my card was {word} in {place}" for word in ("lost", "stolen", "eaten") for place in "abcdefghijkl"]
OTHER = ["the quick brown fox jumps over the lazy dog " * 3] * 40
RULES = {"drift": 0.01, "drift_window": 32, "drift_share": 1.0}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: Any, tiny_folders: Any, folders: Any) -> Path:
    """An artifact that keeps a reference of the usual rows."""
    output = tmp_path_factory.mktemp("watched") / "intent"
    rows = [{"text": text, "label": "no"} for text in USUAL]
    assert reference(folders["intent"], rows, output, backbone=str(tiny_folders["bert"])) == len(USUAL)
    return output


def until(found: Callable[[], Any]) -> Any:
    for _ in range(1000):
        if (value := found()) is not None:
            return value
        threading.Event().wait(0.01)
    raise AssertionError("it did not happen")


def test_a_reference_is_the_projected_states_and_at_most_64_kb(
    watched: Path, folders: Any, tiny_backbones: Any
) -> None:
    before, after = open_manifest(folders["intent"]), open_manifest(watched)
    assert after.reference is not None
    assert (after.parent, before.reference) == (before.sha256, None)
    with Host(tiny_backbones["bert"]) as host:
        host.mount("x", str(folders["intent"]))
        states = host.features(USUAL, "x")
        expected = projected([state.float().mean(dim=0).tolist() for state in states])
    found = after.reference.states()
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected.astype(np.float16).astype(np.float32)))
    assert len(base64.b64encode(bytes(384 * 64 * 2))) == 65_536


def test_rows_unlike_the_reference_are_told_and_rows_like_it_are_not(watched: Path, tiny_backbones: Any) -> None:
    with Host(tiny_backbones["bert"]) as host:
        fleet = Fleet(host)
        fleet.mount("intent", str(watched), open_manifest(watched))
        watch = Watch(fleet, read_rules({"tasks": {"intent": RULES}}))
        with TestClient(create_app(fleet, watch=watch)) as client:

            def ask(texts: list[str]) -> Any:
                client.post("/v1/tasks/intent/predict", json={"rows": texts[:36]})
                return until(lambda: client.get("/v1/quality").json()["tasks"]["intent"]["versions"][0]["drift"])

            usual = ask(USUAL)
            assert (usual["drifted"], usual["rows"] >= 32) == (False, True)
            assert not watch.events
            client.post("/v1/tasks/intent/predict", json={"rows": OTHER})
            event = until(lambda: watch.events[0] if watch.events else None)
            figures = client.get("/metrics").text
    assert (event["kind"], event["evidence"]["drifted"], event["evidence"]["p"]) == ("drift", True, 1 / 200)
    assert 'adapterkit_drifted{task="intent",version="2"} 1.0' in figures


def test_a_reference_that_is_none_is_refused(watched: Path) -> None:
    content = open_manifest(watched).model_dump(mode="json", exclude_unset=True)
    for packed in ("AAAA", "!", base64.b64encode(np.full(36 * 64, np.nan, dtype="<f2").tobytes()).decode()):
        content.pop("sha256", None)
        changed = {**content, "reference": {**content["reference"], "packed": packed}}
        with pytest.raises(ArtifactError, match="reference"):
            parse_manifest(dump_manifest(changed))


def test_too_few_rows_are_no_reference(folders: Any, tiny_folders: Any, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": "no"}] * 5
    with pytest.raises(DataError, match="16 at least"):
        reference(folders["intent"], rows, tmp_path / "x", backbone=str(tiny_folders["bert"]))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("stream", ["adwin", "page-hinkley"])
def test_a_change_of_the_confidence_is_found_by_river(fleet: Fleet, stream: str) -> None:
    pytest.importorskip("river", reason="streams come with the extra `streams`")
    watch = Watch(fleet, read_rules({"tasks": {"intent": {"stream": stream}}}))
    arm = fleet.routes["intent"].arms["stable"]
    receipt = fleet.receipt(fleet.routes["intent"], "stable", fleet.host.answers([(arm.mounted, "a")])[0].mounted)  # type: ignore[arg-type]
    for number in range(3000):
        watch._drifts.seen("a card", {"confidence": 0.9 if number < 1500 else 0.2}, receipt)
    assert watch._drifts.facts(arm.digest, {})["changes"] >= 1
    assert watch.events[0]["kind"] == "change"


@pytest.mark.skipif(importlib.util.find_spec("river") is not None, reason="river is there")
def test_streams_without_river_are_refused_at_the_start(fleet: Fleet) -> None:
    with pytest.raises(ServingError, match="river"):
        Watch(fleet, read_rules({"tasks": {"intent": {"stream": "adwin"}}}))
