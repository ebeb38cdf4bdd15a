"""The rows that a verb is given: on standard input, or in a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.cli import console

if TYPE_CHECKING:
    from adapterkit.artifact import Artifact
    from adapterkit.data import Rows
    from adapterkit.tasks.protocol import Task

ROWS_AT_ONCE = 512
"""Rows that are answered before the first of them are shown."""


def lines_that_come_in() -> list[str]:
    """The lines of standard input; at a terminal, with a word on how to end them."""
    if sys.stdin.isatty():
        console.say("One row per line; Ctrl-D ends.", style="dim")
    return sys.stdin.read().splitlines()


def rows_of_lines(lines: Sequence[str], task: Task) -> Rows:
    """Rows from lines of text, or of JSON objects if the first line is one."""
    from adapterkit.data import Rows

    if lines and lines[0].lstrip().startswith("{"):
        return rows_of_objects(lines)
    column = text_column(task) if lines else ""
    problems = [f"line {n}: is empty, expected one row per line" for n, line in enumerate(lines, 1) if not line.strip()]
    refuse_lines(lines, problems)
    return Rows([{column: line} for line in lines], source="standard input")


def rows_of_objects(lines: Sequence[str]) -> Rows:
    """Rows from lines of JSON objects."""
    from adapterkit.data import Rows

    problems: list[str] = []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            problems.append(f"line {number}: is empty, expected one row per line")
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"line {number}: no JSON object: {error}")
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            problems.append(f"line {number}: found {type(row).__name__}, expected a JSON object")
    refuse_lines(lines, problems)
    return Rows(rows, source="standard input")


def refuse_lines(lines: Sequence[str], problems: Sequence[str]) -> None:
    """Raise DataError for lines that are no rows, or where there is no line at all."""
    from adapterkit.errors import DataError

    found = list(problems) if lines else ["nothing came in"]
    if found:
        raise DataError("Standard input cannot be read as rows", found, "Give one row per line.")


def rows_of_file(path: Path, artifact: Artifact) -> Rows:
    """Rows of a file, whose columns are found as in training. Targets are not needed."""
    from adapterkit.data import Rows, match_columns, read_rows, rename
    from adapterkit.evaluation.rows import columns_of

    rows = read_rows(path)
    needs = {name: column for name, column in artifact.task.columns.items() if not column.target}
    trained_with = columns_of(artifact)
    asked = {name: column for name, column in trained_with.items() if name in needs and column in rows.columns}
    matched = match_columns(rows.columns, asked, needs, str(path))
    return Rows((rename(row, matched) for row in rows), rows.numbers, rows.source, rows.path)


def refuse_unusable(rows: Rows, task: Task) -> None:
    """Every row gets an answer, so a row that cannot be answered is an error that names its line."""
    from adapterkit.errors import DataError

    _, problems = task.check_rows(rows, "predict")
    if problems:
        raise DataError(
            f"{len(problems)} of {len(rows)} rows cannot be answered",
            [f"line {number}: {reason}" for number, reason in problems],
            "Correct these lines, or leave them out.",
        )


def text_column(task: Task) -> str:
    """The one column that a line of text fills."""
    from adapterkit.errors import DataError

    read = {name: column for name, column in task.columns.items() if not column.target}
    needed = [name for name, column in read.items() if column.required]
    if len(needed) == 1:
        return needed[0]
    if not needed and "text" in read:
        return "text"
    example = "{" + ", ".join(f'"{name}": …' for name in needed or read) + "}"
    raise DataError(
        f"{task.kind} reads several columns, and a line of text has one",
        [f"columns: expected {', '.join(needed or read)}"],
        f"Give one JSON object per line: {example}",
    )
