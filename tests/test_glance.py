"""What an interactive session shows of the objects that people hold: one short line, which says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.glance import LONGEST, readable_bytes
from adapterkit.manifest import open_manifest
from adapterkit.metrics.resampling import Metric
from adapterkit.recipe import LoraMethod
from adapterkit.survey import look
from adapterkit.sweeping import SweepResult
from tests.artifact.conftest import saved, saved_once

__all__ = ["saved", "saved_once"]

pytestmark = pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")


@pytest.fixture
def objects(saved: Path, tiny_backbones: Any, tmp_path: Path) -> dict[str, Any]:
    """What people hold, by what its line has to say."""
    backbone = tiny_backbones["bert"]
    rows = [{"text": f"sentence {n}", "label": ("no", "yes")[n % 2]} for n in range(8)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows))
    recipe = {
        "task": {"kind": "text-classification"},
        "backbone": {"name": "tiny"},
        "data": {"train": str(tmp_path / "rows.csv"), "test": str(tmp_path / "rows.csv"), "validation": 0.25},
        "training": {"epochs": 1},
        "output": str(tmp_path / "run"),
    }
    host = ak.Host(backbone)
    status = host.mount("intent", saved)
    result = ak.train(recipe, backbone=backbone)
    return {
        "layers=3": backbone,
        "architecture='bert'": backbone.contract,
        "'attention.query'": backbone.sites,
        "method='lora'": open_artifact(saved),
        "kind='text-classification'": open_manifest(saved),
        "head='family'": ak.load(saved, backbone),
        "labels=('no', 'perhaps', 'yes')": ak.load(saved, backbone).task,
        "mounted=['intent']": host,
        "name='intent'": status,
        f"output='{tmp_path}"[:40]: ak.load_recipe(recipe),
        "rank=3": LoraMethod(rank=3),
        "steps=1": result,
        "value=0.5, low=0.25, high=0.75": Metric(0.5, 0.25, 0.75, spread=(0.5,) * 1000),
        "ok=True": ak.verify(saved, backbone),
        "artifact_bytes=": ak.plan(recipe | {"backbone": {"name": str(backbone.folder)}}),
        "best='seed=1'": SweepResult(tmp_path, "accuracy", {"a": {}}, (), "seed=1", tmp_path, {}, tmp_path),
        "problem='single-label'": look([tmp_path / "rows.csv"]),
    }


def test_what_people_hold_is_shown_in_one_short_line(objects: dict[str, Any]) -> None:
    for said, each in objects.items():
        line = repr(each)
        assert line.startswith(f"{type(each).__name__}("), line
        assert "\n" not in line
        assert len(line) <= LONGEST, line
        assert said in line


def test_a_long_value_is_cut_and_a_long_line_too() -> None:
    assert len(repr(LoraMethod(rank=3, sites=tuple(f"attention.query{n}" for n in range(50))))) <= LONGEST
    assert repr(Metric(1 / 3, 0.0, 1.0)) == "Metric(value=0.3333, low=0, high=1)"


def test_sizes_are_readable() -> None:
    sizes = [readable_bytes(size) for size in (0, 999, 1234, 5_600_000, 7 * 10**9, 8 * 10**12)]
    assert sizes == ["0 bytes", "999 bytes", "1.23 kB", "5.6 MB", "7 GB", "8 TB"]
