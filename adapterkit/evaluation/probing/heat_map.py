"""The picture of a transfer: what a head for each set is right in, on each representation."""

from pathlib import Path

import numpy as np

from adapterkit.errors import OutputError
from adapterkit.records import TransferRecord


def draw_heat_map(record: TransferRecord, file: str | Path) -> None:
    """Write a picture: representations by sets, each at its best layer, the probe's Spearman below the set's name.
    Raises OutputError: the file cannot be written, or its ending names no format of pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = list(record.sets)
    names = list(dict.fromkeys(start.representation for found in record.sets.values() for start in found.starts))
    share = np.full((len(names), len(sets)), np.nan)
    for column, name in enumerate(sets):
        for start in record.sets[name].starts:
            if start.accuracy is not None and start.accuracy.value is not None:
                row = names.index(start.representation)
                share[row, column] = np.nanmax([share[row, column], start.accuracy.value])
    figure = Figure(figsize=(2 + 1.4 * len(sets), 1.5 + 0.5 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    above = np.nan_to_num(share - [record.sets[name].chance for name in sets])
    axes.imshow(above, aspect="auto", cmap="Blues", vmin=0, vmax=max(1.2 * above.max(), 0.01))
    rho = [record.sets[name].rank_correlation["probe"] or 0.0 for name in sets]
    axes.set_xticks(range(len(sets)), [f"{name}\nρ {value:.2f}" for name, value in zip(sets, rho, strict=True)])
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(share.shape):
        axes.text(column, row, f"{share[row, column]:.1%}", ha="center", va="center")
    axes.set_title("right in, at the best layer", fontsize=9)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{file} cannot be written", [str(error)], "Name a file that ends in .png or .svg."
        ) from error
