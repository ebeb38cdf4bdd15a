"""Arguments and options that several verbs share, so that they are spelled and explained alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The artifact's folder.", show_default=False)]

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]

BackboneName = Annotated[
    str | None,
    typer.Option(
        "--backbone", metavar="PATH_OR_ID", help="Another place to load the backbone from.", show_default=False
    ),
]

DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        envvar="ADAPTERKIT_DATA",
        help="Folder that relative data paths start from.",
        show_default=False,
    ),
]
