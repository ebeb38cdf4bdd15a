"""Leaving padding out changes neither logits nor losses nor gradients: every kind, family, head and method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit.heads import unpadded as without_padding
from tests import tiny
from tests.laws.cases import KINDS, METHODS
from tests.laws.test_padding import LONG, NEIGHBOURS, Cell, cells, trained
from tests.laws.worlds import adapter, batch_of, disturb, prepared
from tests.tasks.conftest import ROWS

TOLERANCE = 1e-5
"""Of the largest gradient: longer rows are summed in another order."""


def learned(adapted: Any, batch: Any, logits: Tensor) -> tuple[float, dict[str, Tensor]]:
    """The loss of a batch, and its gradient by parameter."""
    loss = adapted.task.loss(logits, batch)
    parameters = {**adapted.method_parameters(), **adapted.head_parameters()}
    gradients = torch.autograd.grad(loss.total, list(parameters.values()), allow_unused=True)
    found = zip(parameters, gradients, strict=True)
    return loss.mean.item(), {name: gradient for name, gradient in found if gradient is not None}


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    return found.keys() == expected.keys() and all(
        torch.allclose(found[name], expected[name], rtol=0, atol=TOLERANCE * max(1.0, largest)) for name in expected
    )


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.family in tiny.FAMILIES], ids=str)
def test_losses_and_gradients_are_those_of_the_padded_batch(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, cell: Cell
) -> None:
    calls = []

    def noting(*given: Any, **named: Any) -> Any:
        calls.append(given)
        return view(*given, **named)

    view = without_padding.unpadded_view
    monkeypatch.setattr(without_padding, "unpadded_view", noting)
    with trained(tiny_backbones[cell.family], cell) as adapted:
        disturb(adapted)
        batch = batch_of(adapted, [*ROWS[cell.kind], NEIGHBOURS[cell.kind]])
        loss, gradients = learned(adapted, batch, adapted(batch.inputs))
        assert len(calls) == 1
        expected, padded = learned(adapted, batch, adapted.headed.logits(batch.inputs))
    assert loss == pytest.approx(expected, rel=TOLERANCE)
    assert close(gradients, padded)


def test_a_batch_without_padding_takes_the_ordinary_path(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(without_padding, "unpadded_view")
    with adapter(tiny_backbones["bert"], "text-classification") as adapted:
        batch = batch_of(adapted, [{"text": LONG, "label": "card"}] * 3)
        assert torch.equal(adapted(batch.inputs), adapted.headed.logits(batch.inputs))


SHARED = [*ROWS["causal-lm"], {"text": LONG}, {"text": "a fox"}]
"""Documents of which several fit a block of 100 tokens."""


@contextmanager
def packing(backbone: Any) -> Iterator[Any]:
    """An adapter that is learned from documents which share blocks."""
    task = prepared("causal-lm", SHARED, pack_documents=True, block_tokens=100)
    with adapter(backbone, "causal-lm", METHODS["lora"].settings, task=task) as adapted:
        disturb(adapted)
        yield adapted


@pytest.mark.parametrize("known", [True, False], ids=["packed", "a family that cannot"])
@pytest.mark.parametrize("family", KINDS["causal-lm"].families)
def test_documents_that_share_blocks_are_learned_as_if_each_were_alone(
    tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, family: str, known: bool
) -> None:
    if not known:
        monkeypatch.setattr(without_padding, "find_reading_layers", lambda module: None)
    alone = prepared("causal-lm", SHARED, block_tokens=100)
    with packing(tiny_backbones[family]) as adapted:
        task, rows = adapted.task, SHARED
        blocks = task.encode(rows, adapted.vocabulary).features
        assert any(len(block.extras["rows"]) > 1 for block in blocks)
        batch = task.collate(blocks, adapted.vocabulary)
        loss, gradients = learned(adapted, batch, adapted(batch.inputs))
        one_by_one = alone.collate(alone.encode(rows, adapted.vocabulary).features, adapted.vocabulary)
        expected, padded = learned(adapted, one_by_one, adapted.headed.logits(one_by_one.inputs))
    assert loss == pytest.approx(expected, rel=TOLERANCE)
    assert close(gradients, padded)
