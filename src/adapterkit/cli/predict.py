"""`adapterkit predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneName, Folder, Json, Parts, named

if TYPE_CHECKING:
    from adapterkit.artifact import Artifact
    from adapterkit.data import Rows
    from adapterkit.tasks.protocol import Task

ROWS_AT_ONCE = 512


def predict(
    folder: Folder,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="JSONL, CSV, TSV, Parquet or text. Default: standard input.", show_default=False
        ),
    ] = None,
    backbone: BackboneName = None,
    parts: Parts = None,
    as_json: Json = False,
) -> None:
    """Answer rows: one line of output per row.

    Standard input holds one text per line, or one JSON object per line for tasks that read several columns.

    $ echo "my card was lost" | adapterkit predict runs/banking77
    $ adapterkit predict runs/banking77 questions.csv --json > answers.jsonl
    $ echo '{"question": "Who?", "context": "Ada wrote it."}' | adapterkit predict runs/squad_small
    """
    from adapterkit.artifact import open_artifact
    from adapterkit.artifact.load import find_backbone

    artifact = open_artifact(folder, parts=named(parts, "--part", "NAME=FOLDER", "language=runs/language"))
    if data is None:
        if sys.stdin.isatty():
            console.say("One row per line; Ctrl-D ends.", style="dim")
        rows = rows_of_lines(sys.stdin.read().splitlines(), artifact.task)
    else:
        rows = rows_of_file(data, artifact)
    refuse_unusable(rows, artifact.task)
    adapted = artifact.adapted(find_backbone(artifact, backbone))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        for answer in adapted.predict(rows[start : start + ROWS_AT_ONCE]):
            if as_json:
                console.print_json(answer, indent=None)
            else:
                typer.echo(one_line(answer))


def one_line(answer: Mapping[str, Any]) -> str:
    """An answer for a reader: the answer itself, and how sure it is, parted by a tab."""
    for name in ("label", "labels", "tags", "answer", "choice", "value", "text", "filled", "score"):
        if name in answer:
            break
    else:
        return _json(answer)
    value = answer[name]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        shown = " ".join(value) if name == "tags" else ", ".join(value)
    elif isinstance(value, float):
        shown = f"{value:.4g}"
    else:
        shown = value if isinstance(value, str) else _json(value)
    shown = shown.replace("\n", "\\n")
    score = answer.get("score") if name != "score" else None
    return f"{shown}\t{score:.4f}" if isinstance(score, float) else shown


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def rows_of_lines(lines: Sequence[str], task: Task) -> Rows:
    """Rows from lines of text, or of JSON objects if the first line is one."""
    from adapterkit.data import Rows
    from adapterkit.errors import DataError

    problems: list[str] = [] if lines else ["nothing came in"]
    rows: list[dict[str, Any]] = []
    as_objects = bool(lines) and lines[0].lstrip().startswith("{")
    column = "" if as_objects else _text_column(task)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            problems.append(f"line {number}: is empty, expected one row per line")
        elif not as_objects:
            rows.append({column: line})
        else:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.append(f"line {number}: no JSON object: {error}")
                continue
            if isinstance(row, dict):
                rows.append(row)
            else:
                problems.append(f"line {number}: found {type(row).__name__}, expected a JSON object")
    if problems:
        raise DataError("Standard input cannot be read as rows", problems, "Give one row per line.")
    return Rows(rows, source="standard input")


def rows_of_file(path: Path, artifact: Artifact) -> Rows:
    """Rows of a file, whose columns are found as in training. Targets are not needed."""
    from adapterkit.data import Rows, match_columns, read_rows, rename
    from adapterkit.evaluation.reading import columns_of

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


def _text_column(task: Task) -> str:
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
