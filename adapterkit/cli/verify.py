"""`adapterkit verify`.

$ adapterkit verify runs/banking77
$ adapterkit verify runs/banking77 --backbone ./models/all-MiniLM-L6-v2 --json
$ adapterkit verify --all runs --backbone ./models/all-MiniLM-L6-v2-new --junit verified.xml
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console, options


def verify(
    folder: options.Folder,
    backbone: options.BackboneName = None,
    backbone_dtype: options.BackboneFormat = "auto",
    parts: options.Parts = None,
    full: Annotated[
        bool, typer.Option("--full", help="Read every byte of the backbone again, whatever is remembered of its files.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every artifact in and below the folder.")] = False,
    junit: Annotated[Path | None, options.option("--junit", metavar="XML", help="Write JUnit's XML too.")] = None,
    require_signature: options.RequiredKeys = None,
    as_json: options.Json = False,
) -> None:
    from adapterkit.manifest.signature import read_trusted

    if every:
        together = {"--part": not parts, "--backbone-dtype": backbone_dtype == "auto"}
        for name in (name for name, fits in together.items() if not fits):
            raise typer.BadParameter("belongs to one artifact, and not beside --all", param_hint=name)
    keys = read_trusted(require_signature or None) or None
    from adapterkit import artifact

    reports: Iterable[Any]
    if every:
        reports = artifact.verify_all(folder, backbone, full=full, require_signature=keys)
    else:
        given = options.in_format(folder, backbone, backbone_dtype)
        where = options.named(parts, "--part", "NAME=FOLDER", "language=runs/language")
        reports = [artifact.verify(folder, given, parts=where, full=full, require_signature=keys)]
    found = []
    for report in reports:
        checks = [{"name": check.name, "ok": check.ok, "detail": check.detail} for check in report.checks]
        found.append({"folder": str(report.folder), "ok": report.ok, "checks": checks})
        if not as_json:
            console.print_table(
                [["ok" if check.ok else "FAIL", check.name, check.detail] for check in report.checks],
                title=f"{report.folder}: {'verified' if report.ok else 'NOT verified'}",
            )
    if as_json:
        console.print_json(found if every else found[0])
    if junit is not None:
        from adapterkit.report.junit import write_junit

        write_junit(junit, found)
    failed = sum(not each["ok"] for each in found)
    if every:
        console.say(f"{len(found) - failed} of {len(found)} artifacts verified")
    if failed:
        raise typer.Exit(1)
