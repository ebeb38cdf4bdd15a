"""`adapterkit probe`.

$ adapterkit probe runs/banking77 --data banking77/test.jsonl
$ adapterkit probe sentence-transformers/all-MiniLM-L6-v2 --data banking77/test.jsonl --rows 1000 --json
$ torchrun --standalone --nproc_per_node 2 -m adapterkit probe runs/banking77 --data banking77/test.jsonl
"""

from typing import Annotated

from adapterkit.cli import console, options, shared
from adapterkit.cli.processes import all_processes


def probe(
    how: shared.HowLooked,
    tell: shared.TellOptions,
    representations: options.Representations = None,
    data: Annotated[str | None, options.option("--data", help="Rows with labels.")] = None,
) -> None:
    accelerator = all_processes()
    from adapterkit import evaluation

    with console.stages() as progress:
        record = evaluation.probe(representations or [], data, tell=progress, accelerator=accelerator, **how)
    tell(record)
