"""`adapterkit ablate`.

Heads and poolings are compared above the frozen trunk, whose states are computed once for all of them. What was
stopped goes on when the same command is given again.

$ adapterkit ablate heads recipes/banking77.yaml
$ adapterkit ablate layers recipes/banking77.yaml training.epochs=2 --seeds 2
"""

from typing import Annotated

import typer

from adapterkit.cli import console, shared
from adapterkit.cli.options import DataRoot, Overrides, RecipeName


def ablate(
    choice: Annotated[str, typer.Argument(metavar="WHAT", help="heads, pooling, layers or sites.", show_default=False)],
    recipe: RecipeName,
    tell: shared.TellOptions,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Of each setting.")] = 3,
    data_root: DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where it stands.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    from adapterkit.sweeping.ablation import ablation_record, define_ablation

    grid, changes = define_ablation(choice, recipe, seeds=seeds, overrides=overrides or ())
    from adapterkit import sweeping
    from adapterkit.manifest import write_file
    from adapterkit.report.judged import gains_picture

    result = sweeping.sweep(recipe, grid, overrides=changes, overwrite=overwrite, quiet=quiet or tell.as_json)
    record = ablation_record(choice, result)
    picture = result.folder / "gains.svg"
    write_file(picture, gains_picture(record).encode())
    tell(record, result.folder)
    if not tell.as_json:
        console.say(f"Plots: {result.picture}, {picture}")
