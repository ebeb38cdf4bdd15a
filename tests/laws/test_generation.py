"""Generation reads every token once: with the cache of keys and values the text is the one without it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch

from tests import tiny
from tests.laws.cases import METHODS
from tests.laws.worlds import adapter, disturb, features_of, make_talkative, prepared

FAMILIES = (*tiny.DECODERS, *tiny.ENCODER_DECODERS)
PROMPTS = ["jump twice", "the quick brown fox jumps over the lazy dog", "Ada"]


@pytest.mark.parametrize(("family", "method"), list(product(FAMILIES, METHODS)))
def test_a_method_generates_the_same_with_and_without_a_cache(
    tiny_backbones: Mapping[str, Any], family: str, method: str
) -> None:
    kind = "seq2seq-lm" if family in tiny.ENCODER_DECODERS else "causal-lm"
    task: Any = prepared(kind)
    with adapter(tiny_backbones[family], kind, METHODS[method].settings, task=task) as adapted:
        disturb(adapted)
        make_talkative(adapted)
        rows = [{next(iter(task.columns)): prompt} for prompt in PROMPTS]
        prompts = task.collate_prompts(features_of(adapted, rows, "predict"), adapted.vocabulary)
        generator: Any = adapted.module
        with torch.inference_mode():
            cached, plain = (
                generator.generate(**prompts.inputs, max_new_tokens=6, do_sample=False, use_cache=use_cache)
                for use_cache in (True, False)
            )
        assert torch.equal(cached, plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_untrained_adapter_generates_what_the_bare_backbone_does(
    tiny_backbones: Mapping[str, Any], family: str
) -> None:
    kind = "seq2seq-lm" if family in tiny.ENCODER_DECODERS else "causal-lm"
    generated = []
    for method in ("none", "lora-all-linear", "houlsby", "pfeiffer", "parallel"):
        with adapter(tiny_backbones[family], kind, METHODS[method].settings) as adapted:
            make_talkative(adapted)
            generator: Any = adapted.module
            inputs = adapted.backbone.tokenizer(PROMPTS[1], return_tensors="pt")
            generated.append(generator.generate(**inputs, max_new_tokens=6, do_sample=False).tolist())
    assert generated == generated[:1] * len(generated)
    assert len(generated[0][0]) > 6
