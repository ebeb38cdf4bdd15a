"""`adapterkit ablate`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import DataRoot, Json, RecipeName


def ablate(
    choice: Annotated[str, typer.Argument(metavar="WHAT", help="heads, pooling, layers or sites.", show_default=False)],
    recipe: RecipeName,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Set fields.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Of each setting.")] = 3,
    data_root: DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where it stands.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Say what one choice of a recipe is worth: heads, pooling, layers or sites, and what is within noise.

    Heads and poolings are compared above the frozen trunk, whose states are computed once for all of them. What was
    stopped goes on when the same command is given again.

    $ adapterkit ablate heads recipes/banking77.yaml
    $ adapterkit ablate layers recipes/banking77.yaml training.epochs=2 --seeds 2
    """
    from adapterkit.errors import SweepError
    from adapterkit.sweeping.ablation import Choice, define_ablation, within_noise

    if choice not in list(Choice):
        raise SweepError(f"{choice!r} cannot be varied", [f"expected: {', '.join(Choice)}"])
    if data_root is not None:
        os.environ["ADAPTERKIT_DATA"] = str(data_root)
    wanted = define_ablation(Choice(choice), recipe, seeds=seeds, overrides=overrides or ())
    from adapterkit import sweeping

    result = sweeping.sweep(
        recipe, wanted.grid, overrides=wanted.overrides, overwrite=overwrite, quiet=quiet or as_json
    )
    best = result.groups[0]
    lines = []
    for group in result.groups:
        steps = sum(result.points[name]["steps"] or 0 for name in group.points)
        lines.append(
            {
                "settings": dict(group.settings),
                "mean": group.mean,
                "spread": group.spread,
                "values": list(group.values),
                "milliseconds_per_step": 1000 * group.seconds / steps if steps else None,
                "status": group.status,
                "within_noise": None if group is best else within_noise(best, group),
            }
        )
    if as_json:
        console.print_json({"metric": result.metric, "groups": lines, "folder": str(result.folder)})
        return
    _print(lines, result)


def _print(lines: list[dict[str, Any]], result: Any) -> None:
    from adapterkit.sweeping.points import shown

    rows = []
    for place, line in enumerate(lines):
        said = {True: "within noise", False: "worse", None: "one seed tells nothing of noise"}[line["within_noise"]]
        spread = "" if line["spread"] is None else f" ± {line['spread']:.4f}"
        rows.append(
            [
                *(shown(value) for value in line["settings"].values()),
                "–" if line["mean"] is None else f"{line['mean']:.4f}{spread}",
                "–" if line["milliseconds_per_step"] is None else f"{line['milliseconds_per_step']:.1f}",
                "best" if place == 0 else said if line["status"] == "done" else line["status"],
            ]
        )
    headings = [*lines[0]["settings"], f"validation {result.metric}", "ms/step", ""]
    console.print_table(rows, headings, "The best first: mean ± standard deviation over seeds")
    console.say(f"Plot: {result.picture}")
