"""A process that is forked from the one that made a host: it is told so, and takes nothing from its parent."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.errors import HostForkedError
from tests.host.artifacts import Recipe
from tests.host.conftest import FolderOf

# Python 3.12 warns of forks beside threads; a child here waits for no lock.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

ROWS = [("a", {"text": "my card was lost"}), ("b", {"text": "my card was found"})]


def forked(work: Callable[[], None]) -> int:
    """The exit status of a child that does this and ends, as a server that loads before it forks makes its workers."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child may not go on into its parent's tests
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_workers_that_are_forked_are_told_and_the_parents_files_outlive_them(
    tiny_backbones: Mapping[str, Any], folder_of: FolderOf, tmp_path: Path
) -> None:
    lora, bottleneck = (folder_of("bert", Recipe("text-classification", name)) for name in ("lora", "houlsby"))
    hosts = [ak.Host(tiny_backbones["bert"], slots=1, folder=tmp_path)]
    hosts[0].mount("a", lora)
    hosts[0].mount("b", bottleneck)
    expected, kept = hosts[0].predict(ROWS), files_in(tmp_path)
    assert len(kept) == 2

    def worker() -> None:
        (host,) = hosts
        for use in (
            lambda: host.predict(ROWS),
            lambda: host.mount("c", lora),
            lambda: host.swap("a", lora),
            lambda: host.unmount("a"),
            lambda: host.features(["x"]),
            lambda: host.generate([("a", "x")]),
        ):
            with pytest.raises(HostForkedError, match=f"made by process {os.getppid()}"):
                use()

    def closes() -> None:
        with hosts[0]:
            pass

    def drops_its_copy() -> None:
        hosts.clear()
        gc.collect()

    assert [forked(work) for work in (worker, closes, drops_its_copy)] == [0, 0, 0]
    assert files_in(tmp_path) == kept
    assert hosts[0].predict(ROWS) == expected
    hosts.pop().close()
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_makes_its_own_host_answers(
    tiny_backbones: Mapping[str, Any], folder_of: FolderOf, tmp_path: Path
) -> None:
    folder = folder_of("bert", Recipe("text-classification", "lora"))
    with ak.Host(tiny_backbones["bert"]) as host:
        host.mount("a", folder)
        expected = host.predict(ROWS[:1])

    def worker() -> None:
        with ak.Host(tiny_backbones["bert"], folder=tmp_path) as own:
            own.mount("a", folder)
            assert own.predict(ROWS[:1]) == expected

    assert [forked(worker), forked(worker)] == [0, 0]
