"""`adapterkit transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.nearest import print_starts
from adapterkit.cli.options import (
    BackboneName,
    DataRoot,
    Json,
    Pooling,
    ProbedRows,
    Representations,
    Seed,
    check_runs,
    named,
)


def transfer(
    representations: Representations = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=FILE", help="A set of rows, and what to call it.", show_default=False),
    ] = None,
    backbone: BackboneName = None,
    data_root: DataRoot = None,
    rows: ProbedRows = 2000,
    seed: Seed = 0,
    pooling: Pooling = "auto",
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write a heat map there.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train heads for sets of rows on representations of others, and say what a ranking had chosen.

    $ adapterkit transfer runs/banking77 runs/wnut17 --data banking77=banking77/test.jsonl --plot transfer.png
    """
    check_runs(representations or [])
    from adapterkit import evaluation

    with console.stages() as tell:
        record = evaluation.transfer(
            representations or [],
            named(data, "--data", "NAME=FILE", "reviews=reviews.jsonl"),
            backbone=backbone,
            data_root=data_root,
            rows=rows,
            seed=seed,
            pooling=pooling,
            tell=tell,
        )
    if plot is not None:
        from adapterkit.evaluation.probing.heat_map import draw_heat_map

        draw_heat_map(record, plot)
    if as_json:
        console.print_json(record.to_dict())
        return
    for name, found in record.to_dict()["sets"].items():
        for note in found["notes"]:
            console.say(f"Note: {name}: {note}.", style="yellow")
        print_starts(found["starts"], f"{name} (by chance {found['chance']:.1%})")
        typer.echo()
    for sentence in record.findings:
        typer.echo(sentence)
