"""`adapterkit compact`.

$ adapterkit compact runs/banking77 runs/banking77-small --data banking77/validation.jsonl
$ adapterkit compact runs/banking77 runs/banking77-half --to bf16 --rank keep --data validation.jsonl
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adapterkit.cli import options, shared


def compact(
    folder: options.Run,
    output: Annotated[Path, options.argument(metavar="OUT", help="Folder of the new version.")],
    how: shared.AnswerOptions,
    data: Annotated[
        str | None, options.option("--data", help="Rows that were not trained on. Default: its recipe's test rows.")
    ] = None,
    to: Annotated[
        Literal["int8", "bfloat16", "bf16", "float16"], typer.Option("--to", help="Number format of the tensors.")
    ] = "int8",
    rank: Annotated[
        str, typer.Option("--rank", help="auto lowers a LoRA's as far as the tolerance allows; a number; keep.")
    ] = "auto",
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="How much worse the main metric may become.")
    ] = 0.002,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at the output.")] = False,
    as_json: options.Json = False,
) -> None:
    from adapterkit.manifest import KEPT, check_output

    check_output(output, overwrite=overwrite, keep=KEPT)
    asked: Any = int(rank) if rank.lstrip("-").isdigit() else rank
    from adapterkit import evaluation

    record = evaluation.compact(
        folder,
        output,
        data,
        to="bfloat16" if to == "bf16" else to,
        rank=asked,
        tolerance=tolerance,
        overwrite=overwrite,
        **how.of(folder),
    )
    shared.show(record, [output], as_json=as_json)
