"""`adapterkit probe`."""

from typing import Annotated, Any

from adapterkit.cli import console, options, shared
from adapterkit.cli.processes import all_processes


@shared.given(how=shared.looking, tell=shared.telling)
def probe(
    how: dict[str, Any],
    tell: shared.Telling,
    representations: options.Representations = None,
    data: Annotated[str | None, options.option("--data", help="Rows with labels.")] = None,
) -> None:
    """Show what each layer of a backbone knows of some rows' classes, bare and with adapters, without any training.

    $ adapterkit probe runs/banking77 --data banking77/test.jsonl
    $ adapterkit probe sentence-transformers/all-MiniLM-L6-v2 --data banking77/test.jsonl --rows 1000 --json
    $ torchrun --standalone --nproc_per_node 2 -m adapterkit probe runs/banking77 --data banking77/test.jsonl
    """
    options.check_runs(representations or [])
    accelerator = all_processes()
    from adapterkit import evaluation

    with console.stages() as progress:
        record = evaluation.probe(representations or [], data, tell=progress, accelerator=accelerator, **how)
    tell(record)
