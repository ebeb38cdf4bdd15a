"""Sweeps made ready: what one choice of a recipe is worth, and whether more than the seed tells."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from adapterkit.artifact.saving import package_versions
from adapterkit.errors import SweepError
from adapterkit.manifest import open_manifest
from adapterkit.recipe import Recipe, resolve
from adapterkit.recipe.kinds import FACTS
from adapterkit.records import AblationRecord, SettingRecord
from adapterkit.sweeping.points import Source
from adapterkit.sweeping.run import SweepResult
from adapterkit.sweeping.summary import Group
from adapterkit.training import output_of

ATTENTION = ("attention.query", "attention.key", "attention.value", "attention.output")
FEEDFORWARD = ("feedforward.intermediate", "feedforward.output")
SITES: Mapping[str, Any] = {
    "method.sites": [
        list(ATTENTION[:1]),
        [ATTENTION[0], ATTENTION[2]],
        list(ATTENTION),
        list(FEEDFORWARD),
        "all-linear",
    ]
}


CHOICES = ("heads", "pooling", "layers", "sites")
"""What can be varied."""


def define_ablation(
    choice: str, recipe: Source, *, seeds: int = 3, overrides: Sequence[str] = ()
) -> tuple[Mapping[str, Sequence[Any]], tuple[str, ...]]:
    """The sweep over one choice: its grid, and what is set on top of the recipe for all of its points.

    Heads and poolings are compared above the frozen trunk, without a method, so that its states are computed once for
    all of them; layers and sites with the recipe's method.

    Args:
        choice: what is varied; one of `CHOICES`.
        recipe: as `train` takes it.
        seeds: of each setting, from 0.
        overrides: "path=value" each, on top of the recipe.

    Raises:
        SweepError: there is no such choice, or the recipe does not have it.
    """
    if choice not in CHOICES:
        raise SweepError(f"{choice!r} cannot be varied", [f"expected: {', '.join(CHOICES)}"])
    if seeds < 1:
        raise SweepError("an ablation needs a seed", [f"seeds: found {seeds}, expected 1 or more"])
    resolved = resolve(recipe, overrides)
    own, output = resolved.recipe, output_of(resolved)
    facts = FACTS[own.task.kind]
    grid: Mapping[str, Sequence[Any]]
    fixed: tuple[str, ...] = ()
    if choice in ("heads", "pooling"):
        if facts.borrows_head:
            raise SweepError(
                f"the head of {own.task.kind} is the checkpoint's own, and no other can stand in its place"
            )
        if choice == "pooling" and not facts.pooled:
            raise SweepError(f"{own.task.kind} answers per token, so nothing is pooled")
        fixed = ("method={kind: none}",)
        if choice == "heads":
            grid, fixed = {"head.kind": _heads(facts.pooled)}, (*fixed, "head.pooling=auto")
        else:
            grid = {"head.pooling": ["mean", "first", "last"]}
    elif choice == "layers":
        _needs(own, "top", choice)
        layers = _layers(own)
        grid, fixed = {"method.top": sorted({1, 2, layers // 2, layers} - {0})}, ("method.layers=null",)
    else:
        _needs(own, "sites", choice)
        grid = SITES
    if not any(word.partition("=")[0].strip() == "output" for word in overrides):
        fixed = (*fixed, f"output={output.with_name(f'{output.name}-{choice}')}")
    return {**grid, "seed": list(range(seeds))}, (*overrides, *fixed)


def within_noise(best: Group, other: Group) -> bool | None:
    """Whether two settings may be equally good: a 95 % t interval of their differences, seed by seed, holds 0.

    None where fewer than two seeds can be paired.
    """
    from scipy.stats import t

    pairs = zip(best.values, other.values, strict=False)
    differences = [one - two for one, two in pairs if one is not None and two is not None]
    count = len(differences)
    if count < 2:
        return None
    mean = sum(differences) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in differences) / (count - 1))
    return bool(abs(mean) <= t.ppf(0.975, count - 1) * deviation / math.sqrt(count))


def ablation_record(choice: str, result: SweepResult) -> AblationRecord:
    """What was found."""
    best, lines = result.groups[0], list(result.points.values())
    groups = []
    for group in result.groups:
        points = [result.points[name] for name in group.points]
        steps = sum(point["steps"] or 0 for point in points)
        made = next((point["artifact"] for point in points if point["artifact"]), None)
        counts = None if made is None else open_manifest(result.folder / made).parameters
        groups.append(
            SettingRecord(
                settings=dict(group.settings),
                mean=group.mean,
                spread=group.spread,
                values=group.values,
                parameters=None if counts is None else counts.method + counts.head,
                milliseconds_per_step=1000 * group.seconds / steps if steps else None,
                status=group.status,
                within_noise=None if group is best else within_noise(best, group),
            )
        )
    return AblationRecord(
        made_with=package_versions(),
        seed=0,
        choice=choice,
        metric=result.metric,
        higher_is_better=bool(lines[0]["higher_is_better"]),
        groups=tuple(groups),
    )


def _heads(pooled: bool) -> list[str]:
    from adapterkit.heads.own import OwnHead
    from adapterkit.heads.table import HEADS

    return [kind for kind, head in HEADS.items() if pooled or not (isinstance(head, OwnHead) and head.pooled_only)]


def _layers(recipe: Recipe) -> int:
    """How many layers the backbone has, from its config alone."""
    from transformers import AutoConfig

    from adapterkit.backbone.files import find_checkpoint

    folder, _ = find_checkpoint(recipe.backbone.name, recipe.backbone.revision, weights=False)
    return int(AutoConfig.from_pretrained(folder).get_text_config().num_hidden_layers)


def _needs(recipe: Recipe, field: str, choice: str) -> None:
    if field not in type(recipe.method).model_fields:
        raise SweepError(
            f"the recipe's method has no {choice} to choose",
            [f"method.kind: found {recipe.method.kind}, expected one with method.{field}"],
        )
