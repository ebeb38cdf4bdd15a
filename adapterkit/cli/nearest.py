"""`adapterkit nearest`."""

from typing import Annotated, Any

import typer

from adapterkit.cli import console, options, shared

SHOWN_STARTS = 10


@shared.given(how=shared.looking, tell=shared.telling)
def nearest(
    how: dict[str, Any],
    tell: shared.Telling,
    representations: options.Representations = None,
    data: Annotated[str | None, options.option("--data", help="Rows of the new task.")] = None,
) -> None:
    """Rank artifacts, bare backbones and their layers as starting points for a new task, without training.

    $ adapterkit nearest runs/banking77 runs/wnut17 --data wnut17/train.jsonl
    """
    options.check_runs(representations or [])
    from adapterkit import evaluation

    with console.stages() as progress:
        record = evaluation.nearest(representations or [], data, tell=progress, **how)
    if (found := tell(record)) is None:
        return
    for note in found["found"]["notes"]:
        console.say(f"Note: {note}.", style="yellow")
    print_starts(found["found"]["starts"])
    for sentence in found["findings"]:
        typer.echo(sentence)


def print_starts(starts: list[dict[str, Any]], title: str = "") -> None:
    """The first starting points, the best by the probe first."""
    tried = any(start["accuracy"] for start in starts)
    rows = []
    for start in starts[:SHOWN_STARTS]:
        row = [start["representation"], str(start["layer"])]
        row.append("–" if start["probe"] is None else f"{start['probe']:.1%}")
        row.append("–" if start["logme"] is None else f"{start['logme']:.3f}")
        if tried:
            found = start["accuracy"]
            row.append("–" if found is None else f"{found['value']:.1%} ({found['low']:.1%} – {found['high']:.1%})")
            row.append("its own" if start["own"] else "")
        rows.append(row)
    headings = ["start from", "layer", "probe", "LogME", *(["a trained head (95 % interval)", ""] if tried else [])]
    console.print_table(rows, headings, title=title)
    if len(starts) > SHOWN_STARTS:
        console.say(f"… and {len(starts) - SHOWN_STARTS} more; --json has all of them.")
