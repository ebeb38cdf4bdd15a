"""Pictures of what benchmarks measured: SVG, the same bytes for the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

matplotlib.rcParams.update({"svg.hashsalt": "adapterkit", "svg.fonttype": "none", "font.size": 9})


def curves_picture(variants: list[dict[str, Any]], path: Path) -> None:
    """Test accuracy over CPU seconds, one line for each variant."""
    figure, axes = plt.subplots(figsize=(6, 3.8))
    for row in variants:
        seconds, accuracy = zip(*[(0.0, 1 / 77), *row["curve"]], strict=True)
        axes.plot(seconds, [100 * value for value in accuracy], marker="o", markersize=3, label=row["variant"])
    axes.legend(loc="lower right", fontsize=8)
    axes.set(xlabel="CPU seconds, filling the cache included", ylabel="test accuracy, %", ylim=(0, 100))
    axes.set_xlim(0, None)
    axes.spines[["top", "right"]].set_visible(False)
    _write(figure, path)


def figures_picture(figures: list[dict[str, Any]], path: Path) -> None:
    """Each figure as a share of what is asked: left of the line is better."""
    shown = [row for row in figures if not row["what"].startswith("losses")]
    figure, axes = plt.subplots(figsize=(8.5, 0.6 + 0.24 * len(shown)))
    widest = 1.0
    for place, row in enumerate(reversed(shown)):
        sign, limit = row["asked"].split()
        share = row["measured"] / float(limit) if sign == "≤" else float(limit) / row["measured"]
        widest = max(widest, share)
        axes.barh(place, share, color="#4878a8" if row["met"] else "#c0504d", height=0.65)
        axes.text(share + 0.01, place, f"{row['measured']:g} (asked {row['asked']})", va="center", fontsize=7)
    axes.axvline(1.0, color="black", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(shown)), [row["what"] for row in reversed(shown)], fontsize=7)
    axes.set(xlabel="cost as a share of what is asked; left of the line is better", xlim=(0, widest + 0.4))
    axes.spines[["top", "right"]].set_visible(False)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
