"""Evaluate an artifact on a data set, and leave for people a page, and the rows that were answered badly."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from adapterkit.errors import OutputError
from adapterkit.evaluation.outcome import HowAnswered, Outcome, ask, made
from adapterkit.manifest import write_file
from adapterkit.metrics import Metric, measure_calibration
from adapterkit.records import EvaluationRecord
from adapterkit.report.page import render
from adapterkit.tasks.closer_look import look_at, worst_answers

if TYPE_CHECKING:
    from accelerate import Accelerator


def evaluate(
    artifact: str | Path, data: Any = None, *, resamples: int = 1000, **how: Unpack[HowAnswered]
) -> dict[str, Metric]:
    """Score an artifact on rows. Rows that cannot be used are logged with their places.

    Args:
        artifact: its folder.
        data: a file, a hub data set, or rows in memory (dicts, a DataFrame, a `datasets.Dataset`; see `data.rows_of`);
            None takes the test rows of its recipe.
        resamples: of the bootstrap that gives the 95 % intervals; 0 for none.
        how: `backbone`, `columns`, `reading`, `data_root`, `batch_size`, `parts`; see `HowAnswered`.

    Raises:
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        DataError: the data cannot be read, or no row can be used.
    """
    return ask(artifact, data, **how).answers().metrics(resamples=resamples)


def record_evaluation(
    artifact: str | Path,
    data: Any = None,
    *,
    resamples: int = 1000,
    report: str | Path | None = None,
    errors: str | Path | None = None,
    command: str = "",
    accelerator: Accelerator | None = None,
    **how: Unpack[HowAnswered],
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
    check_writable(report, errors)
    question = ask(artifact, data, **how)
    outcome, used = question.answers(accelerator=accelerator), question.used
    judged = outcome.compared.judged
    record = EvaluationRecord(
        **made(),
        answering=outcome.answering,
        data=used,
        resamples=resamples,
        metrics=outcome.metrics(resamples=resamples),
        labels={label: score._asdict() for label, score in outcome.compared.labels.items()},
        calibration=None if judged is None else measure_calibration(judged),
    )
    if accelerator is not None and not accelerator.is_main_process:
        return record
    if report is not None:
        _write_report(Path(report), outcome, record, f"{Path(artifact).resolve().name} on {used.source}", command)
    if errors is not None:
        _write_errors(Path(errors), outcome)
    return record


def check_writable(*asked: str | Path | None) -> None:
    """Refuse files that are asked for and cannot be written, before rows are answered.
    Raises OutputError: a folder that is not there, or a folder in the file's place; all of them at once."""
    paths = [Path(path) for path in asked if path is not None]
    problems = [f"{path}: there is no folder {path.parent}" for path in paths if not path.parent.is_dir()]
    problems += [f"{path}: is a folder, expected a file" for path in paths if path.is_dir()]
    if problems:
        raise OutputError("what was found cannot be written there", problems, "Make the folder, or name another file.")


def _write_report(path: Path, outcome: Outcome, record: EvaluationRecord, title: str, command: str) -> None:
    looked = look_at(outcome.task, outcome.rows, outcome.features, outcome.outputs, show=outcome.shows_rows)
    answering, data = record.answering, record.data
    facts = [
        ["artifact", answering.sha256],
        ["backbone", f"{answering.backbone}, fingerprint {answering.fingerprint[:12]}"],
        ["rows", f"{data.rows:,} of {data.source}, {data.unusable:,} left out, digest {data.digest[:12]}"],
        ["made with", ", ".join(f"{name} {version}" for name, version in record.made_with.items())],
    ]
    split = {**looked, "split": Path(data.source).name, "metrics": record.to_dict()["metrics"]}
    write_file(path, render({"title": title, "command": command, "facts": facts, "splits": [split]}).encode())


def _write_errors(path: Path, outcome: Outcome) -> None:
    """Write rows that were answered badly as CSV; where the artifact's recipe shows rows nowhere, their numbers."""
    names = ["row", "confidence", *(["expected", "answered", "given"] if outcome.shows_rows else [])]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(worst_answers(outcome.task, outcome.rows, outcome.features, outcome.outputs))
    write_file(path, text.getvalue().encode())
