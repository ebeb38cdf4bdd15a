"""Write a composition as an ordinary artifact, where it is one: one method, one head."""

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
from adapterkit.compose.any_composition import AnyComposition
from adapterkit.compose.average import Average
from adapterkit.compose.composition_file import load_composition
from adapterkit.compose.mountable import Find, Mountable
from adapterkit.compose.stacked import Stack
from adapterkit.compose.weighted import Weighted
from adapterkit.errors import CompositionError
from adapterkit.manifest import MemberFacts


def save(
    composition: Weighted | Average | Stack | str | Path,
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
        composition: a weighted composition or an average with one head, or the file of one.
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
    compose_file(composition, folder, backbone=backbone, find=find, overwrite=overwrite, dtype=dtype)
    return Path(folder)


@dataclass(frozen=True, eq=False)
class Composed:
    """What a composition came to: itself in one line of words, what is mounted, and what to do with it."""

    words: str
    mountable: Mountable
    use: str


def compose_file(
    source: Weighted | Average | Stack | str | Path,
    folder: str | Path | None = None,
    *,
    backbone: Backbone | str | Path | None = None,
    find: Find = open_artifact,
    overwrite: bool = False,
    dtype: SaveDtype = "float32",
) -> Composed:
    """Compose as a file says, and write the result where a folder is given.

    The arguments and errors are those of `save`; without a folder any composition will do.
    """
    composition = source if isinstance(source, AnyComposition) else load_composition(source)
    use = f'Mount it: host.mount("name", "{source}").'
    if folder is not None:
        check_savable(composition)
        artifacts.check_output(folder, overwrite=overwrite, keep=artifacts.KEPT)
    elif not isinstance(composition, Stack) and len(composition.chosen) == 1:
        use += " Or write it: --output DIR."
    else:
        what = "A stack" if isinstance(composition, Stack) else "A composition with several heads"
        use = f"{what} is mounted from its file and is no artifact. {use}"
    loaded = find_backbone(find(_first_source(composition)), backbone)
    composed = composition.build(find, loaded)
    if folder is not None and not isinstance(composition, Stack):
        owner = find(dict(composition.sources)[composition.chosen[0]])
        write(composed, composition, owner, folder, loaded, overwrite=overwrite, dtype=dtype)
    return Composed(composition.words(), composed, use)


def _first_source(composition: Any) -> str:
    """What the first member of a composition, or of the composition inside it, is looked for under."""
    source = composition.sources[0][1]
    return source if isinstance(source, str) else _first_source(source)


def check_savable(composition: Weighted | Average | Stack) -> None:
    """Raises CompositionError where the result is no artifact, and says how it is used instead."""
    if isinstance(composition, Stack):
        raise CompositionError(
            f"{composition.words()}: a stack is no artifact",
            ["an artifact holds one method, and a stack applies several"],
            'Mount its file: host.mount("name", "composition.yaml"). A stack of plain LoRAs alone is their sum, '
            "which weighted() with weights of 1 writes.",
        )
    if len(composition.chosen) > 1:
        raise CompositionError(
            f"{composition.words()}: several heads are no artifact",
            [f"heads: {', '.join(composition.chosen)}; an artifact holds one"],
            'Write one artifact per head, or mount the file: host.mount("name", "composition.yaml").',
        )


def write(
    composed: Mountable,
    composition: Weighted | Average,
    owner: Artifact,
    folder: str | Path,
    backbone: Backbone,
    *,
    overwrite: bool = False,
    dtype: SaveDtype = "float32",
) -> Path:
    """Write what a composition was built to.
    `composed`: what its `build` gave. `owner`: the member whose head it has."""
    (own,), (head,) = composed.methods, composed.heads.values()
    given = {**own.state, **head.state}
    with build(backbone, head.task, own.method, head.head, owner.manifest.seed) as adapted:
        # A head that reads the encoder alone stands on a model without a decoder: updates there cannot reach it.
        adapted.load_state({name: given[name] for name in adapted.state() if name in given})
        return artifacts.save(
            folder,
            adapted,
            recipe={},
            data=DataFacts(source=f"composed of {', '.join(_short(name) for name in composition.names)}"),
            metrics={},
            seed=owner.manifest.seed,
            golden=[row.row for row in owner.manifest.golden.rows],
            golden_rows=max(1, len(owner.manifest.golden.rows)),
            composition=_facts(composed.report, composition),
            overwrite=overwrite,
            dtype=dtype,
        )


def _facts(report: Mapping[str, Any], made: Weighted | Average) -> CompositionFacts:
    settings: dict[str, Any] = {}
    if isinstance(made, Weighted):
        settings = {"rank": made.rank, "density": made.density, "seed": made.seed}
    error = report["error"]["overall"] if "error" in report and report["how"] != "exact" else None
    members = tuple(
        MemberFacts(name=_short(member["name"]), weight=float(member["weight"]), sha256=member["sha256"])
        for member in report["members"]
    )
    return CompositionFacts(how=report["how"], members=members, head=_short(made.chosen[0]), error=error, **settings)


def _short(name: str) -> str:
    """A member's name without the folders of this machine above it."""
    return PurePath(name).name or name
