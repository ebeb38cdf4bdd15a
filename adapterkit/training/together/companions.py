"""Which runs can be trained side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol, TypeVar

from adapterkit.recipe import Recipe
from adapterkit.training.trackers import tracker_names

SHARED = ("precision", "accumulate", "gradient_checkpointing", "cache", "trackers")
"""What the `training` blocks of companions have in common: how is computed, not what is learned."""

KEEPING_RUNS_APART = {"tensorboard"}
"""Trackers that can follow several runs of one process at the same time."""


class ToTrain(Protocol):
    """A run to come."""

    @property
    def recipe(self) -> Recipe: ...


W = TypeVar("W", bound=ToTrain)


def in_companies(runs: Sequence[W], most: int) -> list[list[W]]:
    """Runs in their order, cut where the next one cannot be trained beside the ones before, or `most` are reached."""
    companies: list[list[W]] = []
    for run in runs:
        last = companies[-1] if companies else []
        if last and len(last) < most and _are_companions(last[0].recipe, run.recipe):
            last.append(run)
        else:
            companies.append([run])
    return companies


def _are_companions(one: Recipe, other: Recipe) -> bool:
    """Whether recipes differ in nothing but how they learn, and in their seed, and can be followed both at once."""
    return _shared(one) == _shared(other) and KEEPING_RUNS_APART.issuperset(tracker_names(one.training))


def _shared(recipe: Recipe) -> str:
    content = recipe.to_dict()
    training = {name: content["training"].get(name) for name in SHARED}
    return json.dumps({**content, "output": None, "training": training}, sort_keys=True)
