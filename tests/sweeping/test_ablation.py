"""Sweeps made ready: which settings are tried, and what counts as noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_rel
from typer.testing import CliRunner

from adapterkit.cli import app
from adapterkit.errors import SweepError
from adapterkit.sweeping.ablation import define_ablation, within_noise
from adapterkit.sweeping.summary import Group
from tests.training.worlds import METHODS, recipe

TEXTS, TAGS, NEXT = "text-classification", "token-classification", "causal-lm"


def group(*values: float | None) -> Group:
    return Group("g", {}, "done", (), values, None, None, 1.0)


def tried(choice: str, made: dict[str, Any]) -> list[Any]:
    grid = define_ablation(choice, made, seeds=2)[0]
    assert grid["seed"] == [0, 1]
    return next(list(values) for path, values in grid.items() if path != "seed")


def test_what_is_tried_follows_from_the_recipe(tiny_folders: Any, tmp_path: Path) -> None:
    texts = recipe(tmp_path, tiny_folders["bert"], TEXTS)
    tags = recipe(tmp_path, tiny_folders["distilbert"], TAGS)
    assert tried("heads", texts) == ["family", "linear", "mlp", "attention"]
    assert tried("heads", tags) == ["family", "linear", "mlp"]  # what pools has no answer for a token
    assert tried("pooling", texts) == ["mean", "first", "last"]
    assert tried("layers", texts) == [1, 2, 3]  # of the tiny backbone's three
    assert tried("sites", texts)[-1] == "all-linear"
    assert "method={kind: none}" in define_ablation("heads", texts)[1]


def test_a_choice_that_a_recipe_does_not_have_is_refused(tiny_folders: Any, tmp_path: Path) -> None:
    bare = recipe(tmp_path, tiny_folders["bert"], TEXTS, method=METHODS["none"])
    for choice in ("layers", "sites"):
        with pytest.raises(SweepError, match="expected one with method"):
            define_ablation(choice, bare)
    with pytest.raises(SweepError, match="the checkpoint's own"):
        define_ablation("heads", recipe(tmp_path, tiny_folders["gpt2"], NEXT))
    with pytest.raises(SweepError, match="nothing is pooled"):
        define_ablation("pooling", recipe(tmp_path, tiny_folders["distilbert"], TAGS))
    with pytest.raises(SweepError, match="found 0"):
        define_ablation("heads", bare, seeds=0)
    assert "cannot be varied" in CliRunner().invoke(app, ["ablate", "colours", "banking77"]).output


def test_noise_is_what_a_paired_t_test_does_not_tell_apart() -> None:
    for other in ((0.70, 0.72, 0.69), (0.60, 0.62, 0.61), (0.71, 0.70, 0.74)):
        best = (0.71, 0.74, 0.72)
        assert within_noise(group(*best), group(*other)) == (ttest_rel(best, other).pvalue >= 0.05)
    assert within_noise(group(0.7), group(0.6)) is None
    assert within_noise(group(0.7, None, 0.8), group(0.6, 0.5, None)) is None


def test_the_command_trains_every_setting_and_says_which_is_best(tiny_folders: Any, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe(tmp_path, tiny_folders["bert"], TEXTS)), encoding="utf-8")
    words = ["ablate", "pooling", str(file), "--seeds", "2", "--quiet"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {line["settings"]["head.pooling"] for line in found["groups"]} == {"mean", "first", "last"}
    assert found["groups"][0]["within_noise"] is None
    assert all(len(line["values"]) == 2 and line["milliseconds_per_step"] > 0 for line in found["groups"])
    shown = CliRunner().invoke(app, words).output  # goes on from what was found
    assert "best" in shown
    assert "within noise" in shown or "worse" in shown
