"""What a change of backbone costs each adapter, and what gets it back."""

from typing import Literal

from pydantic import Field

from adapterkit.metrics.paired import Difference
from adapterkit.records.record import Answerer, Record, RowsUsed, Values

Way = Literal["copy", "head", "warm", "anew"]
"""How an adapter gets onto another backbone: its tensors as they are; a head alone, on the bare backbone; method and
head by its own recipe, trained on from those tensors; or from nothing."""


class UpgradeTrial(Values):
    """One way onto the new backbone, tried.

    Attributes:
        way: which.
        difference: on the adapter's own test rows, the new backbone less the old one.
        seconds: of training.
        size_bytes: of the tensors.
        output: folder of the artifact; None where it was not kept.
    """

    way: Way
    difference: Difference
    seconds: float
    size_bytes: int
    output: str | None


class UpgradedAdapter(Values):
    """One adapter.

    Attributes:
        run: its folder, as it was named.
        answering: the artifact on the old backbone.
        data: its test rows.
        metric: the task's main one.
        misfits: why its tensors do not fit the new backbone; () where they do.
        golden: golden rows that are answered otherwise by a copy, of how many; None where nothing fits.
        trials: the ways that were tried, the cheapest first.
        advised: the cheapest way that loses nothing beyond chance; None where none does.
    """

    run: str
    answering: Answerer
    data: RowsUsed
    metric: str
    misfits: tuple[str, ...]
    golden: tuple[int, int] | None
    trials: tuple[UpgradeTrial, ...]
    advised: Way | None


class UpgradeRecord(Record):
    """`adapterkit upgrade --json`.

    Attributes:
        old: fingerprint of the backbone that is left.
        new: fingerprint of the one that takes its place.
        epochs: of every training.
        adapters: one after the other.
    """

    form: Literal["adapterkit.upgrade/1"] = Field("adapterkit.upgrade/1", alias="schema")
    old: str
    new: str
    epochs: float
    adapters: tuple[UpgradedAdapter, ...]
