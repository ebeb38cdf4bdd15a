"""Where a task can start from: representations ranked for it, and heads trained on each."""

from typing import Literal

from pydantic import Field

from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Number, Record, RowsUsed, Values


class StartRecord(Values):
    """A layer of a representation as a starting point.

    Attributes:
        representation: a backbone's name, or an adapter's.
        artifact: digest of the adapter's manifest; null for a bare backbone.
        layer: 0 for the embeddings.
        probe: accuracy of a cross-validated linear probe on the rows to learn from.
        logme: of these rows; higher is better.
        accuracy: of a head trained on these states, on rows that it has not seen; null where none was trained.
        own: whether the adapter was trained on this very set.
    """

    representation: str
    artifact: str | None
    layer: int
    probe: Number
    logme: Number
    accuracy: MetricRecord | None
    own: bool


class StartsRecord(Values):
    """All starting points for one set of rows, the best by the probe first.

    Attributes:
        data: the rows.
        kind: of task that they are for.
        chance: accuracy of whoever does not look.
        starts: every layer of every representation.
        rank_correlation: "probe" and "logme" -> Spearman's, with the accuracies; null where nothing differs.
        regret: of either, k -> what the best of its k first lacks in accuracy of the best of all; adapters that were
            trained on this set are left out, as a new task would have none.
        answers: adapter -> its task's main metric -> of its own answers to the rows, head and all; of those that know
            all labels of the set.
        notes: what was drawn and left out.
    """

    data: RowsUsed
    kind: str
    chance: float
    starts: tuple[StartRecord, ...]
    rank_correlation: dict[str, Number]
    regret: dict[str, dict[int, float]]
    answers: dict[str, dict[str, MetricRecord]] = Field(default_factory=dict)
    notes: tuple[str, ...]


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
