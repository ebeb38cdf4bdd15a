"""Which recipes make one run of several tasks. Known before torch is imported."""

from collections.abc import Mapping

from adapterkit.recipe import Recipe

OWN_OF_TASKS = frozenset({"class_weights", "label_smoothing"})
"""Fields of `training` in which tasks may differ; all else is the run's."""


def joint_problems(recipes: Mapping[str, Recipe]) -> list[str]:
    """Why recipes cannot be trained as one run, each as "task.field: found, expected"."""
    problems = []
    first = next(iter(recipes.values()))
    for name, recipe in recipes.items():
        training, ours = recipe.training.model_dump(), first.training.model_dump()
        problems += [
            f"{name}.training.{field}: {training.get(field)}, and {ours.get(field)} in the first; one run has one"
            for field in ours.keys() | training.keys()
            if field not in OWN_OF_TASKS and training.get(field) != ours.get(field)
        ]
        if recipe.method != first.method:
            problems.append(f"{name}.method: another than in the first; one method is trained for all")
        if not recipe.method.attaches:
            problems.append(f"{name}.method.kind: {recipe.method.kind} leaves nothing for tasks to share")
        if recipe.data.streaming:
            problems.append(f"{name}.data.streaming: tasks are drawn by their rows, which have to be in memory")
        if recipe.training.patience is not None:
            problems.append(f"{name}.training.patience: no task stops alone; remove it")
        if recipe.training.keep_best and recipe.data.validation is not None:
            problems.append(f"{name}.training.keep_best: the last state is kept, for all tasks; write false")
        problems += [
            f"{name}.training.{field}: is for runs of one task; remove it"
            for field in ("start_from", "objective")
            if getattr(recipe.training, field) is not None
        ]
    return sorted(problems)
