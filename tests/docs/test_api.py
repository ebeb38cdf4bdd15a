"""The pages of the API show what they are about: mkdocstrings leaves out what a package only passes on."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import adapterkit
from tests.docs.blocks import ROOT

SHOWN = re.compile(r"^::: ([\w.]+)\n(?:    options:\n(?:      .*\n?)*)?", re.MULTILINE)
MEMBERS = re.compile(r"members: \[([^\]]*)\]")
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))


def found(path: str) -> Any:
    """A module, or what stands in one."""
    try:
        return importlib.import_module(path)
    except ImportError:
        room, _, name = path.rpartition(".")
        return getattr(importlib.import_module(room), name)


def own_names(module: ModuleType) -> list[str]:
    listed = list(getattr(module, "__all__", ()))
    made = [name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__]
    return listed or [name for name in made if not name.startswith("_")]


def shown_on(page: Path) -> dict[str, list[str]]:
    """What the page shows of each object."""
    blocks = {}
    for block in SHOWN.finditer(page.read_text(encoding="utf-8")):
        members = MEMBERS.search(block[0])
        one = found(block[1])
        own = own_names(one) if isinstance(one, ModuleType) else [block[1].rpartition(".")[2]]
        blocks[block[1]] = re.findall(r"\w+", members[1]) if members else own
    return blocks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_shows_something_and_names_only_what_is_there(page: Path) -> None:
    blocks = shown_on(page)
    assert blocks
    for path, names in blocks.items():
        assert names, f"{path} has nothing of its own: name its members"
        one = found(path)
        assert not isinstance(one, ModuleType) or [name for name in names if not hasattr(one, name)] == []


def test_everything_on_the_front_door_is_shown() -> None:
    shown = {name for page in PAGES for names in shown_on(page).values() for name in names}
    modules = {"__version__", "errors", "compose"}
    assert set(adapterkit.__all__) - modules - shown == set()
