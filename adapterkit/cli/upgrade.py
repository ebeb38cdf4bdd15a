"""`adapterkit upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console, options


def upgrade(
    runs: Annotated[list[str], options.argument(metavar="RUN…", help="Artifacts on the old backbone.")],
    old: Annotated[str, options.option("--from", metavar="PATH_OR_ID", help="The backbone that is left.")],
    new: Annotated[str, options.option("--to", metavar="PATH_OR_ID", help="The one that takes its place.")],
    output: Annotated[
        Path | None, options.option("--output", help="Keep the artifacts of every way here, as RUN/WAY.")
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Of every training.")] = 1.0,
    data_root: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """Say what becomes of adapters on another backbone: what fits, what a copy loses, what training regains.

    $ adapterkit upgrade --from backbones/v1 --to backbones/v2 runs/banking77 runs/clinc --output runs/v2
    """
    from adapterkit.manifest import open_manifest

    for run in runs:
        open_manifest(run)
    from adapterkit import evaluation

    found = evaluation.upgrade(
        runs, old, new, output=output, epochs=epochs, data_root=data_root, quiet=as_json
    ).to_dict()
    if as_json:
        console.print_json(found)
        return
    console.print_table(
        [row for adapter in found["adapters"] for row in _rows(adapter)],
        ["run", "way", "metric", "change", "training", "size", ""],
    )
    for adapter in found["adapters"]:
        for misfit in adapter["misfits"]:
            console.say(f"{adapter['run']}: {misfit}")


def _rows(adapter: dict[str, Any]) -> list[list[str]]:
    rows = []
    for trial in adapter["trials"]:
        change = trial["difference"]
        notes = [f"{adapter['golden'][0]} of {adapter['golden'][1]} golden rows differ"] * (trial["way"] == "copy")
        notes += ["advised"] * (trial["way"] == adapter["advised"])
        rows.append(
            [
                Path(adapter["run"]).name,
                trial["way"],
                f"{adapter['metric']} {change['a']:.4f} → {change['b']:.4f}",
                f"{change['difference']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]",
                f"{trial['seconds']:.1f} s",
                console.readable_bytes(trial["size_bytes"]),
                ", ".join(notes),
            ]
        )
    return rows
