"""Find what cannot be trained before anything is: every point's adapter is put on its backbone once."""

from __future__ import annotations

import json
from collections.abc import Sequence

from adapterkit.adapted import build
from adapterkit.errors import DeviceError, HeadError, RecipeError, SiteError
from adapterkit.sweeping.points import Point, Source, refuse_points
from adapterkit.training.learner import make_learner
from adapterkit.training.place import compute_dtype, make_accelerator
from adapterkit.training.run import folder_of
from adapterkit.training.shelf import Shelf, backbone_key, rows_key


def check_points(source: Source, points: Sequence[Point], shelf: Shelf) -> None:
    """Refuse a sweep in which a point's sites, head, number format or task would stop it.

    Points go backwards, so that the shelf is left with what the first of them needs.

    Raises:
        RecipeError: every problem, with the points that have it.
        AdapterkitError: rows or a backbone that cannot be read.
    """
    found: dict[str, list[str]] = {}
    for point in reversed(points):
        if (key := _key(point)) not in found:
            found[key] = _problems(source, point, shelf)
    wrong: dict[str, list[str]] = {}
    for point in points:
        for problem in found[_key(point)]:
            wrong.setdefault(problem, []).append(point.name)
    refuse_points(wrong, len(points))


def _key(point: Point) -> str:
    """Equal for points that share what is checked: backbone, data, task, method and head; not the seed."""
    recipe = point.recipe
    data, task, _ = json.loads(rows_key(recipe))
    adapter = [recipe.method.model_dump(mode="json"), recipe.head.model_dump(mode="json")]
    return json.dumps([backbone_key(recipe), data, task, adapter, recipe.training.class_weights], sort_keys=True)


def _problems(source: Source, point: Point, shelf: Shelf) -> list[str]:
    recipe = point.recipe
    try:
        rows = shelf.rows(recipe, folder_of(source))
        backbone = shelf.backbone(recipe, make_accelerator(recipe, point.output))
        compute_dtype(recipe, backbone)
        rows.task.class_weights(recipe.training.class_weights, rows.sample)
        with build(backbone, rows.task, recipe.method, recipe.head, recipe.training.seed) as adapted:
            make_learner(adapted, recipe.training, 1)
    except (RecipeError, SiteError, HeadError, DeviceError) as error:
        return list(error.problems) or [error.summary]
    return []
