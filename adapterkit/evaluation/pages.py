"""What an evaluation leaves for people: a page, and the rows that were answered badly."""

import csv
import io
from pathlib import Path

from adapterkit.errors import OutputError
from adapterkit.evaluation.outcome import Outcome
from adapterkit.manifest import write_file
from adapterkit.records import EvaluationRecord
from adapterkit.report.page import render
from adapterkit.tasks.closer_look import look_at, worst_answers


def check_writable(*paths: str | Path) -> None:
    """Refuse files that cannot be written, before rows are answered.
    Raises OutputError: a folder that is not there, or a folder in the file's place; all of them at once."""
    problems = [f"{path}: there is no folder {Path(path).parent}" for path in paths if not Path(path).parent.is_dir()]
    problems += [f"{path}: is a folder, expected a file" for path in paths if Path(path).is_dir()]
    if problems:
        raise OutputError("what was found cannot be written there", problems, "Make the folder, or name another file.")


def write_report(path: Path, outcome: Outcome, record: EvaluationRecord, title: str, command: str) -> None:
    """Write the page of an evaluation."""
    looked = look_at(outcome.task, outcome.rows, outcome.features, outcome.outputs, show=outcome.shows_rows)
    answering, data = record.answering, record.data
    rows = f"{data.rows:,} of {data.source}, {data.unusable:,} left out, digest {data.digest[:12]}"
    page = render(
        {
            "title": title,
            "command": command,
            "facts": [
                ["artifact", answering.sha256],
                ["backbone", f"{answering.backbone}, fingerprint {answering.fingerprint[:12]}"],
                ["rows", rows],
                ["made with", ", ".join(f"{name} {version}" for name, version in record.made_with.items())],
            ],
            "splits": [{**looked, "split": Path(data.source).name, "metrics": record.to_dict()["metrics"]}],
        }
    )
    write_file(path, page.encode())


def write_errors(path: Path, outcome: Outcome) -> None:
    """Write rows that were answered badly as CSV; where the artifact's recipe shows rows nowhere, their numbers."""
    names = ["row", "confidence", *(["expected", "answered", "given"] if outcome.shows_rows else [])]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(worst_answers(outcome.task, outcome.rows, outcome.features, outcome.outputs))
    write_file(path, text.getvalue().encode())
