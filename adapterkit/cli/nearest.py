"""`adapterkit nearest`."""

from typing import Annotated, Any

from adapterkit.cli import console, options, shared


@shared.given(how=shared.looking, tell=shared.telling)
def nearest(
    how: dict[str, Any],
    tell: shared.Telling,
    representations: options.Representations = None,
    data: Annotated[str | None, options.option("--data", help="Rows of the new task.")] = None,
) -> None:
    """Rank artifacts, bare backbones and their layers as starting points for a new task, without training.

    $ adapterkit nearest runs/banking77 runs/wnut17 --data wnut17/train.jsonl
    """
    options.check_runs(representations or [])
    from adapterkit import evaluation

    with console.stages() as progress:
        record = evaluation.nearest(representations or [], data, tell=progress, **how)
    tell(record)
