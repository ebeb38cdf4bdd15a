"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

import sys
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ProgressDisplay:
    """A bar and lines above it. Made quiet, it says nothing."""

    def __init__(self, *, quiet: bool, fields: dict[str, str] | None = None) -> None:
        """`fields`: what the bar shows behind its count: name -> colour."""
        fields = fields or {}
        self._console = Console(file=sys.stderr, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            *(TextColumn(f"[{colour}]{{task.fields[{name}]}}") for name, colour in fields.items()),
            TimeElapsedColumn(),
            TextColumn("<"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
            transient=True,
        )
        empty: dict[str, Any] = dict.fromkeys(fields, "")
        self._task = self._bar.add_task("", total=None, **empty)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)
