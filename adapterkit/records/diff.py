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
    """How far what two artifacts learned under one name lies apart."""

    name: str
    """A module that a low-rank method adapts, or a tensor."""
    a: Number
    """Frobenius' norm of a's ΔW there, or of its tensor; null where it has none."""
    b: Number
    """Of b's."""
    distance: Number
    """Of the difference; null where the two cannot be subtracted."""


class GoldenDiffRecord(Values):
    """A golden row and what the two answer to it, by prediction; for a kind that generates, the text."""

    row: dict[str, Any]
    a: JsonValue
    b: JsonValue
    distance: Number
    """The largest difference between their numbers; null where their counts differ."""


class DiffRecord(Record):
    """`adapterkit diff A B --json`."""

    form: Literal["adapterkit.diff/1"] = Field("adapterkit.diff/1", alias="schema")
    a: Answerer
    """The artifact to compare with; its dtype is that of its golden rows."""
    b: Answerer
    """The other."""
    relation: str
    """How the two are related, by their history."""
    changes: tuple[ChangeRecord, ...]
    """Fields of recipe, data, task, method, head, backbone and packages that differ."""
    labels_added: tuple[str, ...]
    """Labels that only b has."""
    labels_removed: tuple[str, ...]
    """Labels that only a has."""
    metrics: tuple[ChangeRecord, ...]
    """Fields of metrics that differ."""
    learned: tuple[DistanceRecord, ...]
    """By module or tensor, the farthest apart first."""
    golden: tuple[GoldenDiffRecord, ...]
    """Rows whose answers were compared; with a backbone those of both, else those that both keep."""
