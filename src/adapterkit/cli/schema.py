"""`adapterkit schema`."""

from __future__ import annotations

from adapterkit.cli import console


def schema() -> None:
    """Print the JSON schema of a recipe, for editors: every field, its bounds, its default and what it does.

    $ adapterkit schema > recipe.schema.json
    """
    from adapterkit.recipe import recipe_schema

    console.print_json(recipe_schema())
