"""`adapterkit predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneName, Folder, Json

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

    artifact = open_artifact(folder)
    if data is None:
        if sys.stdin.isatty():
            console.say("One text per line; Ctrl-D ends.", style="dim")
        rows = _of_lines(sys.stdin.read().splitlines(), artifact.task)
    else:
        rows = _of_file(data, artifact)
    adapted = artifact.adapted(find_backbone(artifact, backbone))
    for some in _chunks(rows):
        for answer in adapted.predict(some):
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
    import json

    return json.dumps(value, ensure_ascii=False)


def _of_lines(lines: Sequence[str], task: Any) -> list[dict[str, Any]]:
    """Rows from lines of text or of JSON, as standard input has them."""
    import json

    from adapterkit.errors import DataError

    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    as_objects = bool(lines) and lines[0].lstrip().startswith("{")
    column = None if as_objects else _text_column(task)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            problems.append(f"line {number}: is empty, expected one row per line")
        elif column is not None:
            rows.append({column: line.split() if column == "words" else line})
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
    if not lines:
        problems.append("nothing came in")
    if problems:
        raise DataError("Standard input cannot be read as rows", problems, "Give one row per line.")
    return rows


def _text_column(task: Any) -> str:
    """The one column that a line of text fills."""
    from adapterkit.errors import DataError

    needed = [name for name, column in task.columns.items() if column.required and not column.target]
    if len(needed) == 1:
        return str(needed[0])
    example = "{" + ", ".join(f'"{name}": …' for name in needed) + "}"
    raise DataError(
        f"{task.kind} reads several columns, and a line of text has one",
        [f"columns: expected {', '.join(needed)}"],
        f"Give one JSON object per line: {example}",
    )


def _of_file(path: Path, artifact: Any) -> list[dict[str, Any]]:
    """Rows of a file, whose columns are found as in training. Targets are not needed."""
    from adapterkit.data import match_columns, read_rows, rename

    rows = read_rows(path)
    needs = {name: column for name, column in artifact.task.columns.items() if not column.target}
    trained_with = artifact.manifest.recipe.get("data", {}).get("columns", {})
    asked = {name: column for name, column in trained_with.items() if name in needs and column in rows.columns}
    matched = match_columns(rows.columns, asked, needs, str(path))
    return [rename(row, matched) for row in rows]


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield list(rows[start : start + ROWS_AT_ONCE])
