"""`adapterkit recipes`.

$ adapterkit recipes
$ adapterkit recipes banking77 > my.yaml
"""

from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json, argument


def recipes(name: Annotated[str | None, argument(help="Print this recipe.")] = None, as_json: Json = False) -> None:
    from adapterkit.errors import RecipeError
    from adapterkit.recipe import load_recipe, shipped_recipes

    shipped = shipped_recipes()
    if name is not None:
        found = next((recipe for recipe in shipped if recipe.name == name), None)
        if found is None:
            names = ", ".join(recipe.name for recipe in shipped)
            raise RecipeError(f"No recipe named {name} ships with adapterkit", [f"shipped: {names}"])
        if as_json:
            console.print_json(load_recipe(found.path).to_dict())
        else:
            typer.echo(found.path.read_text(encoding="utf-8"), nl=False)
    else:
        facts = [{**recipe._asdict(), "path": str(recipe.path)} for recipe in shipped]
        rows = [[recipe.name, recipe.headline] for recipe in shipped]
        console.print_either(as_json, facts, rows, ("recipe", "what it does"))
