"""What a sweep is: its points, its folder, and what its folder keeps of it. Known before torch is imported."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.errors import DeviceError, SweepError
from adapterkit.recipe import Resolved, resolve
from adapterkit.sweeping.grid import Axis, axes_of, parse_grid
from adapterkit.sweeping.halving import Halving
from adapterkit.sweeping.ledger import Ledger
from adapterkit.sweeping.points import Point, Source, make_points
from adapterkit.training import output_of

FORMAT = 1


@dataclass(frozen=True)
class Definition:
    """What a sweep is.

    Attributes:
        resolved: the recipe that all points begin with.
        axes: the grid.
        halving: how settings are thinned out while they are trained; None trains all to the end.
        points: in the order of the grid's values.
    """

    resolved: Resolved
    axes: tuple[Axis, ...]
    halving: Halving | None
    folder: Path
    points: tuple[Point, ...]

    def to_dict(self) -> dict[str, Any]:
        """What the folder keeps, and what a sweep that goes on has to agree with."""
        return {
            "format": FORMAT,
            "recipe": {**self.resolved.recipe.to_dict(), "output": None},
            "grid": {axis.path: list(axis.values) for axis in self.axes},
            "halving": None if self.halving is None else self.halving.to_dict(),
        }

    def check(self, *, overwrite: bool = False) -> None:
        """Refuse a folder that holds another sweep, or something else; the ledger's errors. Nothing is written."""
        if self.folder.is_dir():
            Ledger(self.folder).check(self.to_dict(), overwrite=overwrite)


def define_sweep(
    recipe: Source,
    grid: Mapping[str, Iterable[Any]] | Sequence[str],
    *,
    halving: Halving | bool = False,
    together: int = 1,
    processes: int = 1,
    overrides: Sequence[str] = (),
) -> Definition:
    """A sweep from what `sweep` takes.

    Raises:
        SweepError: the grid cannot be used.
        RecipeError: points that are no valid recipe.
        DeviceError: this is one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DeviceError(
            "a sweep shares out its points itself", remedy="Start it without a launcher: sweep --processes N."
        )
    if together < 1:
        raise SweepError(f"together is {together}, expected at least 1", remedy="1 trains one point after the other.")
    if processes < 1 or (processes > 1 and together > 1):
        raise SweepError(
            f"processes is {processes} and together {together}, expected at least 1, and one of them 1",
            remedy="Several processes train a point each; points in one batch are in one process.",
        )
    axes = tuple(axes_of(grid) if isinstance(grid, Mapping) else parse_grid(grid))
    resolved = resolve(recipe, overrides)
    given = any(word.partition("=")[0].strip() == "output" for word in overrides)
    output = output_of(resolved)
    folder = output if given else output.with_name(f"{output.name}-sweep")
    chosen = (Halving() if halving else None) if isinstance(halving, bool) else halving
    return Definition(resolved, axes, chosen, folder, make_points(recipe, axes, overrides, folder))
