"""`adapterkit calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import options, shared


@shared.given(how=shared.answering, tell=shared.telling)
def calibrate(
    folder: options.Folder,
    how: shared.HowAnswered,
    tell: shared.Telling,
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
    """Make confidence tell the truth: fit a temperature on rows, and withhold answers that are too unsure.

    $ adapterkit calibrate runs/banking77 --data banking77/validation.jsonl --output runs/banking77-calibrated
    $ adapterkit calibrate runs/banking77 --data validation.jsonl --output runs/banking77-sure --risk 0.05
    """
    from adapterkit.cli.evaluate import calibration_line
    from adapterkit.manifest import check_output, open_manifest

    open_manifest(folder)
    check_output(output, overwrite=overwrite)
    from adapterkit import evaluation

    found = evaluation.calibrate(
        folder, data, output, risk=risk, certainty=certainty, overwrite=overwrite, **how.of(folder)
    )
    if (told := tell(found, output)) is None:
        return
    typer.echo(f"{output}: version {found.answering.version}, temperature {found.temperature:.3f}")
    typer.echo(f"before: {calibration_line(told['before'])}")
    typer.echo(f"after:  {calibration_line(told['after'])}")
    if (kept := found.threshold) is not None:
        typer.echo(
            f"answers up to a confidence of {kept.abstain_up_to:.4f} are withheld: {kept.answered:.1%} are given, "
            f"{kept.wrong:.1%} of them wrong; on new rows like these at most {kept.risk:.1%}, {kept.certainty:.0%} sure"
        )
