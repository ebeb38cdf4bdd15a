"""`adapterkit schema`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from adapterkit.cli import console


class File(StrEnum):
    """A file whose schema can be printed."""

    RECIPE = "recipe"
    COMPOSITION = "composition"


def schema(
    of: Annotated[File, typer.Argument(metavar="FILE", help="recipe, or composition: a plan.")] = File.RECIPE,
) -> None:
    """Print the JSON schema of a recipe or a plan, for editors: every field, its bounds, its default, what it does.

    $ adapterkit schema > recipe.schema.json
    $ adapterkit schema composition > plan.schema.json
    """
    if of is File.COMPOSITION:
        from adapterkit.compose import plan_schema

        console.print_json(plan_schema())
        return
    from adapterkit.recipe import recipe_schema

    console.print_json(recipe_schema())
