"""Which trunks are causal."""

from __future__ import annotations

import transformers

from adapterkit.backbone.classes import is_causal


def test_a_config_says_whether_its_trunk_is_causal() -> None:
    assert is_causal(transformers.GPT2Config())
    assert is_causal(transformers.Gemma3TextConfig())
    assert not is_causal(transformers.Gemma3TextConfig(use_bidirectional_attention=True))
    assert not is_causal(transformers.BertConfig())
    assert is_causal(transformers.BertConfig(is_decoder=True))
    assert not is_causal(transformers.BartConfig())
    assert not is_causal(None)
