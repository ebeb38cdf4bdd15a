"""`adapterkit nearest`.

$ adapterkit nearest runs/banking77 runs/wnut17 --data wnut17/train.jsonl
"""

from typing import Annotated

from adapterkit.cli import console, options, shared


def nearest(
    how: shared.HowLooked,
    tell: shared.TellOptions,
    representations: options.Representations = None,
    data: Annotated[str | None, options.option("--data", help="Rows of the new task.")] = None,
) -> None:
    from adapterkit import evaluation

    with console.stages() as progress:
        record = evaluation.nearest(representations or [], data, tell=progress, **how)
    tell(record)
