"""The members of a composition: found, and checked to belong together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapterkit.artifact import Artifact
from adapterkit.artifact.lowrank import is_number
from adapterkit.backbone import Backbone
from adapterkit.compose.mountable import Find, HeadState, MethodState, Origin, of_artifact
from adapterkit.errors import AdapterkitError, CompositionError, ContractError
from adapterkit.recipe.suggestions import did_you_mean

FOREIGN = "Adapters of different backbones cannot be composed: train them on one backbone."


def open_members(sources: Mapping[str, str], find: Find, backbone: Backbone) -> dict[str, Artifact]:
    """Find every member, and check that all were trained on this backbone.
    `sources`: name in the composition -> what `find` looks for. Raises CompositionError: with every member that cannot
    be found or read; ContractError: with every member of another backbone, where all can be read."""
    found: dict[str, Artifact] = {}
    problems: list[str] = []
    foreign: list[str] = []
    for name, source in sources.items():
        try:
            found[name] = find(source)
        except ContractError as error:
            foreign += [f"{name}: {problem}" for problem in error.problems]
        except AdapterkitError as error:
            reasons = "; ".join(error.problems)
            hint = f" {error.remedy}" if error.remedy else ""
            problems.append(f"{name}: {error.summary}{f' ({reasons})' if reasons else ''}{hint}")
    if problems:
        raise CompositionError(f"{count(problems)} of this composition cannot be found", problems)
    if foreign:
        raise ContractError("this composition does not fit this backbone", foreign, FOREIGN)
    _check_together(found, backbone)
    return found


def _check_together(members: Mapping[str, Artifact], backbone: Backbone) -> None:
    """Raises ContractError: naming both sides of every difference."""
    problems = []
    for name, artifact in members.items():
        try:
            artifact.check_backbone(backbone)
        except ContractError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if not problems:
        return
    trained_on = {name: artifact.manifest.backbone for name, artifact in members.items()}
    if len({facts.fingerprint for facts in trained_on.values()}) > 1:
        problems += [
            f"{name}: was trained on {facts.fingerprint[:12]}… ({facts.name})" for name, facts in trained_on.items()
        ]
        remedy = FOREIGN
    else:
        remedy = "Load the backbone that the members name."
    raise ContractError("this composition does not fit this backbone", problems, remedy)


def weight_problems(names: Sequence[str], weights: Sequence[float], least: float = -math.inf) -> list[str]:
    """What is wrong with the names of members and their weights, one line each."""
    problems = name_problems(names)
    if len(weights) != len(names):
        problems.append(f"weights: {len(weights)} for {len(names)} members")
    wanted = "a finite number" if math.isinf(least) else f"a finite number of at least {least:g}"
    return problems + [
        f"weights.{name}: found {weight!r}, expected {wanted}"
        for name, weight in zip(names, weights, strict=False)
        if not is_number(weight) or weight < least
    ]


def name_problems(names: Sequence[str]) -> list[str]:
    """What is wrong with the names of a composition's members, one line each."""
    twice = sorted({name for name in names if names.count(name) > 1})
    return [f"members: {name!r} stands there twice" for name in twice] or (
        [] if names else ["members: none; name at least one"]
    )


def head_problems(chosen: Sequence[str], names: Sequence[str]) -> list[str]:
    """What is wrong with the choice of heads, one line each; nothing where nobody could be chosen."""
    if not names:
        return []
    problems = [
        f"head: {name!r} is not a member; members are {', '.join(names)}{did_you_mean(name, names)}"
        for name in chosen
        if name not in names
    ]
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    return problems + [f"heads: {name!r} stands there twice" for name in twice]


def chosen_heads(head: str | None, heads: Sequence[str] | None, otherwise: Sequence[str]) -> tuple[str, ...]:
    """The members whose heads answer. Raises CompositionError: both are given, or none of a list."""
    if head is not None and heads is not None:
        raise CompositionError("head and heads are both given", remedy="Give head=… for one, heads=[…] for several.")
    if heads is None:
        return (head,) if head is not None else tuple(otherwise)
    if isinstance(heads, str) or not heads:
        raise CompositionError("heads takes a list of members", [f"found {heads!r}"], 'As in heads=["a", "b"].')
    return tuple(heads)


def heads_of(chosen: Sequence[str], members: Mapping[str, Artifact], source: str) -> dict[str, HeadState]:
    """The heads of these members, by member. `source`: what to call the composition."""
    heads = {}
    for name in chosen:
        (head,) = of_artifact(members[name]).heads.values()
        heads[name] = replace(head, origin=Origin(source=source))
    return heads


def report_of(how: str, words: str, weights: Sequence[float], members: Mapping[str, Artifact]) -> dict[str, Any]:
    """What is said of members that became one."""
    told = [
        {"name": name, "weight": weight, "sha256": artifact.manifest.sha256}
        for (name, artifact), weight in zip(members.items(), weights, strict=True)
    ]
    return {"how": how, "words": words, "members": told}


def method_state(artifact: Artifact) -> MethodState:
    """The method of an artifact with its tensors, without its head."""
    (own,) = of_artifact(artifact).methods
    return own


def count(things: Sequence[object], word: str = "member") -> str:
    """ "1 member", "2 members"."""
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
