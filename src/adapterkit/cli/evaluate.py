"""`adapterkit evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.columns import columns_of
from adapterkit.cli.options import BackboneName, DataRoot, Folder, Json


def evaluate(
    folder: Folder,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Rows to score. Default: the recipe's test rows.", show_default=False),
    ] = None,
    backbone: BackboneName = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="NAME=COLUMN", help="What the file calls a column.", show_default=False),
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Score an artifact on a file of rows, with a confidence interval on every metric.

    $ adapterkit evaluate runs/banking77 --data banking77/test.jsonl
    $ adapterkit evaluate runs/banking77 --data banking77/test.jsonl --data-root data --json
    """
    from adapterkit import evaluation

    source, named = data, _named_columns(columns)
    if source is None:
        source, trained_with = _test_rows(folder)
        named = {**trained_with, **named}
    metrics = evaluation.evaluate(folder, data=source, columns=named, backbone=backbone, data_root=data_root)
    if as_json:
        console.print_json({name: console.metric_facts(metric) for name, metric in metrics.items()})
    else:
        console.print_table(console.metric_rows(metrics), ("metric", "value", "95 % interval"))


def _test_rows(folder: Path) -> tuple[str, dict[str, str]]:
    """The test rows that the artifact's recipe names, and what it calls their columns."""
    from adapterkit.artifact import open_artifact
    from adapterkit.errors import DataError

    artifact = open_artifact(folder)
    kept = artifact.manifest.recipe.get("data")
    test = kept.get("test") if isinstance(kept, dict) else None
    if not isinstance(test, str):
        raise DataError(f"{folder} names no test rows", remedy=f"Name a file: adapterkit evaluate {folder} --data FILE")
    return test, columns_of(artifact)


def _named_columns(columns: Sequence[str] | None) -> dict[str, str]:
    from adapterkit.errors import DataError

    pairs = [column.partition("=") for column in columns or ()]
    wrong = [f"--column {''.join(pair)}: expected NAME=COLUMN" for pair in pairs if not (pair[0] and pair[2])]
    if wrong:
        raise DataError("Columns cannot be read", wrong, "As in --column text=sentence")
    return {name: column for name, _, column in pairs}
