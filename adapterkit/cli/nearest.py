"""`adapterkit nearest`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import (
    BackboneName,
    Columns,
    DataRoot,
    Json,
    KindName,
    Pooling,
    ProbedRows,
    Representations,
    Seed,
    check_runs,
    named,
)

SHOWN_STARTS = 10


def nearest(
    representations: Representations = None,
    data: Annotated[str | None, typer.Option("--data", help="Rows of the new task.", show_default=False)] = None,
    backbone: BackboneName = None,
    kind: KindName = None,
    columns: Columns = None,
    data_root: DataRoot = None,
    rows: ProbedRows = 2000,
    seed: Seed = 0,
    pooling: Pooling = "auto",
    as_json: Json = False,
) -> None:
    """Rank artifacts, bare backbones and their layers as starting points for a new task, without training.

    $ adapterkit nearest runs/banking77 runs/wnut17 --data wnut17/train.jsonl
    """
    check_runs(representations or [])
    from adapterkit import evaluation

    with console.stages() as tell:
        record = evaluation.nearest(
            representations or [],
            data,
            backbone=backbone,
            kind=kind,
            columns=named(columns, "--column", "NAME=COLUMN", "text=sentence"),
            data_root=data_root,
            rows=rows,
            seed=seed,
            pooling=pooling,
            tell=tell,
        ).to_dict()
    if as_json:
        console.print_json(record)
        return
    for note in record["found"]["notes"]:
        console.say(f"Note: {note}.", style="yellow")
    print_starts(record["found"]["starts"])
    for sentence in record["findings"]:
        typer.echo(sentence)


def print_starts(starts: list[dict[str, Any]], title: str = "") -> None:
    """The first starting points, the best by the probe first."""
    tried = any(start["accuracy"] for start in starts)
    rows = []
    for start in starts[:SHOWN_STARTS]:
        row = [start["representation"], str(start["layer"])]
        row.append("–" if start["probe"] is None else f"{start['probe']:.1%}")
        row.append("–" if start["logme"] is None else f"{start['logme']:.3f}")
        if tried:
            found = start["accuracy"]
            row.append("–" if found is None else f"{found['value']:.1%} ({found['low']:.1%} – {found['high']:.1%})")
            row.append("its own" if start["own"] else "")
        rows.append(row)
    headings = ["start from", "layer", "probe", "LogME", *(["a trained head (95 % interval)", ""] if tried else [])]
    console.print_table(rows, headings, title=title)
    if len(starts) > SHOWN_STARTS:
        console.say(f"… and {len(starts) - SHOWN_STARTS} more; --json has all of them.")
