"""Rows of many tasks, answered by a host with many adapters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.cli import console
from adapterkit.cli.incoming import ROWS_AT_ONCE, lines_that_come_in, rows_of_objects
from adapterkit.cli.mounts import mounted, sources_of

if TYPE_CHECKING:
    from adapterkit.data import Rows
    from adapterkit.host import Host
    from adapterkit.recipe.columns import Column

TASK = "task"
"""The column that says which adapter answers a row."""


def mixed_answers(
    data: Path | None, mounts: Sequence[str], slots: int | None, backbone: str | None, dtype: str = "auto"
) -> Iterator[Any]:
    """The answers to mixed rows, in row order; throughput is said at the end.

    Args:
        data: a file of rows; None for standard input.

    Raises:
        DataError: rows without a task, of one that is not mounted, or that their task cannot use.
    """
    from adapterkit.data import read_rows

    sources = sources_of(mounts)
    rows = rows_of_objects(lines_that_come_in()) if data is None else read_rows(data)
    with mounted(sources, backbone, slots, dtype) as host:
        asked = _asked(rows, host)
        started = time.perf_counter()
        for start in range(0, len(asked), ROWS_AT_ONCE):
            yield from host.predict(asked[start : start + ROWS_AT_ONCE])
        seconds = time.perf_counter() - started
        console.say(
            f"{len(asked):,} rows in {seconds:.2f} s: {len(asked) / seconds:,.0f} rows/s, "
            f"{len(host)} adapter{'s' if len(host) > 1 else ''} on {host.backbone.name}",
            style="dim",
        )


def _asked(rows: Rows, host: Host) -> list[tuple[str, Mapping[str, Any]]]:
    """Every row with the adapter that it asks; where one alone is mounted, it is asked. All problems at once."""
    from adapterkit.errors import DataError
    from adapterkit.recipe.nearest import nearest

    names = [status.name for status in host.status()]
    asked: list[tuple[str, Mapping[str, Any]]] = []
    problems = []
    for number, row in zip(rows.numbers, rows, strict=True):
        name = row.get(TASK, names[0] if len(names) == 1 else None)
        if not isinstance(name, str) or name not in host:
            near = nearest(name, names) if isinstance(name, str) else None
            found = "no task" if name is None else f"task {name!r} is not mounted"
            problems.append(f"line {number}: {found}" + (f"; did you mean {near!r}?" if near else ""))
            continue
        named = _renamed(row, host.columns(name))
        reason = host.problem_of(name, named)
        if reason is not None:
            problems.append(f"line {number}: {name}: {reason}")
        asked.append((name, named))
    if problems:
        raise DataError(
            f"{len(problems)} of {len(rows)} rows of {rows.source} cannot be answered",
            problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else []),
            f"Every row names in its column {TASK} one of: {', '.join(names)}.",
        )
    return asked


def _renamed(row: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Any]:
    """The columns that a task reads, under the task's names for them."""
    found = {name: next((c for c in (name, *column.aliases) if c in row), None) for name, column in columns.items()}
    return {name: row[column] for name, column in found.items() if column is not None}
