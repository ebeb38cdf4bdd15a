"""What a layer looks like inside: which linear is which site, and where residuals run.

An anatomy is recognised by structure, never by a model's name. The linears of a layer must be exactly the ones listed:
then their sites are known. If the norms around its sublayers are exactly the ones listed too, and the list of layers
ends in a norm just when its layers begin with one, then the residual branches are known as well. That last rule
is what tells BART from mBART, whose layers hold the very same modules but run through them in another order.
"""

from collections.abc import Collection, Mapping, Sequence
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


def linears(prefix: str, site: str, **modules: str) -> dict[str, str]:
    """Linears, relative to the layer -> their sites; `modules`: role -> name behind the prefix."""
    return {f"{prefix}.{module}".removeprefix("."): f"{site}.{role}" for role, module in modules.items()}


def norm_last(
    title: str,
    branches: Sequence[Mapping[str, str]],
    norms: Sequence[str],
    *,
    entrance: str | None = None,
    positional: Collection[str] = (),
) -> Anatomy:
    """Branches, each followed by its norm; the first linear of each reads the states and nothing else, but where the
    `entrance` of the first one is named."""
    reading = [next(iter(branch)) for branch in branches]
    residuals = [entrance or reading[0], *reading[1:]]
    found = {path: site for branch in branches for path, site in branch.items()}
    sublayers = zip(_names(found), [list(branch)[-1] for branch in branches], residuals, norms, strict=True)
    return Anatomy(
        title=title,
        linears=found,
        norms=frozenset(norms),
        sublayers=tuple(SublayerAnatomy(*sublayer) for sublayer in sublayers),
        norm_first=False,
        positional=frozenset(positional),
    )


def norm_first(
    title: str,
    attention: Mapping[str, str],
    feedforward: Mapping[str, str],
    entrances: Sequence[str],
    exits: Sequence[str] = (),
) -> Anatomy:
    """Attention and feed-forward with the norms inside. `feedforward`: none where its experts are tensors of their own.
    `entrances`: the norm that each branch begins with; one for all where they run side by side; a linear where a
    branch reads the states as they are. `exits`: the norm that each branch ends with, if any."""
    found = {**attention, **feedforward}
    outputs = exits or [path for path, site in found.items() if site.endswith(".output")]
    residuals = entrances if len(entrances) == len(outputs) else [*entrances] * len(outputs)
    sublayers = zip(_names(found), outputs, residuals, strict=True) if feedforward else ()
    return Anatomy(
        title=title,
        linears=found,
        norms=frozenset({*entrances, *exits} - found.keys()),
        sublayers=tuple(SublayerAnatomy(*sublayer) for sublayer in sublayers),
        norm_first=True,
    )


def _names(found: Mapping[str, str]) -> list[str]:
    """Of the branches, by the sites that they end in; what stands in the attention's place is called so too."""
    ends = [site.removesuffix(".output") for site in found.values() if site.endswith(".output")]
    return ["attention", *ends[1:]]
