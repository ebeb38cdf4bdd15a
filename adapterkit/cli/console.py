"""What the verbs print, and where: answers on standard output, everything else on standard error."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from adapterkit.errors import AdapterkitError, plain
from adapterkit.glance import readable_bytes as readable_bytes

RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Where launchers say which of several processes this one is."""

SPEAK_FIRST_SECONDS = 3.0


def process_index() -> int:
    """Which of several processes this one is; 0 where there is one."""
    ranks = (os.environ.get(name, "") for name in RANK_VARIABLES)
    return next((int(rank) for rank in ranks if rank.isdigit()), 0)


def is_main_process() -> bool:
    """Whether this process speaks for all."""
    return process_index() == 0


def wait_for_main_process() -> None:
    """Let the first process speak first: where it fails likewise, its launcher ends this one meanwhile."""
    if not is_main_process():
        time.sleep(SPEAK_FIRST_SECONDS)


def examples(*commands: str) -> str:
    """Commands as the last lines of a help text."""
    shown = (command.strip().replace("[", r"\[") for command in commands)
    lines = "\n".join(f"[dim]$[/dim] {command}" for command in shown)
    return f"[bold]Examples[/bold]\n\n{lines}"


def print_version(wanted: bool) -> None:
    """Print the version and exit, where it is wanted."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"adapterkit {version('adapterkit')}")
        raise typer.Exit


def print_error(error: AdapterkitError) -> None:
    """An error on standard error: what went wrong, every problem, and what to do."""
    from rich.text import Text

    message = Text()
    if not is_main_process():
        message.append(f"[process {process_index()}] ", style="dim")
    message.append(type(error).__name__, style="bold red")
    message.append(f": {error.summary}", style="bold")
    for problem in error.shown:
        message.append("\n  ")
        place, colon, rest = problem.partition(": ")
        message.append(place, style="cyan" if colon else "")
        message.append(f"{colon}{rest}")
    if error.remedy:
        message.append(f"\n{error.remedy}", style="green")
    _standard_error().print(message, soft_wrap=True)


def show_log() -> Callable[[], None]:
    """Show what adapterkit logs, from warnings on, as notes on standard error. Returns what ends it."""
    logger, handler = logging.getLogger("adapterkit"), _Notes(logging.WARNING)
    logger.addHandler(handler)
    return lambda: logger.removeHandler(handler)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"Note: {record.getMessage()}", style="yellow")


def say(text: str, style: str = "") -> None:
    """One line for the user, on standard error, from the main process only."""
    if is_main_process():
        from rich.text import Text

        _standard_error().print(Text(plain(text), style=style), soft_wrap=True)


def echo(text: str) -> None:
    """A line on standard output."""
    typer.echo(plain(text))


def print_json(value: Any, indent: int | None = 2) -> None:
    """JSON on standard output, from the main process only. NaN, which JSON lacks, becomes null."""
    if is_main_process():
        from adapterkit.manifest import shown_json

        typer.echo(shown_json(value, indent))


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while answers go elsewhere, as of `stages`; gives what counts on."""
    if sys.stdout.isatty():
        yield lambda _: None
        return
    with stages() as tell:
        tell(what, 0, total)
        yield lambda count: tell(what, count, total)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """Bars on standard error, one for each thing that goes on; nothing where nobody watches.

    Gives what is to be told: its name, how much more of it is done, and how much there is.
    """
    if not sys.stderr.isatty() or not is_main_process():
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_standard_error(), transient=True) as bars:
        known: dict[str, Any] = {}

        def tell(what: str, done: int, total: int | None) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=total)
            bars.advance(known[what], done)

        yield tell


def print_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = (), title: str = "") -> None:
    """A table on standard output. A terminal gets aligned columns, a pipe gets them untruncated."""
    if not is_main_process():
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:
        # Not as the table's own: a narrow table would break it.
        typer.secho(plain(title), bold=True)
    table = Table(box=None, show_header=bool(headings), pad_edge=False)
    columns = max(map(len, [*rows, headings]))
    for column in headings or [""] * columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    widest = sum(max(len(row[place]) for row in [*rows, headings] if place < len(row)) for place in range(columns))
    console = Console(highlight=False, width=max(80, widest + 2 * columns))
    with console.capture() as captured:
        console.print(table)
    echo("\n".join(line.rstrip() for line in captured.get().split("\n")).rstrip("\n"))


def print_either(
    as_json: bool, facts: Any, rows: Sequence[Sequence[str]], headings: Sequence[str] = (), title: str = ""
) -> None:
    """Facts as JSON for machines, or their table for people."""
    if as_json:
        print_json(facts)
    else:
        print_table(rows, headings, title)


def tell_done(as_json: bool, facts: Any, done: str, *more: str) -> None:
    """Facts as JSON for machines; for people what was done, and what more there is to say."""
    if as_json:
        print_json(facts)
        return
    say(done, style="green")
    for line in more:
        say(line)


def print_section(section: Mapping[str, Any]) -> None:
    """What a page says of a record, in letters: its tables, and what it comes to."""
    for table in (*section["tables"], *section.get("golden", ())):
        print_table(table["rows"], table["headings"], table["title"])
        typer.echo()
    for sentence in section.get("sentences", ()):
        echo(sentence)


def metric_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Metrics with their intervals as rows of a table."""
    from adapterkit.report.cells import metric_cells

    return [metric_cells(name, metric_facts(metric)) for name, metric in metrics.items()]


def metric_facts(metric: Any) -> dict[str, Any]:
    """A metric as a mapping with value, low, high and, where it is said, how; whichever form it has."""
    if isinstance(metric, Mapping):
        return dict(metric)
    how = {"how": metric.how} if metric.how else {}
    return {"value": metric.value, "low": metric.low, "high": metric.high, **how}


def _standard_error() -> Any:
    from rich.console import Console

    return Console(stderr=True, highlight=False)
