"""Which runs can be trained side by side."""

import json
from collections.abc import Sequence
from itertools import pairwise

from adapterkit.recipe import Recipe
from adapterkit.training.trackers import tracker_names

SHARED = ("precision", "accumulate", "shares", "gradient_checkpointing", "cache", "packed", "trackers")
"""What the `training` blocks of companions have in common: how is computed, not what is learned."""

KEEPING_RUNS_APART = {"tensorboard"}
"""Trackers that can follow several runs of one process at the same time."""


def in_companies(recipes: Sequence[Recipe], most: int) -> list[slice]:
    """Runs in their order, cut where the next one cannot be trained beside the ones before, or `most` are reached."""
    begins = [0]
    for place, recipe in enumerate(recipes[1:], start=1):
        alike = _shared(recipes[begins[-1]]) == _shared(recipe)
        if place - begins[-1] >= most or not alike or not KEEPING_RUNS_APART.issuperset(tracker_names(recipe.training)):
            begins.append(place)
    return [slice(*ends) for ends in pairwise([*begins, len(recipes)])] if recipes else []


def _shared(recipe: Recipe) -> str:
    """A recipe without how it learns, and without its seed."""
    content = recipe.to_dict()
    training = {name: content["training"].get(name) for name in SHARED}
    return json.dumps({**content, "output": None, "training": training}, sort_keys=True)
