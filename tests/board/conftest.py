"""A service with its board on a port of this machine, and a browser to look at it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn

from adapterkit.board.pages import with_board
from adapterkit.registry import Registry
from adapterkit.serving.app import create_app
from adapterkit.serving.keys import add_key, read_keys
from adapterkit.serving.opening import registry_fleet
from adapterkit.traffic import read_rules
from tests.serving.conftest import folders

__all__ = ["folders"]

Board = tuple[str, Mapping[str, str]]
"""The address of a board, and keys by scope."""


class Steered(NamedTuple):
    """A board, and the registry that it steers."""

    board: Board
    registry: Registry


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[str]:
    """An application on a free port of this machine: its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", access_log=False, **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def made(folder: Path, folders: Mapping[str, Path], backbone: Path) -> Iterator[Steered]:
    """Two versions of a task, the first stable and the second a candidate, and another task; and a board over them."""
    file = folder / "keys.json"
    keys = {"admin": add_key(file, "grace", ["predict", "admin"]), "predict": add_key(file, "bob", ["predict"])}
    with Registry(f"sqlite:///{folder}/r.db", actor="ada") as registry:
        for task in ("intent", "other"):
            registry.add("intent", folders[task])
        registry.add("tags", folders["tags"])
        for task in ("intent", "tags"):
            registry.promote(task, "1")
        registry.promote("intent", "2", "candidate")
        rules = read_rules({"tasks": {"intent": {"split": {"stable": 0.5, "candidate": 0.5}}}})
        fleet, follower = registry_fleet(registry, rules, str(backbone), slots=None, dtype="float32")
        with fleet.host, served(with_board(create_app(fleet, keys=read_keys(file), follower=follower))) as address:
            yield Steered((address, keys), registry)


@pytest.fixture
def steered(tmp_path: Path, folders: Mapping[str, Path], tiny_folders: Any) -> Iterator[Steered]:
    """A board to steer with."""
    with made(tmp_path, folders, tiny_folders["bert"]) as found:
        yield found


@pytest.fixture(scope="module")
def shown(
    tmp_path_factory: pytest.TempPathFactory, folders: Mapping[str, Path], tiny_folders: Any
) -> Iterator[Steered]:
    """A board to look at."""
    with made(tmp_path_factory.mktemp("board"), folders, tiny_folders["bert"]) as found:
        yield found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the board's browser needs playwright")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
