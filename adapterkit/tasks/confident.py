"""What the kinds have in common whose answers come with a probability: it can be calibrated, and it can be too low.

An answer's `confidence` is the probability that the model gives to the answer as a whole. Calibration divides logits by
a temperature (Guo et al. 2017), which changes no answer, and withholds answers up to a confidence.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor

from adapterkit.metrics.abstaining import find_threshold
from adapterkit.tasks.as_json import OPTIONAL
from adapterkit.tasks.protocol import Row, Task
from adapterkit.tasks.values import Features, Outputs

logger = logging.getLogger(__name__)

COLDEST, HOTTEST = 1 / 64, 64.0
"""Temperatures beyond these say that the rows could not tell."""


@dataclass(frozen=True, repr=False)
class ConfidentTask(Task):
    """A kind whose answers are choices, so that each has a probability. Logits are divided by `temperature`; where
    `settings.abstain` asks, an answer is withheld whose confidence is `abstain_up_to` at most."""

    temperature: float = field(default=1.0, kw_only=True, metadata=OPTIONAL)
    abstain_up_to: float = field(default=0.0, kw_only=True, metadata=OPTIONAL)

    def inconsistencies(self) -> list[str]:
        problems = super().inconsistencies()
        if not COLDEST <= self.temperature <= HOTTEST:
            problems.append(f"temperature: found {self.temperature}, expected {COLDEST} to {HOTTEST:g}")
        if not 0 <= self.abstain_up_to <= 1:
            problems.append(f"abstain_up_to: found {self.abstain_up_to}, expected 0 to 1")
        return problems

    def tempered(self, logits: Tensor) -> Tensor:
        """Logits in fp32, divided by the temperature."""
        return logits.detach().float() / self.temperature

    def trusted(self, answer: dict[str, Any], confidence: float) -> dict[str, Any]:
        """An answer with its confidence, and whether it is withheld, where the task withholds any.

        A withheld answer stays where it is, for whoever decides in its place.
        """
        answer["confidence"] = confidence
        if self.settings.abstain is not None:
            answer["abstained"] = confidence <= self.abstain_up_to
        return answer

    def calibrated(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Self:
        """The task with the confidence up to which it abstains chosen on these rows, where the settings ask for it."""
        asked = self.settings.abstain
        found = None if asked is None else self.compared(rows, features, outputs).judged
        if asked is None or found is None:
            return self
        threshold = find_threshold(found.confidence, found.right, asked.risk, asked.certainty)
        if threshold is None:
            logger.warning("no threshold keeps wrong answers within %g of those given: all are withheld", asked.risk)
        return replace(self, abstain_up_to=1.0 if threshold is None else threshold.abstain_up_to)


def temperature_of(task: Task) -> float:
    """What a task divides logits by; 1 where its answers have no confidence."""
    return task.temperature if isinstance(task, ConfidentTask) else 1.0
