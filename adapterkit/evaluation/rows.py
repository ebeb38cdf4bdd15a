"""The rows that an artifact is scored on, read as those that it was trained on."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapterkit.artifact import Artifact
from adapterkit.data import IN_MEMORY, Rows, named_rows, read_rows, rows_of, stream_rows
from adapterkit.errors import ArtifactError, DataError
from adapterkit.recipe import DataSettings, Recipe
from adapterkit.recipe.reading import reading_settings
from adapterkit.training.datasets import read_recipe_rows

logger = logging.getLogger(__name__)


def data_settings(artifact: Artifact) -> DataSettings | None:
    """The `data` block of the recipe that the artifact keeps; None where it keeps none, as an imported one does.
    Raises ArtifactError: the block is not valid."""
    kept = artifact.manifest.recipe.get("data")
    if kept is None:
        return None
    try:
        return DataSettings.model_validate(kept)
    except ValidationError as error:
        told = [f"data.{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise ArtifactError(
            f"{artifact.folder} keeps a recipe whose data block is not valid", told, "Name the data yourself."
        ) from error


def kept_recipe(artifact: Artifact, root: str | Path | None, **training: Any) -> dict[str, Any]:
    """The recipe that an artifact keeps, to train by it again: with paths from `root`, and these values of training."""
    recipe: dict[str, Any] = dict(artifact.manifest.recipe)
    data = {**recipe["data"], "root": None if root is None else str(root)}
    return {**recipe, "data": data, "training": {**recipe.get("training", {}), **training}}


def read_for(
    artifact: Artifact,
    data: Any = None,
    *,
    columns: Mapping[str, str] | None = None,
    root: str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Rows:
    """Rows to score an artifact on, under its task's column names.

    Without any they are the recipe's test rows, or where it has none the validation rows, also those that training
    split off. What the recipe names is read as it was in training: format, configuration, revision and splits; other
    data, rows in memory too, may have the recipe's column names or the task's. Columns and fields of `reading` count
    more than the recipe's. `data`: a file, a hub data set, or rows as `data.rows_of` takes them.

    Raises DataError: there are no such rows, they are others than in training, or the data cannot be read.
    """
    kept = data_settings(artifact)
    if data is not None and not isinstance(data, str | Path):
        held = rows_of(data)
        known = {name: column for name, column in artifact.trained_with.items() if column in held.columns}
        return named_rows(held, {**known, **(columns or {})}, needs=artifact.task.columns)
    source = str(data) if data is not None else None if kept is None else kept.test
    if source is None:
        return _validation_rows(artifact, kept, root)
    own = kept is not None and source in (kept.train, kept.validation, kept.test)
    settings = reading_settings(reading or {}, kept if own else None)
    unit = artifact.task.text_unit(kept)
    known = {} if kept is None else dict(kept.columns)
    if known and not own:
        present = stream_rows(source, settings, root=root, split="test", text_unit=unit).columns
        known = {name: column for name, column in known.items() if column in present}
    return read_rows(
        source,
        settings,
        columns={**known, **(columns or {})},
        root=root,
        needs=artifact.task.columns,
        split="validation" if kept is not None and source == kept.validation != kept.test else "test",
        text_unit=unit,
    )


def _validation_rows(artifact: Artifact, kept: DataSettings | None, root: str | Path | None) -> Rows:
    """The validation rows of the run, the very same."""
    if kept is None or kept.validation is None or kept.train in (None, IN_MEMORY):
        raise DataError(
            f"{artifact.folder} names no test rows", remedy="Name data to score it on (data=…, --data FILE)."
        )
    recipe = Recipe.model_validate(artifact.manifest.recipe)
    if root is not None:
        recipe = recipe.model_copy(update={"data": kept.model_copy(update={"root": str(root)})})
    rows = read_recipe_rows(recipe, known=artifact.task).validation
    before = artifact.manifest.data.digests.get("validation")
    if rows is None or rows.digest() != before:
        raise DataError(
            f"{artifact.folder} names no test rows, and its validation rows are others than they were",
            [f"digest: found {'none' if rows is None else rows.digest()[:12]}, expected {str(before)[:12]}"],
            "Name data to score it on (data=…, --data FILE).",
        )
    logger.warning("there are no test rows: %s validation rows, by which the state was chosen, are scored", len(rows))
    return rows
