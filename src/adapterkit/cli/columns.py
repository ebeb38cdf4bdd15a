"""What an artifact's recipe calls the columns of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapterkit.artifact import Artifact


def columns_of(artifact: Artifact) -> dict[str, str]:
    """The names that the columns had in training: canonical name -> the file's."""
    data = artifact.manifest.recipe.get("data")
    columns = data.get("columns") if isinstance(data, dict) else None
    return {name: str(column) for name, column in columns.items()} if isinstance(columns, dict) else {}
