"""Heads above a trunk in bf16, and the shapes of logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from adapterkit.backbone import Backbone
from adapterkit.heads.headed import run_in_float32
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.laws.cases import HEADS, KINDS
from tests.laws.worlds import adapter, batch_of, logits_of, prepared

CELLS = [
    (kind, family, head)
    for kind, row in KINDS.items()
    if not kind.endswith("-lm")
    for family in row.families
    for head in ("family", "linear")
    if head != "family" or family not in row.own_only
]


@pytest.fixture(scope="module")
def narrow(fresh_backbone: Callable[..., Backbone]) -> Callable[[str], Backbone]:
    """Family -> its backbone in bf16."""
    loaded: dict[str, Backbone] = {}

    def load(family: str) -> Backbone:
        if family not in loaded:
            loaded[family] = fresh_backbone(family, dtype="bfloat16")
        return loaded[family]

    return load


@pytest.mark.parametrize(("kind", "family", "head"), CELLS)
def test_a_head_above_a_narrow_trunk_computes_and_trains_in_float32(
    narrow: Callable[[str], Backbone], kind: str, family: str, head: str
) -> None:
    with adapter(narrow(family), kind, LoraMethod(rank=2), HEADS[head]) as adapted:
        parameters = adapted.head_parameters()
        assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
        leaves = {name.rpartition(".")[0] for name in parameters}
        seen: dict[str, torch.dtype] = {}
        for leaf in leaves:
            adapted.module.get_submodule(leaf).register_forward_hook(
                lambda module, args, output, leaf=leaf: seen.update({leaf: output.dtype})
            )
        batch = batch_of(adapted)
        logits = adapted(batch.inputs)
        assert seen == dict.fromkeys(leaves, torch.float32)
        assert logits.dtype == torch.float32
        adapted.task.loss(logits, batch).mean.backward()
        gradients = [p.grad for p in (parameters | adapted.method_parameters()).values()]
        assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    assert {p.dtype for p in narrow(family).trunk.parameters()} == {torch.bfloat16}


def test_a_language_models_own_head_computes_in_float32_too(narrow: Callable[[str], Backbone]) -> None:
    """What is tied to the embedding stays in the trunk's dtype, or the embedding would be there twice."""
    backbone = narrow("bert-plain")
    with adapter(backbone, "masked-lm", LoraMethod(rank=2)) as adapted:
        assert {p.dtype for p in adapted.head_parameters().values()} == {torch.float32}
        assert adapted.module.get_output_embeddings().weight is adapted.backbone.trunk.get_input_embeddings().weight  # type: ignore[operator]
        batch = batch_of(adapted)
        logits = adapted(batch.inputs)
        assert torch.isfinite(logits).all()
        adapted.task.loss(logits, batch).mean.backward()
        assert all(p.grad is not None for p in adapted.head_parameters().values())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_narrow_trunk_answers_about_the_same(
    narrow: Callable[[str], Backbone], tiny_backbones: Mapping[str, Any], family: str
) -> None:
    answers = []
    for backbone in (narrow(family), tiny_backbones[family]):
        with adapter(backbone, "text-classification", head=HeadSettings(kind="linear", pooling="mean")) as adapted:
            answers.append(logits_of(adapted))
    # bf16 holds 8 bits, so a state is off by some percent after a few layers; another function would be off by all.
    difference = (answers[0] - answers[1]).abs().mean() / answers[1].abs().mean()
    assert 0 < difference < 0.1


def test_running_in_float32_leaves_modules_without_parameters_alone() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Linear(2, 2))
    run_in_float32(module)
    assert "forward" not in vars(module[0])
    assert module[1](torch.ones(1, 2, dtype=torch.bfloat16)).dtype == torch.float32
    # Ids are no floats, and stay what they are.
    embedding = nn.Embedding(3, 2)
    run_in_float32(embedding)
    assert embedding(torch.tensor([1])).shape == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_have_the_shape_of_their_kind(tiny_backbones: Mapping[str, Any], kind: str) -> None:
    family = KINDS[kind].families[0]
    task = prepared(kind)
    with adapter(tiny_backbones[family], kind) as adapted:
        batch = batch_of(adapted)
        rows, length = batch.inputs["input_ids"].shape[0], batch.inputs["input_ids"].shape[-1]
        size = tiny_backbones[family].contract.vocabulary_size
        assert (
            tuple(logits_of(adapted, batch).shape)
            == {
                "text-classification": (rows, task.classes),
                "token-classification": (rows, length, task.classes),
                "question-answering": (rows, length, 2),
                "multiple-choice": (rows, 3),
                "masked-lm": (rows, length, size),
                "causal-lm": (rows, length, size),
                "seq2seq-lm": (rows, batch.inputs.get("decoder_input_ids", batch.inputs["input_ids"]).shape[1], size),
            }[kind]
        )
