"""`adapterkit verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneDtype, BackboneFormat, BackboneName, Folder, Json, Parts, in_format, named


def verify(
    folder: Folder,
    backbone: BackboneName = None,
    backbone_dtype: BackboneFormat = BackboneDtype.AUTO,
    parts: Parts = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every byte of the backbone again, whatever is remembered of its files.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Prove that an artifact is whole, fits its backbone, and still answers its golden rows. Exit status 0 or 1.

    $ adapterkit verify runs/banking77
    $ adapterkit verify runs/banking77 --backbone ./models/all-MiniLM-L6-v2 --json
    """
    from adapterkit import artifact

    given = in_format(folder, backbone, backbone_dtype)
    report = artifact.verify(
        folder, given, parts=named(parts, "--part", "NAME=FOLDER", "language=runs/language"), full=full
    )
    if as_json:
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in report.checks]
        console.print_json({"folder": str(folder), "ok": report.ok, "checks": checks})
    else:
        console.print_table(
            [["ok" if check.ok else "FAIL", check.name, check.detail] for check in report.checks],
            title=f"{folder}: {'verified' if report.ok else 'NOT verified'}",
        )
    if not report.ok:
        raise typer.Exit(1)
