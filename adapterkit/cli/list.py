"""`adapterkit list`.

$ adapterkit list
$ adapterkit list runs/banking77-sweep --json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json

if TYPE_CHECKING:
    from adapterkit.records.found import RunLine


def list(  # noqa: A001 - what the verb is called
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where runs were written into.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    from adapterkit.report.runs import find_runs

    show(find_runs(folder), folder, as_json=as_json)


def show(lines: Sequence[RunLine], folder: Path, *, as_json: bool) -> None:
    """Runs as a table or as JSON."""
    if as_json:
        console.print_json([line.model_dump() for line in lines])
        return
    if not lines:
        console.say(f"No runs in {folder}.")
        return
    rows = []
    for one in lines:
        cells = ["–"] * 6 + [one.state] if one.state else [one.kind, one.method, *measured(one), one.backbone]
        rows.append([one.name, *cells])
    console.print_table(rows, ("run", "kind", "method", "metric", "95 % interval", "size", "date", "backbone"))


def measured(line: Any) -> Sequence[str]:
    """Cells of what is known of a run, or of what was found: metric, interval, size and date."""
    metric = "–" if line.value is None else f"{line.split} {line.metric} {line.value:.4f}"
    interval = "" if line.low is None or line.high is None else f"{line.low:.4f} – {line.high:.4f}"
    return [metric, interval, console.readable_bytes(line.size_bytes), line.date[:16].replace("T", " ")]
