"""What differs between two artifacts, against numpy and their own manifests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.manifest import open_manifest
from tests.artifact.mutations import resign
from tests.training.worlds import recipe, rows_of, train

SITES = ["attention.query", "attention.value"]


@pytest.fixture(scope="module")
def pair(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Their backbone and two artifacts of one recipe but for rank, alpha and rate."""
    folder, backbone = tmp_path_factory.mktemp("diff"), tiny_backbones["bert"]
    methods = {"a": {"rank": 2, "alpha": 8}, "b": {"rank": 4, "alpha": 4}}
    runs = []
    for name, method in methods.items():
        settings = {
            "method": {"kind": "lora", "sites": SITES, **method},
            "training": {"max_steps": 4, "learning_rate": 1e-2},
            "output": str(folder / name),
        }
        runs.append(train(recipe(folder, backbone, **settings), backbone=backbone).artifact)
    return backbone, *runs


def update(folder: Path, target: str) -> Any:
    """ΔW at a module, by numpy from the files."""
    tensors = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text())
    (first,) = [tensor for name, tensor in tensors.items() if name.endswith(f"{target}.lora_A.weight")]
    (second,) = [tensor for name, tensor in tensors.items() if name.endswith(f"{target}.lora_B.weight")]
    return config["lora_alpha"] / config["r"] * (second.double() @ first.double()).numpy()


def test_what_was_learned_is_compared_by_what_it_changes(pair: Any) -> None:
    _, a, b = pair
    found = {each.name: each for each in ak.diff(a, b).learned}
    adapted = [name for name in found if "attention" in name]
    assert adapted
    for name in adapted:
        one, other = update(a, name), update(b, name)
        assert found[name].a == pytest.approx(np.linalg.norm(one), rel=1e-6)
        assert found[name].b == pytest.approx(np.linalg.norm(other), rel=1e-6)
        assert found[name].distance == pytest.approx(np.linalg.norm(other - one), rel=1e-6)
    assert len(found) == len(adapted) + len(open_manifest(a).head_tensors)
    shares = [each.distance / max(each.a, each.b) for each in ak.diff(a, b).learned]
    assert shares == sorted(shares, reverse=True)


def test_what_is_equally_far_apart_is_told_by_name_in_every_process(pair: Any) -> None:
    names = [each.name for each in ak.diff(pair[1], pair[1]).learned]
    assert len(names) > 4
    assert names == sorted(names)


def test_the_same_update_by_other_factors_has_no_distance(pair: Any, tmp_path: Path) -> None:
    backbone, a, _ = pair
    wider = tmp_path / "wider"
    ak.compose.save(ak.compose.weighted({str(a): 1.0}), wider, backbone=backbone)
    found = ak.diff(a, wider)
    assert all(each.distance <= 1e-6 * max(each.a, 1e-9) for each in found.learned)
    assert found.relation == "made apart"


def test_what_the_manifests_say_otherwise_is_named(pair: Any) -> None:
    _, a, b = pair
    found = ak.diff(a, b)
    changed = {each.field: (each.a, each.b) for each in found.changes}
    assert changed["method.rank"] == (2, 4)
    assert changed["recipe.method.alpha"] == (8.0, 4.0)
    assert not [field for field in changed if field.startswith(("data.", "backbone.", "packages."))]
    assert (found.labels_added, found.labels_removed) == ((), ())


def test_a_metric_that_differs_is_shown_with_its_interval(pair: Any, tmp_path: Path) -> None:
    _, a, _ = pair
    other = tmp_path / "other"
    shutil.copytree(a, other)
    manifest = json.loads((other / "adapterkit.json").read_text())
    before = dict(manifest["metrics"]["test"]["accuracy"])
    after = {**before, "value": 0.25, "low": 0.125, "high": 0.5}
    manifest["metrics"]["test"]["accuracy"] = after
    resign(other, manifest)
    (found,) = ak.diff(a, other).metrics
    assert (found.field, found.b) == ("metrics.test.accuracy", {**after, "how": ""})
    assert "0.2500 [0.1250, 0.5000]" in CliRunner().invoke(app, ["diff", str(a), str(other)]).stdout


def test_with_a_backbone_both_answer_the_golden_rows_of_both(pair: Any, tmp_path: Path) -> None:
    backbone, a, b = pair
    kept = ak.diff(a, b).golden
    found = ak.diff(a, b, backbone=backbone).golden
    rows = {json.dumps(each.row) for one in (a, b) for each in open_manifest(one).golden.rows}
    assert {json.dumps(each.row) for each in found} == rows
    assert {json.dumps(each.row) for each in kept} <= rows
    for each in found:
        for folder, told in ((a, each.a), (b, each.b)):
            with ak.load(folder, backbone) as adapted:
                assert adapted.predict([each.row])[0]["label"] == told["label"]


def test_a_version_is_told_from_its_parent_and_from_its_sibling(pair: Any, tmp_path: Path) -> None:
    backbone, a, _ = pair
    rows = rows_of("text-classification", 60)
    for place, row in enumerate(rows):
        if place % 5 == 0:
            row["label"] = "bad" if row["label"] == "good" else "good"
    first, second = tmp_path / "first", tmp_path / "second"
    ak.calibrate(a, rows, first, backbone=backbone)
    ak.calibrate(a, rows[:50], second, backbone=backbone)
    assert ak.diff(a, first).relation == "b is a later version of a"
    assert ak.diff(first, a).relation == "a is a later version of b"
    assert ak.diff(first, second).relation == "two versions of one artifact, the same up to version 1"
    assert ak.diff(first, first).relation == "the same artifact"
    assert "task.temperature" in {each.field for each in ak.diff(a, first).changes}


def test_the_command_line_tells_it_and_gives_json(pair: Any, tmp_path: Path) -> None:
    _, a, b = pair
    shown = CliRunner().invoke(app, ["diff", str(a), str(b)])
    assert shown.exit_code == 0, shown.stderr
    assert "method.rank" in shown.stdout
    assert "farthest apart" in shown.stdout
    told = CliRunner().invoke(app, ["diff", str(a), str(b), "--json"])
    assert json.loads(told.stdout) == ak.diff(a, b).to_dict()
    damaged = tmp_path / "damaged"
    shutil.copytree(b, damaged)
    (damaged / "adapter_model.safetensors").write_bytes(b"")
    assert CliRunner().invoke(app, ["diff", str(a), str(damaged)]).exit_code == 1
