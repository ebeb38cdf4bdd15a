"""Where in a trunk a method may attach: found by the structure of the trunk's layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterkit.backbone.anatomy import ANATOMIES, Anatomy
from adapterkit.backbone.classes import is_causal
from adapterkit.errors import SiteError

Stack = Literal["encoder", "decoder"]

LAYER_OUTPUT = "layer.output"
AUTO_ROLES = ("query", "value", "qkv")


@dataclass(frozen=True)
class Site:
    """One named place in one layer.

    Attributes:
        name: what the module does, as in "attention.query".
        layer: number of the layer within its stack, from 0.
        stack: the stack that the layer is in.
        path: the module's path in the trunk.
        linear: whether the module is a linear (else it is the whole layer).
    """

    name: str
    layer: int
    stack: Stack
    path: str
    linear: bool


@dataclass(frozen=True)
class Sublayer:
    """One residual branch of one layer: r + h, where h is what the branch computes from r.

    Attributes:
        name: "attention", "cross_attention" or "feedforward".
        layer: number of the layer within its stack, from 0.
        stack: the stack that the layer is in.
        output: path of the linear whose output is h.
        residual: path of the module whose first input is r.
        norm: path of the norm whose first input is r + h (post-norm models), or None (pre-norm models).
    """

    name: str
    layer: int
    stack: Stack
    output: str
    residual: str
    norm: str | None


@dataclass(frozen=True)
class Sites:
    """Every site of a trunk, the encoder's first, from the lowest layer up.

    Attributes:
        sites: all of them.
        sublayers: the residual branches, for methods that need them.
        layer_count: how many layers each stack has.
        no_sublayers: why there are no `sublayers`, or "".
    """

    sites: tuple[Site, ...]
    sublayers: tuple[Sublayer, ...]
    layer_count: Mapping[Stack, int]
    no_sublayers: str = ""

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
        stacks: Collection[str] | None = None,
    ) -> tuple[Site, ...]:
        """The sites of those names in those layers.

        Args:
            names: site names; "auto" for queries and values (or the fused qkv); "all-linear" for every linear.
            layers: numbers of layers, counted from 0 in each stack. None: all.
            top: the highest `top` layers of each stack instead. None: all.
            stacks: "encoder", "decoder" or both. None: all there are.

        Raises:
            SiteError: a name, a layer or a stack that does not exist, or nothing selected; lists what exists.
        """
        if names == "auto":
            wanted = set(self.auto())
        elif names == "all-linear":
            wanted = {site.name for site in self.sites if site.linear}
        else:
            wanted = {names} if isinstance(names, str) else set(names)
        problems = [f"site {name!r}: not in this backbone" for name in sorted(wanted - set(self.names()))]
        places = self._places(layers, top, stacks, problems)
        found = tuple(site for site in self.sites if site.name in wanted and (site.stack, site.layer) in places)
        self._refuse(problems, nothing=not found)
        return found

    def select_sublayers(
        self,
        names: Sequence[str] = ("attention", "feedforward"),
        *,
        layers: Collection[int] | None = None,
        top: int | None = None,
        stacks: Collection[str] | None = None,
    ) -> tuple[Sublayer, ...]:
        """The sublayers of those names in those layers; the arguments and errors of `select`."""
        if not self.sublayers:
            raise SiteError(
                f"this backbone's residual branches are not known: {self.no_sublayers}",
                remedy="Methods on linears work (method.kind=lora); bottlenecks need to know where the residual runs.",
            )
        known = tuple(dict.fromkeys(sublayer.name for sublayer in self.sublayers))
        wanted = {names} if isinstance(names, str) else set(names)
        problems = [
            f"sublayer {name!r}: not in this backbone, which has {', '.join(known)}"
            for name in sorted(wanted - set(known))
        ]
        places = self._places(layers, top, stacks, problems)
        found = tuple(s for s in self.sublayers if s.name in wanted and (s.stack, s.layer) in places)
        self._refuse(problems, nothing=not found)
        return found

    def _places(
        self, layers: Collection[int] | None, top: int | None, stacks: Collection[str] | None, problems: list[str]
    ) -> set[tuple[str, int]]:
        if layers is not None and top is not None:
            problems.append("layers and top: only one of them can be given")
        chosen = {stack: count for stack, count in self.layer_count.items() if stacks is None or stack in stacks}
        problems += [
            f"stack {stack!r}: this backbone has {' and '.join(self.layer_count)}"
            for stack in sorted(set(stacks or ()) - set(self.layer_count))
        ]
        deepest = max(chosen.values(), default=0)
        if top is not None and not 1 <= top <= deepest:
            problems.append(f"top {top}: must be between 1 and {deepest}")
        problems += [
            f"layer {layer}: must be between 0 and {deepest - 1}"
            for layer in sorted(set(layers or ()))
            if not 0 <= layer < deepest
        ]
        return {
            (stack, layer)
            for stack, count in chosen.items()
            for layer in range(count)
            if (layers is None or layer in layers) and (top is None or layer >= count - top)
        }

    def _refuse(self, problems: Sequence[str], *, nothing: bool) -> None:
        if problems or nothing:
            raise SiteError(
                "these sites cannot be selected" if problems else "no site is selected",
                problems,
                f"{self.describe()}",
            )

    def describe(self) -> str:
        """One line that says what exists."""
        stacks = ", ".join(f"{stack} layers 0 to {count - 1}" for stack, count in self.layer_count.items())
        return f"This backbone has {stacks}; sites: {', '.join(self.names())}."


def find_sites(trunk: nn.Module) -> Sites:
    """Every site of a trunk.

    Raises:
        SiteError: the layers are built in a way that adapterkit does not know; lists the linears found.
    """
    sites: list[Site] = []
    sublayers: list[Sublayer] = []
    layer_count: dict[Stack, int] = {}
    reason = ""
    for path, layers, anatomy, unknown in _stacks(trunk):
        stack = _stack_name(trunk, path)
        first = layer_count.get(stack, 0)
        layer_count[stack] = first + len(layers)
        reason = reason or unknown
        for number, layer_path in enumerate((f"{path}.{index}" for index in range(len(layers))), start=first):
            sites.extend(
                Site(name, number, stack, f"{layer_path}.{module}", linear=True)
                for module, name in anatomy.linears.items()
            )
            sites.append(Site(LAYER_OUTPUT, number, stack, layer_path, linear=False))
            sublayers.extend(
                Sublayer(
                    name=branch.name,
                    layer=number,
                    stack=stack,
                    output=f"{layer_path}.{branch.output}",
                    residual=f"{layer_path}.{branch.residual}",
                    norm=None if branch.norm is None else f"{layer_path}.{branch.norm}",
                )
                for branch in anatomy.sublayers
            )
    if not sites:
        raise _unknown_family(trunk)
    return Sites(tuple(sites), () if reason else tuple(sublayers), layer_count, reason)


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear: torch's, GPT-2's Conv1D, or a quantised one that tells its sizes."""
    if isinstance(module, nn.Linear | Conv1D):
        return True
    return hasattr(module, "in_features") and hasattr(module, "out_features") and not list(module.children())


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a norm, or the Identity that stands for one (as in ModernBERT's first layer)."""
    return "norm" in type(module).__name__.lower()


def _stacks(trunk: nn.Module) -> Iterator[tuple[str, nn.ModuleList, Anatomy, str]]:
    """The lists of layers whose linears are those of a known anatomy, outermost first.

    With each comes why its residual branches are not known, or "".
    """
    inside: list[str] = []
    for path, module in trunk.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module) or path.startswith(tuple(inside)):
            continue
        linears = [_linears(layer) for layer in module]
        alike = [anatomy for anatomy in ANATOMIES if all(found == anatomy.linears.keys() for found in linears)]
        if alike:
            inside.append(f"{path}.")
            reasons = {anatomy: _unknown_wiring(trunk, path, module, anatomy) for anatomy in alike}
            anatomy = min(alike, key=lambda anatomy: bool(reasons[anatomy]))
            yield path, module, anatomy, reasons[anatomy]


def _linears(layer: nn.Module) -> set[str]:
    return {path for path, module in layer.named_modules() if is_linear(module)}


def _outer_norms(layer: nn.Module, anatomy: Anatomy) -> set[str]:
    """The norms of a layer, without those inside its attention."""
    query = next(path for path, site in anatomy.linears.items() if site in ("attention.query", "attention.qkv"))
    attention = query.rpartition(".")[0] + "."
    stand_ins = {path for path, module in layer.named_modules() if isinstance(module, nn.Identity)} & anatomy.norms
    return stand_ins | {p for p, m in layer.named_modules() if is_norm(m) and not p.startswith(attention)}


def _ends_in_norm(trunk: nn.Module, path: str) -> bool:
    """Whether a norm follows the list of layers: one beside the list that is not the embeddings' norm."""
    owner = trunk.get_submodule(path.rpartition(".")[0])
    return any(is_norm(module) and "embedding" not in name for name, module in owner.named_children())


def _unknown_wiring(trunk: nn.Module, path: str, layers: nn.ModuleList, anatomy: Anatomy) -> str:
    """Why the residual branches of these layers are not the ones of the anatomy, or ""."""
    if anatomy.norm_first != _ends_in_norm(trunk, path):
        found, expected = ("no norm", "one") if anatomy.norm_first else ("a norm", "none")
        return f"{path} is followed by {found} where {anatomy.title} has {expected}"
    for index, layer in enumerate(layers):
        norms = _outer_norms(layer, anatomy)
        if norms != anatomy.norms:
            expected = ", ".join(sorted(anatomy.norms))
            return f"{path}.{index} has the norms {', '.join(sorted(norms))} where {anatomy.title} has {expected}"
        if getattr(layer, "residual_multiplier", 1.0) != 1.0:
            return f"{path}.{index} scales what its branches add by {layer.residual_multiplier}"
    return ""


def _stack_name(trunk: nn.Module, path: str) -> Stack:
    config = getattr(trunk, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return "decoder" if "decoder" in path.split(".") else "encoder"
    return "decoder" if is_causal(config) else "encoder"


def _unknown_family(trunk: nn.Module) -> SiteError:
    numbered: dict[str, int] = {}
    for path in _linears(trunk):
        pattern = ".".join("*" if part.isdigit() else part for part in path.split("."))
        numbered[pattern] = numbered.get(pattern, 0) + 1
    found = [f"{pattern}: {count} linear{'s' if count > 1 else ''}" for pattern, count in sorted(numbered.items())]
    known = ", ".join(anatomy.title for anatomy in ANATOMIES)
    return SiteError(
        f"{type(trunk).__name__} is of a family whose layers adapterkit does not know",
        found[:40] or ["no linear module found"],
        f"Known layers: {known}. A new one is one entry in adapterkit.backbone.anatomy.",
    )
