"""`adapterkit transfer`."""

from pathlib import Path
from typing import Annotated, Any

from adapterkit.cli import console, options, shared


@shared.given(how=shared.looking, tell=shared.telling)
def transfer(
    how: dict[str, Any],
    tell: shared.Telling,
    representations: options.Representations = None,
    data: Annotated[
        list[str] | None, options.option("--data", metavar="NAME=FILE", help="A set of rows, and what to call it.")
    ] = None,
    plot: Annotated[Path | None, options.option("--plot", metavar="FILE", help="Write a heat map there.")] = None,
) -> None:
    """Train heads for sets of rows on representations of others, and say what a ranking had chosen.

    $ adapterkit transfer runs/banking77 runs/wnut17 --data banking77=banking77/test.jsonl --plot transfer.png
    """
    options.check_runs(representations or [])
    from adapterkit import evaluation

    sets = options.named(data, "--data", "NAME=FILE", "reviews=reviews.jsonl")
    with console.stages() as progress:
        record = evaluation.transfer(representations or [], sets, tell=progress, **how)
    if plot is not None:
        from adapterkit.evaluation.probing.heat_map import draw_heat_map

        draw_heat_map(record, plot)
    tell(record)
