"""`adapterkit compare`.

$ adapterkit compare runs/banking77 runs/banking77-v2 --data banking77/test.jsonl
$ adapterkit compare runs/a runs/b --data test.jsonl --by source --json > comparison.json
"""

from pathlib import Path
from typing import Annotated

from adapterkit.cli import options, shared


def compare(
    a: Annotated[Path, options.a_run(metavar="A", help="The artifact to compare with.")],
    b: Annotated[Path, options.a_run(metavar="B", help="The artifact that is judged.")],
    how: shared.AnswerOptions,
    tell: shared.TellOptions,
    data: Annotated[
        str | None, options.option("--data", help="Rows to answer. Default: the test rows of A's recipe.")
    ] = None,
    by: Annotated[
        list[str] | None, options.option("--by", metavar="COLUMN", help="Slice rows by a column's values too.")
    ] = None,
    other_backbone: Annotated[
        str | None, options.option("--other-backbone", metavar="PATH_OR_ID", help="Where B's is, if another.")
    ] = None,
) -> None:
    from adapterkit import evaluation

    record = evaluation.compare(a, b, data, by=by or (), other_backbone=other_backbone, **how.of(a))
    tell(record, b, a)
