"""`adapterkit attribute`.

$ adapterkit attribute runs/banking77
$ adapterkit attribute runs/banking77 --data banking77/test.jsonl --output runs/banking77-head --json
$ adapterkit attribute runs/banking77 --full --full-rate 1e-4
$ adapterkit attribute runs/banking77-head --other-backbone backbones/MiniLM-v2
"""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import options, shared


def attribute(
    folder: options.Run,
    how: shared.AnswerOptions,
    tell: shared.TellOptions,
    data: Annotated[str | None, options.option("--data", help="Test rows. Default: the recipe's.")] = None,
    output: Annotated[Path | None, options.option("--output", help="Folder to keep the head alone in.")] = None,
    other_backbone: Annotated[
        str | None,
        options.option("--other-backbone", metavar="PATH_OR_ID", help="Say what this version of the backbone gains."),
    ] = None,
    full: Annotated[bool, options.option("--full", help="Train the whole backbone as well, as a last step.")] = False,
    full_rate: Annotated[
        float, typer.Option("--full-rate", min=0, help="Its learning rate; it decides what is reached.")
    ] = 5e-5,
) -> None:
    if output is not None:
        from adapterkit.manifest import check_output

        check_output(output, overwrite=False)
    from adapterkit import evaluation

    record = evaluation.attribute(
        folder,
        data,
        output=output,
        other_backbone=other_backbone,
        full_rate=full_rate if full else None,
        quiet=tell.as_json,
        **how.of(folder),
    )
    tell(record, folder)
