"""`adapterkit evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import (
    BackboneDtype,
    BackboneFormat,
    BackboneName,
    DataRoot,
    Folder,
    Json,
    Parts,
    in_format,
    named,
)


def evaluate(
    folder: Folder,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Rows to score. Default: the recipe's test rows.", show_default=False),
    ] = None,
    backbone: BackboneName = None,
    backbone_dtype: BackboneFormat = BackboneDtype.AUTO,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="What the file calls a column.", show_default=False),
    ] = None,
    data_root: DataRoot = None,
    parts: Parts = None,
    as_json: Json = False,
) -> None:
    """Score an artifact on a file of rows, with a confidence interval on every metric.

    $ adapterkit evaluate runs/banking77 --data banking77/test.jsonl
    $ adapterkit evaluate runs/banking77 --data banking77/test.jsonl --data-root data --json
    """
    from adapterkit.manifest import open_manifest

    open_manifest(folder)  # before torch is imported, so that what is no artifact is named at once
    from adapterkit import evaluation

    metrics = evaluation.evaluate(
        folder,
        data,
        columns=named(columns, "--column", "NAME=COLUMN", "text=sentence"),
        backbone=in_format(folder, backbone, backbone_dtype),
        data_root=data_root,
        parts=named(parts, "--part", "NAME=FOLDER", "language=runs/language"),
    )
    if as_json:
        console.print_json({name: console.metric_facts(metric) for name, metric in metrics.items()})
    else:
        console.print_table(console.metric_rows(metrics), ("metric", "value", "95 % interval"))
