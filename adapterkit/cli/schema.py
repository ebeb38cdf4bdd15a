"""`adapterkit schema`.

$ adapterkit schema > recipe.schema.json
$ adapterkit schema composition > composition.schema.json
"""

from typing import Annotated, Literal

import typer

from adapterkit.cli import console

Schema = Literal[
    "recipe", "composition", "evaluation", "comparison", "calibrating", "attribution", "probe", "nearest",
    "transfer", "stream", "upgrade", "ablation", "report", "diff", "compaction", "search",
]  # fmt: skip


def schema(
    of: Annotated[
        Schema,
        typer.Argument(metavar="FILE", help="recipe, composition, or the record that a verb prints with --json."),
    ] = "recipe",
) -> None:
    if of == "recipe":
        from adapterkit.recipe import recipe_schema

        found = recipe_schema()
    elif of == "composition":
        from adapterkit.compose import composition_schema

        found = composition_schema()
    else:
        from adapterkit.records import record_schema

        found = record_schema(of)
    console.print_json(found)
