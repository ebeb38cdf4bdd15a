"""Damaged and hostile checkpoints: a run that goes on from one ends as if it had never stopped, or refuses it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from adapterkit.backbone import Backbone
from adapterkit.errors import AdapterkitError
from adapterkit.manifest import dump_json
from adapterkit.training import Paused
from tests import tiny
from tests.abuse.artifacts import is_plain
from tests.artifact.mutations import VALUES, pack, unpack
from tests.training.worlds import bytes_of, recipe, rows_of, train, write_rows

INDEX, ADAPTER, OPTIMIZER, KEPT = "progress.json", "adapter.safetensors", "optimizer.safetensors", "kept.safetensors"
TENSORS = (ADAPTER, OPTIMIZER, KEPT)
WHERE = Path("out") / "training" / "checkpoint"


class Checkpoints:
    """Whoever signs a changed checkpoint again has written another one; it may end otherwise, and never in a crash."""

    judged = True

    def __init__(self, folder: Path) -> None:
        self._backbone = Backbone.load(str(tiny.build("bert", folder / "bert")), dtype="float32", device="cpu")
        self._folder = folder / "run"
        self._folder.mkdir()
        rows = rows_of("text-classification", 16)
        data = {
            "train": write_rows(self._folder / "train.jsonl", rows[:12]),
            "validation": write_rows(self._folder / "validation.jsonl", rows[12:]),
            "test": None,
        }
        training = {"epochs": 1, "batch_size": 3, "evaluate_every": 1, "checkpoint_every": 1}
        training |= {"cache": "off", "golden_rows": 1}
        method = {"kind": "lora", "rank": 2, "dropout": 0.1}
        self._plan = recipe(self._folder, self._backbone, data=data, training=training, method=method)
        self._whole = bytes_of(self.train(self._folder / "whole").artifact)
        with contextlib.suppress(Paused):
            self.train(self._folder / "out", pause_after=lambda batches: 2)

    def is_whole(self, folder: Path) -> bool:
        """Whether an artifact is the one of the run that was never stopped."""
        return bytes_of(folder) == self._whole

    def train(self, output: Path, **arguments: Any) -> Any:
        return train({**self._plan, "output": str(output)}, backbone=self._backbone, **arguments)

    def attempt(self, number: int, folder: Path) -> str:
        shutil.copytree(self._folder / "out", folder / "out")
        generator = random.Random(number)
        act = generator.choice(ACTS)
        try:
            done = f"{act.__name__}: {act(folder / WHERE, generator)}"
        except FileNotFoundError as error:
            raise AssertionError(f"a checkpoint has other files than these: {error}") from error
        before, refusal = names_in(folder), None
        try:
            result = self.train(folder / "out", resume=True)
        except AdapterkitError as error:
            refusal = error
        if refusal is not None:
            assert names_in(folder) == before, f"{done}: refused, and something is lost"
            assert is_plain(str(refusal)), f"{done}: a message that no terminal should see"
            return "refused"
        if self.is_whole(result.artifact):
            return "as if it had never stopped"
        assert act in SIGNED, f"{done}: other weights"
        return "another checkpoint, signed"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def sign(folder: Path, content: Any = None) -> None:
    """Write the index anew, with the digests of the files as they are."""
    content = json.loads((folder / INDEX).read_bytes()) if content is None else content
    for name in TENSORS:
        raw = (folder / name).read_bytes()
        content["files"][name] = {"size_bytes": len(raw), "sha256": sha256(raw).hexdigest()}
    _write_index(folder, content)


def _write_index(folder: Path, content: Any) -> None:
    if isinstance(content, dict):
        content.pop("sha256", None)
        content["sha256"] = sha256(dump_json(content)).hexdigest()
    (folder / INDEX).write_bytes(json.dumps(content, sort_keys=True).encode())


def flip_a_bit(folder: Path, generator: random.Random) -> str:
    name = generator.choice([INDEX, *TENSORS])
    raw = bytearray((folder / name).read_bytes())
    position = generator.randrange(len(raw))
    raw[position] ^= 1 << generator.randrange(8)
    (folder / name).write_bytes(raw)
    return f"{name} at {position}"


def cut_or_pad(folder: Path, generator: random.Random) -> str:
    name = generator.choice([INDEX, *TENSORS])
    raw = (folder / name).read_bytes()
    raw = generator.choice([b"", raw[: generator.randrange(len(raw))], raw + generator.randbytes(9)])
    (folder / name).write_bytes(raw)
    if name != INDEX and generator.random() < 0.5:
        sign(folder)
    return f"{name} to {len(raw)}"


def no_plain_file(folder: Path, generator: random.Random) -> str:
    name = generator.choice([INDEX, *TENSORS])
    (folder / name).unlink()
    make = generator.choice([os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path), lambda path: None])
    make(folder / name)
    return name


def exchange_files(folder: Path, generator: random.Random) -> str:
    first, second = generator.sample(TENSORS, 2)
    a, b = (folder / first).read_bytes(), (folder / second).read_bytes()
    (folder / first).write_bytes(b)
    (folder / second).write_bytes(a)
    if generator.random() < 0.5:
        sign(folder)
    return f"{first}, {second}"


def edit_the_index_unsigned(folder: Path, generator: random.Random) -> str:
    content = json.loads((folder / INDEX).read_bytes())
    done = _edit(content, generator)
    (folder / INDEX).write_bytes(json.dumps(content, sort_keys=True).encode())
    return done


def edit_the_index(folder: Path, generator: random.Random) -> str:
    content = json.loads((folder / INDEX).read_bytes())
    done = _edit(content, generator)
    _write_index(folder, content)
    return done


def lead_out_of_the_folder(folder: Path, generator: random.Random) -> str:
    content = json.loads((folder / INDEX).read_bytes())
    name = generator.choice(
        ["../../../out/training/journal.jsonl", "/etc/passwd", ".", "", "a/../b", "\x1b[2J", "x" * 5000]
    )
    content["files"][name] = content["files"].pop(generator.choice(TENSORS))
    _write_index(folder, content)
    return repr(name)


def hostile_index(folder: Path, generator: random.Random) -> str:
    raw = generator.choice([b"[" * 200_000, b'{"a":' * 50_000, b"NaN", b"9" * 100_000, b"\xff", b'{"sha256": 1}'])
    (folder / INDEX).write_bytes(raw)
    return repr(raw[:10])


def reshape(folder: Path, generator: random.Random) -> str:
    """Other shapes and formats of a tensor, with the bytes that they need."""
    name = generator.choice(TENSORS)
    header, data = unpack((folder / name).read_bytes())
    tensor = generator.choice([each for each in header if each != "__metadata__"])
    shape = header[tensor]["shape"]
    header[tensor]["shape"] = new = generator.choice(
        [shape[::-1], [*shape, 1], [], [1], [2, 2], [0], [1 << 40], [9] * 5]
    )
    header[tensor]["dtype"] = dtype = generator.choice(["F32", "F32", "BF16", "F64", "I64", "U8"])
    size = {"F32": 4, "BF16": 2, "F64": 8, "I64": 8, "U8": 1}[dtype]
    for length in new:
        size *= length
    chunks, position = [], 0
    for each, field in header.items():
        if each == "__metadata__":
            continue
        begin, end = field["data_offsets"]
        chunk = data[begin:end] if each != tensor else (data[begin:end] * 9 + bytes(64))[: min(size, 4096)]
        field["data_offsets"] = [position, position + (len(chunk) if each != tensor else size)]
        position = field["data_offsets"][1]
        chunks.append(chunk)
    (folder / name).write_bytes(pack(header, b"".join(chunks)))
    sign(folder)
    return f"{name}: {tensor} as {new} in {dtype}"


def rename_or_drop(folder: Path, generator: random.Random) -> str:
    name = generator.choice(TENSORS)
    header, data = unpack((folder / name).read_bytes())
    last = max((each for each in header if each != "__metadata__"), key=lambda each: header[each]["data_offsets"][1])
    field = header.pop(last)
    new = generator.choice([None, last + "x", "999.exp_avg", "-1.step", "x.step", "\x1b[2J", "0.step.y"])
    if new is None:
        data = data[: field["data_offsets"][0]]
    else:
        header[new] = field
    (folder / name).write_bytes(pack(header, data))
    sign(folder)
    return f"{name}: {last} to {new!r}"


def change_values(folder: Path, generator: random.Random) -> str:
    """Zero, huge, negative, not a number: in one place or in all of a file."""
    name = generator.choice(TENSORS)
    header, data = unpack((folder / name).read_bytes())
    value = generator.choice([b"\0\0\0\0", b"\0\0\x7f\x7f", b"\0\0\x7f\xff", b"\0\0\xa0\x7f", b"\0\0\x80\x7f"])
    count, at = generator.choice([(1, 4 * generator.randrange(len(data) // 4)), (len(data) // 4, 0)])
    (folder / name).write_bytes(pack(header, data[:at] + value * count + data[at + 4 * count :]))
    sign(folder)
    return f"{count} of {name} at {at} as {value!r}"


SIGNED = (edit_the_index, change_values, flip_a_bit)
"""What may make another checkpoint of it. A bit of the index's spelling may mean the same."""
ACTS: tuple[Callable[[Path, random.Random], str], ...] = (
    flip_a_bit, cut_or_pad, no_plain_file, exchange_files, edit_the_index_unsigned, edit_the_index, edit_the_index,
    edit_the_index, lead_out_of_the_folder, hostile_index, reshape, reshape, reshape, rename_or_drop, rename_or_drop,
    change_values, change_values,
)  # fmt: skip


def _edit(content: Any, generator: random.Random) -> str:
    places: list[tuple[Any, Any]] = []
    stack = [content]
    while stack:
        item = stack.pop()
        for key in item if isinstance(item, dict) else range(len(item)):
            places.append((item, key))
            if isinstance(item[key], dict | list):
                stack.append(item[key])
    # What is only written down is most of it: half of the edits are of what a run goes on from.
    near = [(holder, key) for holder, key in places if holder is not content and "made_of" not in str(key)]
    own = [place for place in near if any(place[0] is item for item in (content.get("progress"), content["files"]))]
    holder, key = generator.choice(own if generator.random() < 0.5 else places)
    if generator.random() < 0.2 and isinstance(holder, dict):
        del holder[key]
        return f"without {key}"
    holder[key] = generator.choice([*VALUES, 3, 1 << 52, 0.5])
    return f"{key} = {holder[key]!r:.40}"
