"""From the tensors of a LoRA or an IA3 to the settings of a recipe that attaches the same."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from adapterkit.adapted import PREFIX
from adapterkit.artifact.contents import Shapes, method_target
from adapterkit.artifact.convert.asked_modules import asked_problems
from adapterkit.artifact.convert.peft_facts import PeftFacts
from adapterkit.artifact.tensors import shortened
from adapterkit.artifact.updates import layers_of, pattern_of
from adapterkit.backbone import Backbone, Site
from adapterkit.errors import ArtifactError
from adapterkit.manifest import TENSORS
from adapterkit.methods.reach import Reach
from adapterkit.recipe import Ia3Method, LoraMethod, MethodSettings, NoMethod
from adapterkit.recipe.methods import MAX_RANK

N = TypeVar("N", int, float)


def find_method(
    facts: PeftFacts, config: Mapping[str, Any] | None, shapes: Shapes, module: nn.Module, backbone: Backbone
) -> MethodSettings:
    """The method that has exactly these tensors. `config`: PEFT's, whose modules and ranks must be those of the
    tensors; None where there is none. `shapes`: tensor name -> shape, the head's among them. `module`: the family's
    class around the trunk, in which the names are paths. Raises ArtifactError: a module that is no site, or that the
    config names and that has no tensors; ranks that are not the config's; a choice that no recipe can describe; a bad
    rank or shape."""
    reach = Reach(module, backbone.trunk)
    found = {reach.path(site.path): site for site in backbone.sites.sites if site.linear}
    sites = {path: site for path, site in found.items() if path is not None}
    problems: list[str] = []
    at: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in sorted(shapes.items()):
        target = method_target(name, facts.method)
        if not name.startswith(PREFIX):
            problems.append(f"{TENSORS}: {name[:200]!r}: expected a name that begins with {PREFIX!r}")
        elif target is not None and target not in sites:
            problems.append(f"{TENSORS}: {name[:200]!r}: {target[:200]} is not a site of this backbone")
        elif target is not None:
            at.setdefault(target, {})[name[len(PREFIX) + len(target) + 1 :]] = shape
    if problems:
        raise ArtifactError("it adapts what has no name", shortened(problems), backbone.sites.describe())
    if config is not None and (problems := asked_problems(config, at, _linears(module, shapes))):
        raise ArtifactError(
            "its tensors are not those that its config describes",
            shortened(problems),
            "It was damaged, or saved in part. Save it again with PEFT, from the model that was trained.",
        )
    if not at:
        return NoMethod()
    chosen = {target: sites[target] for target in at}
    names = tuple(dict.fromkeys(site.name for site in backbone.sites.sites if site in chosen.values()))
    numbers, layers = {site.layer for site in chosen.values()}, layers_of(chosen.values(), backbone)
    wanted = {path for path, site in sites.items() if site.name in names and site.layer in numbers}
    if wanted != set(chosen):
        told = "not adapted, though its site and its layer are adapted elsewhere"
        missing = [f"{path}: {told}" for path in sorted(wanted - set(chosen))]
        remedy = "A recipe adapts every chosen site in every chosen layer."
        raise ArtifactError("no recipe adapts such modules", shortened(missing), remedy)
    if not facts.method.low_rank:
        return Ia3Method(sites=names, layers=layers, inputs=_inputs(at, chosen, names))
    ranks = {target: next(iter(tensors.get("lora_A.weight", ())), 0) for target, tensors in at.items()}
    problems = [
        f"{TENSORS}: {target[:200]}: rank {rank:,}, expected 1 to {MAX_RANK:,}"
        for target, rank in ranks.items()
        if not 1 <= rank <= MAX_RANK
    ]
    if problems:
        raise ArtifactError("its tensors have no such shapes", shortened(problems))
    rank, rank_pattern = _pattern(ranks, chosen)
    alpha, alpha_pattern = _pattern({target: facts.alpha_of(target) for target in ranks}, chosen)
    trunk = backbone.trunk
    trained = trunk.modules() if facts.bias == "all" else (trunk.get_submodule(site.path) for site in chosen.values())
    has_biases = any(isinstance(getattr(each, "bias", None), nn.Parameter) for each in trained)
    return LoraMethod(
        rank=rank,
        alpha=alpha,
        dropout=facts.dropout,
        sites=names,
        layers=layers,
        rank_pattern=rank_pattern,
        alpha_pattern=alpha_pattern,
        rslora=facts.rslora,
        dora=facts.dora,
        bias=facts.bias if has_biases else "none",  # type: ignore[arg-type]  # which is what PEFT has trained then
    )


def _linears(module: nn.Module, shapes: Shapes) -> list[str]:
    """Paths of everything in a class that PEFT could adapt, but for heads that are saved whole."""
    return [
        path
        for path, inner in module.named_modules()
        if isinstance(getattr(inner, "weight", None), nn.Parameter)
        and inner.weight.dim() == 2
        and f"{PREFIX}{path}.weight" not in shapes
    ]


def _inputs(at: Mapping[str, Shapes], chosen: Mapping[str, Site], names: tuple[str, ...]) -> tuple[str, ...]:
    """The sites whose input IA3 scales: a row of factors stands on what a linear reads, a column on what it gives."""
    shapes = {target: tensors["ia3_l"] for target, tensors in at.items()}
    problems = [
        f"{TENSORS}: {target[:200]}: shape {shape}, expected one row or one column"
        for target, shape in shapes.items()
        if len(shape) != 2 or 1 not in shape
    ]
    if problems:
        raise ArtifactError("its tensors have no such shapes", shortened(problems))
    sides = {name: {shapes[target][0] == 1 for target, site in chosen.items() if site.name == name} for name in names}
    told = "scales what it reads in one layer, and what it gives in another"
    if torn := [f"{name}: {told}" for name in names if len(sides[name]) > 1]:
        raise ArtifactError("no recipe scales so", torn, "A recipe scales one side of a site.")
    return tuple(name for name in names if sides[name] == {True})


def _pattern(values: Mapping[str, N], chosen: Mapping[str, Site]) -> tuple[N, dict[str, N]]:
    """See `pattern_of`. A recipe has one value for a site and a layer, on both sides of an encoder-decoder."""
    found: dict[tuple[str, int], set[N]] = {}
    for target, value in values.items():
        found.setdefault((chosen[target].name, chosen[target].layer), set()).add(value)
    torn = [
        f"{name}@{layer}: another rank or alpha in the encoder than in the decoder"
        for (name, layer), each in found.items()
        if len(each) > 1
    ]
    if torn:
        remedy = "A recipe gives a site and a layer one rank and one alpha."
        raise ArtifactError("no recipe has such ranks", shortened(torn), remedy)
    return pattern_of({chosen[target]: value for target, value in values.items()})
