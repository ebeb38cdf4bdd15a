"""What differs between versions, settings, backbones and stages: and what each costs."""

from typing import Any, Literal

from pydantic import Field, JsonValue

from adapterkit.metrics.paired import Difference
from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Answerer, Number, Record, RowsUsed, Values

Way = Literal["copy", "head", "warm", "anew"]
"""How an adapter gets onto another backbone: its tensors as they are; a head alone, on the bare backbone; method and
head by its own recipe, trained on from those tensors; or from nothing."""


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


class WayRecord(Values):
    """One way of learning the stages."""

    answering: dict[str, Answerer]
    """Stage -> who answers for it after the last one."""
    after: dict[str, dict[str, MetricRecord]]
    """Stage -> every stage up to it -> the metric on that one's test rows then."""
    forgetting: dict[str, Difference]
    """Stage, but for the last -> the metric after the last stage less that right after the stage itself."""


class StreamRecord(Record):
    """`adapterkit stream --json`."""

    form: Literal["adapterkit.stream/1"] = Field("adapterkit.stream/1", alias="schema")
    data: dict[str, RowsUsed]
    """Stage -> its test rows."""
    resamples: int
    metrics: dict[str, str]
    """Stage -> the metric that is compared."""
    ways: dict[str, WayRecord]
    """ "isolated": each stage trains an adapter of its own; "through": one adapter is trained on; "joint": one method
    with a head for each stage learns all of them at once."""
    against: dict[str, dict[str, Difference]]
    """Every other way -> stage -> its metric less that of "isolated", after the last stage."""
    findings: tuple[str, ...]


class SettingRecord(Values):
    """One setting with all its seeds."""

    settings: dict[str, Any]
    """What was set, by path in the recipe."""
    mean: Number
    """Of `values`; null without any."""
    spread: Number
    """Their standard deviation; null below two."""
    values: tuple[Number, ...]
    """The metric on validation rows, a seed each."""
    parameters: int | None
    """That were trained, head included; null where none was trained to the end."""
    milliseconds_per_step: Number
    """Of training, as the clock took them when it was run."""
    status: str
    """ "done", "halved" or "failed"."""
    within_noise: bool | None
    """Whether it may be as good as the best; null for the best, and where seeds tell nothing."""


class AblationRecord(Record):
    """`adapterkit ablate --json`."""

    form: Literal["adapterkit.ablation/1"] = Field("adapterkit.ablation/1", alias="schema")
    choice: str
    """What was varied."""
    metric: str
    """On validation rows."""
    higher_is_better: bool
    groups: tuple[SettingRecord, ...]
    """The best first."""
