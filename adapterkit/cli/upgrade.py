"""`adapterkit upgrade`.

$ adapterkit upgrade --from backbones/v1 --to backbones/v2 runs/banking77 runs/clinc --output runs/v2
"""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from adapterkit.cli import console, options, shared
from adapterkit.cli.registry import DEFAULT_URL


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
    from adapterkit.manifest import open_manifest

    for run in runs:
        open_manifest(run)
    from adapterkit import evaluation

    record = evaluation.upgrade(runs, old, new, output=output, epochs=epochs, quiet=as_json)
    shared.show(record, runs, as_json=as_json)
    if as_json:
        return
    if output is None:
        console.say(
            "Kept nothing. With --output DIR the artifacts are kept, and this says how to move traffic to them."
        )
        return
    for line in _moves(record.to_dict()["adapters"], old, new):
        typer.echo(line)


def _moves(adapters: list[dict[str, Any]], old: str, new: str) -> list[str]:
    """The commands that move traffic from one backbone to the other in one service, and back."""
    from adapterkit.manifest import open_manifest

    kept = {}
    for adapter in adapters:
        outputs = {trial["way"]: trial["output"] for trial in adapter["trials"]}
        if adapter["advised"] is not None:
            kept[Path(adapter["run"]).resolve().name] = outputs[adapter["advised"]]
    if not kept:
        return []

    def said(*words: str) -> str:
        return shlex.join(["adapterkit", *words])

    candidate = ("--channel", "candidate", "--backbone", new)
    digests = {task: open_manifest(folder).sha256[:12] for task, folder in kept.items()}
    return [
        "# The advised versions, as candidates of tasks that are called like the runs:",
        *(said("registry", "add", task, folder) for task, folder in kept.items()),
        *(said("registry", "promote", task, digest, *candidate) for task, digest in digests.items()),
        "# One service with both backbones, in which the old versions answer:",
        said("serve", "--registry", DEFAULT_URL, "--backbone", old, "--backbone", new),
        "# Move a share of the traffic, look at /v1/quality, move more:",
        *(said("registry", "split", task, "stable=0.95", "candidate=0.05") for task in kept),
        "# All of it; once every task has moved, serve with the new backbone alone:",
        *(said("registry", "promote", task, "candidate") for task in kept),
        "# And back, as long as both are served:",
        *(said("registry", "roll-back", task) for task in kept),
    ]
