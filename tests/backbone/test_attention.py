"""Attention that trains fast on a CPU equals torch's, and its dropout is dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from adapterkit.backbone import plain_attention as plain
from adapterkit.backbone.attention import NAME, attend
from adapterkit.backbone.plain_attention import attend_plainly
from tests import tiny

TOLERANCE = 1e-5
"""Another order of the same sums."""


def heads(rows: int, heads: int, tokens: int, width: int, seed: int) -> Tensor:
    """(B, H, T, D), laid out as a trunk's projections give it."""
    drawn = torch.randn(rows, tokens, heads, width, generator=torch.Generator().manual_seed(seed))
    return drawn.transpose(1, 2).requires_grad_()


def with_gradients(found: Tensor, leaves: tuple[Tensor, ...]) -> list[Tensor]:
    upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(9))
    return [found, *torch.autograd.grad(found, leaves, upstream)]


@pytest.mark.parametrize("chunk_bytes", [1, 8 << 20], ids=["row by row", "kept"])
@pytest.mark.parametrize("what", ["mask", "causal", "nothing", "position bias", "shared heads", "narrow values"])
def test_output_and_gradients_equal_torch_s(monkeypatch: pytest.MonkeyPatch, what: str, chunk_bytes: int) -> None:
    monkeypatch.setattr(plain, "CHUNK_BYTES", chunk_bytes)
    shared = 2 if what == "shared heads" else 4
    q, k = heads(3, 4, 7, 8, 0), heads(3, shared, 7, 8, 1)
    v = heads(3, shared, 7, 5 if what == "narrow values" else 8, 2)
    mask = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = False
    given: Tensor | None = mask if what in ("mask", "position bias") else None
    bias = torch.randn(1, 4, 7, 7) if what == "position bias" else None
    found = attend(q, k, v, given, 0.0, 0.5, what == "causal", bias)
    reference = given if bias is None else bias.expand(3, -1, -1, -1).masked_fill(~mask, -torch.inf)
    expected = F.scaled_dot_product_attention(
        q, k, v, reference, scale=0.5, is_causal=what == "causal", enable_gqa=what == "shared heads"
    )
    for one, other in zip(with_gradients(found, (q, k, v)), with_gradients(expected, (q, k, v)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("chunk_bytes", [1, 8 << 20], ids=["row by row", "kept"])
def test_dropped_weights_are_the_same_forward_and_backward(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    """With v = identity the output is the weights, so that the mask can be read off it."""
    monkeypatch.setattr(plain, "CHUNK_BYTES", chunk_bytes)
    q, k = heads(4, 2, 16, 16, 0), heads(4, 2, 16, 16, 1)
    v = torch.eye(16).expand(4, 2, 16, 16).clone().requires_grad_()
    torch.manual_seed(5)
    found = with_gradients(attend_plainly(q, k, v, None, 0.25, 0.3), (q, k, v))
    kept = (found[0] != 0) / 0.7
    weights = torch.softmax(0.25 * q @ k.transpose(-1, -2), -1) * kept
    expected = with_gradients(weights @ v, (q, k, v))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-4)  # a draw of 16 bits: 0.3 to 5 digits
    assert kept.count_nonzero() / kept.numel() == pytest.approx(0.7, abs=0.03)
    rows = kept.flatten(1)
    assert not torch.equal(rows[0], rows[1])


def test_masks_follow_torch_s_generator() -> None:
    q, k, v = (heads(2, 2, 8, 4, seed) for seed in range(3))
    state = torch.get_rng_state()
    first = attend_plainly(q, k, v, None, 0.5, 0.5)
    second = attend_plainly(q, k, v, None, 0.5, 0.5)
    torch.set_rng_state(state)
    assert torch.equal(attend_plainly(q, k, v, None, 0.5, 0.5), first)
    assert not torch.equal(first, second)


def test_everything_may_be_dropped() -> None:
    q, k, v = (heads(1, 1, 4, 4, seed) for seed in range(3))
    assert not attend_plainly(q, k, v, None, 0.5, 1.0).any()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_backbone_answers_as_transformers_does_by_itself(
    tiny_backbones: Mapping[str, Any], tiny_folders: Mapping[str, Any], family: str
) -> None:
    backbone = tiny_backbones[family]
    model = transformers.AutoModel.from_pretrained(tiny_folders[family]).eval()
    assert (model.config._attn_implementation, backbone.config._attn_implementation) == ("sdpa", NAME)
    ids = torch.arange(12, 30).view(2, 9)
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 9, [1] * 5 + [0] * 4])}
    if backbone.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :4]
    with torch.no_grad():
        assert torch.equal(backbone.trunk(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    assert NAME not in str(backbone.config.to_dict())
