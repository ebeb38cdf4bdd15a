"""A text that holds the pad token or the end token is answered from its last token, as transformers does it alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit import Host
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.laws.worlds import adapter, disturb, write

FAMILIES = (*tiny.DECODERS, "gpt-neox", *tiny.ENCODER_DECODERS)
KIND = "text-classification"


def texts_of(tokenizer: Any) -> list[str]:
    """Texts that end with the pad token, hold it, hold the end token, and hold none."""
    pad, end = tokenizer.pad_token, tokenizer.eos_token
    return [f"jump twice {pad}", f"walk {pad} {pad} after", f"my card {end} was lost", "the quick brown fox jumps", pad]


def alone(adapted: Any, text: str) -> torch.Tensor:
    """What transformers' own modules answer to one text: the head above the last token's state."""
    module, tokenizer = adapted.headed.module, adapted.backbone.tokenizer
    inputs = dict(tokenizer(text, return_tensors="pt"))
    trunk = getattr(module, module.base_model_prefix)
    with torch.no_grad():
        if not adapted.backbone.is_encoder_decoder:
            return module.score(trunk(**inputs).last_hidden_state[:, -1])[0]
        if hasattr(module, "_shift_right"):
            inputs["decoder_input_ids"] = module._shift_right(inputs["input_ids"])
        return module.classification_head(trunk(**inputs).last_hidden_state[:, -1])[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_come_from_lengths_and_never_from_tokens(
    tiny_backbones: Mapping[str, Any], family: str, tmp_path: Path
) -> None:
    backbone = tiny_backbones[family]
    texts = texts_of(backbone.tokenizer)
    with adapter(backbone, KIND, LoraMethod(rank=2), head=HeadSettings(kind="family")) as adapted:
        disturb(adapted)
        expected = torch.stack([alone(adapted, text) for text in texts])
        batch = dict(backbone.tokenizer(texts, padding=True, return_tensors="pt"))
        with torch.no_grad():
            # Both ways of training's forward: with padding, and without it.
            padded, unpadded = adapted.headed.logits(batch), adapted(batch)
        assert torch.allclose(padded, expected, atol=1e-5)
        assert torch.allclose(unpadded, expected, atol=1e-5)
        write(tmp_path / "adapter", adapted, dtype="float32")
    with Host(backbone) as host:
        host.mount("it", tmp_path / "adapter")
        hosted = torch.stack(host.logits(batch, ["it"] * len(texts)))
    assert torch.allclose(hosted, expected, atol=1e-5)
