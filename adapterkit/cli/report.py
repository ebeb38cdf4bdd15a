"""`adapterkit report`.

Records are looked for in a run's folder `records` and beside the run; those count that name it.

$ adapterkit report runs/banking77
$ adapterkit report runs/a runs/b --record comparison.json --output a-and-b.html
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from adapterkit.cli import console, options


def report(
    runs: Annotated[list[Path] | None, options.argument(metavar="RUN…", help="Folders of artifacts.")] = None,
    files: Annotated[
        list[Path] | None,
        options.option("--record", metavar="FILE", help="A record, wherever it lies; may be given several times."),
    ] = None,
    output: Annotated[
        Path | None,
        options.option("--output", metavar="HTML", help="The page. Default: findings.html in the first run."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    from adapterkit.errors import OutputError
    from adapterkit.manifest import FINDINGS, write_file
    from adapterkit.report.finding import find_records
    from adapterkit.report.judged import report_page

    found = find_records(runs or (), files or ())
    if as_json:
        console.print_json(found.to_dict())
    if output is None and as_json:
        return
    if output is None and not runs:
        raise OutputError("nobody says where the page shall stand", remedy="Name it: --output page.html")
    page = output or Path((runs or [])[0]) / FINDINGS
    write_file(page, report_page(found, shlex.join(["adapterkit", *sys.argv[1:]])).encode())
    console.say(f"{page}: {len(found.records)} records about {len(found.runs)} runs", style="green")
