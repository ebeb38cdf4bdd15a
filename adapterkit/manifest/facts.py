"""What a manifest says: `adapterkit.json` as frozen values. docs/artifact-format.md is the specification.

Every text, number and list is bounded, and unknown fields are refused.
"""

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from adapterkit.glance import in_short
from adapterkit.recipe import BottleneckMethod, HeadSettings, MethodSettings
from adapterkit.recipe.head import HEAD_SETTINGS
from adapterkit.recipe.methods import METHOD_SETTINGS
from adapterkit.recipe.table import OfKind

FORMAT = 1
MAX_CLASSES = 100_000

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

    __repr__ = __str__ = in_short()


class FileFacts(Facts):
    """One file beside the manifest."""

    size_bytes: Count
    sha256: Digest


class BackboneFacts(Facts):
    """The backbone that the adapter was trained on. Where to find it is a hint; the fingerprint decides."""

    name: Name
    revision: Name | None
    part: ModulePath | None = None
    """Path of the text model in a checkpoint that sees or hears too."""
    fingerprint: Digest
    coverage: Literal["whole", "samples"]
    """How much of the weights the fingerprint covers: the whole, or samples of the large tensors."""
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
        shared: split -> how many of its rows stand in training too, where that was looked at.
        length_tokens: split -> median, 95th percentile and longest of what was read at once.
    """

    source: Text
    revision: Name | None = None
    license: Name | None = None
    rows: dict[Name, Count] = Field(default_factory=dict, max_length=16)
    unusable: dict[Name, Count] = Field(default_factory=dict, max_length=16)
    label_counts: dict[Name, dict[Text, Count]] = Field(default_factory=dict, max_length=16)
    digests: dict[Name, Name] = Field(default_factory=dict, max_length=16)
    shared: dict[Name, Count] = Field(default_factory=dict, max_length=16)
    length_tokens: dict[Name, tuple[Count, Count, Count]] = Field(default_factory=dict, max_length=16)


class MetricFacts(Facts):
    """A metric with its 95 % interval; `how` it was measured, where that followed from the rows."""

    value: float
    low: float
    high: float
    how: Annotated[str, Field(max_length=200)] = ""


class GoldenRow(Facts):
    """A row and what the saved weights answered to it."""

    row: Object
    """The input, canonical columns."""
    prediction: JsonValue
    """The answer as `predict` gives it; null for kinds whose answer is generated."""
    numbers: Annotated[tuple[float, ...], Field(min_length=1, max_length=4096)]
    """Logits, or the loss of a language model; what is compared."""
    text: Text | None = None
    """How a kind that generates goes on, greedily and for a few tokens; null for every other kind."""


class GoldenFacts(Facts):
    """Golden rows, with the dtype of the matrix products that computed them; int8 or nf4 for narrow weights."""

    dtype: Dtype | Literal["int8", "nf4"]
    rows: Annotated[tuple[GoldenRow, ...], Field(max_length=64)]


class PartFacts(Facts):
    """One part of a fusion. Name and folder are found by the reader; digest and settings decide."""

    name: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]*$")]
    """A folder's own name, never a path."""
    sha256: Digest
    """Digest of the part's file of tensors."""
    method: BottleneckMethod
    """The part's settings."""


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


class CompactionFacts(Facts):
    """How an adapter was made smaller than its parent, and what its answers lost: the metric that decided, before and
    after on the same rows, with the 95 % paired interval of the difference from `low` to `high`."""

    to: Dtype | Literal["int8"]
    """Number format of its tensors."""
    tolerance: float
    """How much worse the metric was allowed to become."""
    dropped: float
    """Share of Σ‖ΔW‖² that was left out."""
    metric: Name
    before: float
    after: float
    low: float
    high: float
    rows: Count
    digest: Name
    """Of the rows."""
    size_bytes: Count
    """Of the parent's files."""


class ReferenceFacts(Facts):
    """What rows look like to the adapter, so that a service sees them drift."""

    rows: Annotated[int, Field(ge=16, le=4096)]
    """How many."""
    width: Annotated[int, Field(ge=1, le=4096)]
    """Numbers per row; see `metrics.drift.projected`."""
    packed: Annotated[str, Field(max_length=65_536)]
    """Those numbers, row by row, as float16 (little-endian) in base64."""

    def states(self) -> Any:
        """(rows, width). Raises ValueError where it is no such thing."""
        import numpy as np

        found = np.frombuffer(base64.b64decode(self.packed, validate=True), dtype="<f2").astype(np.float32)
        if len(found) != self.rows * self.width or not np.isfinite(found).all():
            raise ValueError(f"expected {self.rows} rows of {self.width} finite numbers, found {len(found)} numbers")
        return found.reshape(self.rows, self.width)


class Parameters(Facts):
    """How many numbers were trained and saved."""

    method: Count
    head: Count


class Manifest(Facts):
    """The whole manifest. `sha256` is the digest of everything else in it; `calibration` the expected calibration error
    of each split whose answers have a confidence."""

    format: Literal[1]
    task: Object
    method: Annotated[MethodSettings, OfKind(METHOD_SETTINGS)]
    parts: Annotated[tuple[PartFacts, ...], Field(max_length=64)] = ()
    head: Annotated[HeadSettings, OfKind(HEAD_SETTINGS)]
    head_tensors: Annotated[tuple[Name, ...], Field(max_length=1024)]
    backbone: BackboneFacts
    data: DataFacts
    recipe: Object
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    packages: dict[Name, Name] = Field(max_length=64)
    metrics: dict[Name, dict[Name, MetricFacts]] = Field(max_length=16)
    calibration: dict[Name, float] = Field(default_factory=dict, max_length=16)
    version: Annotated[int, Field(ge=1, le=2**31)]
    parent: Digest | None
    history: Annotated[tuple[Ancestor, ...], Field(max_length=1000)]
    dtype: Dtype | Literal["int8"]
    parameters: Parameters
    size_bytes: Count
    files: dict[Name, FileFacts] = Field(max_length=8)
    golden: GoldenFacts
    composition: CompositionFacts | None = None
    compaction: CompactionFacts | None = None
    reference: ReferenceFacts | None = None
    sha256: Digest

    __repr__ = __str__ = in_short("kind", "method.kind", "head.kind", "backbone.name", "version", "size_bytes", "seed")

    @property
    def kind(self) -> str:
        """The task's kind."""
        return str(self.task.get("kind"))

    @property
    def labels(self) -> tuple[str, ...]:
        """The task's label names, in class order; empty where the kind has none."""
        labels = self.task.get("labels") or []
        return tuple(str(label) for label in labels) if isinstance(labels, list) else ()
