"""Artifacts that are facts alone: a manifest and files with the right digests, and no model behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from adapterkit.manifest import CARD, CONFIG, TENSORS, dump_manifest
from adapterkit.registry import Registry

Make = Callable[..., Path]


def facts(files: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    """The fields of a manifest, without its digest."""
    return {
        "format": 1,
        "task": {"kind": "text-classification", "labels": ["no", "yes"]},
        "method": {"kind": "lora"},
        "parts": [],
        "head": {"kind": "linear", "pooling": "mean"},
        "head_tensors": [],
        "backbone": {"name": "tiny", "revision": None, "fingerprint": "1" * 64, "coverage": "whole", "contract": {}},
        "data": {"source": "rows", "digests": {"train": "2" * 64}},
        "recipe": {"seed": 0},
        "seed": 0,
        "packages": {},
        "metrics": {"test": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}},
        "version": 1,
        "parent": None,
        "history": [],
        "dtype": "float32",
        "parameters": {"method": 1, "head": 1},
        "size_bytes": len(files[TENSORS]),
        "files": {name: {"size_bytes": len(raw), "sha256": sha256(raw).hexdigest()} for name, raw in files.items()},
        "golden": {"dtype": "float32", "rows": []},
        **changes,
    }


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes an artifact's folder; another text makes another artifact."""

    def made(text: str = "a", **changes: Any) -> Path:
        folder = tmp_path / "made" / text
        folder.mkdir(parents=True)
        files = {CARD: b"a card", CONFIG: b"{}", TENSORS: text.encode()}
        for name, raw in {**files, "adapterkit.json": dump_manifest(facts(files, **changes))}.items():
            (folder / name).write_bytes(raw)
        return folder

    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An empty one, in a file."""
    with Registry(f"sqlite:///{tmp_path}/registry.db", actor="ada") as opened:
        yield opened
