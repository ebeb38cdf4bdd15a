"""What a law does with a case: a prepared task, an adapter on a shared backbone, a batch, other weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import Adapted, build
from adapterkit.artifact import DataFacts, save
from adapterkit.backbone import Backbone
from adapterkit.recipe import HeadSettings, MethodSettings, NoMethod, TaskSettings
from adapterkit.tasks import TASKS
from adapterkit.tasks.protocol import Batch, Feature, Task
from tests.tasks.conftest import ROWS

FAMILY = HeadSettings(kind="family")


def prepared(kind: str, rows: Sequence[Any] | None = None, **settings: Any) -> Task:
    """A task that has learned its labels. Where it generates, short."""
    short = {"max_new_tokens": 8} if kind in ("causal-lm", "seq2seq-lm") else {}
    chosen: Any = {"kind": kind, **short, **settings}
    return TASKS[kind].prepare(TaskSettings(**chosen), ROWS[kind] if rows is None else rows)


@contextmanager
def adapter(
    backbone: Backbone,
    kind: str,
    method: MethodSettings | None = None,
    head: HeadSettings = FAMILY,
    *,
    seed: int = 0,
    task: Task | None = None,
) -> Iterator[Adapted]:
    """An adapter on a backbone, taken off at the end. Without a method: the head alone."""
    with build(backbone, task or prepared(kind), method or NoMethod(), head, seed) as adapted:
        yield adapted


def features_of(adapted: Adapted, rows: Sequence[Any] | None = None, purpose: Any = "train") -> list[Feature]:
    """Rows of the adapter's kind, encoded."""
    chosen = ROWS[adapted.task.kind] if rows is None else rows
    return adapted.task.encode(chosen, adapted.vocabulary, purpose).features


def batch_of(adapted: Adapted, rows: Sequence[Any] | None = None, purpose: Any = "train") -> Batch:
    """All rows in one batch, with labels unless the purpose is "predict"."""
    return adapted.task.collate(features_of(adapted, rows, purpose), adapted.vocabulary, seed=0)


def logits_of(adapted: Adapted, batch: Batch | None = None) -> Tensor:
    """Logits of a batch, without a graph."""
    with torch.inference_mode():
        return adapted((batch or batch_of(adapted)).inputs)


def disturb(adapted: Adapted, size: float = 0.05, seed: int = 3) -> None:
    """Give every tensor of the adapter other values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    state = adapted.state()
    noise = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}
    adapted.load_state({name: tensor + size * noise[name] for name, tensor in state.items()})


def make_talkative(adapted: Adapted) -> None:
    """Let it generate words alone: a tiny model's first token is often its end token, and silence proves nothing."""
    generator: Any = adapted.module
    generator.generation_config.forced_eos_token_id = None
    generator.generation_config.suppress_tokens = list(adapted.backbone.tokenizer.all_special_ids)


def write(folder: Path, adapted: Adapted, **options: Any) -> Path:
    """Save, with what the laws do not care about filled in."""
    given = {"recipe": {}, "data": DataFacts(source="made/up"), "metrics": {}, "seed": 0, "golden": [], **options}
    return save(folder, adapted, **given)
