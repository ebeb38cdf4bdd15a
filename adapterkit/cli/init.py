"""`adapterkit init`.

$ adapterkit init tickets.csv
$ adapterkit init train.csv test.csv --output tickets.yaml
$ adapterkit init articles.txt --kind masked-lm --backbone models/bert
"""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.answering import asking
from adapterkit.cli.data import Files, HowSurveyed, facts, show
from adapterkit.cli.options import Json


def init(
    files: Files,
    how: HowSurveyed,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="RECIPE", help="Default: the first file's name.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that exists.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit.errors import DataError, OutputError
    from adapterkit.manifest import write_file
    from adapterkit.recipe import load_recipe
    from adapterkit.survey import look, recipe_text

    # A file's name without its endings, or a pattern's letters.
    stem = Path(files[0].rstrip("/")).name.split(".")[0]
    stem = "".join(letter for letter in stem if letter.isalnum() or letter in "-_ ").strip("-_ ")
    recipe = Path(f"{stem or 'recipe'}.yaml") if output is None else output
    if recipe.exists() and not force:
        raise OutputError(
            f"{recipe} exists already", remedy="Name another (--output other.yaml), or replace it (--force)."
        )
    survey = look(files, **how)
    if survey.lacking:
        raise DataError(
            "Nothing can be learned from these rows: text classification needs at least two labels",
            [survey.lacking],
            "Name the column that holds them: --column label=COLUMN; adapterkit data shows what each one holds.",
        )
    artifact = f"runs/{recipe.stem}"
    root = os.environ.get("ADAPTERKIT_DATA")
    command = shlex.join(["adapterkit", "train", str(recipe), *([] if root is None else ["--data-root", root])])
    write_file(recipe, recipe_text(survey, artifact, command).encode())
    load_recipe(recipe)
    if as_json:
        console.print_json({**facts(survey), "recipe": str(recipe), "next": command})
        return
    show(survey)
    console.say(f"\nRecipe: {recipe}", style="green")
    console.say(f"Train: {command}")
    console.say(f"Then: {asking(survey.guess.kind, artifact)}")
