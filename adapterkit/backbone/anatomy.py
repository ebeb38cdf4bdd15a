"""What a layer looks like inside: which linear is which site, and where residuals run.

An anatomy is recognised by structure, never by a model's name. The linears of a layer must be exactly the ones listed:
then their sites are known. If the norms around its sublayers are exactly the ones listed too, and the list of layers
ends in a norm just when its layers begin with one, then the residual branches are known as well. That last rule
is what tells BART from mBART, whose layers hold the very same modules but run through them in another order.
"""

from collections.abc import Mapping, Sequence
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
    """One kind of layer, in module names relative to it, under a title for messages: every linear -> the name of its
    site; every norm, without those inside the attention (as on Qwen3's queries); the residual branches in the order in
    which they run, two that read the same side by side; whether norms stand inside the branches, so that the list ends
    with one; and the linears that read relative positions, which all rows of a batch have in common."""

    title: str
    linears: Mapping[str, str]
    norms: frozenset[str]
    sublayers: tuple[SublayerAnatomy, ...]
    norm_first: bool
    positional: frozenset[str] = frozenset()


def attention_linears(
    prefix: str, query: str, key: str, value: str, output: str, site: str = "attention"
) -> dict[str, str]:
    """Linears of an attention, relative to the layer -> their sites."""
    names = {"query": query, "key": key, "value": value, "output": output}
    return {f"{prefix}.{module}": f"{site}.{role}" for role, module in names.items()}


def fused_attention(prefix: str, qkv: str, output: str) -> dict[str, str]:
    """The same where one linear makes queries, keys and values."""
    return {f"{prefix}.{qkv}": "attention.qkv", f"{prefix}.{output}": "attention.output"}


def two_linears(first: str, second: str) -> dict[str, str]:
    """Linears of a feed-forward without a gate -> their sites."""
    return {first: "feedforward.input", second: "feedforward.output"}


def norm_last(
    title: str, attention: Mapping[str, str], feedforward: Mapping[str, str], norms: tuple[str, str]
) -> Anatomy:
    """Attention and feed-forward, each followed by its norm; the first linear of each reads the states."""
    branches = zip(("attention", "feedforward"), (attention, feedforward), norms, strict=True)
    return Anatomy(
        title=title,
        linears={**attention, **feedforward},
        norms=frozenset(norms),
        sublayers=tuple(
            SublayerAnatomy(name, output=list(linears)[-1], residual=next(iter(linears)), norm=norm)
            for name, linears, norm in branches
        ),
        norm_first=False,
    )


def norm_first(
    title: str,
    attention: Mapping[str, str],
    feedforward: Mapping[str, str],
    entrances: Sequence[str],
    exits: Sequence[str] = (),
) -> Anatomy:
    """Attention and feed-forward with the norms inside. `feedforward`: none where its experts are tensors of their own.
    `entrances`: the norm that each branch begins with; one for both where they run side by side; a linear where a
    branch reads the states as they are. `exits`: the norm that each branch ends with, if any."""
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
