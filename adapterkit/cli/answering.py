"""Rows that come in, answered by a host in their order. Bad ones are refused before the first answer, or skipped."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.cli import console
from adapterkit.errors import AdapterkitError, DataError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from adapterkit.data.incoming import Incoming
    from adapterkit.host import Host

    OpenRows = Callable[[], Iterator[Incoming]]

ROWS_AT_ONCE = 512
"""Rows that are answered before the first of them are shown."""

SHOWN = 20
"""Bad rows that are named; the others are counted."""


def rows_of(
    data: Path | None, read: Mapping[str, Any], *, again: bool, accelerator: Accelerator | None = None
) -> OpenRows:
    """What opens the rows of a file, or of standard input.

    Args:
        read: how the file is read; see `options.reading`.
        again: whether it may be called twice. Standard input is held in memory then, and a file never is.
        accelerator: the processes that answer together; the first one reads standard input for all.
    """
    from adapterkit.data.incoming import each_line, each_row
    from adapterkit.recipe.reading import reading_settings

    if data is not None:
        settings = reading_settings(read)
        return lambda: each_row(data, settings)
    if sys.stdin.isatty():
        console.say("One row per line; Ctrl-D ends.", style="dim")
    if accelerator is not None:
        from accelerate.utils import broadcast_object_list

        (held,) = broadcast_object_list([list(each_line(sys.stdin)) if accelerator.is_main_process else None])
        return lambda: iter(held)
    if not again:
        return lambda: each_line(sys.stdin)
    held = list(each_line(sys.stdin))
    return lambda: iter(held)


def asking(kind: str, folder: str | Path) -> str:
    """A command that asks an artifact: with a text where one is all that a row needs, else with a file."""
    from adapterkit.recipe import COLUMNS

    columns = next(columns for name, columns in COLUMNS.items() if name == kind)
    asked = [name for name, column in columns.items() if column.required and not column.target]
    command = f"adapterkit predict {shlex.quote(str(folder))}"
    return f'echo "My card was lost on the way." | {command}' if len(asked) < 2 else f"{command} rows.jsonl"


class Answering:
    """The rows of one command, and the host that answers them.

    Attributes:
        rows: how many rows were answered or skipped.
        bad: how many of them have no answer.
    """

    def __init__(
        self,
        host: Host,
        open_rows: Callable[[], Iterator[Incoming]],
        name: str | None,
        *,
        skip: bool,
        accelerator: Accelerator | None = None,
    ) -> None:
        """`name`: whom every row asks, None where rows say it themselves; `skip`: a bad row gets an error in its place.

        Otherwise every row is read before the first is answered, and all that are bad are refused at once.
        """
        self.rows, self.bad = 0, 0
        self._host, self._open, self._name, self._skip = host, open_rows, name, skip
        self._accelerator = accelerator
        self._shown: list[str] = []
        self._remedies: dict[str, None] = {}

    def answers(self) -> Iterator[Any]:
        """Answers in row order, with an error in the place of every row that is skipped.

        Raises DataError: nothing came in, or rows that cannot be answered, unless they are skipped.
        """
        from adapterkit.scoring import share_out

        answer = partial(self._host.predict, errors="return" if self._skip else "raise")
        total = None if self._skip else self._check()
        with console.progress("rows", total) as advance:
            several = 1 if self._accelerator is None else self._accelerator.num_processes
            for chunk in _chunks(self._open(), several):
                asked = [self._asked(row) for _, row in chunk]
                answers = share_out(asked, answer, self._accelerator)
                self._note(chunk, {n: one for n, one in enumerate(answers) if isinstance(one, AdapterkitError)})
                self.rows += len(chunk)
                yield from answers
                advance(len(chunk))
        if not self.rows:
            raise _nothing()

    def refusal(self, rows: int) -> DataError:
        """What was noted of rows that have no answer, as an error."""
        more = self.bad - len(self._shown)
        problems = [*self._shown, *([f"… and {more:,} more"] if more else [])]
        remedy = "Correct these lines." if self._skip else "Correct these lines, or skip them: --errors skip."
        return DataError(
            f"{self.bad:,} of {rows:,} rows cannot be answered", problems, " ".join([*self._remedies, remedy])
        )

    def _check(self) -> int:
        """How many rows there are. Raises DataError for all that are bad."""
        total = 0
        for chunk in _chunks(self._open()):
            total += len(chunk)
            self._note(chunk, self._host.problems([self._asked(row) for _, row in chunk]))
        if self.bad:
            raise self.refusal(total)
        if not total:
            raise _nothing()
        return total

    def _asked(self, row: Any) -> Any:
        return row if self._name is None or isinstance(row, AdapterkitError) else (self._name, row)

    def _note(self, chunk: Sequence[Incoming], errors: dict[int, AdapterkitError]) -> None:
        self.bad += len(errors)
        for index in sorted(errors)[: SHOWN - len(self._shown)]:
            error = errors[index]
            self._shown.append(f"{chunk[index][0]}: {'; '.join(error.problems) or error.summary}")
            self._remedies.update({error.remedy: None} if error.remedy else {})


def _chunks(rows: Iterator[Incoming], times: int = 1) -> Iterator[list[Incoming]]:
    while chunk := list(islice(rows, times * ROWS_AT_ONCE)):
        yield chunk


def _nothing() -> DataError:
    return DataError("nothing came in", ["expected: one row per line"], "Give a file, or rows on standard input.")
