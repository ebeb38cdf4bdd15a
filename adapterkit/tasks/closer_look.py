"""What a person looks at after scoring: labels that were confused, groups of rows, and the worst answers one by one."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adapterkit.data import as_rows
from adapterkit.metrics import Compared, measure_calibration
from adapterkit.tasks.protocol import Row, Task
from adapterkit.tasks.values import Features, Outputs

WORST = 50
"""Answers that a page shows."""

LONGEST_SHOWN = 800
"""Characters of a row that a page shows."""


def look_at(task: Task, rows: Sequence[Row], features: Features, outputs: Outputs, *, show: bool) -> dict[str, Any]:
    """What `report.page` draws of a split beside its metrics, as plain JSON values; arguments as those of `score`.
    `show`: whether texts of rows may be shown."""
    found = task.compared(rows, features, outputs)
    errors = worst_answers(task, rows, features, outputs, found=found, most=WORST)
    if not show:
        errors = [{"row": one["row"], "confidence": one["confidence"]} for one in errors]
    return {
        "rows": len(rows),
        "labels": {label: score._asdict() for label, score in found.labels.items()},
        "calibration": None if found.judged is None else asdict(measure_calibration(found.judged)),
        "confused": [[right, given, count] for (right, given), count in Counter(found.confused).items()],
        "groups": None if found.groups is None else {**found.groups._asdict(), "rows": [*map(list, found.groups.rows)]},
        "errors": errors,
        "hidden": "" if show else "Texts are left out: data.show_rows is nowhere.",
    }


def worst_answers(
    task: Task,
    rows: Sequence[Row],
    features: Features,
    outputs: Outputs,
    *,
    found: Compared | None = None,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Rows that were answered badly, the worst first: wrong ones by their confidence, others by how far they are off.
    `found`: `Task.compared` of them, where it is at hand. `most`: so many at most. Returns {"row": its number, "given",
    "expected", "answered", "confidence"} each; null where there is no confidence."""
    found = task.compared(rows, features, outputs) if found is None else found
    judged, badness = found.judged, list(found.badness)
    if not badness and judged is not None:
        badness = ((1 - judged.right) * (1 + judged.confidence)).tolist()
    bad = sorted((place for place, value in enumerate(badness) if value > 0), key=lambda place: -badness[place])[:most]
    answers = task.predictions(rows, features, outputs) if bad else []
    numbers = as_rows(rows).numbers
    return [
        {
            "row": numbers[place],
            "given": _columns(task, rows[place], target=False),
            "expected": _columns(task, rows[place], target=True),
            "answered": _answered(answers[place]),
            "confidence": None if judged is None else float(judged.confidence[place]),
        }
        for place in bad
    ]


def _columns(task: Task, row: Row, *, target: bool) -> str:
    """What the row has in its input columns, or in its target ones."""
    there = {n: row[n] for n, column in task.columns.items() if column.target is target and row.get(n) is not None}
    if len(there) == 1:
        return _shown(next(iter(there.values())))
    return "\n".join(f"{name}: {_shown(value)}" for name, value in there.items())


def _answered(answer: Mapping[str, Any]) -> str:
    """An answer in one line; of a language model how likely the right tokens are to it."""
    if "loss_nats" in answer:
        return f"{answer['loss_nats'] / max(answer['tokens'], 1):.3f} nats per token"
    return _shown(one_line(answer).partition("\t")[0])


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = " ".join(value)
    text = value if isinstance(value, str) else _as_json(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def answering(answer: Mapping[str, Any]) -> str | None:
    """The name under which an answer holds what was answered; the rest is how sure it is, and what else it might be."""
    names = ("label", "labels", "tags", "answer", "choice", "value", "text", "filled", "score")
    return next((name for name in names if name in answer), None)


def one_line(answer: Mapping[str, Any]) -> str:
    """An answer for a reader: the answer itself, and how sure it is, parted by a tab."""
    name = answering(answer)
    if name is None:
        return _as_json(answer)
    value = answer[name]
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        shown = " ".join(value) if name == "tags" else ", ".join(value)
    elif isinstance(value, float):
        shown = f"{value:.4g}"
    else:
        shown = value if isinstance(value, str) else _as_json(value)
    shown = shown.replace("\n", "\\n")
    score = answer.get("score") if name != "score" else None
    return f"{shown}\t{score:.4f}" if isinstance(score, float) else shown


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
