"""`adapterkit reference`.

$ adapterkit reference runs/banking77 --data banking77/train.jsonl --output runs/banking77-watched
"""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import options, shared


def reference(
    folder: options.Run,
    how: shared.AnswerOptions,
    data: Annotated[str, options.option("--data", help="Rows as they should be.")],
    output: Annotated[Path, options.option("--output", help="Folder of the new version.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at the output.")] = False,
) -> None:
    from adapterkit.manifest import check_output

    check_output(output, overwrite=overwrite)
    from adapterkit import evaluation

    count = evaluation.reference(folder, data, output, overwrite=overwrite, **how.of(folder))
    typer.echo(f"{output}: keeps {count} rows")
