"""Where in a trunk a method may attach: named places, and how to choose among them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from adapterkit.errors import SiteError
from adapterkit.glance import in_short

Side = Literal["encoder", "decoder"]

LAYER_OUTPUT = "layer.output"
AUTO_ROLES = ("query", "value", "qkv", "key_value", "qkv_gate")


@dataclass(frozen=True)
class Site:
    """One named place in one layer: what the module there does, as in "attention.query", the number of the layer within
    its side, from 0, the module's path in the trunk, and whether it is a linear (else it is the whole layer)."""

    name: str
    layer: int
    side: Side
    path: str
    linear: bool


@dataclass(frozen=True)
class Sublayer:
    """One residual branch of one layer: r + h, where h is what the branch computes from r. Where attention and
    feed-forward run side by side, r is the same for both.

    Attributes:
        name: "attention", "cross_attention" or "feedforward".
        layer: number of the layer within its side, from 0.
        side: the side that the layer is in.
        output: path of the linear whose output is h, or of the norm after it that a branch ends with (Gemma 2).
        residual: path of the module whose first input is r.
        norm: path of the norm whose first input is r + h (post-norm models), or None (pre-norm models).
    """

    name: str
    layer: int
    side: Side
    output: str
    residual: str
    norm: str | None


P = TypeVar("P", Site, Sublayer)
"""What stands at a layer of a side."""


@dataclass(frozen=True)
class Sites:
    """Every site of a trunk, the encoder's first, from the lowest layer up.

    Attributes:
        sublayers: the residual branches, for methods that need them.
        no_sublayers: why there are none, or "".
        positional: paths of the linears that read relative positions too, which all rows of a batch have in common
            (DeBERTa), so that rows with different adapters there cannot share a forward.
    """

    sites: tuple[Site, ...]
    sublayers: tuple[Sublayer, ...]
    layer_count: Mapping[Side, int]
    no_sublayers: str = ""
    positional: frozenset[str] = frozenset()

    __repr__ = in_short("names")

    def names(self) -> tuple[str, ...]:
        """The names of the sites, each once."""
        return tuple(dict.fromkeys(site.name for site in self.sites))

    def auto(self) -> tuple[str, ...]:
        """The names that "auto" stands for: queries and values, of the cross attention too."""
        return tuple(name for name in self.names() if name.endswith(tuple(f"attention.{role}" for role in AUTO_ROLES)))

    def select(
        self,
        names: Sequence[str] | Literal["auto", "all-linear"] = "auto",
        *,
        layers: Collection[int] | None = None,
        top: int | None = None,
    ) -> tuple[Site, ...]:
        """The sites of those names in those layers.

        Args:
            names: site names; "auto" for queries and values, or what makes both; "all-linear" for every linear.
            layers: numbers of layers, counted from 0 in each side. None: all.
            top: the highest `top` layers of each side instead. None: all.

        Raises:
            SiteError: a name or a layer that does not exist, or nothing selected; lists what exists.
        """
        if names == "auto":
            wanted = set(self.auto())
        elif names == "all-linear":
            wanted = {site.name for site in self.sites if site.linear}
        else:
            wanted = {names} if isinstance(names, str) else set(names)
        unknown = [f"site {name!r}: not in this backbone" for name in sorted(wanted - set(self.names()))]
        return self._chosen(self.sites, wanted, unknown, layers, top)

    def select_sublayers(
        self,
        names: Sequence[str] = ("attention", "feedforward"),
        *,
        layers: Collection[int] | None = None,
        top: int | None = None,
    ) -> tuple[Sublayer, ...]:
        """The sublayers of those names in those layers; the arguments and errors of `select`."""
        if not self.sublayers:
            raise SiteError(
                f"this backbone's residual branches are not known: {self.no_sublayers}",
                remedy="Methods on linears work (method.kind=lora); bottlenecks need to know where the residual runs.",
            )
        known = tuple(dict.fromkeys(sublayer.name for sublayer in self.sublayers))
        wanted = {names} if isinstance(names, str) else set(names)
        there = f"not in this backbone, which has {', '.join(known)}"
        unknown = [f"sublayer {name!r}: {there}" for name in sorted(wanted - set(known))]
        return self._chosen(self.sublayers, wanted, unknown, layers, top)

    def _chosen(
        self,
        known: Iterable[P],
        wanted: Collection[str],
        unknown: Sequence[str],
        layers: Collection[int] | None,
        top: int | None,
    ) -> tuple[P, ...]:
        problems, deepest = [*unknown], max(self.layer_count.values(), default=0)
        if layers is not None and top is not None:
            problems.append("layers and top: only one of them can be given")
        if top is not None and not 1 <= top <= deepest:
            problems.append(f"top {top}: must be between 1 and {deepest}")
        beyond = sorted(layer for layer in set(layers or ()) if not 0 <= layer < deepest)
        problems += [f"layer {layer}: must be between 0 and {deepest - 1}" for layer in beyond]
        levels = {
            (side, layer)
            for side, count in self.layer_count.items()
            for layer in range(count)
            if (layers is None or layer in layers) and (top is None or layer >= count - top)
        }
        found = tuple(one for one in known if one.name in wanted and (one.side, one.layer) in levels)
        if problems or not found:
            summary = "these sites cannot be selected" if problems else "no site is selected"
            raise SiteError(summary, problems, self.describe())
        return found

    def describe(self) -> str:
        """One line that says what exists."""
        sides = ", ".join(f"{side} layers 0 to {count - 1}" for side, count in self.layer_count.items())
        return f"This backbone has {sides}; sites: {', '.join(self.names())}."
