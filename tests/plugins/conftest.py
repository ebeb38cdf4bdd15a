"""The packages of the docs' examples, installed for the module that asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapterkit.recipe.head import HEAD_SETTINGS
from adapterkit.recipe.methods import METHOD_SETTINGS
from tests.laws.cases import HEADS
from tests.methods.cases import CASES, Case
from tests.plugins.packages import installed, of_docs, write


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The method `scale` and the head `gated` are installed, and rows of the laws' tables."""
    folders = [
        write(tmp_path_factory.mktemp(page), f"toy-{page}", *of_docs(f"{page}.md")) for page in ("methods", "heads")
    ]
    with installed(*folders), pytest.MonkeyPatch.context() as patch:
        patch.setitem(CASES, "scale", Case(METHOD_SETTINGS["scale"]()))
        patch.setitem(HEADS, "gated", HEAD_SETTINGS["gated"](dropout=0.1))
        patch.setitem(HEADS, "gated-mean", HEAD_SETTINGS["gated"](pooling="mean"))
        yield
