"""The page beside an artifact that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapterkit.manifest import REPORT, open_manifest
from tests.training.worlds import events, recipe, train


def test_a_run_leaves_a_page_with_its_curve_its_rows_and_its_command(tmp_path: Path, tiny_backbones: Any) -> None:
    made = recipe(tmp_path, tiny_backbones["bert"])
    result = train(made, backbone=tiny_backbones["bert"])
    page = (result.artifact / REPORT).read_text(encoding="utf-8")
    steps = len(events(result.artifact, "step"))
    validations = events(result.artifact, "validation")
    metric = next(iter(result.metrics["validation"]))
    assert page.count('class="bar"') == len(validations)  # an interval for each
    assert all(low <= one["metrics"][metric] <= high for one in validations for low, high in [one["intervals"][metric]])
    assert page.count('class="ring"') == 1
    assert f"<title>{steps:g}: " in page
    assert f">{result.metrics['validation'][metric].value:.4g}<" in page
    assert "ak.train(recipe)" in page
    open_manifest(result.artifact)  # the page is no stranger in the artifact's folder


def test_rows_that_may_be_shown_nowhere_are_not_on_the_page(tmp_path: Path, tiny_backbones: Any) -> None:
    made = recipe(tmp_path, tiny_backbones["bert"], data={"show_rows": "nowhere"})
    page = (train(made, backbone=tiny_backbones["bert"]).artifact / REPORT).read_text(encoding="utf-8")
    assert "data.show_rows is nowhere" in page
    assert "<th>given</th>" not in page
