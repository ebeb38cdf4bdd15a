"""What representations know, layer by layer."""

from typing import Literal

from pydantic import Field

from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Number, Record, RowsUsed, Values


class LayerRecord(Values):
    """One layer of a representation.

    Attributes:
        layer: its number; 0 for the embeddings.
        accuracy: of a linear probe on items that it was not fitted on; null where none can be fitted.
        figures: measure -> value; the concept page of probing says what each is.
        refused: measure -> why it has no value.
        similarity: other representation -> debiased linear CKA with its layer of the same number.
    """

    layer: int
    accuracy: MetricRecord | None
    figures: dict[str, float]
    refused: dict[str, str]
    similarity: dict[str, Number]


class RepresentationRecord(Values):
    """A backbone, bare or with an adapter.

    Attributes:
        name: as the record calls it.
        backbone: as it was loaded.
        fingerprint: of the backbone.
        artifact: digest of the adapter's manifest; null for the bare backbone.
        pooling: how a row became one vector; "" where words are looked at.
        stands: the lowest layer whose probe is not shown to be worse than that of the best; null where none beats
            chance.
        gains: for an adapter, layer -> what its probe is right in beyond that of the bare backbone.
        layers: from the lowest.
    """

    name: str
    backbone: str
    revision: str | None
    fingerprint: str
    artifact: str | None
    pooling: str
    stands: int | None
    gains: dict[int, MetricRecord]
    layers: tuple[LayerRecord, ...]


class ProbeRecord(Record):
    """`adapterkit probe --json`.

    Attributes:
        data: the rows looked at.
        kind: of task that they are for.
        items: vectors looked at, one per row, per choice or per word.
        labels: class -> how many items have it.
        chance: accuracy of whoever does not look.
        representations: the bare backbones, each before the adapters on it.
        notes: what was drawn and left out.
        findings: in sentences: where the information stands, and which layers an adapter is worth.
    """

    form: Literal["adapterkit.probe/1"] = Field("adapterkit.probe/1", alias="schema")
    data: RowsUsed
    kind: str
    items: int
    labels: dict[str, int]
    chance: float
    representations: tuple[RepresentationRecord, ...]
    notes: tuple[str, ...]
    findings: tuple[str, ...]
