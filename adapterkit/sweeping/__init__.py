"""Sweeps: many runs of one recipe over a grid of settings, compared on validation rows."""

from adapterkit.sweeping.grid import Axis, parse_grid
from adapterkit.sweeping.halving import Budget, Halving
from adapterkit.sweeping.run import SweepResult, sweep

__all__ = ["Axis", "Budget", "Halving", "SweepResult", "parse_grid", "sweep"]
