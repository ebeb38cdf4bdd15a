"""`adapterkit schema`."""

from enum import StrEnum
from typing import Annotated

import typer

from adapterkit.cli import console


class File(StrEnum):
    """A file whose schema can be printed."""

    RECIPE = "recipe"
    COMPOSITION = "composition"
    EVALUATION = "evaluation"
    COMPARISON = "comparison"
    CALIBRATING = "calibrating"
    ATTRIBUTION = "attribution"
    PROBE = "probe"
    NEAREST = "nearest"
    TRANSFER = "transfer"
    STREAM = "stream"
    UPGRADE = "upgrade"
    ABLATION = "ablation"
    REPORT = "report"
    DIFF = "diff"
    COMPACTION = "compaction"
    SEARCH = "search"


def schema(
    of: Annotated[
        File, typer.Argument(metavar="FILE", help="recipe, composition, or the record that a verb prints with --json.")
    ] = File.RECIPE,
) -> None:
    """Print the JSON schema of a recipe, a composition or a record: fields, bounds, defaults, what they do.

    $ adapterkit schema > recipe.schema.json
    $ adapterkit schema composition > composition.schema.json
    """
    if of is File.COMPOSITION:
        from adapterkit.compose import composition_schema

        console.print_json(composition_schema())
        return
    if of is not File.RECIPE:
        from adapterkit.records import record_schema

        console.print_json(record_schema(of.value))
        return
    from adapterkit.recipe import recipe_schema

    console.print_json(recipe_schema())
