"""Sweeps: many runs of one recipe over a grid of settings, compared on validation rows."""

from typing import TYPE_CHECKING

from adapterkit.lazy import lazily
from adapterkit.sweeping.definition import Definition, define_sweep
from adapterkit.sweeping.grid import Axis, parse_grid
from adapterkit.sweeping.halving import Budget, Halving

if TYPE_CHECKING:
    from adapterkit.sweeping.run import SweepResult as SweepResult
    from adapterkit.sweeping.run import sweep as sweep

__all__ = ["Axis", "Budget", "Definition", "Halving", "SweepResult", "define_sweep", "parse_grid", "sweep"]

__getattr__, __dir__ = lazily(__name__, dict.fromkeys(("SweepResult", "sweep"), "adapterkit.sweeping.run"))
