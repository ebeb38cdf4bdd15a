"""A picture of a run: loss over steps, and the validation metric beside it."""

from __future__ import annotations

from pathlib import Path

from adapterkit.training.journal import read_journal

SMOOTHING_SHARE = 0.05
"""The loss is shown as it was, and averaged over windows of this share of all steps."""


def plot_run(journal: Path, picture: Path, metric: str, title: str) -> None:
    """Draw the journal's run into a PNG file."""
    from matplotlib.figure import Figure

    events = list(read_journal(journal))
    steps = [(event["step"], event["loss"]) for event in events if event["event"] == "step"]
    scores = [
        (event["step"], event["metrics"][metric])
        for event in events
        if event["event"] == "validation" and metric in event["metrics"]
    ]
    best = next((event["step"] for event in reversed(events) if event.get("best")), None)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss_axes, metric_axes = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=11)
    if steps:
        numbers, losses = zip(*steps, strict=True)
        loss_axes.plot(numbers, losses, color="#9db4d0", linewidth=0.8, label="each step")
        loss_axes.plot(numbers, _smooth(losses), color="#1f4e8c", linewidth=1.8, label="running mean")
        loss_axes.legend(frameon=False, fontsize=8)
    loss_axes.set(xlabel="step", ylabel="training loss (nats)")
    if scores:
        numbers, values = zip(*scores, strict=True)
        metric_axes.plot(numbers, values, color="#a34a28", marker="o", markersize=4)
        chosen = dict(scores).get(best)
        if chosen is not None:
            metric_axes.plot([best], [chosen], "o", markersize=10, fillstyle="none", color="#a34a28")
            metric_axes.annotate(
                f"best: {chosen:.4g}", (best, chosen), (6, -14), textcoords="offset points", fontsize=8
            )
    metric_axes.set(xlabel="step", ylabel=f"validation {metric}")
    for axes in (loss_axes, metric_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.savefig(picture, dpi=120, metadata={"Software": None})


def _smooth(values: tuple[float, ...]) -> list[float]:
    window = max(1, round(len(values) * SMOOTHING_SHARE))
    smoothed = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - window) : end]
        smoothed.append(sum(part) / len(part))
    return smoothed
