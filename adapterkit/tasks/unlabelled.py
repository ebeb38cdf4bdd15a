"""What the kinds without a label set have in common: training rows teach them nothing but that they can be used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.checked_rows import usable_indices
from adapterkit.tasks.protocol import Task
from adapterkit.tasks.values import Row


@dataclass(frozen=True, repr=False)
class UnlabelledTask(Task):
    """A kind whose answers are tokens or positions, and no names from a set."""

    settings: TaskSettings

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        """The task, once one training row at least can be used. Raises DataError where none can."""
        task = cls(settings)
        usable_indices(rows, lambda row: task.problem_of(row, "train"))
        return task

    @property
    def classes(self) -> int:
        return 0
