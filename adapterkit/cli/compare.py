"""`adapterkit compare`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from adapterkit.cli import console, options, shared

COLUMNS = ("a", "b", "difference", "95 % interval", "b is")


@shared.given(how=shared.answering, tell=shared.telling)
def compare(
    a: Annotated[Path, options.a_folder(metavar="A", help="The artifact to compare with.")],
    b: Annotated[Path, options.a_folder(metavar="B", help="The artifact that is judged.")],
    how: shared.HowAnswered,
    tell: shared.Telling,
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
    """Say whether one artifact answers better than another beyond chance, by how much, and on which rows.

    $ adapterkit compare runs/banking77 runs/banking77-v2 --data banking77/test.jsonl
    $ adapterkit compare runs/a runs/b --data test.jsonl --by source --json > comparison.json
    """
    from adapterkit.manifest import open_manifest

    open_manifest(a)
    open_manifest(b)
    from adapterkit import evaluation

    record = evaluation.compare(a, b, data, by=by or (), other_backbone=other_backbone, **how.of(a))
    if (found := tell(record, b)) is None:
        return
    for line in _lines(found):
        console.echo(line)
    console.print_table([[name, *_cells(each)] for name, each in found["metrics"].items()], ("metric", *COLUMNS))
    slices = [each for each in found["slices"] if each["difference"]["verdict"] != "no difference shown"]
    if found["slices"]:
        shown = f"{len(slices)} of {len(found['slices'])} slices differ ({found['metric']})"
        console.echo(f"\n{shown}; without any difference some {found['false_alarms']:g} would, by chance")
    if slices:
        rows = [[each["by"], each["name"], f"{each['rows']:,}", *_cells(each["difference"])] for each in slices]
        console.print_table(rows, ("by", "slice", "rows", *COLUMNS))


def _lines(found: Mapping[str, Any]) -> list[str]:
    main, rows = found["metrics"][found["metric"]], found["data"]["rows"]
    said = found["verdict"] if found["verdict"] == "no difference shown" else f"b is {found['verdict']}"
    lines = [f"{said}: {found['metric']} {' '.join(_cells(main)[2:4])} on {rows:,} rows"]
    if (sides := found["sides"]) is not None:
        changed = f"{sides['gained']:,} rows only b answers right, {sides['lost']:,} only a"
        lines.append(f"{changed}; McNemar's exact test: p = {sides['p_value']:.2g}")
    if found["rows_for_a_point"] is not None:
        lines.append(f"about {found['rows_for_a_point']:,} rows would show a difference of 1 point")
    return lines


def _cells(each: Mapping[str, Any]) -> list[str]:
    low, high, value = (_signed(each[name]) for name in ("low", "high", "difference"))
    plain = ["–" if each[name] is None else f"{each[name]:.4f}" for name in ("a", "b")]
    verdict = "" if each["verdict"] == "no difference shown" else each["verdict"]
    return [*plain, value, f"[{low}, {high}]", verdict]


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
