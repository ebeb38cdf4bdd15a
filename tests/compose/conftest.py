"""The artifacts that compositions are made of."""

from __future__ import annotations

from typing import Any

import pytest

from tests.compose.worlds import World


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> World:
    return World(tmp_path_factory.mktemp("members"), tiny_backbones["bert"])
