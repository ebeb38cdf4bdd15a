"""Writers that are killed at any moment: what stands there is whole, and what was acknowledged is not lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adapterkit.artifact import pull
from adapterkit.manifest import MAX_BYTES, read_folder, write_folder
from adapterkit.manifest.record_lines import append_record, read_records
from adapterkit.training.standing import checkpoint_of, read_progress
from tests.abuse.checkpoints import Checkpoints
from tests.hub import serving
from tests.training.trunk_cache.rows import assert_right, filled, found, key, states

Said = Callable[[int], None]
"""What a writer calls once something is done for good."""


class Kills:
    """An artifact that is replaced, a run, rows of the trunk cache, lines of a sweep, a pull from a hub: in turns."""

    judged = True

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(1)  # threads of computation do not outlive a fork
        self._run = Checkpoints(folder)
        whole = folder / "run" / "whole"
        self._one = {path.name: path.read_bytes() for path in whole.iterdir() if path.name in MAX_BYTES}
        self._other = {**self._one, "README.md": b"another card"}
        self._hub = contextlib.ExitStack()
        (folder / "served").mkdir()
        for name, content in self._one.items():
            (folder / "served" / name).write_bytes(content)
        self._address, _ = self._hub.enter_context(serving({"me/intent": {"main": folder / "served"}}))

    def attempt(self, number: int, folder: Path) -> str:
        kinds = (self._artifact, self._checkpoint, self._cache, self._ledger, self._pull)
        return kinds[number % len(kinds)](folder, random.Random(number))

    def _artifact(self, folder: Path, generator: random.Random) -> str:
        place = folder / "artifact"

        def write(said: Said) -> None:
            for turn in itertools.count():
                write_folder(place, (self._one, self._other)[turn % 2], overwrite=True)
                said(turn)

        done = killed(write, generator.uniform(0.0, 0.1))
        if not place.exists():
            assert done < 0, "an artifact that was saved is lost"
            return "artifact: before the first"
        content = {name: bytes(raw) for name, raw in read_folder(place).content.items()}
        assert content in (self._one, self._other), "an artifact that is half of two"
        write_folder(place, self._one, overwrite=True)
        assert [path.name for path in folder.iterdir()] == ["artifact"], "something is left behind"
        return "artifact: whole"

    def _checkpoint(self, folder: Path, generator: random.Random) -> str:
        out = folder / "out"
        killed(lambda said: self._run.train(out), generator.uniform(0.0, 0.4))
        stands = (out / "adapterkit.json").exists()
        progress = None if stands else read_progress(checkpoint_of(out))
        if stands:
            assert self._run.is_whole(out), "an artifact that is another"
            return "run: ended"
        resume = {"resume": progress is not None, "overwrite": progress is None}
        assert self._run.is_whole(self._run.train(out, **resume).artifact), "another end than never stopped"
        return f"run: went on from step {progress.steps if progress else 0}"

    def _cache(self, folder: Path, generator: random.Random) -> str:
        def write(said: Said) -> None:
            store = filled(folder, ())
            for number in itertools.count():
                store.add(key(number), states(number))
                if number % 3 == 2:
                    store.flush()
                    said(number)

        done = killed(write, generator.uniform(0.0, 0.05))
        store = filled(folder, ())
        assert_right(store, range(done + 10))
        assert len(found(store, range(done + 1))) == done + 1, "rows that were kept are lost"
        return "cache: right"

    def _ledger(self, folder: Path, generator: random.Random) -> str:
        path = folder / "results.jsonl"

        def write(said: Said) -> None:
            for number in itertools.count():
                append_record(path, {"number": number, "text": "größe 🦊" * generator.randrange(1, 200)})
                said(number)

        done = killed(write, generator.uniform(0.0, 0.05))
        if path.exists() and generator.random() < 0.7:  # as a power cut leaves the last line
            with path.open("r+b") as file:
                file.truncate(max(0, path.stat().st_size - generator.randrange(1, 40)))
            done -= 1
        append_record(path, {"number": -1})
        *before, last = [record["number"] for record in read_records(path, dict)]
        assert last == -1
        assert before == list(range(len(before))), "lines in another order"
        assert len(before) > done, "a line that was written is lost"
        return "ledger: whole"

    def _pull(self, folder: Path, generator: random.Random) -> str:
        place = folder / "pulled"

        def fetch(said: Said) -> None:
            os.environ["ADAPTERKIT_CACHE"] = str(folder / "cache")
            os.environ["HF_HOME"] = str(folder / "hub")
            from_hub(self._address, place)

        killed(fetch, generator.uniform(0.0, 0.6))
        if not place.exists():
            return "pull: nothing yet"
        content = {name: bytes(raw) for name, raw in read_folder(place).content.items()}
        assert content == self._one, "half of an artifact"
        return "pull: whole"


def from_hub(address: str, place: Path) -> Any:
    """Pull from a hub at this address. Only for a process that does nothing else."""
    import huggingface_hub

    constants = huggingface_hub.constants
    constants.HUGGINGFACE_CO_URL_TEMPLATE = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    constants.ENDPOINT = address
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    return pull("me/intent", place)


def killed(work: Callable[[Said], Any], after_s: float) -> int:
    """Do this in a process that is killed. Returns the last number that it said, -1 for none."""
    heard, saying = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(lambda number: os.write(saying, number.to_bytes(8, "little")) and None)
        finally:
            os._exit(0)
    os.close(saying)
    last, until = -1, time.monotonic() + after_s
    while (left := until - time.monotonic()) > 0:
        if select.select([heard], [], [], left)[0] and not (last := _last(os.read(heard, 8 << 13), last)) + 1:
            break
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while raw := os.read(heard, 8 << 13):
        last = _last(raw, last)
    os.close(heard)
    return last


def _last(raw: bytes, before: int) -> int:
    return int.from_bytes(raw[-8:], "little") if raw else before
