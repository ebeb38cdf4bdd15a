"""`AutoModelFor…` with plain PEFT on it reads our artifact and answers the same, with the same loss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

import adapterkit  # noqa: F401  (registers the bottleneck with PEFT)
from adapterkit.recipe import BottleneckMethod, LoraMethod
from tests.heads.references import answer, of_tokens, reference
from tests.heads.test_family import BOTH, rows_of
from tests.laws.worlds import FAMILY, adapter, batch_of, disturb, logits_of, write

pytestmark = pytest.mark.filterwarnings(
    "ignore:Some weights",
    # PEFT asks for a kind of task that it knows, and has none for multiple choice and masked language models.
    "ignore:Found missing adapter keys",
    "ignore:fan_in_fan_out is set to False",
)

METHODS: dict[str, Any] = {
    "lora": LoraMethod(rank=4, sites="all-linear"),
    "lora on queries and values": LoraMethod(rank=4),
    "houlsby": BottleneckMethod(placement="houlsby", width=4),
}
CELLS = [(kind, family, method) for kind, family in BOTH for method in ("lora", "houlsby")]
# PEFT turns some targets into others where a model has experts.
EXPERTS = [
    ("causal-lm", "deepseek", "lora on queries and values"),
    ("causal-lm", "mixtral", "lora"),
    ("causal-lm", "qwen2-experts", "lora"),
]


@pytest.mark.parametrize(("kind", "family", "method"), [*CELLS, *EXPERTS])
def test_logits_and_loss_are_those_of_transformers_with_peft(
    tiny_backbones: Mapping[str, Any], tmp_path: Path, kind: str, family: str, method: str
) -> None:
    with adapter(tiny_backbones[family], kind, METHODS[method], FAMILY) as adapted:
        untrained = logits_of(adapted)
        bare = reference(adapted)  # with the untrained head: PEFT has to bring the trained one
        disturb(adapted, 0.1)
        write(tmp_path / "out", adapted, dtype="float32")
        batch = batch_of(adapted, rows_of(kind))
        logits = logits_of(adapted, batch)
        loss = adapted.task.loss(logits, batch)
        assert not torch.allclose(logits_of(adapted), untrained, atol=1e-2)
    model = PeftModel.from_pretrained(bare, str(tmp_path / "out")).eval()
    # The model inside: PEFT's own wrapper for question answering drops token_type_ids without a word.
    expected_logits, expected_loss = answer(model.get_base_model(), kind, batch)
    assert torch.allclose(of_tokens(logits, batch), of_tokens(expected_logits, batch), rtol=0, atol=1e-5)
    assert torch.allclose(loss.total / loss.weight, expected_loss, rtol=0, atol=1e-5)
