"""Damaged files of the trunk cache: a row that is given is the row that was written."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from tests.training.trunk_cache.rows import assert_right, filled, found

NUMBERS = range(40)


class Caches:
    """Two segments of twenty rows; whoever does not know the user's secret changes one of the files."""

    judged = True

    def __init__(self, folder: Path) -> None:
        self._whole = folder / "whole"
        for numbers in (NUMBERS[:20], NUMBERS[20:]):
            store = filled(self._whole, numbers)
        self._space = store.folder.name

    def attempt(self, number: int, folder: Path) -> str:
        generator = random.Random(number)
        root = Path(shutil.copytree(self._whole, folder / "cache"))
        files = sorted(path for path in (root / self._space).iterdir() if path.is_file())
        file = generator.choice(files)
        raw = bytearray(file.read_bytes())
        at = generator.randrange(len(raw)) if generator.random() < 0.5 else generator.randrange(min(len(raw), 800))
        way = generator.choice(
            ["flip", "flip", "overwrite", "cut", "pad", "exchange", "fifo", "link", "folder", "later"]
        )
        store = filled(root, ()) if way == "later" else None  # it is open already when the file changes
        if way == "flip":
            raw[at] ^= 1 << generator.randrange(8)
        elif way in ("overwrite", "later"):
            raw[at : at + 40] = generator.randbytes(40)
        elif way == "cut":
            del raw[at:]
        elif way == "pad":
            raw += generator.randbytes(48)
        elif way == "exchange":
            raw = bytearray(generator.choice(files).read_bytes())
        if way in ("fifo", "link", "folder"):
            file.unlink()
            {"fifo": os.mkfifo, "folder": os.mkdir, "link": lambda path: os.symlink("/dev/zero", path)}[way](file)
        else:
            file.write_bytes(raw)
        store = store or filled(root, ())
        assert_right(store, NUMBERS)
        kept = len(found(store, NUMBERS))
        again = filled(root, NUMBERS)
        assert_right(again, NUMBERS)
        assert len(found(again, NUMBERS)) == len(NUMBERS) or again.refusal, f"{way}: rows that are lost for good"
        return "every row" if kept == len(NUMBERS) else "refused"
