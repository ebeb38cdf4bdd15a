"""`adapterkit transfer`.

$ adapterkit transfer runs/banking77 runs/wnut17 --data banking77=banking77/test.jsonl --report transfer.html
"""

from typing import Annotated

from adapterkit.cli import console, options, shared


def transfer(
    how: shared.HowLooked,
    tell: shared.TellOptions,
    representations: options.Representations = None,
    data: Annotated[
        list[str] | None, options.option("--data", metavar="NAME=FILE", help="A set of rows, and what to call it.")
    ] = None,
    report: options.Report = None,
) -> None:
    from adapterkit import evaluation

    evaluation.check_writable(report)
    sets = options.named(data, "--data", "NAME=FILE", "reviews=reviews.jsonl")
    with console.stages() as progress:
        record = evaluation.transfer(representations or [], sets, tell=progress, **how)
    shared.write_page(record, report)
    tell(record)
