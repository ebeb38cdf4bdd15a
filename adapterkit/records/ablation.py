"""What one choice of a recipe is worth."""

from typing import Any, Literal

from pydantic import Field

from adapterkit.records.record import Number, Record, Values


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
