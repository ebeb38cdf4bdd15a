"""`adapterkit export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneName, Folder, Json, WrittenDtype, argument


class Format(StrEnum):
    """What an adapter is exported to."""

    TRANSFORMERS = "transformers"
    PEFT = "peft"


def export(
    folder: Folder,
    output: Annotated[Path, argument(metavar="OUT", help="The folder to write.")],
    to: Annotated[
        Format, typer.Option("--format", help="transformers; an artifact is a PEFT folder already.")
    ] = Format.TRANSFORMERS,
    trunk_only: Annotated[
        bool, typer.Option("--trunk-only", help="Without any head, for AutoModel: also where the head is our own.")
    ] = False,
    dtype: Annotated[WrittenDtype, typer.Option("--dtype", help="Of the written weights.")] = WrittenDtype.FLOAT32,
    backbone: BackboneName = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Merge a LoRA or IA3 into a copy of its backbone: a plain checkpoint, proven to answer as the adapter does.

    $ adapterkit export runs/wnut17 models/wnut17 --format transformers
    $ adapterkit export runs/banking77 models/banking77-trunk --trunk-only
    """
    from adapterkit.manifest import check_output, open_manifest

    # Before torch is imported, so that a mistake is named at once.
    check_output(output, overwrite=overwrite)
    open_manifest(folder)
    from adapterkit import artifact

    written = artifact.export(
        folder, output, to=to.value, backbone=backbone, trunk_only=trunk_only, dtype=dtype.value, overwrite=overwrite
    )
    if as_json:
        console.print_json({"checkpoint": str(written)})
        return
    console.say(f"Checkpoint: {written}, which transformers loads and which answers as {folder} does", style="green")
