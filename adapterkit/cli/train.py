"""`adapterkit train`.

Any field of the recipe can be set behind it as [cyan]path=value[/cyan]; [cyan]adapterkit schema[/cyan] lists them.

$ adapterkit train recipes/banking77.yaml
$ adapterkit train banking77 training.learning_rate=1e-3 training.seed=1 output=runs/b77-seed1
$ adapterkit train banking77 method.kind=bottleneck method.placement=houlsby output=runs/b77-houlsby
$ adapterkit train banking77 --resume
$ torchrun --standalone --nproc_per_node 2 --max-restarts 3 -m adapterkit train banking77 --resume auto
$ accelerate launch --cpu --num_processes 2 -m adapterkit train banking77
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer

from adapterkit.cli import console
from adapterkit.cli.answering import asking
from adapterkit.cli.fields import Fields
from adapterkit.cli.options import DataRoot, Json, Overrides, RecipeName
from adapterkit.cli.processes import become_all_processes, end_with_launcher, launcher_words, shown

Resume = Literal["no", "yes", "auto"]
"""Whether to go on from a checkpoint."""


class Train(Fields):
    """`--resume` may stand alone, also before the recipe's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        for word in args:
            if word in get_args(Resume) and words[-1:] == ["--resume=yes"]:
                words[-1] = f"--resume={word}"
            else:
                words.append({"--resume": "--resume=yes", "--no-resume": "--resume=no"}.get(word, word))
        return super().parse_args(ctx, words)


COMMAND = Train


def train(
    recipe: RecipeName,
    overrides: Overrides = None,
    data_root: DataRoot = None,
    resume: Annotated[
        Resume, typer.Option("--resume", help="Go on from the last checkpoint; auto where there is one.")
    ] = "no",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an artifact that exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit import training
    from adapterkit.data import check_sources
    from adapterkit.manifest import open_manifest
    from adapterkit.recipe import NEAREST, resolve
    from adapterkit.recipe.load import folder_of
    from adapterkit.training.standing import is_done

    going_on: Any = "auto" if resume == "auto" else resume == "yes"
    # Before torch is imported, so that a mistake is named at once.
    resolved = resolve(recipe, overrides or ())
    output, kind = training.output_of(resolved), resolved.recipe.task.kind
    # A process may be lost behind the last step: what the launcher starts again then finds the artifact of its own run.
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" and resume == "auto" and not overwrite
    if again and is_done(output):
        _tell(output, kind, open_manifest(output).metrics, as_json)
        return
    training.check_start(output, resume=going_on, overwrite=overwrite)
    check_sources(resolved.recipe.data, folder_of(recipe))

    end_with_launcher()
    become_all_processes(sys.argv[1:])
    own = ["train", recipe, *(overrides or ()), *(["--data-root", str(data_root)] if data_root else [])]
    words = launcher_words(sys.argv[1:]) or ["adapterkit", *own]
    start, run = resolved.recipe.training.start_from, training.train
    if start is not None and start.run == NEAREST:
        from adapterkit.evaluation.starting import train as run
    try:
        result = run(recipe, overrides=overrides or (), resume=going_on, overwrite=overwrite, quiet=quiet or as_json)
    except KeyboardInterrupt as interruption:
        console.say(_how_to_go_on(output, words), style="yellow")
        raise typer.Exit(130) from interruption
    _tell(result.artifact, kind, result.metrics, as_json)


def _tell(artifact: Path, kind: str, found: Mapping[str, Mapping[str, Any]], as_json: bool) -> None:
    """What was written, and how good it is; one process of several speaks for all."""
    from adapterkit.manifest import REPORT

    if not console.is_main_process():
        return
    metrics = {
        split: {name: console.metric_facts(metric) for name, metric in scores.items()}
        for split, scores in found.items()
    }
    if as_json:
        console.print_json({"artifact": str(artifact), "metrics": metrics})
        return
    for split, scores in metrics.items():
        console.print_table(console.metric_rows(scores), (split, "value", "95 % interval"))
    console.say(f"Artifact: {artifact}", style="green")
    console.say(f"Report: {artifact / REPORT}")
    console.say(f"Try: {asking(kind, artifact)}")


def _how_to_go_on(output: Path, words: list[str]) -> str:
    from adapterkit.training.standing import checkpoint_of, read_progress

    progress = read_progress(checkpoint_of(output))
    if progress is None:
        return f"Stopped before the first checkpoint. Begin again: {shown(words)}"
    going_on = words if any(word.startswith("--resume") for word in words) else [*words, "--resume"]
    return f"Stopped. The checkpoint of step {progress.steps} is kept; go on with: {shown(going_on)}"
