"""Tiny real checkpoints of the nine families, built from configs: weights, config and a real tokenizer.

Nothing is downloaded. Biases, norms and embeddings are random, so that a forgotten one shows in the outputs; dropout
stays at 0.1, so that a forgotten `eval()` shows too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from tests.tiny_tokenizers import MAX_TOKENS, tokenizer_of

FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "gpt2", "llama", "qwen2", "t5", "bart")
ENCODERS = FAMILIES[:4]
DECODERS = FAMILIES[4:7]
ENCODER_DECODERS = FAMILIES[7:]

# Other checkpoints of the same families: BERT from a masked-LM class (no pooler in the file), BERT from the bare
# class (no LM head in the file), T5 with a gated feed-forward, and a look-alike of Llama from another family.
VARIANTS = ("bert-without-pooler", "bert-plain", "t5-gated", "mistral")

# Families beyond the nine: recognised by their layers, with attention and embeddings of their own.
OTHERS = (
    "mpnet",
    "deberta",
    "deberta-v2",
    "electra",
    "bloom",
    "falcon",
    "gpt-j",
    "gpt-neox",
    "gemma-2",
    "mixtral",
    "qwen2-experts",
    "deepseek",
    "qwen3.5",
    "lfm2",
    "gemma-4",
)

# A family whose layers are not known, which takes heads alone.
UNKNOWN = ("albert",)


def build(family: str, folder: str | Path) -> Path:
    """Write a tiny checkpoint of one of the families above into `folder`, the same bytes every time."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(family)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = _model(family, tokenizer)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _model(family: str, tokenizer: Any) -> Any:
    class_name, config_name, settings = _MODELS[family]
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = getattr(transformers, config_name)(**{"vocab_size": len(tokenizer), **special, **settings})
    if family == "modernbert":
        config.cls_token_id, config.sep_token_id = tokenizer.cls_token_id, tokenizer.sep_token_id
    return getattr(transformers, class_name)(config)


_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_TOKENS,
    "initializer_range": 0.1,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2, "attention_dropout": 0.1}
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_DEBERTA = {**_BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_BLOOM = {"hidden_size": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.1}
_MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForPreTraining", "BertConfig", _BERT),
    "bert-without-pooler": ("BertForMaskedLM", "BertConfig", _BERT),
    "bert-plain": ("BertModel", "BertConfig", _BERT),
    "roberta": (
        "RobertaForMaskedLM",
        "RobertaConfig",
        # Positions start at pad_token_id + 1 = 2, so two of these are never used.
        {**_BERT, "max_position_embeddings": MAX_TOKENS + 2, "type_vocab_size": 1},
    ),
    "distilbert": (
        "DistilBertForMaskedLM",
        "DistilBertConfig",
        {
            "dim": 32,
            "n_layers": 3,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": MAX_TOKENS,
            "initializer_range": 0.1,
        },
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        # Four layers, so that both global (0, 3) and local (1, 2) attention are there.
        {
            **_BERT,
            "num_hidden_layers": 4,
            "global_attn_every_n_layers": 3,
            "local_attention": 16,
            "attention_dropout": 0.1,
            "mlp_dropout": 0.1,
            "embedding_dropout": 0.1,
        },
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": MAX_TOKENS, "initializer_range": 0.1},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**_LLAMA, "tie_word_embeddings": False}),
    "mistral": ("MistralForCausalLM", "MistralConfig", _LLAMA),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**_LLAMA, "tie_word_embeddings": True}),
    "t5": ("T5ForConditionalGeneration", "T5Config", _T5),
    "t5-gated": (
        "T5ForConditionalGeneration",
        "T5Config",
        {**_T5, "feed_forward_proj": "gated-gelu"},
    ),
    "bart": (
        "BartForConditionalGeneration",
        "BartConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": MAX_TOKENS,
            "init_std": 0.1,
            "decoder_start_token_id": 2,
            "forced_bos_token_id": None,
        },
    ),
    "mpnet": ("MPNetForMaskedLM", "MPNetConfig", {**_BERT, "max_position_embeddings": MAX_TOKENS + 2}),
    "deberta": ("DebertaForMaskedLM", "DebertaConfig", _DEBERTA),
    # As version 3 is set up.
    "deberta-v2": (
        "DebertaV2ForMaskedLM",
        "DebertaV2Config",
        {
            **_DEBERTA,
            "share_att_key": True,
            "position_buckets": 16,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
            "position_biased_input": False,
        },
    ),
    "electra": ("ElectraForMaskedLM", "ElectraConfig", {**_BERT, "embedding_size": 16}),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", {**_BERT, "embedding_size": 16}),
    "bloom": ("BloomForCausalLM", "BloomConfig", _BLOOM),
    "falcon": (
        "FalconForCausalLM",
        "FalconConfig",
        {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "initializer_range": 0.1},
    ),
    "gpt-j": (
        "GPTJForCausalLM",
        "GPTJConfig",
        {"n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.1, "rotary_dim": 4, "n_positions": MAX_TOKENS},
    ),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", _BERT),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**_LLAMA, "num_local_experts": 4, "sliding_window": None}),
    "qwen2-experts": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**_LLAMA, "num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    ),
    # Its lowest layer has a plain feed-forward, the others experts with a shared one.
    "deepseek": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        {
            **_LLAMA,
            "num_key_value_heads": 4,
            "first_k_dense_replace": 1,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
        },
    ),
    "gemma-4": (
        "Gemma4ForCausalLM",
        "Gemma4TextConfig",
        {
            **_LLAMA,
            "num_hidden_layers": 4,
            "head_dim": 8,
            "global_head_dim": 8,
            "num_global_key_value_heads": 2,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "hidden_size_per_layer_input": 4,
            "vocab_size_per_layer_input": 360,
            "num_kv_shared_layers": 2,
        },
    ),
    "qwen3.5": (
        "Qwen3_5ForCausalLM",
        "Qwen3_5TextConfig",
        {
            **_LLAMA,
            "num_hidden_layers": 4,
            "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"] * 2,
            **{f"linear_num_{role}_heads": 2 for role in ("key", "value")},
            **{f"linear_{role}_head_dim": 8 for role in ("key", "value")},
        },
    ),
    "lfm2": ("Lfm2ForCausalLM", "Lfm2Config", {**_LLAMA, "layer_types": ["conv", "full_attention", "conv"]}),
    "gemma-2": ("Gemma2ForCausalLM", "Gemma2Config", {**_LLAMA, "head_dim": 8, "sliding_window": 8}),
}
