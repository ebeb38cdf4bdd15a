"""What a change of backbone costs each adapter, and what gets it back."""

from typing import Literal

from pydantic import Field

from adapterkit.metrics.paired import Difference
from adapterkit.records.record import Answerer, Record, RowsUsed, Values

Way = Literal["copy", "head", "warm", "anew"]
"""How an adapter gets onto another backbone: its tensors as they are; a head alone, on the bare backbone; method and
head by its own recipe, trained on from those tensors; or from nothing."""


class UpgradeTrial(Values):
    """One way onto the new backbone, tried."""

    way: Way
    """which."""
    difference: Difference
    """On the adapter's own test rows, the new backbone less the old one."""
    seconds: float
    """Of training."""
    size_bytes: int
    """Of the tensors."""
    output: str | None
    """Folder of the artifact; None where it was not kept."""


class UpgradedAdapter(Values):
    """One adapter."""

    run: str
    """Its folder, as it was named."""
    answering: Answerer
    """The artifact on the old backbone."""
    data: RowsUsed
    """Its test rows."""
    metric: str
    """The task's main one."""
    misfits: tuple[str, ...]
    """Why its tensors do not fit the new backbone; () where they do."""
    golden: tuple[int, int] | None
    """Golden rows that are answered otherwise by a copy, of how many; None where nothing fits."""
    trials: tuple[UpgradeTrial, ...]
    """The ways that were tried, the cheapest first."""
    advised: Way | None
    """The cheapest way that loses nothing beyond chance; None where none does."""


class UpgradeRecord(Record):
    """`adapterkit upgrade --json`."""

    form: Literal["adapterkit.upgrade/1"] = Field("adapterkit.upgrade/1", alias="schema")
    old: str
    """Fingerprint of the backbone that is left."""
    new: str
    """Fingerprint of the one that takes its place."""
    epochs: float
    """Of every training."""
    adapters: tuple[UpgradedAdapter, ...]
    """One after the other."""
