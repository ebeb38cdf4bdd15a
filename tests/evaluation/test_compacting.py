"""Smaller versions of artifacts: what they keep, what they lose, and that nothing worse than asked is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import DataError, OutputError
from adapterkit.manifest import open_manifest
from tests.training.worlds import entries, recipe, rows_of, train

KIND = "text-classification"
LORA = {"kind": "lora", "rank": 6, "alpha": 12, "sites": "all-linear"}


@pytest.fixture(scope="module")
def world(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, backbone = tmp_path_factory.mktemp("compact"), tiny_backbones["bert"]
    settings = {"method": LORA, "training": {"epochs": 3}, "output": str(folder / "whole")}
    return backbone, train(recipe(folder, backbone, **settings), backbone=backbone).artifact, rows_of(KIND, 60)


def updates(folder: Path) -> dict[str, Any]:
    """ΔW at every module, by numpy from plain PEFT's files."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    found = {}
    for name, first in tensors.items():
        if name.endswith("lora_A.weight"):
            target = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            alpha = config["alpha_pattern"].get(target, config["lora_alpha"])
            second = tensors[name.replace("lora_A", "lora_B")].double().numpy()
            found[target] = alpha / len(first) * second @ first.double().numpy()
    return found


def test_ranks_fall_as_far_as_the_tolerance_allows_and_no_further(world: Any, tmp_path: Path) -> None:
    backbone, whole, rows = world
    found = ak.compact(whole, tmp_path / "small", rows, tolerance=0.02, backbone=backbone)
    before, after = (
        ak.evaluate(each, rows, backbone=backbone)["accuracy"].value for each in (whole, tmp_path / "small")
    )
    assert after >= before - 0.02
    assert (found.difference.a, found.difference.b) == pytest.approx((before, after))
    (kept,) = [one for one in found.tried if one.kept]
    for one in found.tried:
        assert one.kept or one.dropped < kept.dropped or one.difference.difference < -0.02
    assert found.size_bytes[1] < found.size_bytes[0]
    manifest = open_manifest(tmp_path / "small")
    assert manifest.parent == open_manifest(whole).sha256
    assert manifest.dtype == "int8"
    assert manifest.compaction is not None
    assert manifest.compaction.before == found.difference.a
    assert manifest.metrics["compacted"]["accuracy"].value == pytest.approx(after)
    assert ak.verify(tmp_path / "small", backbone)
    assert f"{found.difference.a:.4f}" in (tmp_path / "small" / "README.md").read_text()


def test_the_rank_that_is_asked_for_leaves_the_nearest_updates(world: Any, tmp_path: Path) -> None:
    """Against numpy's SVD, by Eckart and Young."""
    backbone, whole, rows = world
    ak.compact(whole, tmp_path / "two", rows, to="float32", rank=2, tolerance=1.0, backbone=backbone)
    small = updates(tmp_path / "two")
    for place, update in updates(whole).items():
        u, s, v = np.linalg.svd(update, full_matrices=False)
        assert np.linalg.matrix_rank(small[place], tol=1e-5 * s[0]) <= 2
        assert np.abs(small[place] - (u[:, :2] * s[:2]) @ v[:2]).max() < 1e-5 * s[0]


def test_eight_bits_alone_keep_the_ranks_and_take_a_quarter(world: Any, tmp_path: Path) -> None:
    backbone, whole, rows = world
    ak.compact(whole, tmp_path / "int8", rows, rank="keep", tolerance=1.0, backbone=backbone)
    assert open_manifest(tmp_path / "int8").method == open_manifest(whole).method
    with ak.Host(backbone, slots=2) as host:
        host.mount("whole", whole)
        host.mount("int8", tmp_path / "int8")
        asked = [row["text"] for row in rows[:20]]
        answers = {name: host.predict([(name, text) for text in asked]) for name in ("whole", "int8")}
    pairs = zip(answers["whole"], answers["int8"], strict=True)
    assert sum(one["label"] == other["label"] for one, other in pairs) >= 19


def test_what_loses_more_than_is_allowed_is_not_written(world: Any, tmp_path: Path) -> None:
    """The truth here is what the whole one answers, so that every other answer is worse."""
    backbone, whole, rows = world
    with ak.load(whole, backbone) as adapted:
        rows = [{**row, "label": told["label"]} for row, told in zip(rows, adapted.predict(rows), strict=True)]
    reached = [
        ak.compact(whole, tmp_path / str(rank), rows, rank=rank, tolerance=1, backbone=backbone) for rank in (1, 6)
    ]
    least, most = (one.difference for one in reached)
    assert most.difference == 0
    assert least.difference < 0
    with pytest.raises(DataError, match="worse than a tolerance of 0 allows"):
        ak.compact(whole, tmp_path / "none", rows, rank=1, tolerance=0, backbone=backbone)
    assert entries(tmp_path) == ["1", "6"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"rank": 0}, "rank: found 0"),
        ({"rank": "low"}, "rank: found 'low'"),
        ({"tolerance": -1}, "tolerance: found -1"),
    ],
)
def test_what_cannot_be_followed_is_refused(world: Any, tmp_path: Path, asked: dict[str, Any], words: str) -> None:
    backbone, whole, rows = world
    with pytest.raises(DataError, match=words):
        ak.compact(whole, tmp_path / "x", rows, backbone=backbone, **asked)


@pytest.mark.parametrize("method", [{"kind": "bottleneck", "width": 4}, {"kind": "ia3"}, {"kind": "none"}])
def test_every_method_is_stored_in_fewer_bits_and_only_a_lora_has_a_rank(
    world: Any, tmp_path: Path, method: dict[str, Any]
) -> None:
    backbone, _, rows = world
    whole = train(recipe(tmp_path, backbone, method=method, output=str(tmp_path / "whole")), backbone=backbone).artifact
    found = ak.compact(whole, tmp_path / "small", rows, tolerance=0.1, backbone=backbone)
    assert len(found.tried) == 1
    assert ak.verify(tmp_path / "small", backbone)
    with pytest.raises(DataError, match="cannot be given another"):
        ak.compact(whole, tmp_path / "rank", rows, rank=1, backbone=backbone)


def test_the_command_line(world: Any, tmp_path: Path) -> None:
    _, whole, rows = world
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    words = ["compact", str(whole), str(tmp_path / "out"), "--data", str(data), "--tolerance", "0.05"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    assert "written" in shown.stdout
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 1
    assert OutputError.__name__ in again.stderr
    told = CliRunner().invoke(app, [*words, "--overwrite", "--json", "--to", "bf16"])
    assert json.loads(told.stdout)["schema"] == "adapterkit.compaction/1"
    assert open_manifest(tmp_path / "out").dtype == "bfloat16"
    assert CliRunner().invoke(app, [*words, "--overwrite", "--rank", "none"]).exit_code == 1
