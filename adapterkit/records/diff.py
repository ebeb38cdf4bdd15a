"""What differs between two artifacts."""

from typing import Any, Literal

from pydantic import Field, JsonValue

from adapterkit.records.record import Answerer, Number, Record, Values


class ChangeRecord(Values):
    """A field of the manifests, dots between its names; null where one of them lacks it."""

    field: str
    a: JsonValue
    b: JsonValue


class DistanceRecord(Values):
    """How far what two artifacts learned under one name lies apart.

    Attributes:
        name: a module that a low-rank method adapts, or a tensor.
        a: Frobenius' norm of a's ΔW there, or of its tensor; null where it has none.
        b: of b's.
        distance: of the difference; null where the two cannot be subtracted.
    """

    name: str
    a: Number
    b: Number
    distance: Number


class GoldenDiffRecord(Values):
    """A golden row and what the two answer to it, by prediction; for a kind that generates, the text.

    Attributes:
        distance: the largest difference between their numbers; null where their counts differ.
    """

    row: dict[str, Any]
    a: JsonValue
    b: JsonValue
    distance: Number


class DiffRecord(Record):
    """`adapterkit diff A B --json`.

    Attributes:
        a: the artifact to compare with; its dtype is that of its golden rows.
        b: the other.
        relation: how the two are related, by their history.
        changes: fields of recipe, data, task, method, head, backbone and packages that differ.
        labels_added: labels that only b has.
        labels_removed: labels that only a has.
        metrics: fields of metrics that differ.
        learned: by module or tensor, the farthest apart first.
        golden: rows whose answers were compared; with a backbone those of both, else those that both keep.
    """

    form: Literal["adapterkit.diff/1"] = Field("adapterkit.diff/1", alias="schema")
    a: Answerer
    b: Answerer
    relation: str
    changes: tuple[ChangeRecord, ...]
    labels_added: tuple[str, ...]
    labels_removed: tuple[str, ...]
    metrics: tuple[ChangeRecord, ...]
    learned: tuple[DistanceRecord, ...]
    golden: tuple[GoldenDiffRecord, ...]
