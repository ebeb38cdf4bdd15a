"""A small artifact on the tiny BERT, and what its tests share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit.adapted import Adapted, build
from adapterkit.artifact import DataFacts, save
from adapterkit.recipe import HeadSettings, LoraMethod, TaskSettings
from adapterkit.tasks.table import TASKS

LABELS = ("no", "perhaps", "yes")
ROWS = [{"text": f"sentence number {number} about a card", "label": LABELS[number % 3]} for number in range(9)]
FAMILY = HeadSettings(kind="family")
LORA = LoraMethod(rank=2, alpha=4.0)


def make(backbone: Any, method: Any = LORA, head: Any = FAMILY, labels: tuple[str, ...] = LABELS) -> Adapted:
    """An adapter for text classification whose every tensor is random, as if it had been trained."""
    rows = [{"text": "a sentence", "label": label} for label in labels]
    task = TASKS["text-classification"].prepare(TaskSettings(kind="text-classification", labels=labels), rows)
    adapted = build(backbone, task, method, head, seed=0)
    shake(adapted)
    return adapted


def shake(adapted: Adapted) -> None:
    """Give every tensor of an adapter random values."""
    generator = torch.Generator().manual_seed(1)
    state = adapted.state()
    adapted.load_state({name: torch.randn(t.shape, generator=generator) * 0.3 for name, t in sorted(state.items())})


def write(folder: Path, adapted: Adapted, **options: Any) -> Path:
    """Save with what the tests do not care about filled in."""
    given = {"recipe": {}, "data": DataFacts(source="made/up", rows={"train": 9}), "metrics": {}, "seed": 0}
    return save(folder, adapted, **{**given, "golden": ROWS, **options})


def logits(adapted: Adapted, rows: list[dict[str, Any]] = ROWS[:3]) -> torch.Tensor:
    """The answers of an adapter, one row at a time."""
    features = adapted.task.encode(rows, adapted.vocabulary, "predict").features
    with torch.inference_mode():
        found = [adapted(adapted.task.collate([feature], adapted.vocabulary).inputs) for feature in features]
    return torch.cat(found)


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Path:
    """An artifact that no test may change."""
    folder = tmp_path_factory.mktemp("saved") / "artifact"
    with make(tiny_backbones["bert"]) as adapted:
        return write(folder, adapted)


@pytest.fixture
def saved(saved_once: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, to be damaged."""
    return Path(shutil.copytree(saved_once, tmp_path / "artifact"))
