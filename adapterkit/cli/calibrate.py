"""`adapterkit calibrate`.

$ adapterkit calibrate runs/banking77 --data banking77/validation.jsonl --output runs/banking77-calibrated
$ adapterkit calibrate runs/banking77 --data validation.jsonl --output runs/banking77-sure --risk 0.05
"""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import options, shared


def calibrate(
    folder: options.Run,
    how: shared.AnswerOptions,
    tell: shared.TellOptions,
    data: Annotated[str, options.option("--data", help="Rows that were not trained on.")],
    output: Annotated[Path, options.option("--output", help="Folder of the new version.")],
    risk: Annotated[
        float | None, options.option("--risk", help="Withhold answers so that at most this share is wrong.")
    ] = None,
    certainty: Annotated[
        float | None, options.option("--certainty", help="How sure that promise is. Default: 0.9.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at the output.")] = False,
) -> None:
    from adapterkit.manifest import check_output

    check_output(output, overwrite=overwrite)
    from adapterkit import evaluation

    found = evaluation.calibrate(
        folder, data, output, risk=risk, certainty=certainty, overwrite=overwrite, **how.of(folder)
    )
    tell(found, output)
