"""What holds for every kind."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

from adapterkit.data import Rows, read_rows
from adapterkit.errors import DataError, RecipeError
from adapterkit.recipe import KINDS
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks import TASKS, GeneratingTask, Task, Vocabulary
from adapterkit.tasks.as_json import OPTIONAL
from tests.tasks.conftest import FAMILY, ROWS

Make = Callable[..., Task]
Vocabularies = Callable[[str], Vocabulary]


def fake_logits(task: Task, batch: Any, seed: int = 0) -> torch.Tensor:
    """Random logits of the shape that the kind's model gives."""
    rows, length = batch.inputs["input_ids"].shape[0], batch.inputs["input_ids"].shape[-1]
    size = len(batch.vocabulary.tokenizer)
    shape = {
        "text-classification": (rows, task.classes),
        "token-classification": (rows, length, task.classes),
        "question-answering": (rows, length, 2),
        "multiple-choice": tuple(batch.inputs["input_ids"].shape[:2]),
        "masked-lm": (rows, length, size),
        "causal-lm": (rows, length, size),
        "seq2seq-lm": (rows, *batch.inputs.get("decoder_input_ids", batch.inputs["input_ids"]).shape[1:], size),
    }[task.kind]
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_table_holds_every_kind_in_the_recipe_s_order() -> None:
    assert tuple(TASKS) == KINDS == tuple(ROWS) == tuple(FAMILY)
    assert all(task.kind == kind for kind, task in TASKS.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("ending", "unit"), [("jsonl", "line"), ("parquet", "record"), (None, "row")])
def test_bad_rows_are_named_as_their_source_counts_them(
    tmp_path: Path, task_of: Make, kind: str, ending: str | None, unit: str
) -> None:
    column = next(iter(TASKS[kind].columns))
    rows: Any = [{column: "  "}, {column: None}]
    if ending is not None:
        data = pandas.DataFrame(rows)
        path = tmp_path / f"rows.{ending}"
        data.to_json(path, orient="records", lines=True) if ending == "jsonl" else data.to_parquet(path)
        rows = read_rows(path)
    task = task_of(kind)
    with pytest.raises(DataError) as asked:
        task.check_rows(rows, "train")
    with pytest.raises(DataError) as prepared:
        TASKS[kind].prepare(task.settings, rows)
    for problems in (asked.value.problems, prepared.value.problems):
        assert [problem.partition(":")[0] for problem in problems] == [f"{unit} 1", f"{unit} 2"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_is_read_back_from_json(kind: str, task_of: Make) -> None:
    task = task_of(kind)
    assert TASKS[kind].from_dict(json.loads(json.dumps(task.to_dict()))) == task


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_task_with_wrong_fields_is_refused_with_every_problem(kind: str, task_of: Make) -> None:
    stored = task_of(kind).to_dict()
    with pytest.raises(DataError) as caught:
        TASKS[kind].from_dict({**stored, "kind": "other", "extra": 1, "settings": 3})
    assert {problem.split(":")[0] for problem in caught.value.problems} == {"kind", "extra", "settings"}
    with pytest.raises(DataError, match=r"settings\.nonsense"):
        TASKS[kind].from_dict({**stored, "settings": {**stored["settings"], "nonsense": 1}})
    optional = {entry.name for entry in fields(TASKS[kind]) if entry.metadata == OPTIONAL}  # type: ignore[arg-type]
    for name in stored.keys() - optional:
        with pytest.raises(DataError, match=f"{name}"):
            TASKS[kind].from_dict({key: value for key, value in stored.items() if key != name})


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("text-classification", {"problem": "poetry"}),
        ("text-classification", {"labels": ["a", "a"]}),
        ("text-classification", {"labels": ["a"]}),
        ("text-classification", {"targets": 3}),
        ("text-classification", {"problem": "regression", "targets": 10**9, "labels": []}),
        ("text-classification", {"problem": "regression", "targets": 1, "labels": ["a", "b"]}),
        ("token-classification", {"scheme": "bioes"}),
        ("token-classification", {"labels": ["O"]}),
        ("token-classification", {"fallback": "B-moon"}),
        ("token-classification", {"labels": ["O", "person"]}),
        ("question-answering", {"threshold": float("nan")}),
        ("question-answering", {"unanswerable": 1}),
    ],
)
def test_a_stored_task_that_contradicts_itself_is_refused(kind: str, changes: dict[str, Any], task_of: Make) -> None:
    named = "|".join(f"{name}: found" for name in changes) + "|labels: a name stands twice"
    with pytest.raises(DataError, match=named):
        TASKS[kind].from_dict({**task_of(kind).to_dict(), **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_in_and_scored_answers_come_out(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows, task, vocabulary = ROWS[kind], task_of(kind), vocabulary_of(FAMILY[kind])
    features, truncation, _ = task.encode(rows, vocabulary, "score")
    assert truncation.rows == 0
    assert [feature.index for feature in features] == list(range(len(features)))
    batch = task.collate(features, vocabulary)
    logits = fake_logits(task, batch).requires_grad_()
    loss = task.loss(logits, batch)
    assert loss.total.dtype == torch.float32
    assert torch.isfinite(loss.mean)
    assert loss.weight > 0
    loss.mean.backward()
    outputs = task.outputs(logits, batch)
    assert len(outputs) == len(features)
    assert len(pickle.dumps(outputs)) < 20_000
    answers = task.predictions(rows, features, outputs)
    assert len(answers) == len(rows)
    json.dumps(answers, allow_nan=False)
    found = task.score(rows, features, outputs, resamples=50)
    assert set(found) == set(task.metrics) - (task.generated_metrics if isinstance(task, GeneratingTask) else set())
    assert next(iter(found)) == task.main_metric
    for name, metric in found.items():
        assert metric.low <= metric.high
        assert metric.higher_is_better is task.higher_is_better(name)
    assert found == task.score(rows, features, outputs, resamples=50)


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_add_up_to_the_whole_batch(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(kind), vocabulary_of(FAMILY[kind])
    features = task.encode(ROWS[kind], vocabulary).features
    batch = task.collate(features, vocabulary, seed=3)
    logits = fake_logits(task, batch)
    whole = task.loss(logits, batch)
    total, weight = 0.0, 0.0
    for place, feature in enumerate(features):
        alone = task.collate([feature], vocabulary, seed=3)
        ids = alone.inputs["input_ids"]
        if kind in ("text-classification", "multiple-choice"):
            part = logits[place : place + 1, : ids.shape[1]] if kind == "multiple-choice" else logits[place : place + 1]
        else:
            part = logits[place : place + 1, : alone.inputs.get("decoder_input_ids", ids).shape[1]]
        loss = task.loss(part, alone)
        total, weight = total + float(loss.total), weight + float(loss.weight)
    assert weight == float(whole.weight)
    assert total == pytest.approx(float(whole.total), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_logits_give_an_fp32_loss(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(kind), vocabulary_of(FAMILY[kind])
    batch = task.collate(task.encode(ROWS[kind], vocabulary).features, vocabulary)
    logits = fake_logits(task, batch).bfloat16()
    assert task.loss(logits, batch).total.dtype == torch.float32
    assert float(task.loss(logits, batch).mean) == pytest.approx(float(task.loss(logits.float(), batch).mean))
    task.outputs(logits, batch)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_an_answer_can_be_predicted(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(kind), vocabulary_of(FAMILY[kind])
    targets = [name for name, column in task.columns.items() if column.target]
    rows = [{name: value for name, value in row.items() if name not in targets} for row in ROWS[kind]]
    assert task.check_rows(rows, "predict").problems == []
    features = task.encode(rows, vocabulary, "predict").features
    if isinstance(task, GeneratingTask):
        batch = task.collate_prompts(features, vocabulary)
        assert batch.inputs["input_ids"].shape[0] == len(rows)
        assert task.answers(rows, ["one", "two"]) == [{"text": "one"}, {"text": "two"}]
    else:
        batch = task.collate(features, vocabulary)
        answers = task.predictions(rows, features, task.outputs(fake_logits(task, batch), batch))
        assert len(json.loads(json.dumps(answers))) == len(rows)
    assert batch.labels is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_can_be_padded_to_a_multiple(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(kind), vocabulary_of(FAMILY[kind])
    batch = task.collate(task.encode(ROWS[kind], vocabulary).features, vocabulary, multiple=8)
    assert batch.inputs["input_ids"].shape[-1] % 8 == 0
    assert torch.isfinite(task.loss(fake_logits(task, batch), batch).mean)
    assert batch.to("cpu").inputs.keys() == batch.inputs.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_metric_is_refused_with_the_known_ones(kind: str, task_of: Make) -> None:
    with pytest.raises(RecipeError, match="expected one of"):
        _ = task_of(kind, metric="beauty").main_metric


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_beyond_the_backbone_s_is_refused(kind: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    with pytest.raises(RecipeError, match="at most"):
        task_of(kind, max_tokens=100_000).encode(ROWS[kind], Vocabulary.of(vocabulary_of("bert").tokenizer, 128))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "hostile",
    [{}, {"text": None, "source": None}, {"text": 3, "question": 3, "tokens": 3, "source": 3},
     {"label": [float("nan")]},
     {"text": "half \ud800 pair", "source": "\ud800", "question": "\udfff", "tokens": ["\ud800"]}],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_named_by_line(kind: str, hostile: dict[str, Any], task_of: Make) -> None:
    task = task_of(kind)
    rows = Rows([ROWS[kind][0], hostile, ROWS[kind][1]], numbers=[10, 20, 30])
    checked = task.check_rows(rows)
    assert [number for number, _ in checked.problems] == [20]
    assert len(checked.rows) == 2
    assert checked.rows.numbers == (10, 30)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="none of the 1 rows"):
        task.check_rows([hostile])
    with pytest.raises(DataError):
        TASKS[kind].prepare(TaskSettings(kind=kind), [hostile])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no rows"):
        task.check_rows([])


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("text-classification", "token-classification")]
)
def test_class_weights_are_refused_where_there_are_no_classes(
    kind: str, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    task, vocabulary = task_of(kind), vocabulary_of(FAMILY[kind])
    assert task.class_weights(None, ROWS[kind]) is None
    with pytest.raises(RecipeError, match="class weights"):
        task.class_weights("balanced", ROWS[kind])
    batch = task.collate(task.encode(ROWS[kind], vocabulary).features, vocabulary)
    with pytest.raises(RecipeError, match="class weights"):
        task.loss(fake_logits(task, batch), batch, class_weights=torch.ones(2))
