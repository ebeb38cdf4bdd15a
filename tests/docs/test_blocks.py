"""What the README and the pages tell people to type does what they say, in their order."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterkit.recipe import load_recipe
from tests.docs.blocks import PAGES, ROOT, Block, blocks_of, run_python, run_shell

RUN = {"python", "bash"}
LANGUAGES = {*RUN, "yaml", "json", "toml", ""}
TRAINED_HERE = {"README.md": ("banking77",), "docs/quick-start.md": ("banking77",)}
"""Pages that train what other pages take for granted."""

# Accelerate warns where a run has no tracker, which is what a recipe may ask for.
pytestmark = pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language in RUN and not block.not_run]


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name_of)
def test_every_command_and_every_line_of_python_runs(page: Path, enter: Callable[..., None]) -> None:
    enter(without=TRAINED_HERE.get(name_of(page), ()))
    names: dict[str, Any] = {"__name__": "page"}
    try:
        for block in blocks_of(page):
            file = Path(block.text.split("\n", 1)[0].removeprefix("# "))
            if block.language == "yaml" and block.text.startswith("# ") and file.suffix == ".yaml":
                file.write_text(block.text, encoding="utf-8")
            elif block.language == "bash" and not block.not_run:
                run_shell(block)
            elif block.language == "python" and not block.not_run:
                run_python(block, names)
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_recipe_that_a_page_shows_is_valid(page: Path) -> None:
    for block in blocks_of(page):
        shown = yaml.safe_load(block.text) if block.language == "yaml" else None
        if isinstance(shown, dict) and {"task", "backbone", "data"} <= shown.keys():
            assert load_recipe(shown).task.kind == shown["task"]["kind"]


def test_every_page_is_read_and_every_block_is_run_or_says_why_not() -> None:
    names = {name_of(page) for page in PAGES}
    assert {"README.md", "docs/quick-start.md", "docs/concepts/host.md"} <= names
    blocks = [block for page in PAGES for block in blocks_of(page)]
    assert [str(block) for block in blocks if block.language not in LANGUAGES] == []
    fences = sum(page.read_text(encoding="utf-8").count("\n```") for page in PAGES)
    assert 2 * len(blocks) == fences
    reasons = sum(page.read_text(encoding="utf-8").count("<!-- not run:") for page in PAGES)
    assert reasons == sum(bool(block.not_run) for block in blocks)
    assert sum(block.language in RUN and not block.not_run for block in blocks) > 25
