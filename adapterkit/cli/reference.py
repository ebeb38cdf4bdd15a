"""`adapterkit reference`."""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import options


def reference(
    folder: options.Folder,
    data: Annotated[str, options.option("--data", help="Rows as they should be.")],
    output: Annotated[Path, options.option("--output", help="Folder of the new version.")],
    backbone: options.BackboneName = None,
    columns: options.Columns = None,
    data_root: options.DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at the output.")] = False,
) -> None:
    """Keep what rows look like to an adapter, in a new version, so that a service sees them drift.

    $ adapterkit reference runs/banking77 --data banking77/train.jsonl --output runs/banking77-watched
    """
    from adapterkit.manifest import check_output, open_manifest

    open_manifest(folder)
    check_output(output, overwrite=overwrite)
    from adapterkit import evaluation

    named = options.named(columns, "--column", "NAME=COLUMN", "text=sentence")
    count = evaluation.reference(
        folder, data, output, backbone=backbone, columns=named, data_root=data_root, overwrite=overwrite
    )
    typer.echo(f"{output}: keeps {count} rows")
