"""Writes the demo's data: intents and slots over the same sentences, with phrasings held out for the test."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapterkit.demo.phrases import INTENTS, Part
from adapterkit.demo.sentences import Sentence, make_sentence

ROWS: dict[Part, int] = {"train": 1200, "validation": 200, "test": 400}


def sentences(seed: int = 0) -> dict[Part, list[Sentence]]:
    """The demo's sentences: every text once over all parts, the intents in equal shares, in shuffled order.

    The same seed gives the same sentences on every machine.
    """
    texts: set[str] = set()
    made: dict[Part, list[Sentence]] = {}
    for part, count in ROWS.items():
        chance = random.Random(f"demo {part} {seed}")
        rows: list[Sentence] = []
        while len(rows) < count:
            sentence = make_sentence(part, INTENTS[len(rows) % len(INTENTS)], chance)
            key = sentence.text.casefold()
            if key not in texts:
                texts.add(key)
                rows.append(sentence)
        chance.shuffle(rows)
        made[part] = rows
    return made


def generate(folder: str | Path, seed: int = 0) -> dict[str, Path]:
    """Write the demo's six files into a folder, which is made where it is missing.

    Returns:
        "intents/train", "intents/validation", "intents/test" -> JSON lines with `text` and `label`;
        "slots/train", "slots/validation", "slots/test" -> JSON lines with `tokens` and `tags` (IOB2).
    """
    paths: dict[str, Path] = {}
    for part, rows in sentences(seed).items():
        intents = ({"text": row.text, "label": row.intent} for row in rows)
        slots = ({"tokens": list(row.words), "tags": list(row.tags)} for row in rows)
        paths[f"intents/{part}"] = _write(Path(folder) / "intents" / f"{part}.jsonl", intents)
        paths[f"slots/{part}"] = _write(Path(folder) / "slots" / f"{part}.jsonl", slots)
    return paths


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(lines.encode("utf-8"))
    return path
