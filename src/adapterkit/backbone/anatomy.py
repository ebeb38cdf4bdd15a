"""What the layers of known models look like inside: which linear is which site, and where residuals run.

An anatomy is recognised by structure, never by a model's name. The linears of a layer must be exactly the ones listed:
then their sites are known. If the norms around its sublayers are exactly the ones listed too, and the stack of layers
ends in a norm just when its layers begin with one, then the residual branches are known as well. That last rule
is what tells BART from mBART, whose layers hold the very same modules but run through them in another order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SublayerAnatomy:
    """One residual branch of a layer, in module names relative to the layer. See `sites.Sublayer`."""

    name: str
    output: str
    residual: str
    norm: str | None = None


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One kind of layer, in module names relative to it.

    Attributes:
        title: what to call it in messages.
        linears: every linear of the layer -> the name of its site.
        norms: every norm of the layer, without those inside the attention (as on Qwen3's queries).
        sublayers: the residual branches, in the order in which they run; two that read the same run side by side.
        norm_first: whether norms stand inside the branches (pre-norm), so that the stack ends with one.
        positional: the linears that read relative positions, which all rows of a batch have in common.
    """

    title: str
    linears: Mapping[str, str]
    norms: frozenset[str]
    sublayers: tuple[SublayerAnatomy, ...]
    norm_first: bool
    positional: frozenset[str] = frozenset()


def _attention(prefix: str, query: str, key: str, value: str, output: str, site: str = "attention") -> dict[str, str]:
    names = {"query": query, "key": key, "value": value, "output": output}
    return {f"{prefix}.{module}": f"{site}.{role}" for role, module in names.items()}


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
    yield _bert("BERT", _attention("attention", "self.query", "self.key", "self.value", "output.dense"))
    yield _bert(
        "MPNet",
        _attention("attention.attn", "q", "k", "v", "o"),
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
        "DeBERTa-v2",
        _attention("attention", "self.query_proj", "self.key_proj", "self.value_proj", "output.dense"),
        entrance="attention.self.value_proj",
        positional=("attention.self.query_proj", "attention.self.key_proj"),
    )


def _distilbert() -> Anatomy:
    return Anatomy(
        title="DistilBERT",
        linears={
            **_attention("attention", "q_lin", "k_lin", "v_lin", "out_lin"),
            "ffn.lin1": "feedforward.input",
            "ffn.lin2": "feedforward.output",
        },
        norms=frozenset({"sa_layer_norm", "output_layer_norm"}),
        sublayers=(
            SublayerAnatomy("attention", "attention.out_lin", "attention.q_lin", norm="sa_layer_norm"),
            SublayerAnatomy("feedforward", "ffn.lin2", "ffn.lin1", norm="output_layer_norm"),
        ),
        norm_first=False,
    )


def _norm_first(
    title: str,
    attention: Mapping[str, str],
    feedforward: Mapping[str, str],
    entrances: Sequence[str],
    exits: Sequence[str] = (),
) -> Anatomy:
    """Attention and feed-forward with the norms inside.

    Args:
        feedforward: none where its experts are tensors of their own.
        entrances: the norm that each branch begins with; one for both where they run side by side; a linear where a
            branch reads the states as they are.
        exits: the norm that each branch ends with, if any.
    """
    linears = {**attention, **feedforward}
    outputs = exits or [path for path, site in linears.items() if site.endswith(".output")]
    residuals = entrances if len(entrances) == 2 else (*entrances, *entrances)
    branches = zip(("attention", "feedforward"), outputs, residuals, strict=True) if feedforward else ()
    return Anatomy(
        title=title,
        linears=linears,
        norms=frozenset({*entrances, *exits} - linears.keys()),
        sublayers=tuple(SublayerAnatomy(*branch) for branch in branches),
        norm_first=True,
    )


def _fused(prefix: str, qkv: str, output: str) -> dict[str, str]:
    return {f"{prefix}.{qkv}": "attention.qkv", f"{prefix}.{output}": "attention.output"}


def _two_linears(first: str, second: str) -> dict[str, str]:
    return {first: "feedforward.input", second: "feedforward.output"}


def _delta_net() -> dict[str, str]:
    """A gated delta rule (Yang et al. 2024, arXiv 2412.06464): how much is written (beta) and forgotten (decay)."""
    names = {"in_proj_qkv": "qkv", "in_proj_z": "gate", "in_proj_b": "beta", "in_proj_a": "decay", "out_proj": "output"}
    return {f"linear_attn.{module}": f"attention.{role}" for module, role in names.items()}


def _gemma4(attention: Mapping[str, str], feedforward: Mapping[str, str], exits: Sequence[str]) -> Iterator[Anatomy]:
    """Gemma 2, whose layers may lack a projection for values, or read the keys and values of a layer below; and a third
    branch where every layer has embeddings of its own.
    """
    own = {"per_layer_input_gate": "layer_input.gate", "per_layer_projection": "layer_input.output"}
    branch = SublayerAnatomy("layer_input", "post_per_layer_input_norm", "per_layer_input_gate")
    for absent in ((), ("value",), ("key", "value")):
        linears = {path: site for path, site in attention.items() if site.rpartition(".")[2] not in absent}
        plain = _norm_first("Gemma 4", linears, feedforward, ("input_layernorm", "pre_feedforward_layernorm"), exits)
        if absent:
            yield plain
        yield replace(
            plain,
            linears={**plain.linears, **own},
            norms=plain.norms | {branch.output},
            sublayers=(*plain.sublayers, branch),
        )


def _norms_first() -> Iterator[Anatomy]:
    """One stack of such layers; each title stands for all that are built alike."""
    modernbert, gpt2 = ("attn_norm", "mlp_norm"), ("ln_1", "ln_2")
    llama = ("input_layernorm", "post_attention_layernorm")
    after = ("post_attention_layernorm", "post_feedforward_layernorm")
    apart = _attention("self_attn", "q_proj", "k_proj", "v_proj", "o_proj")
    down = {"mlp.down_proj": "feedforward.output"}
    gated = {"mlp.gate_proj": "feedforward.gate", "mlp.up_proj": "feedforward.input", **down}
    gate_input = {"mlp.gate_up_proj": "feedforward.gate_input", **down}
    dense = _two_linears("mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
    widened = {"mlp.Wi": "feedforward.gate_input", "mlp.Wo": "feedforward.output"}
    yield _norm_first("ModernBERT", _fused("attn", "Wqkv", "Wo"), widened, modernbert)
    yield _norm_first("ModernBERT decoder", _attention("attn", "q_proj", "k_proj", "v_proj", "Wo"), widened, modernbert)
    yield _norm_first("GPT-2", _fused("attn", "c_attn", "c_proj"), _two_linears("mlp.c_fc", "mlp.c_proj"), gpt2)
    yield _norm_first(
        "GPT-Neo",
        _attention("attn.attention", "q_proj", "k_proj", "v_proj", "out_proj"),
        _two_linears("mlp.c_fc", "mlp.c_proj"),
        gpt2,
    )
    yield _norm_first(
        "GPT-J",
        _attention("attn", "q_proj", "k_proj", "v_proj", "out_proj"),
        _two_linears("mlp.fc_in", "mlp.fc_out"),
        ("ln_1",),
    )
    yield _norm_first("GPT-NeoX", _fused("attention", "query_key_value", "dense"), dense, llama)
    for title, norms in (("BLOOM", llama), ("Falcon", ("input_layernorm",)), ("Falcon 2", ("ln_attn", "ln_mlp"))):
        yield _norm_first(title, _fused("self_attention", "query_key_value", "dense"), dense, norms)
    yield _norm_first("Llama", apart, gated, llama)
    yield _norm_first("Qwen3.5, linear attention", _delta_net(), gated, llama)
    yield _norm_first("Cohere", apart, gated, ("input_layernorm",))
    yield _norm_first("VaultGemma", apart, gated, ("input_layernorm", "pre_feedforward_layernorm"))
    yield _norm_first("Gemma 2", apart, gated, ("input_layernorm", "pre_feedforward_layernorm"), after)
    yield from _gemma4(apart, gated, after)
    yield _norm_first("OLMo 2", apart, gated, ("self_attn.q_proj", "mlp.gate_proj"), after)
    yield _norm_first("Phi-3", _fused("self_attn", "qkv_proj", "o_proj"), gate_input, llama)
    yield _norm_first("GLM", apart, gate_input, llama)
    yield _norm_first("GLM-4", apart, gate_input, llama, ("post_self_attn_layernorm", "post_mlp_layernorm"))
    yield _norm_first("Mixtral", apart, {}, llama)
    for title, norms in (("Nemotron", llama), ("Apertus", ("attention_layernorm", "feedforward_layernorm"))):
        yield _norm_first(title, apart, _two_linears("mlp.up_proj", "mlp.down_proj"), norms)
    yield _norm_first("StarCoder2", apart, _two_linears("mlp.c_fc", "mlp.c_proj"), llama)
    yield _norm_first(
        "Phi",
        _attention("self_attn", "q_proj", "k_proj", "v_proj", "dense"),
        _two_linears("mlp.fc1", "mlp.fc2"),
        ("input_layernorm",),
    )


def _t5(*, gated: bool, crossed: bool) -> Anatomy:
    last = 2 if crossed else 1
    linears = _attention("layer.0.SelfAttention", "q", "k", "v", "o")
    sublayers = [SublayerAnatomy("attention", "layer.0.SelfAttention.o", "layer.0.layer_norm")]
    if crossed:
        linears |= _attention("layer.1.EncDecAttention", "q", "k", "v", "o", site="cross_attention")
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


def _bart(*, crossed: bool, norm_first: bool) -> Anatomy:
    """BART; with the norms first: mBART, Pegasus, OPT."""

    def sublayer(name: str, output: str, first_linear: str, norm: str) -> SublayerAnatomy:
        if norm_first:
            return SublayerAnatomy(name, output, residual=norm)
        return SublayerAnatomy(name, output, residual=first_linear, norm=norm)

    linears = _attention("self_attn", "q_proj", "k_proj", "v_proj", "out_proj")
    sublayers = [sublayer("attention", "self_attn.out_proj", "self_attn.q_proj", "self_attn_layer_norm")]
    norms = {"self_attn_layer_norm", "final_layer_norm"}
    if crossed:
        linears |= _attention("encoder_attn", "q_proj", "k_proj", "v_proj", "out_proj", site="cross_attention")
        sublayers.append(
            sublayer("cross_attention", "encoder_attn.out_proj", "encoder_attn.q_proj", "encoder_attn_layer_norm")
        )
        norms.add("encoder_attn_layer_norm")
    linears |= {"fc1": "feedforward.input", "fc2": "feedforward.output"}
    sublayers.append(sublayer("feedforward", "fc2", "fc1", "final_layer_norm"))
    return Anatomy(
        title=f"{'mBART' if norm_first else 'BART'} {'decoder' if crossed else 'encoder'}",
        linears=linears,
        norms=frozenset(norms),
        sublayers=tuple(sublayers),
        norm_first=norm_first,
    )


ANATOMIES: tuple[Anatomy, ...] = (
    *_berts(),
    _distilbert(),
    *_norms_first(),
    *(_t5(gated=gated, crossed=crossed) for gated in (False, True) for crossed in (False, True)),
    *(_bart(crossed=crossed, norm_first=first) for first in (False, True) for crossed in (False, True)),
)
