"""What is asked of a task: rows as people write them, read into the task's own columns.

A row is a mapping, or text where one column is enough. Its columns have the task's names, the names that they had in
training, or the aliases under which data sets have them. Adapters, hosts, the command line and services read rows here
and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterkit.data import Rows
from adapterkit.data.columns import find_columns
from adapterkit.data.nested import parse_nested
from adapterkit.errors import AdapterkitError, BadRowError, DataError
from adapterkit.recipe.suggestions import nearest
from adapterkit.tasks.protocol import Feature, Task, Vocabulary

Errors = Literal["raise", "return"]
"""What becomes of rows that cannot be answered: one error for all of them, or an error in the place of each."""


@dataclass(frozen=True)
class Asked:
    """One task, how its rows are written (canonical name -> the name that a column had in training, where a recipe said
    so), and how errors call whom is asked; "" for the task's kind."""

    task: Task
    trained_with: Mapping[str, str] = field(default_factory=dict)
    called: str = ""

    @property
    def remedy(self) -> str:
        """What a row has."""
        read = {name: self.trained_with.get(name, name) for name, c in self.task.columns.items() if not c.target}
        shown = [name if own == name else f"{name} ({own} in training)" for name, own in read.items()]
        return f"A row of {self.called or self.task.kind} has: {', '.join(shown)}."

    def read(self, row: Any) -> dict[str, Any] | BadRowError:
        """The row in the columns that the task reads to answer, or why it cannot be answered.

        What a row holds beside them, its target too, plays no part.
        """
        matched: Mapping[str, str] = {}
        if isinstance(row, str):
            named: dict[str, Any] | str = self._of_text(row)
        elif isinstance(row, Mapping):
            matched = find_columns(row, self._as_in_training(row), self.task.columns)
            read = {n: column for n, column in self.task.columns.items() if n in matched and not column.target}
            named = {n: _unwritten(row[matched[n]]) if c.nested else row[matched[n]] for n, c in read.items()}
        else:
            named = f"found {type(row).__name__}, expected a dict with the task's columns, or text"
        problem = named if isinstance(named, str) else self.task.problem_of(named, "predict")
        if problem is None and not isinstance(named, str):
            return named
        return BadRowError(f"{problem}{self._meant(row, matched)}", remedy=self.remedy)

    def _of_text(self, text: str) -> dict[str, Any] | str:
        column = text_column(self.task)
        if column is None:
            return f"found a text, and {self.task.kind} reads several columns: give a dict of them"
        return {column: text}

    def _as_in_training(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Which of the names that training had are this row's.

        A name that training gave to one column may be the task's own for another. It then means what it did in
        training only in a row that has the other one under its training name too.
        """
        known = self.trained_with
        return {
            name: column
            for name, column in known.items()
            if column in row and (column == name or column not in known or known[column] in row)
        }

    def _meant(self, row: Any, matched: Mapping[str, str]) -> str:
        """A hint at a column whose name is nearly one that is missing."""
        if not isinstance(row, Mapping):
            return ""
        missing = [n for n, column in self.task.columns.items() if not column.target and n not in matched]
        names = {name: name for name in missing} | {self.trained_with.get(name, name): name for name in missing}
        for column in row:
            if isinstance(column, str) and column not in matched.values() and (near := nearest(column, names)):
                return f"; did you mean {near!r} by {column!r}?"
        return ""


def _unwritten(value: Any) -> Any:
    """The list or object that a text of a table writes; what it does not write stays as it is."""
    found = parse_nested(value) if isinstance(value, str) else None
    return value if found is None else found


def text_column(task: Task) -> str | None:
    """The one column that a plain text fills; None where a row needs several."""
    read = {name: column for name, column in task.columns.items() if not column.target}
    needed = [name for name, column in read.items() if column.required]
    if needed:
        return needed[0] if len(needed) == 1 else None
    return "text" if "text" in read else None


def encode_each(
    task: Task, rows: Rows, vocabulary: Vocabulary, errors: Errors
) -> tuple[list[Feature], list[int], dict[int, AdapterkitError]]:
    """Features of the rows that can be encoded, as if they were all; where these rows stand; and what stops the others,
    which may be what only the backbone knows: a chat template.

    Raises AdapterkitError: one row cannot be encoded, and `errors` is "raise"; or all together cannot.
    """
    places, stopped = list(range(len(rows))), dict[int, AdapterkitError]()
    try:
        return (task.encode(rows, vocabulary, "predict").features if places else []), places, stopped
    except AdapterkitError:
        if errors == "raise":
            raise
        for place in places:
            try:
                task.encode(rows.select([place]), vocabulary, "predict")
            except AdapterkitError as error:
                stopped[place] = error
        if not stopped:
            raise
    kept = [place for place in places if place not in stopped]
    return (task.encode(rows.select(kept), vocabulary, "predict").features if kept else []), kept, stopped


def check_errors(errors: str) -> None:
    """Raise ValueError for what is not one of `Errors`."""
    if errors not in ("raise", "return"):
        raise ValueError(f'errors is "raise" or "return", not {errors!r}')


def refuse(errors: Mapping[int, AdapterkitError], rows: int, called: Mapping[int, str] | None = None) -> None:
    """Raise one DataError for all rows that cannot be answered, if there are any. `errors`: by the row's place from 0.
    `rows`: how many rows there are. `called`: by place who was asked, where rows ask many."""
    if errors:
        names = called or {}
        raise DataError(
            f"{len(errors)} of {rows} rows cannot be answered",
            [
                f"row {place + 1}{f' ({names[place]})' if place in names else ''}: {errors[place].summary}"
                for place in sorted(errors)
            ],
            " ".join(dict.fromkeys(error.remedy for error in errors.values() if error.remedy)),
        )


def in_place(answers: Mapping[int, Any], errors: Mapping[int, AdapterkitError], rows: int) -> list[Any]:
    """Answers and errors in row order."""
    return [errors[place] if place in errors else answers[place] for place in range(rows)]


def sort_out(read: Sequence[dict[str, Any] | BadRowError]) -> tuple[Rows, list[int], dict[int, AdapterkitError]]:
    """The rows that can be answered, numbered as they were; their places from 0; and the errors of the others."""
    usable = {place: row for place, row in enumerate(read) if isinstance(row, dict)}
    errors = {place: row for place, row in enumerate(read) if not isinstance(row, dict)}
    return Rows(usable.values(), (place + 1 for place in usable)), list(usable), dict(errors)
