"""`adapterkit cache`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapterkit.cli.app import app
from tests.training.trunk_cache.test_store import filled, space


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two kinds of states in adapterkit's cache folder; one was last used 40 days ago."""
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path))
    filled(tmp_path / "trunk", range(7))
    old = filled(tmp_path / "trunk", range(3), space(layer=6, pooling="mean", backbone="some/other"))
    used = time.time() - 40 * 86_400
    os.utime(old.folder / "space.json", (used, used))
    return tmp_path / "trunk"


def answer(*words: str) -> Any:
    return CliRunner().invoke(app, ["cache", *words])


def listed(*words: str) -> list[tuple[str, int, str, int]]:
    found = json.loads(answer("ls", "--json", *words).stdout)
    return [(entry["backbone"], entry["layer"], entry["pooling"], entry["rows"]) for entry in found]


def test_ls_shows_size_backbone_layer_rows_and_last_use(kept: Path) -> None:
    assert listed() == [("tiny", 2, "", 7), ("some/other", 6, "mean", 3)]
    shown = answer("ls").stdout
    assert str(kept) in shown
    assert all(word in shown for word in ("some/other", "float32", "mean", time.strftime("%Y-", time.gmtime())))


def test_prune_removes_what_was_not_used(kept: Path) -> None:
    done = answer("prune", "--older-than", "30")
    assert done.exit_code == 0
    assert "some/other" in done.stdout
    assert listed() == [("tiny", 2, "", 7)]


def test_prune_makes_room(kept: Path) -> None:
    assert answer("prune", "--max-size", "1.0kB").exit_code == 0
    assert [entry[0] for entry in listed()] == ["tiny"]
    assert answer("prune", "--all").exit_code == 0
    assert listed() == []


def test_another_folder_can_be_named(kept: Path, tmp_path: Path) -> None:
    assert listed("--dir", str(tmp_path / "nothing")) == []
    assert len(listed("--dir", str(kept))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prune"], "does not know what to remove"),
        (["ls", "--all"], "removes nothing"),
        (["prune", "--max-size", "much"], "cannot be read"),
        (["prune", "--max-size", "3 XB"], "cannot be read"),
    ],
)
def test_a_command_that_cannot_be_honoured_removes_nothing(kept: Path, words: list[str], message: str) -> None:
    done = answer(*words)
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(listed()) == 2
