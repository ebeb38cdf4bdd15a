"""Successive halving (Jamieson & Talwalkar 2016, algorithm 1): many settings get a little, the best of them more.

An arm is a group: one setting with all its seeds, so that no setting is promoted for a lucky seed. Budgets end at
validations of the run itself, and a promoted point goes on from its checkpoint on the schedule of the whole run. So
pausing changes nothing: what wins is, byte for byte, what training it alone gives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adapterkit.errors import SweepError

if TYPE_CHECKING:
    from adapterkit.training.batches import Batches

Unit = Literal["steps", "epochs", "share"]


@dataclass(frozen=True)
class Budget:
    """How long a point may be trained: so many steps or epochs, or a share of the whole run."""

    amount: float
    unit: Unit

    def steps(self, batches: Batches) -> int:
        """The budget in steps of a run, at least 1 and at most all of them.

        Raises:
            SweepError: epochs of a stream, which does not know how long it is.
        """
        if self.unit == "share":
            wanted = self.amount * batches.total_steps
        elif self.unit == "steps":
            wanted = self.amount
        elif batches.steps_per_epoch is None:
            raise SweepError("a streamed data set does not know its epochs", remedy="Give the first budget in steps.")
        else:
            wanted = self.amount * batches.steps_per_epoch
        return min(batches.total_steps, max(1, math.ceil(wanted - 1e-9)))

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "200steps" or "0.5 epochs". Raises SweepError for anything else."""
        found = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(step|epoch)s?\s*", text)
        if found is None or float(found.group(1)) <= 0:
            raise SweepError(f"{text!r} is no budget", ["expected steps or epochs"], "As in 200steps, or 1epoch.")
        return cls(float(found.group(1)), "steps" if found.group(2) == "step" else "epochs")


@dataclass(frozen=True)
class Rung:
    """A comparison: so many groups are trained up to a budget. The last rung's budget is the whole run (None)."""

    number: int
    groups: int
    budget: Budget | None


@dataclass(frozen=True)
class Halving:
    """How groups are thinned out.

    Attributes:
        eta: of each rung's groups, one in `eta` goes on, with `eta` times the budget.
        first: the first rung's budget. None: so much that the last rung's is the whole run.
    """

    eta: int = 3
    first: Budget | None = None

    def __post_init__(self) -> None:
        if self.eta < 2:
            raise SweepError(f"eta is {self.eta}, expected at least 2", remedy="3 is usual.")

    def rungs(self, groups: int) -> tuple[Rung, ...]:
        """The rungs for so many groups: ⌊groups / eta^k⌋ are left at rung k, down to one."""
        last = 0
        while self.eta ** (last + 1) <= groups:
            last += 1
        found = []
        for number in range(last):
            grown = self.eta**number
            share = Budget(1 / self.eta ** (last - number), "share")
            budget = share if self.first is None else Budget(self.first.amount * grown, self.first.unit)
            found.append(Rung(number, groups // grown, budget))
        return (*found, Rung(last, groups // self.eta**last, None))

    def to_dict(self) -> dict[str, Any]:
        """As a sweep's definition has it."""
        first = self.first
        return {"eta": self.eta, "first": None if first is None else f"{first.amount:g} {first.unit}"}


def promoted(scores: Mapping[str, Sequence[float | None]], count: int, *, higher_is_better: bool) -> list[str]:
    """The best `count` groups by mean score, in the order in which they came.
    `scores`: group -> its points' scores; None where a point failed or scored NaN, which is worse than any number."""

    def badness(group: str) -> tuple[int, float]:
        there = [score for score in scores[group] if score is not None]
        mean = sum(there) / len(there) if there else 0.0
        return len(scores[group]) - len(there), -mean if higher_is_better else mean

    kept = set(sorted(scores, key=badness)[:count])  # a stable sort: of equal groups the earlier goes on
    return [group for group in scores if group in kept]
