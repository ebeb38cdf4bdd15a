"""`adapterkit train`."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.fields import Fields
from adapterkit.cli.options import DataRoot, Json, RecipeName
from adapterkit.cli.processes import become_all_processes

COMMAND = Fields


def train(
    recipe: RecipeName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Fields to set on top of the recipe.", show_default=False),
    ] = None,
    data_root: DataRoot = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an artifact that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Train an adapter: validate as it goes, keep the best state, write the artifact.

    Any field of the recipe can be set behind it as [cyan]path=value[/cyan]; [cyan]adapterkit schema[/cyan] lists them.

    $ adapterkit train recipes/banking77.yaml
    $ adapterkit train banking77 training.learning_rate=1e-3 training.seed=1 output=runs/b77-seed1
    $ adapterkit train banking77 method.kind=bottleneck method.placement=houlsby output=runs/b77-houlsby
    $ adapterkit train banking77 --resume
    $ accelerate launch --cpu --num_processes 2 -m adapterkit train banking77
    """
    from adapterkit import training
    from adapterkit.data import check_sources
    from adapterkit.manifest import REPORT
    from adapterkit.recipe import resolve
    from adapterkit.recipe.load import folder_of

    # Before torch is imported, so that a mistake is named at once.
    resolved = resolve(recipe, overrides or ())
    training.check_start(training.output_of(resolved), resume=resume, overwrite=overwrite)
    if data_root is not None:
        os.environ["ADAPTERKIT_DATA"] = str(data_root)  # read where paths are, and by every process that is started
    check_sources(resolved.recipe.data, folder_of(recipe))

    become_all_processes(sys.argv[1:])
    try:
        result = training.train(
            recipe, overrides=overrides or (), resume=resume, overwrite=overwrite, quiet=quiet or as_json
        )
    except KeyboardInterrupt as interruption:
        words = ["adapterkit", "train", recipe, *(overrides or ())]
        if data_root is not None:
            words += ["--data-root", str(data_root)]
        console.say(_how_to_go_on(training.output_of(resolved), shlex.join(words)), style="yellow")
        raise typer.Exit(130) from interruption
    if os.environ.get("RANK", "0") != "0":  # one process of several speaks for all
        return
    metrics = {
        split: {name: console.metric_facts(metric) for name, metric in scores.items()}
        for split, scores in result.metrics.items()
    }
    if as_json:
        console.print_json({"artifact": str(result.artifact), "metrics": metrics})
        return
    for split, scores in metrics.items():
        console.print_table(console.metric_rows(scores), (split, "value", "95 % interval"))
    console.say(f"Artifact: {result.artifact}", style="green")
    console.say(f"Report: {result.artifact / REPORT}")
    console.say(f"Try: adapterkit inspect {result.artifact}")


def _how_to_go_on(output: Path, command: str) -> str:
    from adapterkit.training.standing import checkpoint_of, read_progress

    progress = read_progress(checkpoint_of(output))
    if progress is None:
        return f"Stopped before the first checkpoint. Begin again: {command}"
    return f"Stopped. The checkpoint of step {progress.steps} is kept; go on with: {command} --resume"
