"""Small worlds for the host's tests: artifacts of every kind and method on a tiny backbone, with their own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.artifact import open_artifact
from adapterkit.backbone import Backbone
from adapterkit.recipe import HeadSettings
from tests.laws import cases
from tests.laws import worlds as laws

TEXT = (
    "my card was lost and the bank will send a new one where is the nearest station when does train leave quick brown "
    "fox jumps over lazy dog Ada lived in London wrote first program"
)
WORDS = TEXT.split()


@dataclass(frozen=True)
class Recipe:
    """An adapter to be made: its kind, method and head by the names of the laws' tables, and a seed."""

    kind: str
    method: str
    head: str = "family"
    seed: int = 3

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.method}/{self.head}/{self.seed}"


def make(
    folder: Path, backbone: Backbone, recipe: Recipe, golden: Sequence[Mapping[str, Any]] = (), **settings: Any
) -> Path:
    """Save an adapter whose every tensor has moved, as if it had been trained."""
    head: HeadSettings = cases.HEADS[recipe.head]
    method = cases.METHODS[recipe.method].settings
    task = laws.prepared(recipe.kind, **settings)
    with laws.adapter(backbone, recipe.kind, method, head, task=task, seed=recipe.seed) as adapted:
        laws.disturb(adapted, size=0.2, seed=recipe.seed)
        return laws.write(folder, adapted, golden=golden)


def alone(folder: Path, backbone: Backbone, rows: Sequence[Any]) -> list[Any]:
    """What the adapter answers by itself."""
    with open_artifact(folder).adapted(backbone) as adapted:
        return adapted.predict(rows)


def row_of(kind: str, words: Sequence[str]) -> dict[str, Any]:
    """A row of a kind that is made of these words."""
    text = " ".join(words)
    match kind:
        case "token-classification":
            return {"tokens": list(words)}
        case "question-answering":
            return {"question": "where did Ada live ?", "context": text}
        case "multiple-choice":
            return {"question": text, "choices": [*words[:2], "a small boat"]}
        case "seq2seq-lm":
            return {"source": text}
        case "masked-lm":
            return {"text": f"{text} [MASK]"}
    return {"text": text}


def differences(found: Any, expected: Any, tolerance: float = 2e-5, place: str = "") -> list[str]:
    """Where two answers differ: numbers by more than the tolerance, anything else at all."""
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
        return [
            line for key in expected for line in differences(found[key], expected[key], tolerance, f"{place}.{key}")
        ]
    if isinstance(expected, list) and isinstance(found, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [line for at, (a, b) in pairs for line in differences(a, b, tolerance, f"{place}[{at}]")]
    if isinstance(expected, float) and isinstance(found, float):
        return [] if abs(found - expected) <= tolerance * max(1.0, abs(expected)) else [f"{place}: {found}, {expected}"]
    return [] if found == expected else [f"{place}: {found!r}, {expected!r}"]
