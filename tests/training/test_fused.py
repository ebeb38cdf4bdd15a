"""Fused and plain steps learn the same: losses over 50 steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adapterkit as ak
from adapterkit.adapted import Adapted, build
from adapterkit.backbone.packed_weights import laid_out
from adapterkit.methods.fused import frozen
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, MethodSettings, TaskSettings, TrainingSettings
from adapterkit.tasks import TASKS
from adapterkit.training.learner import make_learner
from tests.training.worlds import losses, recipe, rows_of, train

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
                learner.collect()
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


def test_packed_weights_teach_the_same_and_stay_as_they_are(
    tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        pytest.skip("this torch was built without oneDNN")
    laid: list[torch.Size] = []

    def laying(weight_OI: torch.Tensor) -> torch.Tensor:
        laid.append(weight_OI.shape)
        return laid_out(weight_OI)

    monkeypatch.setattr(frozen, "pays", lambda *_: True)
    monkeypatch.setattr(frozen, "laid_out", laying)
    backbone = ak.Backbone.load(str(tiny_folders["bert"]), dtype="float32", device="cpu")
    before = {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}
    results, counts = {}, {}
    for packed in ("auto", "off"):
        wanted = recipe(tmp_path, tiny_folders["bert"], training={"packed": packed}, output=str(tmp_path / packed))
        results[packed], counts[packed] = train(wanted, backbone=backbone), len(laid)

    assert counts["auto"] > 0
    assert counts["off"] == counts["auto"]
    assert losses(results["auto"].artifact) == pytest.approx(losses(results["off"].artifact), abs=1e-5)
    found, expected = (load_file(results[name].artifact / "adapter_model.safetensors") for name in ("auto", "off"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)  # Adam divides by small gradients
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.trunk.state_dict().items())
    assert ak.verify(results["auto"].artifact, backbone).ok
