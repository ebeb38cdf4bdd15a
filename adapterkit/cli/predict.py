"""`adapterkit predict`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.incoming import ROWS_AT_ONCE, lines_that_come_in, refuse_unusable, rows_of_file, rows_of_lines
from adapterkit.cli.mixed import mixed_answers
from adapterkit.cli.mounts import Mounts, Slots
from adapterkit.cli.options import BackboneDtype, BackboneFormat, BackboneName, Json, Parts, named


def predict(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="The artifact's folder; not with --mount.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="JSONL, CSV, TSV, Parquet or text. Default: standard input.", show_default=False
        ),
    ] = None,
    mount: Mounts = None,
    slots: Slots = None,
    backbone: BackboneName = None,
    backbone_dtype: BackboneFormat = BackboneDtype.AUTO,
    parts: Parts = None,
    as_json: Json = False,
) -> None:
    """Answer rows: one line of output per row.

    Standard input holds one text per line, or one JSON object per line for tasks that read several columns.
    With --mount many adapters answer, and every row names its own in a column called task.

    $ echo "my card was lost" | adapterkit predict runs/banking77
    $ adapterkit predict runs/banking77 questions.csv --json > answers.jsonl
    $ echo '{"question": "Who?", "context": "Ada wrote it."}' | adapterkit predict runs/squad_small
    $ adapterkit predict --mount intent=runs/banking77 --mount ner=runs/wnut17 rows.jsonl
    """
    if mount:
        if data is not None:
            raise typer.BadParameter("takes one FILE and no FOLDER", param_hint="--mount")
        if parts:
            raise typer.BadParameter("belongs to one artifact, and not to --mount", param_hint="--part")
        answers = mixed_answers(folder, mount, slots, backbone, backbone_dtype.value)
    elif slots is not None:
        raise typer.BadParameter("belongs to --mount", param_hint="--slots")
    elif folder is None:
        raise typer.BadParameter("missing; or mount adapters with --mount NAME=FOLDER", param_hint="FOLDER")
    else:
        places = named(parts, "--part", "NAME=FOLDER", "language=runs/language")
        answers = _answers(folder, data, backbone, backbone_dtype.value, places)
    for answer in answers:
        if as_json:
            console.print_json(answer, indent=None)
        else:
            typer.echo(one_line(answer))


def _answers(
    folder: Path, data: Path | None, backbone: str | None, dtype: str, parts: Mapping[str, str]
) -> Iterator[Any]:
    """The answers of one artifact."""
    from adapterkit.manifest import open_manifest

    open_manifest(folder)  # before torch is imported, so that what is no artifact is named at once
    from adapterkit.artifact import open_artifact
    from adapterkit.artifact.loading import find_backbone

    artifact = open_artifact(folder, parts=parts)
    rows = rows_of_lines(lines_that_come_in(), artifact.task) if data is None else rows_of_file(data, artifact)
    refuse_unusable(rows, artifact.task)
    adapted = artifact.adapted(find_backbone(artifact, backbone, dtype))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield from adapted.predict(rows[start : start + ROWS_AT_ONCE])


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
