"""A picture of a sweep: every setting's score, its seeds as dots, the best on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapterkit.sweeping.summary import DONE, Group
from adapterkit.training.plotting import write_picture

MOST_GROUPS = 40
LONGEST_LABEL = 60


def plot_sweep(groups: Sequence[Group], picture: Path, metric: str, title: str, *, higher_is_better: bool) -> None:
    """Draw groups, the best first, into a PNG file; of more than `MOST_GROUPS` the best ones. Raises OutputError."""
    from matplotlib.figure import Figure

    drawn = [group for group in groups if group.mean is not None][:MOST_GROUPS]
    figure = Figure(figsize=(8, 1.3 + 0.32 * max(2, len(drawn))), layout="constrained")
    axes = figure.subplots()
    places = range(len(drawn) - 1, -1, -1)
    best = drawn[0] if drawn and drawn[0].status == DONE else None
    for place, group in zip(places, drawn, strict=True):
        done = group.status == DONE
        color = "#a34a28" if group is best else "#1f4e8c" if done else "#a9a9a9"
        values = [value for value in group.values if value is not None]
        axes.plot(values, [place] * len(values), "o", color=color, markersize=5, alpha=0.6, markeredgewidth=0)
        if len(values) > 1 and group.mean is not None:
            low, high = group.mean - (group.spread or 0), group.mean + (group.spread or 0)
            axes.plot([low, high], [place, place], color=color, linewidth=1.2, alpha=0.8)
            axes.plot([group.mean], [place], "|", color=color, markersize=13, markeredgewidth=2)
    axes.set_yticks(list(places), [_label(group) for group in drawn], fontsize=8)
    axes.set_ylim(-0.7, max(1, len(drawn)) - 0.3)
    better = "higher" if higher_is_better else "lower"
    axes.set_xlabel(f"validation {metric.replace('_', ' ')} ({better} is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    scored = sum(group.mean is not None for group in groups)
    notes = ["dots: seeds; bar: mean ± standard deviation"] if any(group.spread is not None for group in drawn) else []
    notes += ["grey: stopped early, or failed"] if any(group.status != DONE for group in drawn) else []
    notes += [f"{scored - len(drawn)} worse ones not drawn"] if scored > len(drawn) else []
    notes += [f"{len(groups) - scored} without a score"] if scored < len(groups) else []
    figure.suptitle(title, fontsize=11)
    if notes:
        axes.set_title("; ".join(notes), fontsize=8, color="#555555", loc="left")
    write_picture(figure, picture)


def _label(group: Group) -> str:
    text = group.name.replace(",", "  ")
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"
