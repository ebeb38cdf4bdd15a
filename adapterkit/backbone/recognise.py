"""Find the sites of a trunk by the structure of its layers."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from transformers import Conv1D

from adapterkit.backbone.anatomies import ANATOMIES
from adapterkit.backbone.anatomy import Anatomy
from adapterkit.backbone.classes import is_causal
from adapterkit.backbone.sites import LAYER_OUTPUT, Side, Site, Sites, Sublayer
from adapterkit.errors import SiteError


def find_sites(trunk: nn.Module) -> Sites:
    """Every site of a trunk. Raises SiteError: the layers are built in a way that adapterkit does not know; lists the
    linears found."""
    sites: list[Site] = []
    sublayers: list[Sublayer] = []
    layer_count: dict[Side, int] = {}
    positional: set[str] = set()
    reason = ""
    for path, layers in _layer_lists(trunk):
        side = _side_of(trunk, path)
        first = layer_count.get(side, 0)
        layer_count[side] = first + len(layers)
        for index, (anatomy, unknown) in enumerate(layers):
            number, layer_path = first + index, f"{path}.{index}"
            reason = reason or unknown
            sites.extend(
                Site(name, number, side, f"{layer_path}.{module}", linear=True)
                for module, name in anatomy.linears.items()
            )
            sites.append(Site(LAYER_OUTPUT, number, side, layer_path, linear=False))
            positional.update(f"{layer_path}.{module}" for module in anatomy.positional)
            for branch in anatomy.sublayers:
                output, residual = f"{layer_path}.{branch.output}", f"{layer_path}.{branch.residual}"
                norm = branch.norm and f"{layer_path}.{branch.norm}"
                sublayers.append(Sublayer(branch.name, number, side, output, residual, norm))
    strange = _strange(trunk, [site.path for site in sites if site.name == LAYER_OUTPUT])
    if strange or not sites:
        raise _unknown_family(trunk, strange or sorted(_linears(trunk)))
    return Sites(tuple(sites), () if reason else tuple(sublayers), layer_count, reason, frozenset(positional))


def is_linear(module: nn.Module) -> bool:
    """Whether the module is a linear: torch's, GPT-2's Conv1D, or a quantised one that tells its sizes."""
    if isinstance(module, nn.Linear | Conv1D):
        return True
    return hasattr(module, "in_features") and hasattr(module, "out_features") and not list(module.children())


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a norm, or the Identity that stands for one (as in ModernBERT's first layer)."""
    return "norm" in type(module).__name__.lower()


def _layer_lists(trunk: nn.Module) -> Iterator[tuple[str, list[tuple[Anatomy, str]]]]:
    """The lists of layers whose linears are those of known anatomies, outermost first.

    With each layer's anatomy comes why its residual branches are not known, or "".
    """
    inside: list[str] = []
    for path, module in trunk.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module) or path.startswith(tuple(inside)):
            continue
        alike = [[a for a in ANATOMIES if linears == a.linears.keys()] for linears in map(_linears, module)]
        if all(alike):
            inside.append(f"{path}.")
            yield path, [_wired(trunk, f"{path}.{index}", found) for index, found in enumerate(alike)]


def _wired(trunk: nn.Module, path: str, alike: Sequence[Anatomy]) -> tuple[Anatomy, str]:
    """Of anatomies with the same linears the one whose residual branches are those of the layer, if any is."""
    reasons = {anatomy: _unknown_wiring(trunk, path, anatomy) for anatomy in alike}
    return min(reasons.items(), key=lambda known: bool(known[1]))


def _linears(layer: nn.Module) -> set[str]:
    return {path for path, module in layer.named_modules() if is_linear(module)}


def _outer_norms(layer: nn.Module, anatomy: Anatomy) -> set[str]:
    """The norms of a layer, without those inside its attention."""
    attention = next(iter(anatomy.linears)).rpartition(".")[0] + "."
    stand_ins = {path for path, module in layer.named_modules() if isinstance(module, nn.Identity)} & anatomy.norms
    return stand_ins | {p for p, m in layer.named_modules() if is_norm(m) and not p.startswith(attention)}


def final_norms(trunk: nn.Module, path: str) -> list[str]:
    """Names of the norms that follow the list of layers: those beside the list that are not the embeddings' norm."""
    owner = trunk.get_submodule(path.rpartition(".")[0])
    if hasattr(owner, "norm_rel_ebd"):
        return []  # the norm there is that of DeBERTa-v2's relative positions
    norms = [name for name, module in owner.named_children() if is_norm(module)]
    return [name for name in norms if "embedding" not in name or name == "embedding_norm"]  # LFM2's last one


def _unknown_wiring(trunk: nn.Module, path: str, anatomy: Anatomy) -> str:
    """Why the residual branches of a layer are not the ones of the anatomy, or ""."""
    layer, layers = trunk.get_submodule(path), path.rpartition(".")[0]
    if anatomy.norm_first != bool(final_norms(trunk, layers)):
        found, expected = ("no norm", "one") if anatomy.norm_first else ("a norm", "none")
        return f"{layers} is followed by {found} where {anatomy.title} has {expected}"
    norms = _outer_norms(layer, anatomy)
    if norms != anatomy.norms:
        expected = ", ".join(sorted(anatomy.norms))
        return f"{path} has the norms {', '.join(sorted(norms))} where {anatomy.title} has {expected}"
    if "feedforward.output" not in anatomy.linears.values():
        return f"the feed-forward of {path} has experts in the place of linears"
    if getattr(layer, "apply_residual_connection_post_layernorm", False):
        return f"{path} adds to what its norms give"
    if getattr(layer, "residual_multiplier", 1.0) != 1.0:
        return f"{path} scales what its branches add by {layer.residual_multiplier}"
    return ""


def _side_of(trunk: nn.Module, path: str) -> Side:
    config = getattr(trunk, "config", None)
    if getattr(config, "is_encoder_decoder", False):
        return "decoder" if "decoder" in path.split(".") else "encoder"
    return "decoder" if is_causal(config) else "encoder"


def _strange(trunk: nn.Module, layers: Sequence[str]) -> list[str]:
    """The linears in lists of layers other than these, as in LongT5, of which the decoder alone is known."""
    known = tuple(f"{layer}." for layer in layers)
    lists = tuple(f"{path}." for path, module in trunk.named_modules() if isinstance(module, nn.ModuleList))
    return sorted(path for path in _linears(trunk) if path.startswith(lists) and not path.startswith(known))


def _unknown_family(trunk: nn.Module, linears: Sequence[str]) -> SiteError:
    numbered: dict[str, int] = {}
    for path in linears:
        pattern = ".".join("*" if name.isdigit() else name for name in path.split("."))
        numbered[pattern] = numbered.get(pattern, 0) + 1
    found = [f"{pattern}: {count} linear{'s' if count > 1 else ''}" for pattern, count in sorted(numbered.items())]
    known = ", ".join(dict.fromkeys(anatomy.title for anatomy in ANATOMIES))
    return SiteError(
        f"{type(trunk).__name__} has layers that adapterkit does not know",
        found[:40] or ["no linear module found"],
        f"Heads alone can be trained on it: method.kind=none. Known layers: {known}. A new one is one entry in "
        "adapterkit.backbone.anatomies.",
    )


def hidden_width(module: nn.Module) -> int:
    """Width of the output of a linear or a norm. Raises SiteError: it is neither."""
    if isinstance(module, Conv1D):
        return int(module.nf)
    if isinstance(getattr(module, "out_features", None), int):
        return int(module.out_features)  # type: ignore[arg-type]
    weight = getattr(module, "weight", None)
    if is_norm(module) and isinstance(weight, Tensor):
        return weight.numel()
    raise SiteError(f"a bottleneck wraps a linear or a norm, and this is a {type(module).__name__}")
