"""Evaluate an artifact on a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.artifact import open_artifact
from adapterkit.artifact.loading import find_backbone
from adapterkit.artifact.saving import package_versions
from adapterkit.backbone import Backbone
from adapterkit.evaluation.outcome import Outcome, answer_rows, rows_to_answer
from adapterkit.evaluation.pages import check_writable, write_errors, write_report
from adapterkit.metrics import Metric, measure_calibration
from adapterkit.records import EvaluationRecord, MetricRecord, RowsUsed

if TYPE_CHECKING:
    from accelerate import Accelerator

SEED = 0
"""Of every resampling: the same rows give the same intervals."""


def evaluate(
    artifact: str | Path,
    data: Any = None,
    *,
    backbone: Backbone | str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    reading: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    batch_size: int = 64,
    resamples: int = 1000,
    parts: Mapping[str, str | Path] | None = None,
) -> dict[str, Metric]:
    """Score an artifact on rows. Rows that cannot be used are logged with their places.

    Args:
        artifact: its folder.
        data: a file, a hub data set, or rows in memory (dicts, a DataFrame, a `datasets.Dataset`; see `data.rows_of`);
            None takes the test rows of its recipe.
        backbone: a loaded backbone, or where to load it from; None takes the one that the artifact names.
        columns: canonical name -> the column of the data, on top of what the artifact's recipe says.
        reading: how a file is read, by the fields of a recipe's data: {"encoding": "cp1252", "delimiter": ";"}.
        data_root: where relative paths are looked for first.
        resamples: of the bootstrap that gives the 95 % intervals; 0 for none.
        parts: where parts of a fusion are, by name; None looks beside the artifact.

    Raises:
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        DataError: the data cannot be read, or no row can be used.
    """
    how: Any = {"columns": columns, "reading": reading, "data_root": data_root, "parts": parts}
    outcome, _ = answered(artifact, data, backbone=backbone, batch_size=batch_size, **how)
    return outcome.metrics(resamples=resamples, seed=SEED)


def record_evaluation(
    artifact: str | Path,
    data: Any = None,
    *,
    resamples: int = 1000,
    report: str | Path | None = None,
    errors: str | Path | None = None,
    command: str = "",
    accelerator: Accelerator | None = None,
    **how: Any,
) -> EvaluationRecord:
    """All that `evaluate` finds, each label and the calibration too, as a record that names everything behind it.

    Other arguments and errors are those of `evaluate`. The same arguments give the same record.

    Args:
        report: a page to write, as HTML; see `report.page`.
        errors: a CSV file to write, of every row that was answered badly, the worst first.
        command: that the page names.
        accelerator: the processes that answer a share of the rows each; all of them call this, and the first writes.

    Raises:
        OutputError: a file cannot be written there; found before rows are answered.
    """
    check_writable(*(path for path in (report, errors) if path is not None))
    outcome, used = answered(artifact, data, accelerator=accelerator, **how)
    judged = outcome.compared.judged
    record = EvaluationRecord(
        made_with=package_versions(),
        seed=SEED,
        answering=outcome.answering,
        data=used,
        resamples=resamples,
        metrics={name: MetricRecord.of(m) for name, m in outcome.metrics(resamples=resamples, seed=SEED).items()},
        labels={label: score._asdict() for label, score in outcome.compared.labels.items()},
        calibration=None if judged is None else measure_calibration(judged),
    )
    if accelerator is not None and not accelerator.is_main_process:
        return record
    if report is not None:
        write_report(Path(report), outcome, record, f"{Path(artifact).resolve().name} on {used.source}", command)
    if errors is not None:
        write_errors(Path(errors), outcome)
    return record


def answered(
    artifact: str | Path,
    data: Any,
    *,
    backbone: Backbone | str | Path | None = None,
    data_root: str | Path | None = None,
    batch_size: int = 64,
    parts: Mapping[str, str | Path] | None = None,
    accelerator: Accelerator | None = None,
    **how: Any,
) -> tuple[Outcome, RowsUsed]:
    """An artifact's answers to rows; arguments and errors as those of `evaluate`."""
    opened = open_artifact(artifact, parts=parts)
    rows, used = rows_to_answer(opened, data, root=data_root, **how)
    loaded = find_backbone(opened, backbone)
    return answer_rows(opened, rows, loaded, batch_size=batch_size, accelerator=accelerator), used
