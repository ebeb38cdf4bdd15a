"""Evaluate an artifact on a data set."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit.artifact import open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.backbone import Backbone
from adapterkit.data.problems import unusable_note
from adapterkit.evaluation.rows import read_for, rows_for
from adapterkit.metrics import Metric
from adapterkit.scoring import score

logger = logging.getLogger(__name__)


def evaluate(
    artifact: str | Path,
    data: Any = None,
    *,
    backbone: Backbone | str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    data_root: str | Path | None = None,
    batch_size: int = 64,
    resamples: int = 1000,
    parts: Mapping[str, str | Path] | None = None,
) -> dict[str, Metric]:
    """Score an artifact on rows. Rows that cannot be used are logged by line number.

    Args:
        artifact: its folder.
        data: a file, a hub data set, or rows in memory (dicts, a DataFrame, a `datasets.Dataset`; see `data.rows_of`);
            None takes the test rows of its recipe.
        backbone: a loaded backbone, or where to load it from; None takes the one that the artifact names.
        columns: canonical name -> the column of the data, on top of what the artifact's recipe says.
        data_root: where relative paths are looked for first.
        resamples: of the bootstrap that gives the 95 % intervals; 0 for none.
        parts: where parts of a fusion are, by name; None looks beside the artifact.

    Raises:
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        DataError: the data cannot be read, or no row can be used.
    """
    opened = open_artifact(artifact, parts=parts)
    if data is None or isinstance(data, str | Path):
        source = None if data is None else str(data)
        rows = read_for(opened, source, columns=columns, root=data_root)
    else:
        rows = rows_for(opened, data, columns=columns)
    for note in rows.reading.notes:
        logger.warning("%s: %s", rows.source, note)
    checked = opened.task.check_rows(rows, "score")
    if checked.problems:
        logger.warning(unusable_note(rows.source, len(rows), checked.problems))
    for note in opened.task.notes(checked.rows):
        logger.warning("%s: %s", rows.source, note)
    with opened.adapted(find_backbone(opened, backbone)) as adapted:
        encoded = adapted.task.encode(checked.rows, adapted.vocabulary, "score")
        for note in encoded.notes:
            logger.warning("%s", note)
        return score(adapted, checked.rows, encoded.features, batch_size=batch_size, resamples=resamples)
