"""A picture of a sweep: every setting's score with its interval, its seeds as dots, the best on top."""

from collections.abc import Sequence
from pathlib import Path

from adapterkit.manifest import write_file
from adapterkit.report.figures import alone, ranking
from adapterkit.sweeping.summary import DONE, Group

MOST_GROUPS = 40


def plot_sweep(groups: Sequence[Group], picture: Path, metric: str, title: str, *, higher_is_better: bool) -> None:
    """Draw groups, the best first, into an SVG file; of more than `MOST_GROUPS` the best ones. Raises OutputError."""
    scored = [group for group in groups if group.mean is not None]
    lines = [
        {
            "name": group.name.replace(",", "  "),
            "value": group.mean,
            "low": group.low,
            "high": group.high,
            "dots": [value for value in group.values if value is not None] if len(group.values) > 1 else [],
            "mark": group.mark,
            "faint": group.status != DONE,
        }
        for group in scored[:MOST_GROUPS]
    ]
    better = "higher" if higher_is_better else "lower"
    notes = [f"validation {metric.replace('_', ' ')} ({better} is better)", title]
    notes += [f"{len(scored) - MOST_GROUPS} worse ones not drawn"] if len(scored) > MOST_GROUPS else []
    notes += [f"{len(groups) - len(scored)} without a score"] if len(scored) < len(groups) else []
    write_file(picture, alone([ranking(lines, "; ".join(notes))]).encode())
