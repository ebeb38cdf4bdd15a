"""Which points of a sweep can be trained side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence

from adapterkit.sweeping.points import Point
from adapterkit.training.trackers import tracker_names

SHARED = ("precision", "accumulate", "gradient_checkpointing", "cache", "trackers")
"""What the `training` blocks of companions have in common: how is computed, not what is learned."""

KEEPING_RUNS_APART = {"tensorboard"}
"""Trackers that can follow several runs of one process at the same time."""


def in_companies(points: Sequence[Point], most: int) -> list[list[Point]]:
    """Points in their order, cut where the next one cannot be trained beside the ones before, or `most` are reached."""
    companies: list[list[Point]] = []
    for point in points:
        last = companies[-1] if companies else []
        if last and len(last) < most and _alike(last[0]) == _alike(point):
            last.append(point)
        else:
            companies.append([point])
    return companies


def _alike(point: Point) -> str:
    """Equal for points that differ in nothing but how they learn, and in their seed."""
    if not KEEPING_RUNS_APART.issuperset(tracker_names(point.recipe.training)):
        return point.name
    recipe = point.recipe.to_dict()
    training = {name: recipe["training"].get(name) for name in SHARED}
    return json.dumps({**recipe, "output": None, "training": training}, sort_keys=True)
