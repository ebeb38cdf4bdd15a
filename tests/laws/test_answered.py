"""A language model's projection to the vocabulary runs where its loss reads, and loss and gradients stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit.heads import unpadded as without_padding
from tests.laws.cases import KINDS, METHODS
from tests.laws.test_padding import NEIGHBOURS
from tests.laws.test_unpadded import SHARED, TOLERANCE, close, learned, packing
from tests.laws.worlds import adapter, batch_of, disturb, prepared
from tests.tasks.conftest import ROWS

LANGUAGE_MODELS = ("masked-lm", "causal-lm", "seq2seq-lm")
CELLS = [(kind, family) for kind in LANGUAGE_MODELS for family in KINDS[kind].families]
PROMPTED = [{"prompt": "a fox sees the", "completion": "lazy dog"}, {"prompt": "one", "completion": "two three four"}]


def projected(adapted: Any) -> list[int]:
    """How many tokens every call of the projection got; grows as the adapter answers."""
    seen: list[int] = []

    def note(_: Any, __: Any, logits: Tensor) -> None:
        seen.append(logits.shape[:-1].numel())

    adapted.module.get_output_embeddings().register_forward_hook(note)
    return seen


@pytest.mark.parametrize("rows", ["padded", "of one length"])
@pytest.mark.parametrize(("kind", "family"), CELLS)
def test_only_what_the_loss_reads_is_answered(
    tiny_backbones: Mapping[str, Any], kind: str, family: str, rows: str
) -> None:
    chosen = [*ROWS[kind], NEIGHBOURS[kind]] if rows == "padded" else [ROWS[kind][0]] * 2
    with adapter(tiny_backbones[family], kind, METHODS["lora"].settings) as adapted:
        disturb(adapted)
        batch = batch_of(adapted, chosen)
        at = adapted.task.answered(batch)
        assert at is not None
        assert 0 < int(at.sum()) < at.numel() or (kind == "seq2seq-lm" and rows != "padded")
        whole = adapted.headed.logits(batch.inputs)
        seen = projected(adapted)
        found = adapted(batch.inputs, at)
        assert seen == [int(at.sum())]
        torch.testing.assert_close(found, whole[at], rtol=0, atol=1e-5)
        loss, gradients = learned(adapted, batch, found)
        expected, wholes = learned(adapted, batch, whole)
        assert adapted.task.outputs(found, batch) == [
            pytest.approx(output, rel=TOLERANCE) for output in adapted.task.outputs(whole, batch)
        ]
    assert loss == pytest.approx(expected, rel=TOLERANCE)
    assert close(gradients, wholes)


def test_a_prompt_is_not_answered(tiny_backbones: Mapping[str, Any]) -> None:
    task = prepared("causal-lm", PROMPTED, completions_only=True)
    with adapter(tiny_backbones["llama"], "causal-lm", task=task) as adapted:
        batch = batch_of(adapted, PROMPTED)
        seen = projected(adapted)
        adapted(batch.inputs, task.answered(batch))
        assert seen == [int((batch.labels != -100).sum())]
        assert seen[0] < int(batch.inputs["attention_mask"].sum()) - 2 * len(PROMPTED)


@pytest.mark.parametrize("known", [True, False], ids=["packed", "a family that cannot"])
@pytest.mark.parametrize("family", KINDS["causal-lm"].families)
def test_documents_that_share_blocks(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, family: str, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(without_padding, "find_reading_layers", lambda module: None)
    with packing(tiny_backbones[family]) as adapted:
        batch = batch_of(adapted, SHARED)
        at = adapted.task.answered(batch)
        torch.testing.assert_close(adapted(batch.inputs, at), adapted(batch.inputs)[at], rtol=0, atol=1e-5)


def test_a_projection_that_cannot_be_told_answers_everywhere_and_is_read_where_it_counts(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with adapter(tiny_backbones["bert"], "masked-lm") as adapted:
        batch = batch_of(adapted, [ROWS["masked-lm"][0]] * 2)
        at = adapted.task.answered(batch)
        expected = adapted(batch.inputs, at)
        monkeypatch.setattr(type(adapted.module), "get_output_embeddings", lambda module: None)
        torch.testing.assert_close(adapted(batch.inputs, at), expected, rtol=0, atol=1e-6)


def test_an_error_in_the_forward_leaves_the_projection_as_it_was(tiny_backbones: Mapping[str, Any]) -> None:
    with adapter(tiny_backbones["llama"], "causal-lm") as adapted:
        batch = batch_of(adapted)
        expected = adapted(batch.inputs)
        bad = {**batch.inputs, "input_ids": batch.inputs["input_ids"] + 10**6}
        with pytest.raises(IndexError):
            adapted(bad, adapted.task.answered(batch))
        assert torch.equal(adapted(batch.inputs), expected)
