"""A temperature and a threshold: fitted, stored in a new version, and applied wherever it answers."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import AdapterkitError, DataError, OutputError, RecipeError
from adapterkit.evaluation.calibrating import fit_temperature, loss_of_classes
from adapterkit.manifest import open_manifest
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks import TASKS, Batch
from adapterkit.tasks.confident import ConfidentTask
from tests.training.worlds import FAMILY, bytes_of, recipe, rows_of, train, write_rows

KIND = "text-classification"
CHOSEN = {
    "text-classification": "label",
    "token-classification": "tags",
    "question-answering": "answer",
    "multiple-choice": "choice",
}
"""Kind -> the part of an answer that is right or wrong."""
OTHER = {"good": "bad", "bad": "good"}


def noisy(kind: str, count: int) -> list[dict[str, Any]]:
    """Rows of which a fifth has a wrong target, so that a sure answer is not always right."""
    rows = rows_of(kind, count)
    for row in rows[::5]:
        if kind == KIND:
            row["label"] = OTHER[row["label"]]
        elif kind == "multiple-choice":
            row["answer"] = 1 - row["answer"]
        elif kind == "token-classification":
            row["tags"] = ["B-place", *row["tags"][1:]]
        else:
            at = row["context"].index("in London")
            row["answers"] = {"text": ["in"], "answer_start": [at]}
    return rows


@pytest.fixture(scope="module")
def trained(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kind -> its backbone, an overconfident artifact, and noisy rows."""
    made: dict[str, Any] = {}

    def make(kind: str) -> Any:
        if kind not in made:
            folder, backbone = tmp_path_factory.mktemp("calibrate"), tiny_backbones[FAMILY[kind]]
            blocks = {"head": {"kind": "family"}, "training": {"epochs": 6}, "data": {"test": None}}
            made[kind] = backbone, train(recipe(folder, backbone, kind, **blocks), backbone=backbone).artifact
        backbone, artifact = made[kind]
        return backbone, artifact, noisy(kind, 80)

    return make


def confidences(artifact: Path, backbone: Any, rows: list[Any]) -> list[float]:
    with ak.load(artifact, backbone) as adapted:
        return [answer["confidence"] for answer in adapted.predict(rows)]


@pytest.mark.parametrize("seed", range(3))
def test_of_two_classes_it_is_the_slope_of_a_logistic_regression(seed: int) -> None:
    chance = np.random.default_rng(seed)
    gap = chance.normal(scale=4, size=400)
    gold = (chance.random(400) < 1 / (1 + np.exp(-gap / 2.5))).astype(int)
    slope = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(gap[:, None], gold).coef_[0, 0]
    task = TASKS[KIND].prepare(TaskSettings(kind=KIND), [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    assert isinstance(task, ConfidentTask)
    logits = torch.stack([torch.zeros(400), torch.tensor(gap, dtype=torch.float32)], dim=1)
    halves = [
        ((), Batch({}, torch.tensor(gold[half]), [], None), logits[half]) for half in (slice(100), slice(100, 400))
    ]  # type: ignore[arg-type]
    assert fit_temperature(loss_of_classes(task, halves)) == pytest.approx(1 / slope, rel=1e-3)
    sure = [((), Batch({}, torch.tensor(gap > 0).long(), [], None), logits)]  # type: ignore[arg-type]
    with pytest.raises(DataError, match="cannot say how sure"):
        fit_temperature(loss_of_classes(task, sure))


@pytest.mark.parametrize("kind", ["token-classification", "question-answering"])
def test_of_answers_of_several_parts_the_whole_tells_the_truth(kind: str, trained: Any, tmp_path: Path) -> None:
    """Against scikit-learn's loss of the confidences that answers have at other temperatures."""
    backbone, artifact, rows = trained(kind)
    best = ak.calibrate(artifact, rows, tmp_path / "calibrated", backbone=backbone).temperature
    losses = []
    with ak.load(artifact, backbone) as adapted:
        for temperature in (best / 1.2, best, best * 1.2):
            adapted.task = dataclasses.replace(adapted.task, temperature=temperature)  # type: ignore[type-var]
            answers = adapted.predict(rows)
            right = [right_in(kind, answer, row) for answer, row in zip(answers, rows, strict=True)]
            losses.append(log_loss(right, [answer["confidence"] for answer in answers]))
    assert losses[1] < min(losses[0], losses[2])


def right_in(kind: str, answer: dict[str, Any], row: dict[str, Any]) -> bool:
    said = answer[CHOSEN[kind]]
    return bool(said == row["tags"] if kind == "token-classification" else said in row["answers"]["text"])


@pytest.mark.parametrize("kind", CHOSEN)
def test_a_new_version_is_surer_of_nothing_and_answers_the_same(kind: str, trained: Any, tmp_path: Path) -> None:
    backbone, artifact, rows = trained(kind)
    stood = bytes_of(artifact)
    found = ak.calibrate(artifact, rows, tmp_path / "calibrated", backbone=backbone)
    assert bytes_of(artifact) == stood
    assert found.temperature > 1  # a fifth of the rows are wrong, of which training saw none
    before, after = found.before, found.after
    assert abs(after.confidence - after.accuracy) < abs(before.confidence - before.accuracy)
    if found.after.nll_nats is not None and found.before.nll_nats is not None:
        assert found.after.nll_nats < found.before.nll_nats
    assert (found.after.accuracy, found.after.items) == (found.before.accuracy, 80)
    old, new = open_manifest(artifact), open_manifest(tmp_path / "calibrated")
    assert (new.version, new.parent) == (2, old.sha256)
    assert new.files["adapter_model.safetensors"] == old.files["adapter_model.safetensors"]
    assert found.answering.sha256 == new.sha256
    assert ak.verify(tmp_path / "calibrated", backbone)
    with ak.load(artifact, backbone) as adapted:
        plain = adapted.predict(rows)
    host = ak.Host(backbone, slots=2)
    host.mount("new", tmp_path / "calibrated")
    hosted = host.predict([("new", row) for row in rows])
    assert [answer[CHOSEN[kind]] for answer in hosted] == [answer[CHOSEN[kind]] for answer in plain]
    alone = confidences(tmp_path / "calibrated", backbone, rows)
    assert [answer["confidence"] for answer in hosted] == pytest.approx(alone, abs=1e-5)
    assert found.after.confidence == pytest.approx(np.mean(alone), abs=1e-5)
    assert found.before.confidence == pytest.approx(np.mean([answer["confidence"] for answer in plain]), abs=1e-5)


def test_an_export_gives_the_calibrated_confidence_in_transformers(trained: Any, tmp_path: Path) -> None:
    backbone, artifact, rows = trained(KIND)
    ak.calibrate(artifact, rows, tmp_path / "calibrated", backbone=backbone)
    ak.export(tmp_path / "calibrated", tmp_path / "plain", backbone=backbone)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "plain").eval()
    expected = confidences(tmp_path / "calibrated", backbone, rows[:6])
    for row, confidence in zip(rows[:6], expected, strict=True):
        with torch.inference_mode():
            share = model(**backbone.tokenizer(row["text"], return_tensors="pt")).logits.softmax(dim=-1).max()
        assert float(share) == pytest.approx(confidence, abs=1e-4)


def test_with_a_risk_unsure_answers_are_withheld_everywhere(trained: Any, tmp_path: Path) -> None:
    backbone, artifact, _ = trained(KIND)
    rows = rows_of(KIND, 300)
    with ak.load(artifact, backbone) as adapted:
        answers = adapted.predict(rows)
    unsure = float(np.quantile([answer["confidence"] for answer in answers], 0.3))
    for row, answer in zip(rows, answers, strict=True):  # the unsure answers are the wrong ones
        row["label"] = answer["label"] if answer["confidence"] > unsure else OTHER[answer["label"]]
    found = ak.calibrate(artifact, rows, tmp_path / "sure", risk=0.1, certainty=0.8, backbone=backbone)
    kept = found.threshold
    assert kept is not None
    assert found.after.items == 150
    assert kept.wrong <= 0.1
    assert 0.6 < kept.answered < 0.8
    host = ak.Host(backbone, slots=2)
    host.mount("sure", tmp_path / "sure")
    answers = host.predict([("sure", row) for row in rows])
    assert all(answer["abstained"] == (answer["confidence"] <= kept.abstain_up_to) for answer in answers)
    assert 60 < sum(answer["abstained"] for answer in answers) < 120
    with pytest.raises(DataError, match="no confidence keeps the share of wrong answers") as caught:
        ak.calibrate(artifact, rows, tmp_path / "none", risk=0.01, backbone=backbone)
    assert "rows needed, were none wrong: 230" in caught.value.problems  # 0.99²³⁰ < 0.1 < 0.99²²⁹
    assert not (tmp_path / "none").exists()


def test_a_recipe_that_abstains_chooses_on_its_validation_rows(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    file = write_rows(tmp_path / "validation.jsonl", rows_of(KIND, 60))
    blocks: Any = {"task": {"abstain": {"risk": 0.4, "certainty": 0.6}}, "training": {"epochs": 3}}
    result = train(recipe(tmp_path, backbone, data={"validation": file}, **blocks), backbone=backbone)
    with ak.load(result.artifact, backbone) as adapted:
        answers = adapted.predict(rows_of(KIND, 20))
        assert isinstance(adapted.task, ConfidentTask)
        assert all(answer["abstained"] == (answer["confidence"] <= adapted.task.abstain_up_to) for answer in answers)
    with pytest.raises(RecipeError, match="needs validation rows"):
        train(recipe(tmp_path, backbone, data={"validation": None}, output=str(tmp_path / "o"), **blocks))
    with pytest.raises(AdapterkitError, match="abstain"):
        ak.load_recipe(recipe(tmp_path, backbone, "masked-lm", task={"abstain": {"risk": 0.1}}))


def test_rows_that_cannot_tell_are_refused(trained: Any, tmp_path: Path) -> None:
    backbone, artifact, rows = trained(KIND)
    with ak.load(artifact, backbone) as adapted:
        right = [{**row, "label": answer["label"]} for row, answer in zip(rows, adapted.predict(rows), strict=True)]
    wrong = [{**row, "label": OTHER[row["label"]]} for row in right]
    for given, told in ((rows[:20], "20 rows, "), (right, "80 rows, 80 answered"), (wrong, "80 rows, 0 answered")):
        with pytest.raises(DataError, match="cannot say how sure") as caught:
            ak.calibrate(artifact, given, tmp_path / "out", backbone=backbone)
        assert caught.value.problems[0].startswith(told)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_calibrated_is_refused(trained: Any, tiny_backbones: Any, tmp_path: Path) -> None:
    backbone, artifact, rows = trained(KIND)
    with pytest.raises(OutputError):
        ak.calibrate(artifact, rows, artifact, backbone=backbone)
    for risk, certainty in ((0.0, None), (1.5, None), (0.1, 1.0), (None, 0.9)):
        with pytest.raises(DataError, match="cannot be withheld"):
            ak.calibrate(artifact, rows, tmp_path / "o", risk=risk, certainty=certainty, backbone=backbone)
    with pytest.raises(DataError, match="ugly"):
        ak.calibrate(artifact, [*rows, {"text": "a", "label": "ugly"}], tmp_path / "o", backbone=backbone)
    text = train(recipe(tmp_path, tiny_backbones["bert"], "masked-lm", training={"max_steps": 1}), backbone=backbone)
    with pytest.raises(DataError, match="no confidence to calibrate"):
        ak.calibrate(text.artifact, rows_of("masked-lm", 40), tmp_path / "o", backbone=backbone)


def test_a_manifest_with_a_temperature_that_means_nothing_is_refused(trained: Any) -> None:
    _, artifact, _ = trained(KIND)
    stored = dict(open_manifest(artifact).task)
    for wrong in ({"temperature": 0.0}, {"temperature": 1e9}, {"abstain_up_to": 2.0}):
        with pytest.raises(DataError, match="contradicts"):
            TASKS[KIND].from_dict({**stored, **wrong})
    assert math.isclose(TASKS[KIND].from_dict({**stored, "temperature": 2}).to_dict()["temperature"], 2)


def test_the_command_calibrates(trained: Any, tmp_path: Path) -> None:
    _, artifact, rows = trained(KIND)
    file = write_rows(tmp_path / "rows.jsonl", rows)
    words = ["calibrate", str(artifact), "--data", file, "--output", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    assert "version 2, temperature " in shown.stdout
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:3]] == ["before", "after"]
    again = CliRunner().invoke(app, [*words, "--overwrite", "--json"])
    assert json.loads(again.stdout)["schema"] == "adapterkit.calibrating/1"
    assert CliRunner().invoke(app, words).exit_code == 1
