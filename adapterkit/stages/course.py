"""What a stream is: stages over one recipe, in order. Known before torch is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from adapterkit.errors import RecipeError
from adapterkit.recipe import Recipe, load_recipe
from adapterkit.recipe.problems import readable, show_path
from adapterkit.recipe.settings import Many, Settings
from adapterkit.recipe.yaml_text import read_yaml
from adapterkit.training.joint_recipes import joint_problems

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
ISOLATED: Final = "isolated"
THROUGH: Final = "through"
JOINT: Final = "joint"


class Course(Settings):
    """Tasks or domains in the order in which they come."""

    recipe: Text | dict[str, Any]
    """What all stages share: a recipe's file or name, or its blocks."""
    stages: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]
    """Name -> the blocks of a recipe that are laid over it: {data: {train: …, test: …}}. In order."""
    ways: Annotated[Many[Literal["isolated", "through", "joint"]], Field(min_length=1)] = (ISOLATED, THROUGH)
    """isolated: every stage trains an adapter of its own. through: one adapter is trained on from stage to stage.
    joint: one method with a head for each stage learns all of them in one run."""
    temperature: Annotated[float, Field(ge=1)] = 1.0
    """Of the joint way. 1: a stage's turn comes as often as its rows are many. Higher: small stages more often."""
    output: Text = "runs/stream"
    """Folder of all artifacts: WAY/STAGE in it."""


def read_course(source: str | Path | Mapping[str, Any]) -> tuple[Course, dict[str, Recipe]]:
    """A course, and stage -> its recipe.
    `source`: a YAML or JSON file, or a mapping. Raises RecipeError: it cannot be read, a stage is no valid recipe or
    has no test rows, or one adapter cannot be trained through all of them; with every problem of every stage."""
    if isinstance(source, Mapping):
        raw, name = dict(source), "the course"
    else:
        name = str(source)
        raw = read_yaml(Path(source), name, "course", RecipeError).value
    try:
        course = Course.model_validate(raw)
    except ValidationError as error:
        found = readable(error, raw if isinstance(raw, dict) else {})
        raise RecipeError(
            f"{name} is not a valid course",
            [f"{show_path(path)}: {problem}" for path, problem in found],
            "A course has recipe, stages (two or more), ways, temperature and output.",
        ) from error
    shared = course.recipe if isinstance(course.recipe, dict) else load_recipe(course.recipe).to_dict()
    recipes: dict[str, Recipe] = {}
    problems: list[str] = []
    for stage, blocks in course.stages.items():
        try:
            recipes[stage] = load_recipe(_laid_over(shared, blocks))
        except RecipeError as error:
            problems += [f"stages.{stage}: {problem}" for problem in error.problems or [error.summary]]
    problems += _problems(course, recipes)
    if problems:
        raise RecipeError(f"{name} cannot be followed", problems)
    return course, recipes


def _laid_over(shared: Mapping[str, Any], blocks: Mapping[str, Any]) -> dict[str, Any]:
    """Blocks of a recipe with those of a stage over them, field by field; a method is taken whole."""
    laid = dict(shared)
    for name, block in blocks.items():
        under = laid.get(name)
        if isinstance(block, Mapping) and isinstance(under, Mapping) and name != "method":
            block = {**under, **block}
        laid[name] = block
    return laid


def _problems(course: Course, recipes: Mapping[str, Recipe]) -> list[str]:
    through = THROUGH in course.ways
    problems = []
    for stage, recipe in recipes.items():
        if recipe.data.test is None:
            problems.append(f"stages.{stage}.data.test: found null, expected rows to say by what is forgotten")
        if recipe.training.start_from is not None and through:
            problems.append(f"stages.{stage}.training.start_from: is what the way through sets; remove it")
    kinds = {stage: recipe.task.kind for stage, recipe in recipes.items()}
    if through and len(set(kinds.values())) > 1:
        shown = ", ".join(f"{stage}: {kind}" for stage, kind in kinds.items())
        problems.append(
            f"stages: one head answers them on the way through, and they differ ({shown}); or ways: [isolated]"
        )
    if len({recipe.backbone.model_dump_json() for recipe in recipes.values()}) > 1:
        problems.append("stages: one backbone is under all of them, and they name different ones")
    if JOINT in course.ways and recipes:
        problems += [f"stages.{problem}" for problem in joint_problems(recipes)]
    elif "temperature" in course.model_fields_set:
        problems.append("temperature: belongs to the joint way; remove it")
    return problems
