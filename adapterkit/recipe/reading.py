"""How a source is read, said without a recipe: the fields of its `data` that are about files and hub data sets."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from adapterkit.errors import DataError
from adapterkit.recipe.data import OF_FORMATS, DataSettings
from adapterkit.recipe.problems import readable, show_path
from adapterkit.recipe.suggestions import did_you_mean

FIELDS = ("format", *OF_FORMATS)


class _Asked(BaseModel):
    data: DataSettings


def reading_settings(fields: Mapping[str, Any], known: DataSettings | None = None) -> DataSettings:
    """Settings that say how a source is read, as in {"encoding": "cp1252"}; those that are `known` hold elsewhere.

    Raises DataError: a field that says nothing of that, or a value that makes no sense; all of them at once.
    """
    problems = [
        f"data.{name}: says nothing of how rows are read, expected one of {', '.join(FIELDS)}"
        f"{did_you_mean(name, FIELDS)}"
        for name in fields
        if name not in FIELDS
    ]
    asked = {"data": {**({} if known is None else known.model_dump(exclude_unset=True)), **fields}}
    try:
        if not problems:
            return _Asked.model_validate(asked).data
    except ValidationError as error:
        problems = [f"{show_path(path)}: {problem}" for path, problem in readable(error, asked)]
    raise DataError("It cannot be told how to read these rows", problems)
