"""The page with every field of a recipe, which is made from the schema when the site is built."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from pydantic import BaseModel

from adapterkit.recipe.problems import BLOCKS, CHOSEN
from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs", reason="the site's generator is not installed")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_field_of_every_block_has_a_line_with_its_default(hooks: ModuleType) -> None:
    page = hooks.fields_of_recipes()
    kinds = [kind for one in CHOSEN.values() for kind in one.table.own.values()]
    blocks: list[type[BaseModel]] = [*BLOCKS.values(), *kinds]
    for block in blocks:
        for name in block.model_fields:
            assert name == "kind" or f"| `{name}` |" in page, (block, name)
    assert "| `epochs` | a number > 0 | `3.0` | Passes over the training rows." in page
    assert "| `name` | text | must be given |" in page
    assert '| `delimiter` | `auto`, text | `"auto"` |' in page


def test_every_line_has_the_cells_of_its_table(hooks: ModuleType) -> None:
    lines = [line for line in hooks.fields_of_recipes().splitlines() if line.startswith("|")]
    assert len(lines) > 80
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}


def test_the_page_asks_for_the_tables(hooks: ModuleType) -> None:
    assert hooks.PLACE in (ROOT / "docs" / "fields.md").read_text(encoding="utf-8")
