"""`adapterkit.json`: everything about an artifact that is not a tensor. docs/artifact-format.md is the specification.

Every text, number and list is bounded, unknown fields are refused, and the manifest carries a digest of itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from adapterkit.errors import ArtifactError
from adapterkit.manifest.folder import MANIFEST, MAX_BYTES
from adapterkit.manifest.strict_json import dump_json, parse_object
from adapterkit.recipe import BottleneckMethod, FusionMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod

FORMAT = 1
MAX_RANK = 4096
MAX_WIDTH = 1 << 16
MAX_CLASSES = 100_000
_REPORTED = 20

Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$")]
ModulePath = Annotated[str, Field(max_length=512, pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Dtype = Literal["float32", "bfloat16", "float16"]
Object = dict[str, JsonValue]


class Facts(BaseModel):
    """A block of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class FileFacts(Facts):
    """One file beside the manifest."""

    size_bytes: Count
    sha256: Digest


class BackboneFacts(Facts):
    """The backbone that the adapter was trained on. Where to find it is a hint; the fingerprint decides.

    Attributes:
        part: path of the text model in a checkpoint that sees or hears too.
    """

    name: Name
    revision: Name | None
    part: ModulePath | None = None
    fingerprint: Digest
    contract: Object


class DataFacts(Facts):
    """What the adapter was trained on.

    Attributes:
        source: the data set's name, or the files as the recipe names them.
        revision: of a hub data set.
        license: the data's, where it is known.
        rows: split -> usable rows.
        unusable: split -> rows that could not be used.
        label_counts: split -> label -> rows (or words) with it.
        digests: split -> digest over its rows.
    """

    source: Text
    revision: Name | None = None
    license: Name | None = None
    rows: dict[Name, Count] = Field(default_factory=dict, max_length=16)
    unusable: dict[Name, Count] = Field(default_factory=dict, max_length=16)
    label_counts: dict[Name, dict[Text, Count]] = Field(default_factory=dict, max_length=16)
    digests: dict[Name, Name] = Field(default_factory=dict, max_length=16)


class MetricFacts(Facts):
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float


class GoldenRow(Facts):
    """A row and what the saved weights answered to it.

    Attributes:
        row: the input, canonical columns.
        prediction: the answer as `predict` gives it; null for kinds whose answer is generated.
        numbers: logits, or the loss of a language model; what is compared.
    """

    row: Object
    prediction: JsonValue
    numbers: Annotated[tuple[float, ...], Field(min_length=1, max_length=4096)]


class GoldenFacts(Facts):
    """Golden rows, with the dtype of the matrix products that computed them; int8 or nf4 for narrow weights."""

    dtype: Dtype | Literal["int8", "nf4"]
    rows: Annotated[tuple[GoldenRow, ...], Field(max_length=64)]


class PartFacts(Facts):
    """One part of a fusion. Name and folder are found by the reader; digest and settings decide.

    Attributes:
        name: a folder's own name, never a path.
        sha256: digest of the part's file of tensors.
        method: the part's settings.
    """

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$")]
    sha256: Digest
    method: BottleneckMethod


class Ancestor(Facts):
    """One earlier version of this adapter: its version number and the digest of its manifest."""

    version: Annotated[int, Field(ge=1, le=2**31)]
    sha256: Digest


class MemberFacts(Facts):
    """One adapter that a composed one was made of: its name there, its weight, and the digest of its manifest."""

    name: Name
    weight: float
    sha256: Digest


class CompositionFacts(Facts):
    """How an adapter was made of others.

    Attributes:
        how: "exact", "svd", "ties", "dare" or "magnitude" of a weighted sum, or "average".
        members: what it was made of.
        head: the member whose head it has.
        rank: that an approximation was asked for, if it was.
        density: share of the entries that were kept.
        seed: of the entries that were dropped.
        error: ‖found − wanted‖ / ‖wanted‖ over all updates together; null where no update was approximated.
    """

    how: Literal["exact", "svd", "ties", "dare", "magnitude", "average"]
    members: Annotated[tuple[MemberFacts, ...], Field(min_length=1, max_length=1024)]
    head: Name
    rank: Count | None = None
    density: float | None = None
    seed: Count | None = None
    error: float | None = None


class Parameters(Facts):
    """How many numbers were trained and saved."""

    method: Count
    head: Count


class Manifest(Facts):
    """The whole manifest. `sha256` is the digest of everything else in it."""

    format: Literal[1]
    task: Object
    method: Annotated[LoraMethod | BottleneckMethod | Ia3Method | FusionMethod | NoMethod, Field(discriminator="kind")]
    parts: Annotated[tuple[PartFacts, ...], Field(max_length=64)] = ()
    head: HeadSettings
    head_tensors: Annotated[tuple[Name, ...], Field(max_length=1024)]
    backbone: BackboneFacts
    data: DataFacts
    recipe: Object
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    packages: dict[Name, Name] = Field(max_length=64)
    metrics: dict[Name, dict[Name, MetricFacts]] = Field(max_length=16)
    version: Annotated[int, Field(ge=1, le=2**31)]
    parent: Digest | None
    history: Annotated[tuple[Ancestor, ...], Field(max_length=1000)]
    dtype: Dtype
    parameters: Parameters
    size_bytes: Count
    files: dict[Name, FileFacts] = Field(max_length=8)
    golden: GoldenFacts
    composition: CompositionFacts | None = None
    sha256: Digest

    @property
    def kind(self) -> str:
        """The task's kind."""
        return str(self.task.get("kind"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The task's label names, in class order; empty where the kind has none."""
        labels = self.task.get("labels") or []
        return tuple(str(label) for label in labels) if isinstance(labels, list) else ()


def dump_manifest(content: Mapping[str, Any]) -> bytes:
    """Write a manifest from its fields without `sha256`, which is computed here.

    Raises:
        ArtifactError: a field is missing, unknown, out of bounds, or the manifest is too large.
    """
    raw = dump_json({**content, "sha256": _digest(content)})
    parse_manifest(raw)
    return raw


def parse_manifest(raw: bytes | bytearray) -> Manifest:
    """Read and check a manifest.

    Raises:
        ArtifactError: with every field that is wrong.
    """
    if len(raw) > MAX_BYTES[MANIFEST]:
        limit = MAX_BYTES[MANIFEST]
        raise ArtifactError(f"{MANIFEST} is too large", [f"{MANIFEST}: {len(raw):,} bytes, expected at most {limit:,}"])
    value = parse_object(raw, MANIFEST)
    found = value.get("format")
    if type(found) is not int or found != FORMAT:
        remedy = "Upgrade adapterkit." if type(found) is int and found > FORMAT else ""
        raise ArtifactError(
            f"{MANIFEST} is of an unknown version",
            [f"{MANIFEST}: format: found {found!r:.40}, expected {FORMAT}"],
            remedy,
        )
    problems = []
    claimed = value.get("sha256")
    if not _is_digest(claimed, raw, value):
        problems.append(f"{MANIFEST}: sha256: it is not the digest of this manifest: it was edited or damaged")
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        problems += validation_problems(error, MANIFEST)
    else:
        problems += _bound_problems(manifest)
    if problems:
        raise ArtifactError(f"{MANIFEST} cannot be used", problems)
    return manifest


def validation_problems(error: ValidationError, place: str) -> list[str]:
    """Pydantic's findings, one line each."""
    found = error.errors(include_url=False, include_context=False)
    lines = [
        f"{place}: {'.'.join(str(part) for part in item['loc'])[:200]}: {item['msg'][:200]}"
        + (f", found {item['input']!r:.60}" if item["type"] != "missing" else "")
        for item in found[:_REPORTED]
    ]
    return lines if len(found) <= _REPORTED else [*lines, f"{place}: and {len(found) - _REPORTED} more"]


def _is_digest(claimed: Any, raw: bytes | bytearray, value: Mapping[str, Any]) -> bool:
    """Whether a manifest's digest is the one that it claims.

    In the one spelling that is written, the digest is that of the bytes without their own line: no need to spell it all
    again. A manifest that is spelled otherwise is compared by content.
    """
    line = f'\n  "sha256": "{claimed}",'.encode("utf-8", errors="replace")
    if raw.count(line) == 1 and sha256(raw.replace(line, b"")).hexdigest() == claimed:
        return True
    return bool(claimed == _digest({key: item for key, item in value.items() if key != "sha256"}))


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(dump_json(content)).hexdigest()


def _bound_problems(manifest: Manifest) -> list[str]:
    """What a type cannot say: sizes that would be allocated, and fields that must agree."""
    problems = []
    method = manifest.method
    if isinstance(method, LoraMethod):
        problems += [
            f"{MANIFEST}: method: alpha: found {alpha}, expected at most a million"
            for alpha in (method.alpha, *method.alpha_pattern.values())
            if alpha > 1e6
        ]
    if isinstance(method, LoraMethod):
        ranks = {"rank": method.rank, **{f"rank_pattern.{key}": rank for key, rank in method.rank_pattern.items()}}
        problems += [
            f"{MANIFEST}: method.{field}: found {rank:,}, expected at most {MAX_RANK:,}"
            for field, rank in ranks.items()
            if rank > MAX_RANK
        ]
    if isinstance(method, BottleneckMethod) and method.width is not None and method.width > MAX_WIDTH:
        problems.append(f"{MANIFEST}: method.width: found {method.width:,}, expected at most {MAX_WIDTH:,}")
    problems += _part_problems(manifest)
    if manifest.head.hidden is not None and manifest.head.hidden > MAX_WIDTH:
        problems.append(f"{MANIFEST}: head.hidden: found {manifest.head.hidden:,}, expected at most {MAX_WIDTH:,}")
    if len(manifest.labels) > MAX_CLASSES:
        problems.append(f"{MANIFEST}: task.labels: {len(manifest.labels):,}, expected at most {MAX_CLASSES:,}")
    if manifest.head.kind == "auto":
        problems.append(f"{MANIFEST}: head.kind: found 'auto', expected the kind that was built")
    expected = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
    if manifest.files.keys() != expected:
        names = ", ".join(sorted(manifest.files))[:200]
        problems.append(f"{MANIFEST}: files: found {names}, expected {', '.join(sorted(expected))}")
    if (manifest.parent is None) != (not manifest.history) or manifest.version != len(manifest.history) + 1:
        problems.append(f"{MANIFEST}: version, parent and history do not agree")
    elif manifest.history and manifest.history[-1].sha256 != manifest.parent:
        problems.append(f"{MANIFEST}: parent: it is not the last entry of history")
    return problems


def _part_problems(manifest: Manifest) -> list[str]:
    """What is wrong between a fusion and its parts."""
    method, parts = manifest.method, manifest.parts
    if not isinstance(method, FusionMethod):
        return [f"{MANIFEST}: parts: found {len(parts)}, and {method.kind} has none"] if parts else []
    problems = []
    if tuple(part.name for part in parts) != method.parts:
        problems.append(f"{MANIFEST}: parts: their names are not those that method.parts gives")
    placements = sorted({part.method.placement for part in parts})
    if len(placements) > 1:
        problems.append(f"{MANIFEST}: parts: placements {' and '.join(placements)}, expected one")
    if method.query_width is not None and method.query_width > MAX_WIDTH:
        problems.append(f"{MANIFEST}: method.query_width: found {method.query_width:,}, expected at most {MAX_WIDTH:,}")
    return problems
