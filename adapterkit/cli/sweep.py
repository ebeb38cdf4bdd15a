"""`adapterkit sweep`.

What stands behind [cyan]path=[/cyan] is the inside of a YAML list: values are separated by commas, a value that
is a list stands in brackets, and text that holds a comma in quotes. [cyan]seed[/cyan] is short for
[cyan]training.seed[/cyan]; the seeds of one setting are averaged. A sweep that was stopped goes on when the same
command is given again.

$ adapterkit sweep recipes/banking77.yaml --grid training.learning_rate=1e-3,2e-3 method.rank=4,8 seed=0,1,2
$ adapterkit sweep banking77 output=runs/sites --grid "method.sites=auto,[attention.query,attention.key]"
$ adapterkit sweep banking77 training.batch_size=4 --grid training.learning_rate=5e-4,1e-3 seed=0,1,2 --together 6
$ adapterkit sweep banking77 --grid training.learning_rate=5e-4,1e-3,2e-3 method.rank=2,4,8 --halving --first 1epoch
$ adapterkit sweep banking77 --grid training.learning_rate=1e-3,2e-3 seed=0,1,2 --processes 2
"""

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.fields import Fields
from adapterkit.cli.options import DataRoot, Json, RecipeName, argument, option

GRID = "--grid"


class ManyWords(Fields):
    """Lets --grid take every word up to the next option, as shells' users expect of a list."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        inside = False
        for word in args:
            if word.startswith("-"):
                inside = word == GRID
                words += [] if inside else [word]
            else:
                words += [GRID, word] if inside else [word]
        if args and args[-1] == GRID:
            words.append(GRID)
        return super().parse_args(ctx, words)


COMMAND = ManyWords


def sweep(
    recipe: RecipeName,
    overrides: Annotated[
        list[str] | None, argument(metavar="KEY=VALUE", help="Fields to set for all points; output=DIR is the sweep's.")
    ] = None,
    grid: Annotated[
        list[str] | None,
        option(GRID, metavar="KEY=VALUE,VALUE …", help="Fields with their values, up to the next option."),
    ] = None,
    halving: Annotated[
        bool, typer.Option("--halving", help="Thin the settings out while they train (successive halving).")
    ] = False,
    eta: Annotated[
        int | None, typer.Option("--eta", help="With --halving: one setting in so many goes on. Default: 3.")
    ] = None,
    first: Annotated[
        str | None,
        typer.Option("--first", metavar="BUDGET", help="With --halving: the first budget, as in 1epoch or 200steps."),
    ] = None,
    together: Annotated[
        int,
        typer.Option(
            "--together",
            min=1,
            metavar="N",
            help="Points to train in one batch, where a trial says that it is faster: few rows a step, GPUs.",
        ),
    ] = 1,
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, metavar="N", help="Train so many points at once: a GPU or cores for each."),
    ] = 1,
    data_root: DataRoot = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew where a sweep stands.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit.errors import SweepError

    if not halving and (eta is not None or first is not None):
        raise SweepError("--eta and --first belong to --halving", remedy="Add --halving, or leave them out.")
    if not grid:
        raise SweepError("a sweep needs a grid", ["--grid: found nothing"], "As in --grid method.rank=4,8 seed=0,1,2")
    from adapterkit import sweeping
    from adapterkit.data import check_sources
    from adapterkit.recipe.load import folder_of

    budget = None if first is None else sweeping.Budget.parse(first)
    thinning = sweeping.Halving(3 if eta is None else eta, budget) if halving else False
    asked: Any = {"halving": thinning, "together": together, "processes": processes, "overrides": overrides or ()}
    # Before torch is imported, so that a mistake is named at once.
    wanted = sweeping.define_sweep(recipe, grid, **asked)
    wanted.check(overwrite=overwrite)
    for data in {point.recipe.data.model_dump_json(): point.recipe.data for point in wanted.points}.values():
        check_sources(data, folder_of(recipe))
    try:
        result = sweeping.sweep(recipe, grid, **asked, overwrite=overwrite, quiet=quiet or as_json)
    except KeyboardInterrupt as interruption:
        several = together if together > 1 else None
        workers = processes if processes > 1 else None
        options = {
            "--eta": eta, "--first": first, "--together": several, "--processes": workers, "--data-root": data_root,
        }  # fmt: skip
        words = ["adapterkit", "sweep", recipe, *(overrides or ()), GRID, *grid, *["--halving"] * halving]
        for name, value in options.items():  # but for --overwrite
            words += [] if value is None else [name, str(value)]
        console.say(f"Stopped. Go on with: {shlex.join(words)}", "yellow")
        raise typer.Exit(130) from interruption
    if as_json:
        console.print_json(_facts(result))
        return
    _print(result)


def _print(result: Any) -> None:
    from adapterkit.sweeping.points import shown

    lines = list(result.points.values())
    paths = list(lines[0]["settings"])
    rows = []
    for line in lines:
        mark = "best" if line["point"] == result.best else "" if line["status"] == "done" else line["status"]
        values = [shown(line["settings"][path]) for path in paths]
        rows.append([*values, _number(line["value"]), str(line["steps"]), f"{line['seconds']:.1f}", mark])
    console.print_table(rows, [*paths, f"validation {result.metric}", "steps", "seconds", ""], "Points")
    rows = [
        [
            *(shown(value) for value in group.settings.values()),
            _number(group.mean) + ("" if group.spread is None else f" ± {group.spread:.4f}"),
            "" if group.half is None else f"{_number(group.low)} – {_number(group.high)}",
            str(len(group.points)),
            f"{group.seconds:.1f}",
            group.mark,
        ]
        for group in result.groups
    ]
    title = "Settings, the best first: mean ± standard deviation over seeds"
    headings = [*result.groups[0].settings, f"validation {result.metric}", "95 % interval", "seeds", "seconds", ""]
    console.print_table(rows, headings, f"\n{title}")
    for split, scores in result.metrics.items():
        console.print_table(console.metric_rows(scores), (f"best: {split}", "value", "95 % interval"))
    console.say(f"Best: {result.artifact} ({result.best})", style="green")
    console.say(f"Plot: {result.picture}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _facts(result: Any) -> Mapping[str, Any]:
    hidden = ("rows_key", "backbone_key", "digests")
    told = ("settings", "status", "mean", "spread", "low", "high", "mark", "values", "points", "seconds")
    return {
        "folder": str(result.folder),
        "metric": result.metric,
        "best": {"point": result.best, "artifact": str(result.artifact), "metrics": result.metrics},
        "groups": [{name: getattr(group, name) for name in told} for group in result.groups],
        "points": [{key: value for key, value in line.items() if key not in hidden} for line in result.points.values()],
        "plot": str(result.picture),
    }
