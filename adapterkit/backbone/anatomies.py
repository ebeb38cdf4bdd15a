"""The layers of known models. A new family is one entry here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from adapterkit.backbone.anatomy import Anatomy, SublayerAnatomy, linears, norm_first, norm_last

QKV = ("q_proj", "k_proj", "v_proj")

_WRITTEN = {"qkv": "in_proj_qkv", "gate": "in_proj_z", "beta": "in_proj_b", "decay": "in_proj_a", "output": "out_proj"}
DELTA_NET = linears("linear_attn", "attention", **_WRITTEN)
"""A gated delta rule (Yang et al. 2024, arXiv 2412.06464): how much is written (beta) and forgotten (decay)."""

_FUSED = {"qkv_gate": "in_proj_qkvz", "beta_decay": "in_proj_ba", "output": "out_proj"}
FUSED_DELTA_NET = linears("linear_attn", "attention", **_FUSED)


def _attention(prefix: str, query: str, key: str, value: str, output: str, site: str = "attention") -> dict[str, str]:
    return linears(prefix, site, query=query, key=key, value=value, output=output)


def _fused(prefix: str, qkv: str, output: str) -> dict[str, str]:
    """An attention where one linear makes queries, keys and values."""
    return linears(prefix, "attention", qkv=qkv, output=output)


def _plain(first: str, second: str) -> dict[str, str]:
    """A feed-forward without a gate."""
    return linears("", "feedforward", input=first, output=second)


def _norms_last() -> Iterator[Anatomy]:
    dense = _plain("intermediate.dense", "output.dense")
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    bert = _attention("attention", "self.query", "self.key", "self.value", "output.dense")
    yield norm_last("BERT", (bert, dense), norms)
    mpnet = _attention("attention.attn", "q", "k", "v", "o")
    yield norm_last("MPNet", (mpnet, dense), ("attention.LayerNorm", "output.LayerNorm"))
    positions = linears("attention", "attention", position_key="self.pos_proj", position_query="self.pos_q_proj")
    entrance, output = linears("attention", "attention", qkv="self.in_proj"), "attention.output.dense"
    relative = {**entrance, **positions, output: "attention.output"}
    yield norm_last("DeBERTa", (relative, dense), norms, positional=positions)
    absolute = {**entrance, output: "attention.output"}
    yield norm_last("DeBERTa without relative positions", (absolute, dense), norms)
    second = _attention("attention", "self.query_proj", "self.key_proj", "self.value_proj", "output.dense")
    query, key, value, _ = second
    yield norm_last("DeBERTa-v2", (second, dense), norms, entrance=value, positional=(query, key))
    distil = _attention("attention", "q_lin", "k_lin", "v_lin", "out_lin"), _plain("ffn.lin1", "ffn.lin2")
    yield norm_last("DistilBERT", distil, ("sa_layer_norm", "output_layer_norm"))
    jina = _attention("self_attn", *QKV, "o_proj"), _plain("mlp.fc1", "mlp.fc2")
    yield norm_last("Jina embeddings 3", jina, ("post_attention_layernorm", "post_mlp_layernorm"))


def _latent_attention(*, queries_too: bool) -> dict[str, str]:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): keys and values, and queries in larger
    models, are read off a narrow state of their own.
    """
    query = {"query_down": "q_a_proj", "query": "q_b_proj"} if queries_too else {"query": "q_proj"}
    state = {"key_value_down": "kv_a_proj_with_mqa", "key_value": "kv_b_proj"}
    return linears("self_attn", "attention", **query, **state, output="o_proj")


def _shared_expert(prefix: str) -> dict[str, str]:
    """The expert that every token goes through, where the others are tensors of their own."""
    return linears(prefix, "shared_expert", gate="gate_proj", input="up_proj", output="down_proj")


def _experts(norms: Sequence[str], gated: Mapping[str, str]) -> Iterator[Anatomy]:
    """Decoders whose feed-forward is experts, with and without a shared one; and DeepSeek's attention, which such
    decoders have, also in their lowest layers, whose feed-forward is a plain one.
    """
    apart = _attention("self_attn", *QKV, "o_proj")
    shared = _shared_expert("mlp.shared_experts")
    # A linear says for each token how much of it counts.
    weighed = {**_shared_expert("mlp.shared_expert"), "mlp.shared_expert_gate": "shared_expert.weight"}
    yield norm_first("Mixtral", apart, {}, norms)
    yield norm_first("GLM-4, experts", {**apart, **shared}, {}, norms)
    for title, attention in (
        ("Qwen2, experts", apart),
        ("Qwen3.5, experts and linear attention", DELTA_NET),
        ("Qwen3-Next, linear attention", FUSED_DELTA_NET),
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
    apart = _attention("self_attn", *QKV, "o_proj")
    down = {"mlp.down_proj": "feedforward.output"}
    gated = {"mlp.gate_proj": "feedforward.gate", "mlp.up_proj": "feedforward.input", **down}
    swiglu = {f"feed_forward.w{n}": f"feedforward.{role}" for n, role in ((1, "gate"), (3, "input"), (2, "output"))}
    gate_input = {"mlp.gate_up_proj": "feedforward.gate_input", **down}
    dense, convolved = _plain("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"), _plain("mlp.c_fc", "mlp.c_proj")
    in_out, numbered = _plain("mlp.fc_in", "mlp.fc_out"), _plain("mlp.fc1", "mlp.fc2")
    widened = {"mlp.Wi": "feedforward.gate_input", "mlp.Wo": "feedforward.output"}
    yield norm_first("ModernBERT", _fused("attn", "Wqkv", "Wo"), widened, modernbert)
    yield norm_first("ModernBERT decoder", _attention("attn", *QKV, "Wo"), widened, modernbert)
    yield norm_first("GPT-2", _fused("attn", "c_attn", "c_proj"), convolved, gpt2)
    yield norm_first("GPT-Neo", _attention("attn.attention", *QKV, "out_proj"), convolved, gpt2)
    yield norm_first("GPT-J", _attention("attn", *QKV, "out_proj"), in_out, ("ln_1",))
    yield norm_first("CodeGen", _fused("attn", "qkv_proj", "out_proj"), in_out, ("ln_1",))
    yield norm_first("MPT", _fused("attn", "Wqkv", "out_proj"), _plain("ffn.up_proj", "ffn.down_proj"), mpt)
    yield norm_first("Persimmon", _fused("self_attn", "query_key_value", "dense"), dense, llama)
    yield norm_first("GPT-NeoX", _fused("attention", "query_key_value", "dense"), dense, llama)
    for title, norms in (("BLOOM", llama), ("Falcon", ("input_layernorm",)), ("Falcon 2", ("ln_attn", "ln_mlp"))):
        yield norm_first(title, _fused("self_attention", "query_key_value", "dense"), dense, norms)
    yield norm_first("Llama", apart, gated, llama)
    yield norm_first("Qwen3.5, linear attention", DELTA_NET, gated, llama)
    yield norm_first("Cohere", apart, gated, ("input_layernorm",))
    yield norm_first("VaultGemma", apart, gated, ("input_layernorm", "pre_feedforward_layernorm"))
    yield norm_first("Gemma 2", apart, gated, ("input_layernorm", "pre_feedforward_layernorm"), after)
    yield from _gemma4(apart, gated, after)
    yield norm_first("OLMo 2", apart, gated, ("self_attn.q_proj", "mlp.gate_proj"), after)
    yield norm_first("Phi-3", _fused("self_attn", "qkv_proj", "o_proj"), gate_input, llama)
    yield norm_first("GLM", apart, gate_input, llama)
    yield norm_first("GLM-4", apart, gate_input, llama, ("post_self_attn_layernorm", "post_mlp_layernorm"))
    yield from _experts(llama, gated)
    for attention in (
        _attention("self_attn", *QKV, "out_proj"),
        {"conv.in_proj": "convolution.input", "conv.out_proj": "convolution.output"},
    ):
        yield norm_first("LFM2", attention, swiglu, ("operator_norm", "ffn_norm"))
    for title, norms in (("Nemotron", llama), ("Apertus", ("attention_layernorm", "feedforward_layernorm"))):
        yield norm_first(title, apart, _plain("mlp.up_proj", "mlp.down_proj"), norms)
    yield norm_first("NanoChat", apart, numbered, llama)
    yield norm_first("StarCoder2", apart, convolved, llama)
    yield norm_first("Phi", _attention("self_attn", *QKV, "dense"), numbered, ("input_layernorm",))


def _t5(*, gated: bool, crossed: bool) -> Anatomy:
    attention = _attention("layer.0.SelfAttention", "q", "k", "v", "o")
    if crossed:
        attention |= _attention("layer.1.EncDecAttention", "q", "k", "v", "o", site="cross_attention")
    last = 2 if crossed else 1
    reads = {"gate": "wi_0", "input": "wi_1"} if gated else {"input": "wi"}
    feedforward = linears(f"layer.{last}.DenseReluDense", "feedforward", **reads, output="wo")
    title = f"T5 {'decoder' if crossed else 'encoder'}{', gated' if gated else ''}"
    return norm_first(title, attention, feedforward, [f"layer.{number}.layer_norm" for number in range(last + 1)])


def _bart(*, crossed: bool, pre_norm: bool) -> Anatomy:
    """BART; with the norms first: mBART, Pegasus, OPT."""
    attention, feedforward = [_attention("self_attn", *QKV, "out_proj")], _plain("fc1", "fc2")
    norms = ["self_attn_layer_norm"]
    if crossed:
        attention.append(_attention("encoder_attn", *QKV, "out_proj", site="cross_attention"))
        norms.append("encoder_attn_layer_norm")
    norms.append("final_layer_norm")
    title = f"{'mBART' if pre_norm else 'BART'} {'decoder' if crossed else 'encoder'}"
    if not pre_norm:
        return norm_last(title, (*attention, feedforward), norms)
    return norm_first(title, {path: site for own in attention for path, site in own.items()}, feedforward, norms)


ANATOMIES: tuple[Anatomy, ...] = (
    *_norms_last(),
    *_norms_first(),
    *(_t5(gated=gated, crossed=crossed) for gated in (False, True) for crossed in (False, True)),
    *(_bart(crossed=crossed, pre_norm=pre_norm) for pre_norm in (False, True) for crossed in (False, True)),
)
