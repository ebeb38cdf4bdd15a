"""A service over tiny adapters, asked in this process as a client would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from adapterkit.host import Host
from adapterkit.manifest import open_manifest
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.tasks.table import TASKS
from tests.host.artifacts import Recipe, make

INTENT = Recipe("text-classification", "lora")
OTHER = Recipe("text-classification", "houlsby", seed=5)
TAGS = Recipe("token-classification", "lora")
NEW = "distilbert"
"""The backbone that a fleet changes over to."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Mapping[str, Path]:
    """Task -> artifact, which has golden rows."""
    root, recipes = tmp_path_factory.mktemp("served"), {"intent": INTENT, "other": OTHER, "tags": TAGS}
    return {
        task: make(root / task, tiny_backbones["bert"], recipe, golden=TASKS[recipe.kind].sample_rows())
        for task, recipe in recipes.items()
    }


@pytest.fixture(scope="session")
def moved(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Mapping[str, Path]:
    """Task -> artifact on the new backbone."""
    root = tmp_path_factory.mktemp("moved")
    return {
        task: make(root / task, tiny_backbones[NEW], recipe, golden=TASKS[recipe.kind].sample_rows())
        for task, recipe in (("intent", INTENT), ("tags", TAGS))
    }


@contextmanager
def standing_fleet(tiny_backbones: Any, folders: Mapping[str, Path]) -> Iterator[Fleet]:
    """Three tasks on one backbone."""
    with Host(tiny_backbones["bert"]) as host:
        made = Fleet(host)
        for task, folder in folders.items():
            made.mount(task, str(folder), open_manifest(folder))
        yield made


@pytest.fixture
def fleet(tiny_backbones: Any, folders: Mapping[str, Path]) -> Iterator[Fleet]:
    """A fleet of one's own, to steer."""
    with standing_fleet(tiny_backbones, folders) as made:
        yield made


@pytest.fixture(scope="module")
def standing(tiny_backbones: Any, folders: Mapping[str, Path]) -> Iterator[TestClient]:
    """Somebody who asks a service that all tests of a file leave as it is."""
    with standing_fleet(tiny_backbones, folders) as made, TestClient(create_app(made)) as asking:
        yield asking


@pytest.fixture
def client(fleet: Fleet) -> Iterator[TestClient]:
    """Somebody who asks."""
    with TestClient(create_app(fleet)) as asking:
        yield asking
