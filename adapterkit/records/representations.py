"""What representations know, layer by layer; and where a task can start from, with heads trained on each."""

from typing import Literal

from pydantic import Field

from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Number, Record, RowsUsed, Values


class LayerRecord(Values):
    """One layer of a representation."""

    layer: int
    """Its number; 0 for the embeddings."""
    accuracy: MetricRecord | None
    """Of a linear probe on items that it was not fitted on; null where none can be fitted."""
    figures: dict[str, float]
    """Measure -> value; the concept page of probing says what each is."""
    refused: dict[str, str]
    """Measure -> why it has no value."""
    similarity: dict[str, Number]
    """Other representation -> debiased linear CKA with its layer of the same number."""


class RepresentationRecord(Values):
    """A backbone, bare or with an adapter."""

    name: str
    """As the record calls it."""
    backbone: str
    """As it was loaded."""
    revision: str | None
    fingerprint: str
    """Of the backbone."""
    artifact: str | None
    """Digest of the adapter's manifest; null for the bare backbone."""
    pooling: str
    """How a row became one vector; "" where words are looked at."""
    stands: int | None
    """The lowest layer whose probe is not shown to be worse than that of the best; null where none beats chance."""
    gains: dict[int, MetricRecord]
    """For an adapter, layer -> what its probe is right in beyond that of the bare backbone."""
    layers: tuple[LayerRecord, ...]
    """From the lowest."""


class ProbeRecord(Record):
    """`adapterkit probe --json`."""

    form: Literal["adapterkit.probe/1"] = Field("adapterkit.probe/1", alias="schema")
    data: RowsUsed
    """The rows looked at."""
    kind: str
    """Of task that they are for."""
    items: int
    """Vectors looked at, one per row, per choice or per word."""
    labels: dict[str, int]
    """Class -> how many items have it."""
    chance: float
    """Accuracy of whoever does not look."""
    representations: tuple[RepresentationRecord, ...]
    """The bare backbones, each before the adapters on it."""
    notes: tuple[str, ...]
    """What was drawn and left out."""
    findings: tuple[str, ...]
    """In sentences: where the information stands, and which layers an adapter is worth."""


class StartRecord(Values):
    """A layer of a representation as a starting point."""

    representation: str
    """A backbone's name, or an adapter's."""
    artifact: str | None
    """Digest of the adapter's manifest; null for a bare backbone."""
    layer: int
    """0 for the embeddings."""
    probe: Number
    """Accuracy of a cross-validated linear probe on the rows to learn from."""
    logme: Number
    """Of these rows; higher is better."""
    accuracy: MetricRecord | None
    """Of a head trained on these states, on rows that it has not seen; null where none was trained."""
    own: bool
    """Whether the adapter was trained on this very set."""


class StartsRecord(Values):
    """All starting points for one set of rows, the best by the probe first."""

    data: RowsUsed
    """The rows."""
    kind: str
    """Of task that they are for."""
    chance: float
    """Accuracy of whoever does not look."""
    starts: tuple[StartRecord, ...]
    """Every layer of every representation."""
    rank_correlation: dict[str, Number]
    """ "probe" and "logme" -> Spearman's, with the accuracies; null where nothing differs."""
    regret: dict[str, dict[int, float]]
    """Of either, k -> what the best of its k first lacks in accuracy of the best of all; adapters that were trained on
    this set are left out, as a new task would have none."""
    answers: dict[str, dict[str, MetricRecord]] = Field(default_factory=dict)
    """Adapter -> its task's main metric -> of its own answers to the rows, head and all; of those that know all labels
    of the set."""
    notes: tuple[str, ...]
    """What was drawn and left out."""


class NearestRecord(Record):
    """`adapterkit nearest --json`."""

    form: Literal["adapterkit.nearest/1"] = Field("adapterkit.nearest/1", alias="schema")
    found: StartsRecord
    findings: tuple[str, ...]


class TransferRecord(Record):
    """`adapterkit transfer --json`; its sets by their names."""

    form: Literal["adapterkit.transfer/1"] = Field("adapterkit.transfer/1", alias="schema")
    sets: dict[str, StartsRecord]
    findings: tuple[str, ...]
