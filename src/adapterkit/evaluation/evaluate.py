"""Evaluate an artifact on a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.data import Rows, read_rows
from adapterkit.data.rows import as_rows
from adapterkit.evaluation.score import score
from adapterkit.recipe import DataSettings
from adapterkit.tasks.confidence import Metric

logger = logging.getLogger(__name__)


def evaluate(
    artifact: str | Path,
    data: str | Path | Sequence[Mapping[str, Any]],
    *,
    backbone: Backbone | str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    data_root: str | Path | None = None,
    batch_size: int = 64,
    resamples: int = 1000,
) -> dict[str, Metric]:
    """Score an artifact on rows.

    Args:
        artifact: its folder.
        data: a file, a hub data set, or rows with the task's columns.
        backbone: a loaded backbone, or where to load it from; None takes the one that the artifact names.
        columns: canonical name -> the file's column.
        data_root: where relative paths are looked for first.
        resamples: of the bootstrap that gives the 95 % intervals; 0 for none.

    Raises:
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        DataError: the data cannot be read, or no row can be used.
    """
    with load(artifact, backbone) as adapted:
        task = adapted.task
        rows: Rows
        if isinstance(data, str | Path):
            settings = DataSettings(train=str(data), columns=dict(columns or {}))
            unit = "document" if task.kind in ("masked-lm", "causal-lm") else "line"
            rows = read_rows(str(data), settings, root=data_root, needs=task.columns, part="test", text_unit=unit)  # type: ignore[arg-type]
        else:
            rows = as_rows(data)
        checked = task.check_rows(rows, "score")
        for number, reason in checked.problems:
            logger.warning("row %d cannot be used: %s", number, reason)
        return score(adapted, checked.rows, batch_size=batch_size, resamples=resamples)
