"""Checkpoints, inputs and comparisons that every neighbour shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from tests import tiny

TEXTS = ("a card was lost in the town", "nobody knows when it comes back, or why", "yes")


@dataclass(frozen=True)
class Result:
    """What one case gave.

    Attributes:
        case: its name.
        outcome: "equal", "refused" or "wrong".
        detail: the largest difference, or the reason of the refusal.
    """

    case: str
    outcome: str
    detail: str


class Worlds:
    """Tiny checkpoints, built and loaded once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, Backbone] = {}

    def checkpoint(self, family: str) -> Path:
        folder = self.folder / "checkpoints" / family
        return folder if folder.exists() else tiny.build(family, folder)

    def backbone(self, family: str) -> Backbone:
        if family not in self._loaded:
            self._loaded[family] = Backbone.load(str(self.checkpoint(family)), dtype="float32", device="cpu")
        return self._loaded[family]

    def inputs(self, family: str, kind: str) -> list[dict[str, list[Any]]]:
        """One row each, as the family's tokenizer gives it."""
        tokenizer, found = self.backbone(family).tokenizer, []
        for text in TEXTS:
            row = dict(tokenizer(text))
            if kind == "multiple-choice":
                other = dict(
                    tokenizer(text[::-1], padding="max_length", max_length=len(row["input_ids"]), truncation=True)
                )
                row = {name: [row[name], other[name]] for name in row}
            row = {name: [value] for name, value in row.items()}
            if kind == "seq2seq-lm":
                row["decoder_input_ids"] = [[0, *row["input_ids"][0][:-1]]]
            found.append(row)
        return found


def answers(folder: Path, backbone: Backbone, inputs: Sequence[Mapping[str, Any]], **options: Any) -> list[Tensor]:
    """What an artifact answers to inputs."""
    with load(folder, backbone, **options) as adapted, torch.inference_mode():
        return [adapted({name: torch.tensor(value) for name, value in row.items()}) for row in inputs]


def compare(case: str, found: Sequence[Tensor], expected: Sequence[Any], tolerance: float) -> Result:
    """Differences are shares of the largest number of their row, at least of 1."""
    worst = 0.0
    for answer, wanted in zip(found, expected, strict=True):
        wanted = torch.as_tensor(wanted, dtype=torch.float64)
        if answer.shape != wanted.shape:
            return Result(case, "wrong", f"shape {tuple(answer.shape)}, expected {tuple(wanted.shape)}")
        worst = max(worst, float((answer.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)))
    return Result(case, "equal" if worst <= tolerance else "wrong", f"{worst:.1e}")
