"""What a person sees of a sweep: a bar over all points on a terminal, and a line for each point that is done."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class SweepConsole:
    """Shows a sweep's progress on standard error. Made quiet, it says nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._done, self._total = 0, 0

    def __enter__(self) -> SweepConsole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def begin(self, total: int, done: int) -> None:
        """So many runs are ahead, of which some were done earlier."""
        self._total, self._done = total, done
        self._bar.update(self._task, total=total - done, completed=0)
        self._bar.start()
        if done:
            self.say(f"{done} of {total} runs were done before")

    def running(self, name: str) -> None:
        """A run begins, or goes on."""
        self._bar.update(self._task, description=name)

    def done(self, name: str, what: str) -> None:
        """A run has ended, or pauses."""
        self._done += 1
        self._bar.advance(self._task)
        self.say(f"[{self._done}/{self._total}] {name}  {what}")


def outcome(line: Mapping[str, Any]) -> str:
    """A result in a few words."""
    if line["value"] is None:
        return f"failed: {line['reason']}" if line.get("reason") else "no score"
    return f"{line['metric']} {line['value']:.4f}  {line['seconds']:.1f} s"
