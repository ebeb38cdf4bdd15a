"""What a person sees of a run."""

from collections.abc import Mapping

from adapterkit.metrics import LabelScore, Metric
from adapterkit.training.progress import ProgressDisplay
from adapterkit.training.turn import Step

SHOWN = 10
"""Labels that are shown after scoring, the weakest first."""


class RunDisplay(ProgressDisplay):
    """Shows a run's steps and validations."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet, fields={"loss": "cyan", "metric": "green"})
        self._total = 0
        self._last_line = 0

    def warn(self, text: str) -> None:
        """One line that the user should read."""
        self.say(f"Note: {text}", "yellow")

    def begin(self, total_steps: int, done: int) -> None:
        """Training begins, or goes on."""
        self._total, self._last_line = total_steps, done
        self._bar.update(self._task, description="training", total=total_steps, completed=done)
        self._bar.start()

    def step(self, step: Step, steps_per_epoch: int | None) -> None:
        """A step was done. Where there is no bar, a line says so ten times in a run, unless validations do."""
        epoch = "" if not steps_per_epoch else f"epoch {step.number / steps_per_epoch:.1f}"
        self._bar.update(
            self._task, completed=step.number, loss=f"loss {step.loss:.4f}", description=f"training {epoch}"
        )
        if not self._console.is_terminal and step.number - self._last_line >= max(1, self._total // 10):
            self._line(step, "")

    def _line(self, step: Step, more: str) -> None:
        self._last_line = step.number
        self.say(f"step {step.number:>6}  loss {step.loss:.4f}{more}")

    def validation(self, step: Step, metrics: dict[str, Metric], main: str, *, kept: bool) -> None:
        """A validation was done after this step."""
        shown = "  ".join(f"{name} {metric.value:.4f}" for name, metric in metrics.items())
        self._bar.update(self._task, metric=f"{main} {metrics[main].value:.4f}")
        self._line(step, f"  validation {shown}{'  (kept)' if kept else ''}")

    def by_label(self, split: str, scores: Mapping[str, LabelScore]) -> None:
        """The labels that are answered worst, of a split that was scored."""
        worst = sorted(scores, key=lambda label: (scores[label].f1, label))[:SHOWN]
        self.say(f"{split}, {'each label' if len(worst) == len(scores) else 'the weakest labels'}:")
        width = max(map(len, worst))
        for label in worst:
            precision, recall, f1, items = scores[label]
            self.say(f"  {label:<{width}}  F1 {f1:.3f}  precision {precision:.3f}  recall {recall:.3f}  of {items:,}")

    def finish(self) -> None:
        """Training has ended; what follows is evaluation and saving."""
        self._bar.stop()
