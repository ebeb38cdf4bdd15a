"""Sites and sublayers of every family, checked against what really runs through the modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from adapterkit.backbone import Sites, find_sites
from adapterkit.errors import SiteError
from tests import tiny

# Independent of the code under test: read off transformers' own modelling files.
NAMES = {
    "bert": "query key value output | input output",
    "roberta": "query key value output | input output",
    "distilbert": "query key value output | input output",
    "modernbert": "qkv output | gate_input output",
    "gpt2": "qkv output | input output",
    "llama": "query key value output | gate input output",
    "qwen2": "query key value output | gate input output",
    "t5": "query key value output | input output",
    "bart": "query key value output | input output",
}
_GEMMA4 = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}
_EXPERTS = {"num_key_value_heads": 2, "head_dim": 16, "moe_intermediate_size": 16, "num_experts": 4}
_SHARED = {**_EXPERTS, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    **{f"linear_num_{role}_heads": 2 for role in ("key", "value")},
    **{f"linear_{role}_head_dim": 8 for role in ("key", "value")},
}
LOOK_ALIKES: dict[str, tuple[str, dict[str, Any]]] = {
    "Electra": ("ElectraConfig", {"embedding_size": 32}),
    "XLM-R": ("XLMRobertaConfig", {"pad_token_id": 1}),
    "Mistral": ("MistralConfig", {"num_key_value_heads": 2}),
    "Gemma": ("GemmaConfig", {"num_key_value_heads": 2, "head_dim": 8}),
    "Qwen3": ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 8}),
    "Phi3": ("Phi3Config", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "mBART": ("MBartConfig", {"decoder_layers": 2}),
    "Marian": ("MarianConfig", {"decoder_layers": 2, "pad_token_id": 0, "decoder_start_token_id": 0}),
    "Pegasus": ("PegasusConfig", {"decoder_layers": 2}),
    "OPT": ("OPTConfig", {"word_embed_proj_dim": 32}),
    "OPT, norm last": ("OPTConfig", {"word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    "gated T5": ("T5Config", {"d_kv": 8, "feed_forward_proj": "gated-gelu"}),
    "MPNet": ("MPNetConfig", {}),
    "DeBERTa": ("DebertaConfig", {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DeBERTa without relative positions": ("DebertaConfig", {}),
    "DeBERTa-v3": (
        "DebertaV2Config",
        {
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
        },
    ),
    "ModernBERT decoder": ("ModernBertDecoderConfig", {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 1}),
    "GPT-Neo": ("GPTNeoConfig", {"attention_types": [[["global", "local"], 1]]}),
    "GPT-NeoX, one branch after the other": ("GPTNeoXConfig", {"use_parallel_residual": False}),
    "BLOOM": ("BloomConfig", {"n_layer": 2, "n_head": 4}),
    "Falcon, one branch after the other": ("FalconConfig", {"parallel_attn": False}),
    "GLM": ("GlmConfig", {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}),
    "Nemotron": ("NemotronConfig", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "StarCoder2": ("Starcoder2Config", {"num_key_value_heads": 2}),
    "StableLM": ("StableLmConfig", {"num_key_value_heads": 2}),
    "StableLM, side by side": ("StableLmConfig", {"num_key_value_heads": 2, "use_parallel_residual": True}),
    "Falcon": ("FalconConfig", {}),
    "Falcon 2": ("FalconConfig", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "GPT-J": ("GPTJConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    "CodeGen": ("CodeGenConfig", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    "MPT": ("MptConfig", {"n_layers": 2, "n_heads": 4}),
    "Persimmon": ("PersimmonConfig", {}),
    "NanoChat": ("NanoChatConfig", {"num_key_value_heads": 2}),
    "Jina embeddings 3": ("JinaEmbeddingsV3Config", {"pad_token_id": 1}),
    "Youtu": ("YoutuConfig", _LATENT),
    "GPT-NeoX": ("GPTNeoXConfig", {}),
    "Phi": ("PhiConfig", {"pad_token_id": 0}),
    "Cohere": ("CohereConfig", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "Cohere 2": ("Cohere2Config", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "Gemma 2": ("Gemma2Config", {"num_key_value_heads": 2, "head_dim": 8}),
    "Gemma 3": ("Gemma3TextConfig", {"num_key_value_heads": 2, "head_dim": 8}),
    "OLMo 2": ("Olmo2Config", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "OLMo 3": ("Olmo3Config", {"num_key_value_heads": 2, "pad_token_id": 0}),
    "EXAONE 4": ("Exaone4Config", {"num_key_value_heads": 2}),
    "Gemma 4": ("Gemma4TextConfig", _GEMMA4),
    "Gemma 4, small": (
        "Gemma4TextConfig",
        {**_GEMMA4, "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 50, "num_kv_shared_layers": 2},
    ),
    "Gemma 4, keys as values": ("Gemma4TextConfig", {**_GEMMA4, "attention_k_eq_v": True}),
    "Qwen3.5": (
        "Qwen3_5TextConfig",
        {
            "num_key_value_heads": 2,
            "head_dim": 16,
            **_LINEAR,
        },
    ),
    "LFM2": ("Lfm2Config", {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}),
    "VaultGemma": ("VaultGemmaConfig", {"num_key_value_heads": 2, "head_dim": 8}),
    "Apertus": ("ApertusConfig", {"num_key_value_heads": 2}),
    "GLM-4": ("Glm4Config", {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}),
}
# Linears as in Llama or BERT, but the residual runs in another way.
OTHER_WIRING: dict[str, tuple[str, dict[str, Any]]] = {
    "Granite": ("GraniteConfig", {"num_key_value_heads": 2, "residual_multiplier": 0.5}),
    "pre-norm RoBERTa": ("RobertaPreLayerNormConfig", {"pad_token_id": 1}),
    "BLOOM, what its norms give": ("BloomConfig", {"n_layer": 2, "apply_residual_connection_post_layernorm": True}),
    "Mixtral": ("MixtralConfig", {"num_key_value_heads": 2}),
    "GLM-4, experts": ("Glm4MoeConfig", _SHARED),
    "Qwen2, experts": ("Qwen2MoeConfig", {**_EXPERTS, "shared_expert_intermediate_size": 16}),
    "Qwen3.5, experts": ("Qwen3_5MoeTextConfig", {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 16}),
    "Qwen3-Next": ("Qwen3NextConfig", {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 16}),
    "DeepSeek-V2": ("DeepseekV2Config", {**_SHARED, **_LATENT, "first_k_dense_replace": 1}),
    "DeepSeek-V2-Lite": ("DeepseekV2Config", {**_SHARED, **_LATENT, "q_lora_rank": None}),
    "DeepSeek-V3": ("DeepseekV3Config", {**_SHARED, **_LATENT, "first_k_dense_replace": 1}),
    "Qwen3, experts": ("Qwen3MoeConfig", {"num_key_value_heads": 2, "head_dim": 8, "moe_intermediate_size": 16}),
}
# An encoder whose layers are not known, below a decoder whose layers are.
HALF_KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "LongT5": ("LongT5Config", {"d_kv": 8}),
    "LED": ("LEDConfig", {"decoder_layers": 2, "attention_window": 4}),
}


def model(config_name: str, changes: dict[str, Any]) -> Any:
    """A model of two layers and width 32 under whatever names the family's config has for them."""
    known = {
        "hidden_size": 32,
        "d_model": 32,
        "num_hidden_layers": 2,
        "num_layers": 2,
        "encoder_layers": 2,
        "num_attention_heads": 4,
        "num_heads": 4,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "intermediate_size": 64,
        "d_ff": 64,
        "ffn_dim": 64,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "max_position_embeddings": 64,
        "vocab_size": 50,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    config_class = getattr(transformers, config_name)
    taken = set(config_class().to_dict())
    config = config_class(**{name: value for name, value in known.items() if name in taken} | changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModel.from_config(config).eval()


def run(trunk: Any) -> None:
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    if trunk.config.is_encoder_decoder:
        trunk(input_ids=ids, decoder_input_ids=torch.tensor([[4, 5, 6]]))
    else:
        trunk(input_ids=ids)


def wiring_faults(trunk: nn.Module, sites: Sites) -> list[str]:
    """Every sublayer of which r + h is not what enters its norm, or the next sublayer, or leaves the layer.

    Of branches side by side, which read the same r and not each other, all the h are added.
    """
    seen: dict[tuple[str, str], Tensor] = {}

    def keep_input(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            seen["in", path] = args[0].clone()

        return hook

    def keep_output(path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            seen["out", path] = (output[0] if isinstance(output, tuple) else output).clone()

        return hook

    handles = []
    for site in sites.sites:
        if not site.linear:
            handles.append(trunk.get_submodule(site.path).register_forward_hook(keep_output(site.path)))
    for branch in sites.sublayers:
        for path in (branch.residual, branch.norm) if branch.norm else (branch.residual,):
            module = trunk.get_submodule(path)
            handles.append(module.register_forward_pre_hook(keep_input(path)))
        handles.append(trunk.get_submodule(branch.output).register_forward_hook(keep_output(branch.output)))
    run(trunk)
    for handle in handles:
        handle.remove()

    faults = []
    for number, branch in enumerate(sites.sublayers):
        after = sites.sublayers[number + 1] if number + 1 < len(sites.sublayers) else None
        layer = next(s.path for s in sites.sites if not s.linear and (s.side, s.layer) == (branch.side, branch.layer))
        if branch.norm is not None:
            arrived = seen["in", branch.norm]
        elif after is not None and (after.side, after.layer) == (branch.side, branch.layer):
            arrived = seen["in", after.residual]
        else:
            arrived = seen["out", layer]
        # OPT flattens rows and tokens for its feed-forward, hence the views.
        residual = seen["in", branch.residual]
        h = seen["out", branch.output].view_as(arrived)
        beside = [b for b in sites.sublayers if b != branch and (b.side, b.layer) == (branch.side, branch.layer)]
        beside = [b for b in beside if torch.equal(seen["in", b.residual], residual)]
        if beside and not reads(trunk, branch.output, beside[0].output):
            arrived, h = seen["out", layer], h + seen["out", beside[0].output]
        if not torch.allclose(residual.view_as(arrived) + h, arrived, rtol=0, atol=1e-6 if beside else 0):
            faults.append(f"{branch.side} {branch.layer} {branch.name}")
    return faults


def reads(trunk: nn.Module, one: str, other: str) -> bool:
    """Whether what one of two modules gives depends on what the other gives."""

    def outcome(of: str, silent: str = "") -> Tensor:
        found: list[Tensor] = []
        handles = [trunk.get_submodule(of).register_forward_hook(lambda _, __, output: found.append(output.clone()))]
        if silent:
            handles.append(trunk.get_submodule(silent).register_forward_hook(lambda _, __, output: 0 * output))
        run(trunk)
        for handle in handles:
            handle.remove()
        return found[0]

    return any(not torch.equal(outcome(a), outcome(a, silent=b)) for a, b in ((one, other), (other, one)))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_each_family_has_the_sites_that_its_layers_hold(tiny_backbones: Any, family: str) -> None:
    attention, feedforward = (part.split() for part in NAMES[family].split("|"))
    expected = {f"attention.{name}" for name in attention} | {f"feedforward.{name}" for name in feedforward}
    if family in tiny.ENCODER_DECODERS:
        expected |= {f"cross_attention.{name}" for name in attention}
    assert set(tiny_backbones[family].sites.names()) == expected | {"layer.output"}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_linear_of_every_layer_is_one_site(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    layers = [site.path for site in backbone.sites.sites if site.name == "layer.output"]
    inside = {
        path
        for path, module in backbone.trunk.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and path.startswith(tuple(f"{layer}." for layer in layers))
    }
    paths = [site.path for site in backbone.sites.sites if site.linear]
    assert len(paths) == len(set(paths))
    assert set(paths) == inside


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_layers_are_counted_per_side(tiny_backbones: Any, family: str) -> None:
    counted = dict(tiny_backbones[family].sites.layer_count)
    if family in tiny.ENCODER_DECODERS:
        assert counted == {"encoder": 2, "decoder": 2}
    elif family in tiny.DECODERS:
        assert counted == {"decoder": 3}
    else:
        assert counted == {"encoder": 4 if family == "modernbert" else 3}


@pytest.mark.parametrize("family", tiny.FAMILIES + tiny.VARIANTS)
def test_residual_and_sublayer_output_add_up_to_what_comes_next(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    per_layer = {"encoder": 2, "decoder": 3 if backbone.is_encoder_decoder else 2}
    expected = sum(count * per_layer[side] for side, count in backbone.sites.layer_count.items())
    assert len(backbone.sites.sublayers) == expected
    assert wiring_faults(backbone.trunk, backbone.sites) == []


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_models_that_are_built_alike_are_known_without_being_named(name: str) -> None:
    trunk = model(*LOOK_ALIKES[name])
    sites = find_sites(trunk)
    assert sites.no_sublayers == ""
    assert wiring_faults(trunk, sites) == []


@pytest.mark.parametrize("name", OTHER_WIRING)
def test_a_residual_that_runs_otherwise_is_not_mistaken(name: str) -> None:
    trunk = model(*OTHER_WIRING[name])
    sites = find_sites(trunk)
    assert {site.layer for site in sites.select("auto")} == {0, 1}  # methods on linears still work
    with pytest.raises(SiteError, match="residual"):
        sites.select_sublayers()


def test_the_fault_finder_finds_faults(tiny_backbones: Any) -> None:
    sites = tiny_backbones["llama"].sites
    swapped = Sites(
        sites.sites,
        tuple(type(b)(b.name, b.layer, b.side, b.output, sites.sublayers[0].residual, None) for b in sites.sublayers),
        sites.layer_count,
    )
    assert len(wiring_faults(tiny_backbones["llama"].trunk, swapped)) == len(sites.sublayers)


def test_an_unknown_family_is_told_what_was_found() -> None:
    trunk = transformers.AutoModel.from_config(
        transformers.AlbertConfig(
            vocab_size=50,
            hidden_size=32,
            embedding_size=16,
            num_attention_heads=4,
            intermediate_size=64,
            num_hidden_layers=2,
        )
    )
    with pytest.raises(SiteError) as caught:
        find_sites(trunk)
    assert "AlbertModel" in caught.value.summary
    assert any("ffn_output" in problem for problem in caught.value.problems)
    assert "Llama" in caught.value.remedy


@pytest.mark.parametrize("name", HALF_KNOWN)
def test_a_model_is_not_taken_for_the_half_of_it_that_is_known(name: str) -> None:
    with pytest.raises(SiteError, match="has layers that adapterkit does not know") as caught:
        find_sites(model(*HALF_KNOWN[name]))
    assert all(problem.startswith("encoder.") for problem in caught.value.problems)


def test_linears_that_read_what_all_rows_have_in_common_are_known(tiny_backbones: Any) -> None:
    for family in tiny.FAMILIES + tiny.OTHERS:
        roles = {path.rpartition(".")[2] for path in tiny_backbones[family].sites.positional}
        expected = {"deberta": {"pos_proj", "pos_q_proj"}, "deberta-v2": {"query_proj", "key_proj"}}
        assert roles == expected.get(family, set())


def test_a_model_without_linears_is_told_so() -> None:
    with pytest.raises(SiteError, match="no linear module"):
        find_sites(nn.Embedding(3, 2))


def test_a_trunk_of_layers_of_both_kinds_is_unknown(fresh_backbone: Any) -> None:
    trunk = fresh_backbone("bert").trunk
    trunk.encoder.layer[1] = nn.Linear(2, 2)
    with pytest.raises(SiteError, match="BertModel"):
        find_sites(trunk)
