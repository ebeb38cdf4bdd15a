"""Find what cannot be trained before anything is: every point's adapter is put on its backbone once."""

import json
from collections.abc import Mapping, Sequence

from adapterkit.adapted import build
from adapterkit.errors import DeviceError, HeadError, RecipeError, SiteError
from adapterkit.recipe.load import folder_of
from adapterkit.sweeping.points import Point, Source, refuse_points
from adapterkit.training.environment import compute_dtype, make_accelerator
from adapterkit.training.learner import idle_rates, make_learner
from adapterkit.training.reuse import Reuse, backbone_key, rows_key


def check_points(source: Source, points: Sequence[Point], reuse: Reuse) -> None:
    """Refuse a sweep in which a point's sites, head, number format or task would stop it, or an axis changes nothing.

    Points go backwards, so that it ends with what the first of them needs.

    Raises:
        RecipeError: every problem, with the points that have it.
        AdapterkitError: rows or a backbone that cannot be read.
    """
    found: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {}
    for point in reversed(points):
        if (key := _key(point)) not in found:
            found[key] = _try(source, point, reuse)
    wrong: dict[str, list[str]] = {}
    for point in points:
        for problem in found[_key(point)][0]:
            wrong.setdefault(problem, []).append(point.name)
    for path in points[0].settings if points else ():
        reasons = [found[_key(point)][1].get(path) for point in points]
        # Where a rate does nothing at some points only, another axis decides what learns.
        if all(reasons):
            wrong[f"{path}: has no effect, {reasons[0]}"] = [point.name for point in points]
    refuse_points(wrong, len(points))


def _key(point: Point) -> str:
    """Equal for points that share what is checked: backbone, data, task, method and head; not the seed."""
    recipe = point.recipe
    data, task, _ = json.loads(rows_key(recipe))
    adapter = [recipe.method.model_dump(mode="json"), recipe.head.model_dump(mode="json")]
    training = [recipe.training.class_weights, recipe.training.head_learning_rate is None]
    return json.dumps([backbone_key(recipe), data, task, adapter, training], sort_keys=True)


def _try(source: Source, point: Point, reuse: Reuse) -> tuple[Sequence[str], Mapping[str, str]]:
    """What would stop a point, and what `idle_rates` says of it."""
    recipe = point.recipe
    try:
        rows = reuse.rows(recipe, folder_of(source))
        backbone = reuse.backbone(recipe, make_accelerator(recipe, point.output))
        compute_dtype(recipe, backbone)
        rows.task.class_weights(recipe.training.class_weights, rows.sample)
        with build(backbone, rows.task, recipe.method, recipe.head, recipe.training.seed) as adapted:
            make_learner(adapted, recipe.training, 1)
            return (), idle_rates(adapted, recipe.training)
    except (RecipeError, SiteError, HeadError, DeviceError) as error:
        return list(error.problems) or [error.summary], {}
