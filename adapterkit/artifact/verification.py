"""Prove that an artifact is whole, fits a backbone, and still answers as it did when it was saved."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapterkit.adapted import PREFIX
from adapterkit.artifact.golden import golden_problems
from adapterkit.artifact.loading import find_backbone, open_artifact
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.errors import AdapterkitError, ArtifactError, BackboneError
from adapterkit.glance import in_short
from adapterkit.manifest import CARD, MANIFEST, SIGNATURE
from adapterkit.manifest.signature import TrustedKeys, read_trusted, signers_of
from adapterkit.report.runs import find_runs


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        detail: what was found; one line per problem.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """What `verify` found. `bool(report)` is `report.ok`."""

    folder: Path
    checks: tuple[Check, ...]

    __repr__ = in_short("folder", "ok")

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.folder}: {'verified' if self.ok else 'NOT verified'}"]
        lines += [f"  {'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}" for check in self.checks]
        return "\n".join(lines)


NAMES = ("files", "card", "contract", "tensors", "golden rows")


def verify(
    folder: str | Path,
    backbone: Backbone | str | Path | None = None,
    *,
    parts: Mapping[str, str | Path] | None = None,
    full: bool = False,
    require_signature: TrustedKeys | None = None,
) -> Report:
    """Check an artifact against a backbone, and recompute its golden rows.

    The checks, each of which needs those before it: `files` (names, sizes, digests, manifest, tensors' names and
    values), `card` (README.md is as it was saved), `contract` (fingerprint and contract of the backbone), `tensors`
    (exactly those that the adapter has on this backbone, and that they change something), `golden rows`.

    Args:
        backbone: a loaded backbone, or where to load it from; None loads the one that the artifact names.
        parts: where parts of a fusion are, by name; None looks beside `folder`.
        full: read every byte of the backbone's weights from the disk, whatever is remembered of its files.
        require_signature: public keys, of which one must have signed it, see `pull`. A signature that stands beside it
            has to fit in any case: a check `signature` says whose it is.

    Raises:
        BackboneError: the backbone cannot be loaded.
        DeviceError: it asks for a device that this machine does not have.
    """
    keys = read_trusted(require_signature)
    checks: list[Check] = []
    try:
        artifact = open_artifact(folder, parts=parts)
    except ArtifactError as error:
        return _failed(Path(folder), checks, error)
    folder = artifact.folder
    checks.append(Check("files", True, f"{len(artifact.manifest.files) + 1} files, every digest right"))
    original = artifact.card_is_original
    told = "is as it was saved" if original else "was edited since it was saved; answers do not depend on it"
    checks.append(Check("card", original, f"{CARD} {told}"))
    loaded = find_backbone(artifact, backbone)
    try:
        for check in _on_backbone(artifact, loaded, full):
            checks.append(check)  # one by one: those before a failure count
    except AdapterkitError as error:
        return _failed(folder, checks, error)
    if keys or os.path.lexists(folder / SIGNATURE):
        try:
            signed = ", ".join(signers_of(folder, artifact.manifest, keys))
            checks.append(Check("signature", True, f"{signed} signed this artifact for this backbone"))
        except AdapterkitError as error:
            checks.append(Check("signature", False, "; ".join([error.summary, *error.problems])))
    return Report(folder, tuple(checks))


def _on_backbone(artifact: Artifact, loaded: Backbone, full: bool) -> Iterator[Check]:
    artifact.check_backbone(loaded)
    yield _contract(artifact, loaded, full)
    with artifact.adapted(loaded) as adapted:
        yield _tensors(artifact)
        golden = artifact.manifest.golden
        problems = golden_problems(adapted, golden)
        answered = f"{len(golden.rows)} answered as when they were saved, in {golden.dtype}"
        detail = "; ".join(problems) or (answered if golden.rows else "the artifact has none")
        yield Check("golden rows", not problems and bool(golden.rows), detail)


def verify_all(
    folder: str | Path,
    backbone: Backbone | str | Path | None = None,
    *,
    full: bool = False,
    require_signature: TrustedKeys | None = None,
) -> Iterator[Report]:
    """`verify` of every artifact in and below a folder, by name; each backbone is loaded once.

    What cannot be looked at, because its backbone cannot be loaded, is not verified either; the others are all the
    same.

    Args:
        backbone: a loaded backbone that all shall fit, or where to load it from; None loads those that they name.
        full: as in `verify`.
        require_signature: as in `verify`.

    Raises:
        ArtifactError: there is no such folder, or no artifact in it.
    """
    folder = Path(folder)
    places = [folder] if (folder / MANIFEST).is_file() else [folder / run.name for run in find_runs(folder)]
    found = [place for place in places if (place / MANIFEST).is_file()]
    if not found:
        raise ArtifactError(f"{folder} holds no artifact", ["expected artifacts in it, or in folders below it"])
    loaded: dict[tuple[str, str | None, str], Backbone] = {}
    for each in found:
        try:
            under = backbone if isinstance(backbone, Backbone) else _shared(each, backbone, loaded)
            yield verify(each, under, full=full, require_signature=require_signature)
        except BackboneError as error:
            yield Report(each, (Check("backbone", False, "; ".join([error.summary, *error.problems])),))


def _shared(
    folder: Path, backbone: str | Path | None, loaded: dict[tuple[str, str | None, str], Backbone]
) -> Backbone | None:
    """The backbone of an artifact, loaded the first time that one asks for it; None where it says of none."""
    try:
        artifact = open_artifact(folder)
    except ArtifactError:
        return None
    needed = artifact.manifest.backbone
    where = (needed.name, needed.revision) if backbone is None else (str(backbone), None)
    key = (*where, needed.coverage)
    if key not in loaded:
        loaded[key] = find_backbone(artifact, backbone)
    return loaded[key]


def _failed(folder: Path, checks: list[Check], error: AdapterkitError) -> Report:
    """The report when a check stopped the others."""
    name, *others = NAMES[len(checks) :]
    stopped = Check(name, False, "; ".join(error.problems) or error.summary)
    skipped = [Check(other, False, f"not looked at, since {name} failed") for other in others]
    return Report(folder, (*checks, stopped, *skipped))


def _contract(artifact: Artifact, backbone: Backbone, full: bool) -> Check:
    """What is known of a backbone that fits, and how much of its weights that covers.
    Raises BackboneError: its files cannot be read again."""
    needed = artifact.manifest.backbone
    fits = f"{backbone.name} is the backbone it was trained on"
    if needed.coverage == "samples":
        if full:
            known = "the artifact knows samples of its backbone's weights alone"
            return Check("contract", False, f"{known}, so there is nothing to compare them with")
        return Check("contract", True, f"{fits}, by its config, its tokenizer and samples of its large tensors")
    if not full:
        return Check("contract", True, f"{fits}, to every byte of its weights")
    if backbone.fingerprint_read_again() != needed.fingerprint:
        return Check("contract", False, f"{backbone.folder}: its weights, read again, are others than were trained on")
    return Check("contract", True, f"{fits}, to every byte of its weights, read again")


def _tensors(artifact: Artifact) -> Check:
    """That they are there, and that they do something: what changes nothing answers every row as the backbone does."""
    found, parts = f"{len(artifact.state)} tensors, all expected, none missing", artifact.manifest.parts
    if parts:
        found += f"; {len(parts)} parts, every digest right"
    heads = [artifact.state[PREFIX + path] for path in artifact.manifest.head_tensors]
    if heads and not any(bool(tensor.any()) for tensor in heads):
        return Check("tensors", False, "every tensor of the head is zero, so it answers every row alike")
    reason = artifact.without_effect
    if not artifact.manifest.method.attaches or not reason:
        return Check("tensors", bool(artifact.state), found if artifact.state else f"it changes nothing: {reason}")
    if heads:
        return Check("tensors", True, f"{found}; the head alone answers, since the method changes nothing: {reason}")
    return Check("tensors", False, f"it changes nothing: {reason}")
