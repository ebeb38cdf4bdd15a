"""Notebooks run from their first cell to their last, and are kept without what they printed."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# Accelerate warns where a run has no tracker, which is what a recipe may ask for.
pytestmark = pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebooks_are_there() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == ["bring_peft", "many_adapters", "own_csv"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_every_cell_runs_and_none_keeps_an_output(notebook: Path, enter: Callable[..., None]) -> None:
    enter()
    names: dict[str, Any] = {"__name__": "notebook"}
    try:
        for number, cell in enumerate(cells_of(notebook)):
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), f"{notebook.name}, cell {number}", "exec"), names)
    finally:
        gc.unfreeze()
