"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere, all on standard error."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from adapterkit.tasks.confidence import Metric
from adapterkit.training.loop import Step


class RunConsole:
    """Shows a run's progress. Made quiet, it says nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("[cyan]{task.fields[loss]}"),
            TextColumn("[green]{task.fields[metric]}"),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, loss="", metric="")
        self._total = 0
        self._last_line = 0

    def __enter__(self) -> RunConsole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)

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

    def finish(self) -> None:
        """Training has ended; what follows is evaluation and saving."""
        self._bar.stop()
