"""`adapterkit diff`.

$ adapterkit diff runs/banking77 runs/banking77-v2
$ adapterkit diff runs/banking77 runs/banking77-v2 --backbone ./models/all-MiniLM-L6-v2 --json > diff.json
"""

from pathlib import Path
from typing import Annotated

from adapterkit.cli import options, shared


def diff(
    a: Annotated[Path, options.a_run(metavar="A", help="The artifact to compare with.")],
    b: Annotated[Path, options.a_run(metavar="B", help="The other.")],
    backbone: Annotated[
        str | None,
        options.option(
            "--backbone",
            metavar="PATH_OR_ID",
            help="Let both answer the golden rows of both. Default: as they were kept.",
        ),
    ] = None,
    parts: options.Parts = None,
    as_json: options.Json = False,
) -> None:
    from adapterkit import evaluation

    named = options.named(parts, "--part", "NAME=FOLDER", "language=runs/language")
    shared.show(evaluation.diff(a, b, backbone=backbone, parts=named), [a, b], as_json=as_json)
