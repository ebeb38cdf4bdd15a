"""`adapterkit evaluate`.

$ adapterkit evaluate runs/banking77 --data banking77/test.jsonl
$ adapterkit evaluate runs/banking77 --report banking77.html --errors errors.csv
$ adapterkit evaluate runs/banking77 --data banking77/test.jsonl --data-root data --json > evaluation.json
$ torchrun --standalone --nproc_per_node 2 -m adapterkit evaluate runs/banking77 --data banking77/test.jsonl
$ adapterkit evaluate runs/tickets --data more.csv --encoding cp1252 --delimiter ";"
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from adapterkit.cli import console, options, shared
from adapterkit.cli.processes import all_processes


def evaluate(
    folder: options.Run,
    how: shared.AnswerOptions,
    tell: shared.TellOptions,
    data: Annotated[
        str | None,
        options.option("--data", help="Rows to score. Default: the recipe's test rows, else its validation rows."),
    ] = None,
    report: options.Report = None,
    errors: Annotated[
        Path | None, options.option("--errors", metavar="CSV", help="Rows that are answered badly, to write.")
    ] = None,
) -> None:
    accelerator = all_processes()
    from adapterkit import evaluation

    record = evaluation.record_evaluation(
        folder,
        data,
        report=report,
        errors=errors,
        accelerator=accelerator,
        command=shlex.join(["adapterkit", *sys.argv[1:]]),
        **how.of(folder),
    )
    for what, path in (("Report", report), ("Errors", errors)):
        if path is not None:
            console.say(f"{what}: {path}", style="green")
    tell(record, folder)
