"""Files that the tests of this folder write are found in the current folder, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADAPTERKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
