"""The layers of known models. A new family is one entry here."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from adapterkit.backbone.anatomy import (
    Anatomy,
    SublayerAnatomy,
    attention_linears,
    fused_attention,
    norm_first,
    norm_last,
    two_linears,
)

QKV = ("q_proj", "k_proj", "v_proj")


def _bert(
    title: str,
    attention: Mapping[str, str],
    *,
    entrance: str = "attention.self.query",
    output: str = "attention.output.dense",
    norm: str = "attention.output.LayerNorm",
    positional: Collection[str] = (),
) -> Anatomy:
    """BERT, and what differs from it in its attention alone. The entrance reads the states and nothing else."""
    return Anatomy(
        title=title,
        linears={**attention, "intermediate.dense": "feedforward.input", "output.dense": "feedforward.output"},
        norms=frozenset({norm, "output.LayerNorm"}),
        sublayers=(
            SublayerAnatomy("attention", output, entrance, norm=norm),
            SublayerAnatomy("feedforward", "output.dense", "intermediate.dense", norm="output.LayerNorm"),
        ),
        norm_first=False,
        positional=frozenset(positional),
    )


def _berts() -> Iterator[Anatomy]:
    yield _bert("BERT", attention_linears("attention", "self.query", "self.key", "self.value", "output.dense"))
    yield _bert(
        "MPNet",
        attention_linears("attention.attn", "q", "k", "v", "o"),
        entrance="attention.attn.q",
        output="attention.attn.o",
        norm="attention.LayerNorm",
    )
    yield _bert(
        "DeBERTa",
        {
            "attention.self.in_proj": "attention.qkv",
            "attention.self.pos_proj": "attention.position_key",
            "attention.self.pos_q_proj": "attention.position_query",
            "attention.output.dense": "attention.output",
        },
        entrance="attention.self.in_proj",
        positional=("attention.self.pos_proj", "attention.self.pos_q_proj"),
    )
    yield _bert(
        "DeBERTa without relative positions",
        {"attention.self.in_proj": "attention.qkv", "attention.output.dense": "attention.output"},
        entrance="attention.self.in_proj",
    )
    yield _bert(
        "DeBERTa-v2",
        attention_linears("attention", "self.query_proj", "self.key_proj", "self.value_proj", "output.dense"),
        entrance="attention.self.value_proj",
        positional=("attention.self.query_proj", "attention.self.key_proj"),
    )


def _norms_last() -> Iterator[Anatomy]:
    yield norm_last(
        "DistilBERT",
        attention_linears("attention", "q_lin", "k_lin", "v_lin", "out_lin"),
        two_linears("ffn.lin1", "ffn.lin2"),
        ("sa_layer_norm", "output_layer_norm"),
    )
    yield norm_last(
        "Jina embeddings 3",
        attention_linears("self_attn", *QKV, "o_proj"),
        two_linears("mlp.fc1", "mlp.fc2"),
        ("post_attention_layernorm", "post_mlp_layernorm"),
    )


def _delta_net() -> dict[str, str]:
    """A gated delta rule (Yang et al. 2024, arXiv 2412.06464): how much is written (beta) and forgotten (decay)."""
    names = {"in_proj_qkv": "qkv", "in_proj_z": "gate", "in_proj_b": "beta", "in_proj_a": "decay", "out_proj": "output"}
    return {f"linear_attn.{module}": f"attention.{role}" for module, role in names.items()}


def _fused_delta_net() -> dict[str, str]:
    names = {"in_proj_qkvz": "qkv_gate", "in_proj_ba": "beta_decay", "out_proj": "output"}
    return {f"linear_attn.{module}": f"attention.{role}" for module, role in names.items()}


def _latent_attention(*, queries_too: bool) -> dict[str, str]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values, and queries in larger
    models, are read off a narrow state of their own.
    """
    query = {"q_a_proj": "query_down", "q_b_proj": "query"} if queries_too else {"q_proj": "query"}
    names = {**query, "kv_a_proj_with_mqa": "key_value_down", "kv_b_proj": "key_value", "o_proj": "output"}
    return {f"self_attn.{module}": f"attention.{role}" for module, role in names.items()}


def _shared_expert(prefix: str, *, weighed: bool = False) -> dict[str, str]:
    """The expert that every token goes through, where the others are tensors of their own.
    `weighed`: whether a linear says for each token how much of it counts."""
    names = {"gate_proj": "gate", "up_proj": "input", "down_proj": "output"}
    found = {f"{prefix}.{module}": f"shared_expert.{role}" for module, role in names.items()}
    return {**found, f"{prefix}_gate": "shared_expert.weight"} if weighed else found


def _experts(norms: Sequence[str], gated: Mapping[str, str]) -> Iterator[Anatomy]:
    """Decoders whose feed-forward is experts, with and without a shared one; and DeepSeek's attention, which such
    decoders have, also in their lowest layers, whose feed-forward is a plain one.
    """
    apart = attention_linears("self_attn", *QKV, "o_proj")
    shared, weighed = _shared_expert("mlp.shared_experts"), _shared_expert("mlp.shared_expert", weighed=True)
    yield norm_first("Mixtral", apart, {}, norms)
    yield norm_first("GLM-4, experts", {**apart, **shared}, {}, norms)
    for title, attention in (
        ("Qwen2, experts", apart),
        ("Qwen3.5, experts and linear attention", _delta_net()),
        ("Qwen3-Next, linear attention", _fused_delta_net()),
    ):
        yield norm_first(title, {**attention, **weighed}, {}, norms)
    for queries_too in (False, True):
        latent = _latent_attention(queries_too=queries_too)
        yield norm_first("DeepSeek", latent, gated, norms)
        yield norm_first("DeepSeek", {**latent, **shared}, {}, norms)


def _gemma4(attention: Mapping[str, str], feedforward: Mapping[str, str], exits: Sequence[str]) -> Iterator[Anatomy]:
    """Gemma 2, whose layers may lack a projection for values, or read the keys and values of a layer below; and a third
    branch where every layer has embeddings of its own.
    """
    own = {"per_layer_input_gate": "layer_input.gate", "per_layer_projection": "layer_input.output"}
    branch = SublayerAnatomy("layer_input", "post_per_layer_input_norm", "per_layer_input_gate")
    for absent in ((), ("value",), ("key", "value")):
        linears = {path: site for path, site in attention.items() if site.rpartition(".")[2] not in absent}
        plain = norm_first("Gemma 4", linears, feedforward, ("input_layernorm", "pre_feedforward_layernorm"), exits)
        if absent:
            yield plain
        yield replace(
            plain,
            linears={**plain.linears, **own},
            norms=plain.norms | {branch.output},
            sublayers=(*plain.sublayers, branch),
        )


def _norms_first() -> Iterator[Anatomy]:
    """One list of such layers; each title stands for all that are built alike."""
    modernbert, gpt2, mpt = ("attn_norm", "mlp_norm"), ("ln_1", "ln_2"), ("norm_1", "norm_2")
    llama = ("input_layernorm", "post_attention_layernorm")
    after = ("post_attention_layernorm", "post_feedforward_layernorm")
    apart = attention_linears("self_attn", *QKV, "o_proj")
    down = {"mlp.down_proj": "feedforward.output"}
    gated = {"mlp.gate_proj": "feedforward.gate", "mlp.up_proj": "feedforward.input", **down}
    swiglu = {f"feed_forward.w{n}": f"feedforward.{role}" for n, role in ((1, "gate"), (3, "input"), (2, "output"))}
    gate_input = {"mlp.gate_up_proj": "feedforward.gate_input", **down}
    dense, convolved = two_linears("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), two_linears("mlp.c_fc", "mlp.c_proj")
    in_out, numbered = two_linears("mlp.fc_in", "mlp.fc_out"), two_linears("mlp.fc1", "mlp.fc2")
    widened = {"mlp.Wi": "feedforward.gate_input", "mlp.Wo": "feedforward.output"}
    yield norm_first("ModernBERT", fused_attention("attn", "Wqkv", "Wo"), widened, modernbert)
    yield norm_first("ModernBERT decoder", attention_linears("attn", *QKV, "Wo"), widened, modernbert)
    yield norm_first("GPT-2", fused_attention("attn", "c_attn", "c_proj"), convolved, gpt2)
    yield norm_first("GPT-Neo", attention_linears("attn.attention", *QKV, "out_proj"), convolved, gpt2)
    yield norm_first("GPT-J", attention_linears("attn", *QKV, "out_proj"), in_out, ("ln_1",))
    yield norm_first("CodeGen", fused_attention("attn", "qkv_proj", "out_proj"), in_out, ("ln_1",))
    yield norm_first(
        "MPT", fused_attention("attn", "Wqkv", "out_proj"), two_linears("ffn.up_proj", "ffn.down_proj"), mpt
    )
    yield norm_first("Persimmon", fused_attention("self_attn", "query_key_value", "dense"), dense, llama)
    yield norm_first("GPT-NeoX", fused_attention("attention", "query_key_value", "dense"), dense, llama)
    for title, norms in (("BLOOM", llama), ("Falcon", ("input_layernorm",)), ("Falcon 2", ("ln_attn", "ln_mlp"))):
        yield norm_first(title, fused_attention("self_attention", "query_key_value", "dense"), dense, norms)
    yield norm_first("Llama", apart, gated, llama)
    yield norm_first("Qwen3.5, linear attention", _delta_net(), gated, llama)
    yield norm_first("Cohere", apart, gated, ("input_layernorm",))
    yield norm_first("VaultGemma", apart, gated, ("input_layernorm", "pre_feedforward_layernorm"))
    yield norm_first("Gemma 2", apart, gated, ("input_layernorm", "pre_feedforward_layernorm"), after)
    yield from _gemma4(apart, gated, after)
    yield norm_first("OLMo 2", apart, gated, ("self_attn.q_proj", "mlp.gate_proj"), after)
    yield norm_first("Phi-3", fused_attention("self_attn", "qkv_proj", "o_proj"), gate_input, llama)
    yield norm_first("GLM", apart, gate_input, llama)
    yield norm_first("GLM-4", apart, gate_input, llama, ("post_self_attn_layernorm", "post_mlp_layernorm"))
    yield from _experts(llama, gated)
    for attention in (
        attention_linears("self_attn", *QKV, "out_proj"),
        {"conv.in_proj": "convolution.input", "conv.out_proj": "convolution.output"},
    ):
        yield norm_first("LFM2", attention, swiglu, ("operator_norm", "ffn_norm"))
    for title, norms in (("Nemotron", llama), ("Apertus", ("attention_layernorm", "feedforward_layernorm"))):
        yield norm_first(title, apart, two_linears("mlp.up_proj", "mlp.down_proj"), norms)
    yield norm_first("NanoChat", apart, numbered, llama)
    yield norm_first("StarCoder2", apart, convolved, llama)
    yield norm_first("Phi", attention_linears("self_attn", *QKV, "dense"), numbered, ("input_layernorm",))


def _t5(*, gated: bool, crossed: bool) -> Anatomy:
    last = 2 if crossed else 1
    linears = attention_linears("layer.0.SelfAttention", "q", "k", "v", "o")
    sublayers = [SublayerAnatomy("attention", "layer.0.SelfAttention.o", "layer.0.layer_norm")]
    if crossed:
        linears |= attention_linears("layer.1.EncDecAttention", "q", "k", "v", "o", site="cross_attention")
        sublayers.append(SublayerAnatomy("cross_attention", "layer.1.EncDecAttention.o", "layer.1.layer_norm"))
    dense = f"layer.{last}.DenseReluDense"
    if gated:
        linears |= {f"{dense}.wi_0": "feedforward.gate", f"{dense}.wi_1": "feedforward.input"}
    else:
        linears |= {f"{dense}.wi": "feedforward.input"}
    linears |= {f"{dense}.wo": "feedforward.output"}
    sublayers.append(SublayerAnatomy("feedforward", f"{dense}.wo", f"layer.{last}.layer_norm"))
    return Anatomy(
        title=f"T5 {'decoder' if crossed else 'encoder'}{', gated' if gated else ''}",
        linears=linears,
        norms=frozenset(f"layer.{number}.layer_norm" for number in range(last + 1)),
        sublayers=tuple(sublayers),
        norm_first=True,
    )


def _bart(*, crossed: bool, pre_norm: bool) -> Anatomy:
    """BART; with the norms first: mBART, Pegasus, OPT."""

    def sublayer(name: str, output: str, first_linear: str, norm: str) -> SublayerAnatomy:
        if pre_norm:
            return SublayerAnatomy(name, output, residual=norm)
        return SublayerAnatomy(name, output, residual=first_linear, norm=norm)

    linears = attention_linears("self_attn", *QKV, "out_proj")
    sublayers = [sublayer("attention", "self_attn.out_proj", "self_attn.q_proj", "self_attn_layer_norm")]
    norms = {"self_attn_layer_norm", "final_layer_norm"}
    if crossed:
        linears |= attention_linears("encoder_attn", *QKV, "out_proj", site="cross_attention")
        sublayers.append(
            sublayer("cross_attention", "encoder_attn.out_proj", "encoder_attn.q_proj", "encoder_attn_layer_norm")
        )
        norms.add("encoder_attn_layer_norm")
    linears |= {"fc1": "feedforward.input", "fc2": "feedforward.output"}
    sublayers.append(sublayer("feedforward", "fc2", "fc1", "final_layer_norm"))
    return Anatomy(
        title=f"{'mBART' if pre_norm else 'BART'} {'decoder' if crossed else 'encoder'}",
        linears=linears,
        norms=frozenset(norms),
        sublayers=tuple(sublayers),
        norm_first=pre_norm,
    )


ANATOMIES: tuple[Anatomy, ...] = (
    *_berts(),
    *_norms_last(),
    *_norms_first(),
    *(_t5(gated=gated, crossed=crossed) for gated in (False, True) for crossed in (False, True)),
    *(_bart(crossed=crossed, pre_norm=pre_norm) for pre_norm in (False, True) for crossed in (False, True)),
)
