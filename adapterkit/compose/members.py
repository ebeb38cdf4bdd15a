"""The members of a composition: found, and checked to belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapterkit.artifact import Artifact
from adapterkit.backbone import Backbone
from adapterkit.compose.mountable import Find, HeadState, MethodState, Origin, of_artifact
from adapterkit.errors import AdapterkitError, CompositionError, ContractError

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
            found[name].check_backbone(backbone)
        except ContractError as error:
            foreign += [f"{name}: {problem}" for problem in error.problems]
        except AdapterkitError as error:
            reasons = "; ".join(error.problems)
            hint = f" {error.remedy}" if error.remedy else ""
            problems.append(f"{name}: {error.summary}{f' ({reasons})' if reasons else ''}{hint}")
    if problems:
        raise CompositionError(f"{count(problems)} of this composition cannot be found", problems)
    if foreign:
        trained_on = {name: artifact.manifest.backbone for name, artifact in found.items()}
        alike = len(found) == len(sources) and len({facts.fingerprint for facts in trained_on.values()}) == 1
        if not alike:
            foreign += [
                f"{n}: was trained on {facts.fingerprint[:12]}… ({facts.name})" for n, facts in trained_on.items()
            ]
        remedy = "Load the backbone that the members name." if alike else FOREIGN
        raise ContractError("this composition does not fit this backbone", foreign, remedy)
    return found


def heads_of(chosen: Sequence[str], members: Mapping[str, Artifact], source: str) -> dict[str, HeadState]:
    """The heads of these members, by member. `source`: what to call the composition."""
    heads = {}
    for name in chosen:
        (head,) = of_artifact(members[name]).heads.values()
        heads[name] = replace(head, origin=Origin(source=source))
    return heads


def report_of(how: str, words: str, weights: Mapping[str, float], members: Mapping[str, Artifact]) -> dict[str, Any]:
    """What is said of members that became one."""
    told = [
        {"name": name, "weight": weights[name], "sha256": artifact.manifest.sha256}
        for name, artifact in members.items()
    ]
    return {"how": how, "words": words, "members": told}


def method_state(artifact: Artifact) -> MethodState:
    """The method of an artifact with its tensors, without its head."""
    (own,) = of_artifact(artifact).methods
    return own


def count(things: Sequence[object], word: str = "member") -> str:
    """ "1 member", "2 members"."""
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
