"""A picture of a run: loss over steps, and the validation metric beside it."""

from __future__ import annotations

from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

from adapterkit.manifest import write_file
from adapterkit.training.journal import read_journal

SMOOTHING_SHARE = 0.05
"""The loss is shown as it was, and averaged over windows of this share of all steps."""
FEW_STEPS = 20
"""Runs of at most this many steps show their points, and no running mean."""


def plot_run(journal: Path, picture: Path, metric: str, title: str) -> None:
    """Draw the journal's run into a PNG file. Without a validation there is no second panel. Raises OutputError."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    events = read_journal(journal)
    losses = [(event["step"], event["loss"]) for event in events if event["event"] == "step"]
    validations = [event for event in events if event["event"] == "validation"]
    scores = [
        (event["step"], event["metrics"][metric])
        for event in validations
        if event["metrics"].get(metric) is not None  # a metric that was NaN
    ]
    kept = next((event["step"] for event in reversed(validations) if event["kept"]), None)
    figure = Figure(figsize=(9 if scores else 5.5, 3.6), layout="constrained")
    panels = figure.subplots(1, 2 if scores else 1, squeeze=False)[0]
    figure.suptitle(title, fontsize=11)
    _draw_losses(panels[0], losses)
    if scores:
        _draw_scores(panels[1], scores, kept, metric)
    last = max([step for step, _ in losses + scores], default=1)
    for axes in panels:
        axes.set(xlabel="step", xlim=(0, last * 1.02 + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    write_picture(figure, picture)


def write_picture(figure: Any, picture: Path) -> None:
    """Write a figure as a PNG file, whole or not at all. Raises OutputError where the disk refuses."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    write_file(picture, content.getvalue())


def _draw_losses(axes: Any, losses: list[tuple[int, float]]) -> None:
    steps, values = [step for step, _ in losses], [value for _, value in losses]
    axes.set(ylabel="training loss")
    if len(values) <= FEW_STEPS:
        axes.plot(steps, values, color="#1f4e8c", linewidth=1.2, marker="o", markersize=3)
        return
    axes.plot(steps, values, color="#9db4d0", linewidth=0.8, label="each step")
    axes.plot(steps, _smooth(values), color="#1f4e8c", linewidth=1.8, label="running mean")
    axes.legend(frameon=False, fontsize=8)


def _draw_scores(axes: Any, scores: list[tuple[int, float]], kept: int | None, metric: str) -> None:
    steps, values = [step for step, _ in scores], [value for _, value in scores]
    axes.plot(steps, values, color="#a34a28", marker="o", markersize=4)
    axes.set(ylabel=f"validation {metric.replace('_', ' ')}")
    axes.margins(y=0.15)
    chosen = dict(scores).get(kept) if kept is not None else None
    if chosen is not None:
        axes.plot([kept], [chosen], "o", markersize=10, fillstyle="none", color="#a34a28")
        axes.set_title(f"kept: {chosen:.4g} at step {kept}", fontsize=9, loc="right", color="#a34a28")


def _smooth(values: list[float]) -> list[float]:
    """The mean of the last steps at each step."""
    window = max(1, round(len(values) * SMOOTHING_SHARE))
    sums = [0.0, *accumulate(values)]
    firsts = [max(0, end - window) for end in range(1, len(sums))]
    return [(sums[end] - sums[first]) / (end - first) for end, first in enumerate(firsts, start=1)]
