"""Curves of the host's mixed batch over its plain backbone, as SVG: over adapters, over tokens, over rank."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update({"svg.hashsalt": "adapterkit", "svg.fonttype": "none", "font.size": 10})

from matplotlib import pyplot as plt  # noqa: E402 - after the settings

CURVES = {
    "over adapters": ("adapters", "different adapters among 32 rows of 32 tokens, rank 8"),
    "over tokens": ("tokens", "tokens of each of 32 rows, an adapter for every row, rank 8"),
    "over rank": ("rank", "rank, 32 rows of 32 tokens, an adapter for every row"),
}


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """One picture per curve. Returns the files."""
    drawn = []
    for curve, (key, words) in CURVES.items():
        lines = {name: section[curve] for name, section in report.items() if section.get(curve)}
        if not lines:
            continue
        figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
        for name, cells in lines.items():
            axes.plot([cell[key] for cell in cells], [cell["host/plain"] for cell in cells], marker="o", label=name)
        for name, section in report.items():
            if curve == "over tokens" and name in lines and "peft/plain" in section.get("mixed", {}):
                mixed = section["mixed"]
                axes.plot(mixed["tokens"], mixed["peft/plain"], "x", color="black")
                axes.annotate(
                    f"PEFT, {name.partition(',')[0]}",
                    (mixed["tokens"], mixed["peft/plain"]),
                    xytext=(6, -4),
                    textcoords="offset points",
                )
        places = sorted({cell[key] for cells in lines.values() for cell in cells})
        axes.set_xscale("log", base=2)
        axes.set_xticks(places, labels=[str(place) for place in places])
        axes.minorticks_off()
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set(xlabel=words, ylabel="time / bare backbone", ylim=(0, 1.7))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower left")
        file = folder / f"host_{curve.replace(' ', '_')}.svg"
        figure.savefig(file, metadata={"Date": None, "Creator": None})
        plt.close(figure)
        drawn.append(file)
    return drawn
