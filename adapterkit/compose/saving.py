"""Write a composition as an ordinary artifact, where it is one: one method, one head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from adapterkit import artifact as artifacts
from adapterkit.adapted import build
from adapterkit.artifact import Artifact, CompositionFacts, DataFacts, open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.artifact.saving import SaveDtype
from adapterkit.backbone import Backbone
from adapterkit.compose.average import Average
from adapterkit.compose.composition_file import load_composition
from adapterkit.compose.mountable import Find, Mountable
from adapterkit.compose.stacked import Stack
from adapterkit.compose.weighted import Weighted
from adapterkit.errors import CompositionError
from adapterkit.manifest import MemberFacts

AnyComposition = Weighted | Average | Stack


def save(
    plan: AnyComposition | str | Path,
    folder: str | Path,
    *,
    backbone: Backbone | str | Path | None = None,
    find: Find = open_artifact,
    overwrite: bool = False,
    dtype: SaveDtype = "float32",
) -> Path:
    """Compose, and write an artifact that is loaded, verified and pushed like one that was trained.

    It names its members by the digests of their manifests. Its golden rows are those of the member whose head it has,
    answered anew.

    Args:
        plan: a weighted composition or an average with one head, or the file of one.
        folder: where the artifact shall stand.
        backbone: a loaded backbone, or where to load it from; None loads the one that the head's member names.
        find: from a member to its artifact; by itself, members are folders.
        overwrite: replace what stands at `folder`.
        dtype: of the saved tensors. Narrower than float32, an exact sum is rounded.

    Raises:
        CompositionError: a stack, several heads, or members that cannot be composed.
        ContractError: a member of another backbone.
        OutputError: something stands there, or the disk refuses.
    """
    plan = plan if isinstance(plan, Weighted | Average | Stack) else load_composition(plan)
    checked = check_savable(plan)
    artifacts.check_output(folder, overwrite=overwrite, keep=artifacts.KEPT)
    owner = find(dict(checked.members)[checked.heads[0]])
    backbone = find_backbone(owner, backbone)
    return write(checked.build(find, backbone), checked, owner, folder, backbone, overwrite=overwrite, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Result:
    """What a plan file came to.

    Attributes:
        words: the plan in one line.
        composed: what is mounted.
        use: what to do with it.
    """

    words: str
    composed: Mountable
    use: str


def compose_file(
    file: str | Path,
    folder: str | Path | None = None,
    *,
    backbone: Backbone | str | Path | None = None,
    find: Find = open_artifact,
    overwrite: bool = False,
    dtype: SaveDtype = "float32",
) -> Result:
    """Compose after a plan file, and write the result where a folder is given.

    The arguments and errors are those of `save`; without a folder any plan will do.
    """
    plan = load_composition(file)
    use = f'Mount it: host.mount("name", "{file}").'
    if folder is not None:
        check_savable(plan)
        artifacts.check_output(folder, overwrite=overwrite, keep=artifacts.KEPT)
    elif not isinstance(plan, Stack) and len(plan.heads) == 1:
        use += " Or write it: --output DIR."
    else:
        what = "A stack" if isinstance(plan, Stack) else "A composition with several heads"
        use = f"{what} is mounted from its plan and is no artifact. {use}"
    owner = find(_first_source(plan))
    loaded = find_backbone(owner, backbone)
    composed = plan.build(find, loaded)
    if folder is not None:
        checked = check_savable(plan)
        owner = find(dict(checked.members)[checked.heads[0]])
        write(composed, checked, owner, folder, loaded, overwrite=overwrite, dtype=dtype)
    return Result(plan.words(), composed, use)


def _first_source(plan: Any) -> str:
    """What the first member of a plan, or of the plan inside it, is looked for under."""
    source = plan.members[0][1]
    return source if isinstance(source, str) else _first_source(source)


def check_savable(plan: AnyComposition) -> Weighted | Average:
    """The plan, if its result is one artifact.

    Raises:
        CompositionError: it is not, and how it is used instead.
    """
    if isinstance(plan, Stack):
        raise CompositionError(
            f"{plan.words()}: a stack is no artifact",
            ["an artifact holds one method, and a stack applies several"],
            'Mount it from its plan: host.mount("name", "plan.yaml"). A stack of plain LoRAs alone is their sum, '
            "which weighted() with weights of 1 writes.",
        )
    if len(plan.heads) > 1:
        raise CompositionError(
            f"{plan.words()}: several heads are no artifact",
            [f"heads: {', '.join(plan.heads)}; an artifact holds one"],
            'Write one artifact per head, or mount the plan: host.mount("name", "plan.yaml").',
        )
    return plan


def write(
    composed: Mountable,
    plan: Weighted | Average,
    owner: Artifact,
    folder: str | Path,
    backbone: Backbone,
    *,
    overwrite: bool = False,
    dtype: SaveDtype = "float32",
) -> Path:
    """Write what a plan was built to.

    Args:
        composed: what `plan.build` gave.
        owner: the member whose head it has.
    """
    (part,), (head,) = composed.methods, composed.heads.values()
    given = {**part.state, **head.state}
    with build(backbone, head.task, part.method, head.head, owner.manifest.seed) as adapted:
        # A head that reads the encoder alone stands on a model without a decoder: updates there cannot reach it.
        adapted.load_state({name: given[name] for name in adapted.state() if name in given})
        return artifacts.save(
            folder,
            adapted,
            recipe={},
            data=DataFacts(source=f"composed of {', '.join(_short(name) for name, _ in plan.members)}"),
            metrics={},
            seed=owner.manifest.seed,
            golden=[row.row for row in owner.manifest.golden.rows],
            golden_rows=max(1, len(owner.manifest.golden.rows)),
            composition=_facts(composed.report, plan),
            overwrite=overwrite,
            dtype=dtype,
        )


def _facts(report: Mapping[str, Any], plan: Weighted | Average) -> CompositionFacts:
    settings: dict[str, Any] = {}
    if isinstance(plan, Weighted):
        settings = {"rank": plan.rank, "density": plan.density, "seed": plan.seed}
    error = report["error"]["overall"] if "error" in report and report["how"] != "exact" else None
    members = tuple(
        MemberFacts(name=_short(member["name"]), weight=float(member["weight"]), sha256=member["sha256"])
        for member in report["members"]
    )
    return CompositionFacts(how=report["how"], members=members, head=_short(plan.heads[0]), error=error, **settings)


def _short(name: str) -> str:
    """A member's name without the folders of this machine above it."""
    return PurePath(name).name or name
