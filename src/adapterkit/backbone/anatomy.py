"""What the layers of known models look like inside: which linear is which site, and where residuals run.

An anatomy is recognised by structure, never by a model's name. The linears of a layer must be exactly the ones listed:
then their sites are known. If the norms around its sublayers are exactly the ones listed too, and the stack of layers
ends in a norm just when its layers begin with one, then the residual branches are known as well. That last rule
is what tells BART from mBART, whose layers hold the very same modules but run through them in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
        sublayers: the residual branches, in the order in which they run.
        norm_first: whether each branch begins with a norm (pre-norm), so that the stack ends with one.
    """

    title: str
    linears: Mapping[str, str]
    norms: frozenset[str]
    sublayers: tuple[SublayerAnatomy, ...]
    norm_first: bool


def _attention(prefix: str, query: str, key: str, value: str, output: str, site: str = "attention") -> dict[str, str]:
    names = {"query": query, "key": key, "value": value, "output": output}
    return {f"{prefix}.{module}": f"{site}.{role}" for role, module in names.items()}


def _bert() -> Anatomy:
    return Anatomy(
        title="BERT",
        linears={
            **_attention("attention", "self.query", "self.key", "self.value", "output.dense"),
            "intermediate.dense": "feedforward.input",
            "output.dense": "feedforward.output",
        },
        norms=frozenset({"attention.output.LayerNorm", "output.LayerNorm"}),
        sublayers=(
            SublayerAnatomy(
                "attention", "attention.output.dense", "attention.self.query", norm="attention.output.LayerNorm"
            ),
            SublayerAnatomy("feedforward", "output.dense", "intermediate.dense", norm="output.LayerNorm"),
        ),
        norm_first=False,
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


def _modernbert() -> Anatomy:
    return Anatomy(
        title="ModernBERT",
        linears={
            "attn.Wqkv": "attention.qkv",
            "attn.Wo": "attention.output",
            "mlp.Wi": "feedforward.gate_input",
            "mlp.Wo": "feedforward.output",
        },
        norms=frozenset({"attn_norm", "mlp_norm"}),
        sublayers=(
            SublayerAnatomy("attention", "attn.Wo", "attn_norm"),
            SublayerAnatomy("feedforward", "mlp.Wo", "mlp_norm"),
        ),
        norm_first=True,
    )


def _gpt2() -> Anatomy:
    return Anatomy(
        title="GPT-2",
        linears={
            "attn.c_attn": "attention.qkv",
            "attn.c_proj": "attention.output",
            "mlp.c_fc": "feedforward.input",
            "mlp.c_proj": "feedforward.output",
        },
        norms=frozenset({"ln_1", "ln_2"}),
        sublayers=(
            SublayerAnatomy("attention", "attn.c_proj", "ln_1"),
            SublayerAnatomy("feedforward", "mlp.c_proj", "ln_2"),
        ),
        norm_first=True,
    )


def _llama(*, fused: bool) -> Anatomy:
    """Llama and its many look-alikes (Mistral, Qwen2, Qwen3, Gemma). Fused: Phi-3."""
    if fused:
        linears = {
            "self_attn.qkv_proj": "attention.qkv",
            "self_attn.o_proj": "attention.output",
            "mlp.gate_up_proj": "feedforward.gate_input",
            "mlp.down_proj": "feedforward.output",
        }
    else:
        linears = {
            **_attention("self_attn", "q_proj", "k_proj", "v_proj", "o_proj"),
            "mlp.gate_proj": "feedforward.gate",
            "mlp.up_proj": "feedforward.input",
            "mlp.down_proj": "feedforward.output",
        }
    return Anatomy(
        title="Phi-3" if fused else "Llama",
        linears=linears,
        norms=frozenset({"input_layernorm", "post_attention_layernorm"}),
        sublayers=(
            SublayerAnatomy("attention", "self_attn.o_proj", "input_layernorm"),
            SublayerAnatomy("feedforward", "mlp.down_proj", "post_attention_layernorm"),
        ),
        norm_first=True,
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
    _bert(),
    _distilbert(),
    _modernbert(),
    _gpt2(),
    _llama(fused=False),
    _llama(fused=True),
    *(_t5(gated=gated, crossed=crossed) for gated in (False, True) for crossed in (False, True)),
    *(_bart(crossed=crossed, norm_first=first) for first in (False, True) for crossed in (False, True)),
)
