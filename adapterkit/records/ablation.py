"""What one choice of a recipe is worth."""

from typing import Any, Literal

from pydantic import Field

from adapterkit.records.record import Number, Record, Values


class SettingRecord(Values):
    """One setting with all its seeds.

    Attributes:
        settings: what was set, by path in the recipe.
        mean: of `values`; null without any.
        spread: their standard deviation; null below two.
        values: the metric on validation rows, a seed each.
        parameters: that were trained, head included; null where none was trained to the end.
        milliseconds_per_step: of training, as the clock took them when it was run.
        status: "done", "halved" or "failed".
        within_noise: whether it may be as good as the best; null for the best, and where seeds tell nothing.
    """

    settings: dict[str, Any]
    mean: Number
    spread: Number
    values: tuple[Number, ...]
    parameters: int | None
    milliseconds_per_step: Number
    status: str
    within_noise: bool | None


class AblationRecord(Record):
    """`adapterkit ablate --json`.

    Attributes:
        choice: what was varied.
        metric: on validation rows.
        groups: the best first.
    """

    form: Literal["adapterkit.ablation/1"] = Field("adapterkit.ablation/1", alias="schema")
    choice: str
    metric: str
    higher_is_better: bool
    groups: tuple[SettingRecord, ...]
