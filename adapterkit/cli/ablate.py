"""`adapterkit ablate`."""

import os
from typing import Annotated, Any

import typer

from adapterkit.cli import console, shared
from adapterkit.cli.options import DataRoot, Overrides, RecipeName


@shared.given(tell=shared.telling)
def ablate(
    choice: Annotated[str, typer.Argument(metavar="WHAT", help="heads, pooling, layers or sites.", show_default=False)],
    recipe: RecipeName,
    tell: shared.Telling,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Of each setting.")] = 3,
    data_root: DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where it stands.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Say what one choice of a recipe is worth: heads, pooling, layers or sites, and what is within noise.

    Heads and poolings are compared above the frozen trunk, whose states are computed once for all of them. What was
    stopped goes on when the same command is given again.

    $ adapterkit ablate heads recipes/banking77.yaml
    $ adapterkit ablate layers recipes/banking77.yaml training.epochs=2 --seeds 2
    """
    from adapterkit.errors import SweepError
    from adapterkit.sweeping.ablation import Choice, ablation_record, define_ablation

    if choice not in list(Choice):
        raise SweepError(f"{choice!r} cannot be varied", [f"expected: {', '.join(Choice)}"])
    if data_root is not None:
        os.environ["ADAPTERKIT_DATA"] = str(data_root)
    wanted = define_ablation(Choice(choice), recipe, seeds=seeds, overrides=overrides or ())
    from adapterkit import sweeping
    from adapterkit.manifest import write_file
    from adapterkit.report.judged import gains_picture

    result = sweeping.sweep(
        recipe, wanted.grid, overrides=wanted.overrides, overwrite=overwrite, quiet=quiet or tell.as_json
    )
    record = ablation_record(Choice(choice), result)
    picture = result.folder / "gains.svg"
    write_file(picture, gains_picture(record).encode())
    if (found := tell(record, result.folder)) is not None:
        _print(found)
        console.say(f"Plots: {result.picture}, {picture}")


def _print(found: dict[str, Any]) -> None:
    from adapterkit.sweeping.points import shown

    rows = []
    for place, line in enumerate(found["groups"]):
        said = {True: "within noise", False: "worse", None: "one seed tells nothing of noise"}[line["within_noise"]]
        spread = "" if line["spread"] is None else f" ± {line['spread']:.4f}"
        rows.append(
            [
                *(shown(value) for value in line["settings"].values()),
                "–" if line["mean"] is None else f"{line['mean']:.4f}{spread}",
                "–" if line["parameters"] is None else f"{line['parameters']:,}",
                "–" if line["milliseconds_per_step"] is None else f"{line['milliseconds_per_step']:.1f}",
                "best" if place == 0 else said if line["status"] == "done" else line["status"],
            ]
        )
    headings = [*found["groups"][0]["settings"], f"validation {found['metric']}", "parameters", "ms/step", ""]
    console.print_table(rows, headings, "The best first: mean ± standard deviation over seeds")
