"""The gains of head and representation, against what their own answers say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.dummy
import sklearn.metrics
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import DataError
from tests.training.worlds import recipe, rows_of, train, write_rows

KIND = "text-classification"


def uneven(count: int) -> list[dict[str, Any]]:
    """Two rows of three are good."""
    return [row for place, row in enumerate(rows_of(KIND, count * 2)) if row["label"] == "good" or place % 4 == 1]


@pytest.fixture(scope="module")
def world(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, backbone = tmp_path_factory.mktemp("attribute"), tiny_backbones["bert"]
    data = {
        "train": write_rows(folder / "train.jsonl", uneven(40)),
        "test": write_rows(folder / "test.jsonl", rows_of(KIND, 70)[30:]),
    }
    return folder, backbone, train(recipe(folder, backbone, data=data), backbone=backbone).artifact


def test_gains_are_those_of_the_answers(world: Any, tmp_path: Path) -> None:
    _, backbone, artifact = world
    found = ak.attribute(artifact, backbone=backbone, output=tmp_path / "head")
    rows = rows_of(KIND, 70)[30:]
    gold = [row["label"] for row in rows]
    dummy = sklearn.dummy.DummyClassifier(strategy="most_frequent").fit(
        [[0]] * 60, [row["label"] for row in uneven(40)]
    )
    expected = [sklearn.metrics.accuracy_score(gold, dummy.predict([[0]] * 40))]
    for each in (tmp_path / "head", artifact):
        with ak.load(each, backbone) as adapted:
            expected.append(np.mean([a["label"] == g for a, g in zip(adapted.predict(rows), gold, strict=True)]))
    assert [gain.name for gain in found.gains] == ["head", "representation"]
    assert [found.gains[0].difference.a, *(gain.difference.b for gain in found.gains)] == pytest.approx(expected)
    assert all(gain.difference.low <= gain.difference.difference <= gain.difference.high for gain in found.gains)
    with ak.load(tmp_path / "head", backbone) as adapted:
        assert adapted.method_parameters() == {}
    assert found.starts_from == "constant answer"
    assert found == ak.attribute(artifact, backbone=backbone)


@pytest.mark.parametrize("kind", ["token-classification", "multiple-choice", "question-answering"])
def test_other_kinds_start_from_what_is_common_to_them(kind: str, tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    artifact = train(recipe(tmp_path, backbone, kind, training={"max_steps": 2}), backbone=backbone).artifact
    found = ak.attribute(artifact, backbone=backbone)
    rows = rows_of(kind, 52)[40:]
    if kind == "token-classification":  # O everywhere finds no entity
        assert (found.starts_from, found.gains[0].difference.a) == ("constant answer", 0.0)
    elif kind == "multiple-choice":  # the first choice
        share = Counter(row["answer"] for row in rows)[0] / len(rows)
        assert found.gains[0].difference.a == pytest.approx(share)
    else:
        assert (found.starts_from, [gain.name for gain in found.gains]) == ("head", ["representation"])


def test_what_has_no_head_or_no_recipe_is_refused(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    text = train(recipe(tmp_path, backbone, "masked-lm", training={"max_steps": 1}), backbone=backbone).artifact
    with pytest.raises(DataError, match="no head of its own"):
        ak.attribute(text, backbone=backbone)


def test_the_command_ends_in_a_sentence(world: Any) -> None:
    shown = CliRunner().invoke(app, ["attribute", str(world[2])])
    assert shown.exit_code == 0, shown.stderr
    first = shown.stdout.splitlines()[0]
    assert first.startswith("constant answer 0.")
    assert " → head " in first
    assert first.endswith("(accuracy)")
