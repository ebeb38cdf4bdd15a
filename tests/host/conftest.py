"""Artifacts that the host's tests share: made once, and never changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.host import artifacts
from tests.host.artifacts import Recipe

FolderOf = Callable[[str, Recipe], Path]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Mapping[str, Any]) -> FolderOf:
    """`folder_of(family, recipe)`: the folder of that artifact, saved when first asked for."""
    root = tmp_path_factory.mktemp("artifacts")
    made: dict[tuple[str, Recipe], Path] = {}

    def folder(family: str, recipe: Recipe) -> Path:
        key = (family, recipe)
        if key not in made:
            made[key] = artifacts.make(root / str(len(made)), tiny_backbones[family], recipe)
        return made[key]

    return folder
