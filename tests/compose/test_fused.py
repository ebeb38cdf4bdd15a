"""`compose.fuse`: from parts to a recipe, to an artifact, to a host."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.artifact import read_parts
from adapterkit.cli.app import app
from adapterkit.compose import fuse
from adapterkit.errors import CompositionError, RecipeError
from adapterkit.recipe import FusionMethod
from adapterkit.training.job import Job
from tests.training import worlds

NECK = {"kind": "bottleneck", "placement": "pfeiffer", "width": 4}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Path:
    """A folder with two trained bottlenecks of different tasks and widths, and a LoRA."""
    folder = tmp_path_factory.mktemp("parts")
    backbone = tiny_backbones["bert"]
    for name, kind, method in (
        ("sorts", "text-classification", NECK),
        ("names", "token-classification", {**NECK, "width": 6, "activation": "gelu"}),
        ("lora", "text-classification", worlds.METHODS["lora"]),
    ):
        made = worlds.recipe(folder, backbone, kind, method=method, output=str(folder / name), training={"epochs": 1})
        worlds.train(made, backbone=backbone)
    return folder


def test_the_recipe_of_a_fusion_trains_and_is_mounted(parts: Path, tmp_path: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    task = worlds.recipe(tmp_path, backbone, "text-classification")
    recipe = fuse(
        [parts / "sorts", parts / "names"],
        task,
        output=tmp_path / "fused",
        query_width=8,
        overrides=["training.seed=3"],
    )
    assert isinstance(recipe.method, FusionMethod)
    assert (recipe.method.query_width, recipe.training.seed) == (8, 3)
    result = worlds.train(recipe, backbone=backbone)
    assert result.artifact == tmp_path / "fused"
    losses = worlds.losses(result.artifact)
    assert losses[-1] < losses[0]
    places = {name: parts / name for name in ("sorts", "names")}
    assert ak.verify(result.artifact, backbone, parts=places)
    test = str(tmp_path / "text-classification-test.jsonl")
    scored = ak.evaluate(result.artifact, test, backbone=backbone, parts=places)
    assert scored["accuracy"].value == result.metrics["test"]["accuracy"].value
    with ak.load(result.artifact, backbone, parts=places) as adapted:
        expected = adapted.predict(["the card was lost"])
    for name in places:
        shutil.copytree(parts / name, tmp_path / name)
    with ak.Host(backbone) as host:
        host.mount("fused", result.artifact)
        found = host.predict([("fused", "the card was lost")])
    assert found[0]["score"] == pytest.approx(expected[0]["score"], abs=1e-5)


def test_without_a_recipe_it_is_that_of_the_first_part(parts: Path) -> None:
    recipe = fuse([parts / "names", parts / "sorts"])
    assert recipe.task.kind == "token-classification"
    assert recipe.output is None
    assert recipe.method == FusionMethod(parts=(str(parts / "names"), str(parts / "sorts")))


def test_a_stopped_run_goes_on_only_with_the_same_parts(parts: Path, tmp_path: Path, tiny_backbones: Any) -> None:
    seen = []
    for names in (("sorts", "names"), ("names", "sorts")):
        method = FusionMethod(parts=tuple(str(parts / name) for name in names))
        recipe = ak.load_recipe(worlds.recipe(tmp_path, tiny_backbones["bert"], method={"kind": "none"}))
        found = read_parts(method, tiny_backbones["bert"])
        adapted: Any = SimpleNamespace(parts=found, backbone=tiny_backbones["bert"])
        rows: Any = SimpleNamespace(facts=SimpleNamespace(digests={}))
        nobody: Any = None
        seen.append(Job(recipe, rows, {}, adapted, nobody, nobody, nobody, nobody, tmp_path).made_of())
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("sorts", "lora"), "lora: is rank-4 LoRA; only what bottlenecks add can be weighed"),
        (("sorts", "nothing"), "nothing: "),
        (("sorts",), "two parts or more, found 1"),
    ],
)
def test_parts_that_cannot_be_fused_are_refused_with_the_reason(parts: Path, names: Any, words: str) -> None:
    with pytest.raises(CompositionError) as caught:
        fuse([parts / name for name in names])
    assert words in str(caught.value)


def test_a_path_instead_of_a_list_is_refused(parts: Path) -> None:
    with pytest.raises(CompositionError, match="takes a list of folders"):
        fuse(str(parts / "sorts"))


def test_every_mistake_of_a_fusion_block_is_named_at_once() -> None:
    blocks = {
        "task": {"kind": "text-classification"},
        "backbone": {"name": "x"},
        "data": {"train": "x.jsonl"},
        "method": {"kind": "fusion", "parts": ["x/a", "y/a", ".hidden", "z/.."], "value": "yes", "rank": 3},
    }
    with pytest.raises(RecipeError) as caught:
        ak.load_recipe(blocks)
    assert "method.value: found 'yes', expected true or false; write true" in str(caught.value)
    assert "method.rank: belongs to method.kind lora, not to fusion" in str(caught.value)
    del blocks["method"]["value"], blocks["method"]["rank"]  # type: ignore[attr-defined]
    with pytest.raises(RecipeError) as caught:
        ak.load_recipe(blocks)
    assert "calls several folders 'a'" in str(caught.value)
    assert "found '.hidden', expected a folder with a name of its own" in str(caught.value)
    assert "found 'z/..'" in str(caught.value)
    with pytest.raises(RecipeError, match=r"method\.parts: is missing"):
        ak.load_recipe({**blocks, "method": {"kind": "fusion"}})


def run(*arguments: str) -> str:
    """The command line's standard output."""
    ran = CliRunner().invoke(app, list(arguments))
    assert ran.exit_code == 0, ran.stderr
    return ran.stdout


def test_from_recipe_to_answers_on_the_command_line(parts: Path, tmp_path: Path, tiny_folders: Any) -> None:
    made = worlds.recipe(
        tmp_path,
        tiny_folders["bert"],
        method={"kind": "fusion", "parts": [str(parts / "sorts"), str(parts / "names")]},
        output=str(tmp_path / "fused"),
        backbone={"dtype": "float32"},
        training={"epochs": 1},
    )
    file = tmp_path / "fused.yaml"
    file.write_text(json.dumps(made))  # JSON is YAML
    run("train", str(file), "--quiet")
    options = ["--part", f"sorts={parts / 'sorts'}", "--part", f"names={parts / 'names'}"]
    shown = run("inspect", str(tmp_path / "fused"))
    assert re.search(r"parts +sorts \([0-9a-f]{12}\), names \([0-9a-f]{12}\)", shown)
    assert "2 parts, every digest right" in " ".join(run("verify", str(tmp_path / "fused"), *options).split())
    test = tmp_path / "text-classification-test.jsonl"
    scored = json.loads(run("evaluate", str(tmp_path / "fused"), "--data", str(test), "--json", *options))
    assert 0 <= scored["metrics"]["accuracy"]["value"] <= 1
    answers = run("predict", str(tmp_path / "fused"), str(test), "--json", *options).splitlines()
    assert len(answers) == 12
    refused = CliRunner().invoke(app, ["predict", str(tmp_path / "fused"), str(test)])
    assert refused.exit_code == 1
    assert "no artifact at" in refused.stderr
    assert "--part NAME=FOLDER" in refused.stderr
    wrong = CliRunner().invoke(app, ["verify", str(tmp_path / "fused"), "--part", "sorts"])
    assert "expected NAME=FOLDER" in wrong.stderr
