"""`adapterkit init`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.answering import asking
from adapterkit.cli.data import Files, facts, show, surveyed
from adapterkit.cli.options import BackboneName, Columns, DataRoot, Delimiter, Encoding, Json, KindName, ReadAs, reading


def init(
    files: Files,
    kind: KindName = None,
    columns: Columns = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="RECIPE", help="Default: the first file's name.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that exists.")] = False,
    backbone: BackboneName = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    read_as: ReadAs = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Look at files of rows and write a recipe for them, with comments, whose values suit their size.

    $ adapterkit init tickets.csv
    $ adapterkit init train.csv test.csv --output tickets.yaml
    $ adapterkit init articles.txt --kind masked-lm --backbone models/bert
    """
    from adapterkit.errors import DataError, OutputError
    from adapterkit.recipe import load_recipe
    from adapterkit.survey import recipe_text

    recipe = Path(f"{_stem(files[0])}.yaml") if output is None else output
    if recipe.exists() and not force:
        raise OutputError(
            f"{recipe} exists already", remedy="Name another (--output other.yaml), or replace it (--force)."
        )
    survey = surveyed(files, kind, columns, backbone, reading(encoding, delimiter, read_as), data_root)
    if survey.lacking:
        raise DataError(
            "Nothing can be learned from these rows: text classification needs at least two labels",
            [survey.lacking],
            "Name the column that holds them: --column label=COLUMN; adapterkit data shows what each one holds.",
        )
    artifact = f"runs/{recipe.stem}"
    words = ["adapterkit", "train", str(recipe), *([] if data_root is None else ["--data-root", str(data_root)])]
    text = recipe_text(survey, artifact, shlex.join(words))
    try:
        recipe.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{recipe} cannot be written", [f"found: {error.strerror}"]) from error
    load_recipe(recipe)
    if as_json:
        console.print_json({**facts(survey), "recipe": str(recipe), "next": shlex.join(words)})
        return
    show(survey)
    console.say(f"\nRecipe: {recipe}", style="green")
    console.say(f"Train: {shlex.join(words)}")
    console.say(f"Then: {asking(survey.guess.kind, artifact)}")


def _stem(name: str) -> str:
    """A file's name without its endings, or a pattern's letters."""
    stem = Path(name.rstrip("/")).name.split(".")[0]
    return "".join(letter for letter in stem if letter.isalnum() or letter in "-_ ").strip("-_ ") or "recipe"
