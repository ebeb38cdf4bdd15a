"""Writes the demo's data: intents and slots over the same sentences, with phrasings held out for the test."""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapterkit.demo.sentences import INTENTS, Sentence, Split, make_sentence

ROWS: dict[Split, int] = {"train": 1200, "validation": 200, "test": 400}


def sentences(seed: int = 0) -> dict[Split, list[Sentence]]:
    """The demo's sentences: every text once over all splits, the intents in equal shares, in shuffled order.

    The same seed gives the same sentences on every machine.
    """
    texts: set[str] = set()
    made: dict[Split, list[Sentence]] = {}
    for split, count in ROWS.items():
        chance = random.Random(f"demo {split} {seed}")
        rows: list[Sentence] = []
        while len(rows) < count:
            sentence = make_sentence(split, INTENTS[len(rows) % len(INTENTS)], chance)
            key = sentence.text.casefold()
            if key not in texts:
                texts.add(key)
                rows.append(sentence)
        chance.shuffle(rows)
        made[split] = rows
    return made


def generate(folder: str | Path, seed: int = 0) -> dict[str, Path]:
    """Write the demo's six files into a folder, which is made where it is missing.

    Returns:
        "intents/train", "intents/validation", "intents/test" -> JSON lines with `text` and `label`;
        "slots/train", "slots/validation", "slots/test" -> JSON lines with `tokens` and `tags` (IOB2).
    """
    paths: dict[str, Path] = {}
    for split, rows in sentences(seed).items():
        intents = ({"text": row.text, "label": row.intent} for row in rows)
        slots = ({"tokens": list(row.words), "tags": list(row.tags)} for row in rows)
        paths[f"intents/{split}"] = _write(Path(folder) / "intents" / f"{split}.jsonl", intents)
        paths[f"slots/{split}"] = _write(Path(folder) / "slots" / f"{split}.jsonl", slots)
    return paths


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(lines.encode("utf-8"))
    return path
