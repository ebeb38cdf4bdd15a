"""Fused and plain steps learn the same: losses over 50 steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch

from adapterkit.adapted import Adapted, build
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, MethodSettings, TaskSettings, TrainingSettings
from adapterkit.tasks import TASKS
from adapterkit.training.learner import make_learner
from tests.training.worlds import rows_of

STEPS, FEW = 50, 6
METHODS: dict[str, MethodSettings] = {
    "query and value": LoraMethod(rank=4),
    "all linears": LoraMethod(rank=4, sites="all-linear"),
    "top layer": LoraMethod(rank=4, sites="all-linear", top=1),
    "houlsby": BottleneckMethod(placement="houlsby", width=4),
    "pfeiffer": BottleneckMethod(placement="pfeiffer", width=4),
    "parallel": BottleneckMethod(placement="parallel", width=4),
}
RATE, HEAD_RATE = 2e-3, 5e-3


def task_of() -> Any:
    kind = "text-classification"
    return TASKS[kind].prepare(TaskSettings(kind="text-classification"), rows_of(kind, 12))


def batch_of(adapted: Adapted) -> Any:
    checked, _ = adapted.task.check_rows(rows_of("text-classification", 6), "train")
    features = adapted.task.encode(checked, adapted.vocabulary, "train").features
    return adapted.task.collate(features, adapted.vocabulary)


def plain_optimizer(adapted: Adapted) -> torch.optim.Optimizer:
    """AdamW over every tensor by itself."""
    groups = [
        {"params": [parameter], "lr": rate, "weight_decay": 0.1 if parameter.ndim > 1 else 0.0}
        for rate, parameters in ((RATE, adapted.method_parameters()), (HEAD_RATE, adapted.head_parameters()))
        for parameter in parameters.values()
    ]
    return torch.optim.AdamW(groups)


def losses_of(backbone: Any, method: MethodSettings, *, fused: bool) -> Iterator[float]:
    """Fused layers and the learner, or plain layers and torch's own functions."""
    settings = TrainingSettings(
        learning_rate=RATE, head_learning_rate=HEAD_RATE, schedule="constant", warmup=0, weight_decay=0.1
    )
    with build(backbone, task_of(), method, HeadSettings(), seed=0) as adapted:
        adapted.attachment.fuse(fused)
        optimizer = plain_optimizer(adapted)
        learner = make_learner(adapted, settings, STEPS) if fused else None
        batch = batch_of(adapted)
        for _ in range(STEPS):
            loss = adapted.task.loss(adapted(batch.inputs), batch).mean
            loss.backward()
            yield loss.item()
            if learner is not None:
                learner.step(clip=1.0)
                continue
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize(
    ("family", "name", "steps"),
    [
        ("bert", "all linears", STEPS),
        ("bert", "parallel", STEPS),
        # What differs shows at once: these only have to be fused at all.
        *(("bert", name, FEW) for name in METHODS if name not in ("all linears", "parallel")),
        ("gpt2", "all linears", FEW),
        ("llama", "query and value", FEW),
        ("modernbert", "pfeiffer", FEW),
    ],
)
def test_losses_equal_those_of_plain_layers_and_a_plain_optimizer(
    tiny_backbones: Any, family: str, name: str, steps: int
) -> None:
    fused, plain = (
        [*islice(losses_of(tiny_backbones[family], METHODS[name], fused=fused), steps)] for fused in (True, False)
    )
    assert fused == pytest.approx(plain, abs=1e-5)
    assert len(fused) == steps
    assert fused[-1] < fused[0]
