"""Small worlds to train in: rows of every kind that a tiny backbone learns in seconds, and recipes over them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import adapterkit as ak
from adapterkit.manifest import REPORT

NOUNS = ("card", "boat", "train", "bank", "dog", "fox", "moth", "list", "log", "sugar")
FAMILY = {
    "text-classification": "bert",
    "token-classification": "distilbert",
    "question-answering": "bert",
    "multiple-choice": "roberta",
    "masked-lm": "bert",
    "causal-lm": "gpt2",
    "seq2seq-lm": "t5",
}
"""The tiny backbone that each kind is trained on."""
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"kind": "lora", "rank": 4},
    "bottleneck": {"kind": "bottleneck", "placement": "houlsby", "width": 4},
    "none": {"kind": "none"},
}


def rows_of(kind: str, count: int) -> list[dict[str, Any]]:
    """Rows with a pattern that is easily learned, of different lengths."""
    return [_ROW[kind](number, NOUNS[number % 10], " ".join(NOUNS[: number % 5])) for number in range(count)]


_ROW: dict[str, Any] = {
    "text-classification": lambda number, noun, rest: {
        "text": f"{'lost' if number % 2 else 'found'} {noun} {rest} {number}",
        "label": "bad" if number % 2 else "good",
    },
    "token-classification": lambda number, noun, rest: {
        "tokens": ["the", noun, "in", "London", *rest.split()],
        "tags": ["O", "O", "O", "B-place", *["O"] * len(rest.split())],
    },
    "question-answering": lambda number, noun, rest: {
        "question": "where is it",
        "context": f"{number} {rest} the {noun} is in London",
        "answers": {"text": ["London"], "answer_start": [len(f"{number} {rest} the {noun} is in ")]},
    },
    "multiple-choice": lambda number, noun, rest: {
        "question": f"{number} {noun} {rest}",
        "choices": ["lost", "found"] if number % 3 else ["found", "lost"],
        "answer": 1 if number % 3 else 0,
    },
    "masked-lm": lambda number, noun, rest: {"text": f"the quick brown {noun} jumps over the lazy dog {rest} {number}"},
    "causal-lm": lambda number, noun, rest: {"text": f"the {noun} the {noun} the {noun} {rest} {number}"},
    "seq2seq-lm": lambda number, noun, rest: {"source": f"{noun} {rest} {number}", "target": f"the {noun}"},
}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Write JSON lines. Returns the path as a recipe has it."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def recipe(folder: Path, backbone: Any, kind: str = "text-classification", /, **blocks: Any) -> dict[str, Any]:
    """A recipe over 40 training and 12 test rows in `folder`, quick and in fp32; `blocks` are laid over it."""
    limits = {"causal-lm": {"max_new_tokens": 4, "block_tokens": 24}, "seq2seq-lm": {"max_new_tokens": 4}}
    train, test = folder / f"{kind}.jsonl", folder / f"{kind}-test.jsonl"
    if not train.exists():
        rows = rows_of(kind, 52)
        write_rows(train, rows[:40])
        write_rows(test, rows[40:])
    made: dict[str, Any] = {
        "task": {"kind": kind, **limits.get(kind, {})},
        "backbone": {"name": str(backbone if isinstance(backbone, Path) else backbone.name), "device": "cpu"},
        "method": dict(METHODS["lora"]),
        "data": {"train": str(train), "test": str(test), "validation": 0.2},
        "training": {"epochs": 2, "batch_size": 8, "learning_rate": 0.02, "precision": "fp32", "trackers": []},
        "output": str(folder / "out"),
    }
    for name, block in blocks.items():
        whole = isinstance(block, str) or name == "method"
        made[name] = block if whole else {**made.get(name, {}), **block}
    return made


def train(recipe: Any, *, quiet: bool = True, **arguments: Any) -> Any:
    """Train, without a display."""
    return ak.train(recipe, quiet=quiet, **arguments)


def events(artifact: Path, event: str) -> list[dict[str, Any]]:
    """What a run's journal says of one kind of event."""
    lines = (Path(artifact) / "training" / "journal.jsonl").read_text().splitlines()
    return [found for found in map(json.loads, lines) if found["event"] == event]


def losses(artifact: Path) -> list[float]:
    """The loss of every step."""
    return [event["loss"] for event in events(artifact, "step")]


def bytes_of(artifact: Path) -> dict[str, bytes]:
    """Every file of an artifact; the page beside it names its folder."""
    files = [path for path in sorted(Path(artifact).iterdir()) if path.is_file() and path.name != REPORT]
    return {path.name: path.read_bytes() for path in files}


def entries(folder: Path) -> list[str]:
    """What stands in a folder, hidden files too; [] where there is none."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
