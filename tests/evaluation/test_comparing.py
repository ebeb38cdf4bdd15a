"""Two artifacts on the same rows, against what their own answers say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import ContractError, DataError
from tests.training.worlds import recipe, rows_of, train, write_rows

KIND = "text-classification"
SOURCES = ("mail", "chat", "mail")


@pytest.fixture(scope="module")
def pair(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Their backbone, a poor and a good artifact, and 60 rows of which a fifth has the other label."""
    folder, backbone = tmp_path_factory.mktemp("compare"), tiny_backbones["bert"]
    settings = {"poor": {"max_steps": 1, "learning_rate": 1e-5}, "good": {"epochs": 8}}
    runs = {
        name: train(recipe(folder, backbone, training=each, output=str(folder / name)), backbone=backbone).artifact
        for name, each in settings.items()
    }
    rows = [{**row, "source": SOURCES[place % 3]} for place, row in enumerate(rows_of(KIND, 60))]
    for row in rows[::5]:
        row["label"] = "bad" if row["label"] == "good" else "good"
    return backbone, runs["poor"], runs["good"], rows


def rights(artifact: Path, backbone: Any, rows: list[Any]) -> list[bool]:
    with ak.load(artifact, backbone) as adapted:
        return [answer["label"] == row["label"] for answer, row in zip(adapted.predict(rows), rows, strict=True)]


def test_what_changed_is_what_the_answers_say(pair: Any) -> None:
    backbone, poor, good, rows = pair
    found = ak.compare(poor, good, rows, by=["source"], backbone=backbone)
    before, after = rights(poor, backbone, rows), rights(good, backbone, rows)
    gained = [place for place in range(60) if after[place] and not before[place]]
    lost = [place for place in range(60) if before[place] and not after[place]]
    assert found.sides is not None
    assert found.sides.gained_rows == tuple(place + 1 for place in gained)
    assert found.sides.lost_rows == tuple(place + 1 for place in lost)
    assert found.sides.p_value == pytest.approx(stats.binomtest(len(gained), len(gained) + len(lost)).pvalue)
    main = found.metrics["accuracy"]
    assert main.difference == pytest.approx((len(gained) - len(lost)) / 60)
    assert found.verdict == main.verdict == "better"
    for each in found.slices:
        if each.by != "length":
            inside = [place for place, row in enumerate(rows) if row[each.by] == each.name]
            assert each.rows == len(inside)
            assert each.difference.difference == pytest.approx(
                sum(after[at] - before[at] for at in inside) / len(inside)
            )
    assert {(each.by, each.name) for each in found.slices if each.by != "length"} == {
        ("label", "bad"), ("label", "good"), ("source", "chat"), ("source", "mail"),
    }  # fmt: skip
    assert sum(each.rows for each in found.slices if each.by == "length") == 60


def test_each_side_is_what_evaluate_says_and_turned_round_it_is_worse(pair: Any) -> None:
    backbone, poor, good, rows = pair
    found = ak.compare(good, poor, rows, backbone=backbone)
    assert found.verdict == "worse"
    for name, metric in ak.evaluate(poor, rows, backbone=backbone).items():
        assert found.metrics[name].b == metric.value
    assert found == ak.compare(good, poor, rows, backbone=backbone)


def test_an_artifact_does_not_differ_from_itself(pair: Any) -> None:
    backbone, _, good, rows = pair
    found = ak.compare(good, good, rows, backbone=backbone)
    assert (found.verdict, found.rows_for_a_point) == ("no difference shown", None)
    assert found.sides is not None
    assert (found.sides.gained, found.sides.lost, found.sides.p_value) == (0, 0, 1.0)


def test_two_rows_and_one_label_give_no_slices_and_no_verdict(pair: Any) -> None:
    backbone, poor, good, rows = pair
    found = ak.compare(poor, good, rows[1:3], backbone=backbone)
    assert (found.slices, found.verdict in ("better", "no difference shown")) == ((), True)
    assert found.slices_left_out > 0
    one = [row for row in rows if row["label"] == "bad"]
    assert [each.name for each in ak.compare(poor, good, one, backbone=backbone).slices if each.by == "label"] == [
        "bad"
    ]


def test_what_cannot_be_compared_is_refused(pair: Any, tiny_backbones: Any, tmp_path: Path) -> None:
    backbone, poor, good, rows = pair
    numbers = [{"text": row["text"], "label": float(place)} for place, row in enumerate(rows_of(KIND, 12))]
    other = train(
        recipe(tmp_path, backbone, task={"problem": "regression"}, training={"max_steps": 1},
               data={"train": write_rows(tmp_path / "n.jsonl", numbers), "test": None}),
        backbone=backbone,
    )  # fmt: skip
    with pytest.raises(DataError, match="different questions") as caught:
        ak.compare(poor, other.artifact, rows, backbone=backbone)
    assert "regression, scored by pearson" in caught.value.problems[1]
    with pytest.raises(DataError, match="sliced") as caught:
        ak.compare(
            poor, good, [{**row, "id": place} for place, row in enumerate(rows)], by=["where", "id"], backbone=backbone
        )
    assert caught.value.problems == (
        "where: no such column, found text, label, source, id",
        "id: 60 values, expected at most 50",
    )
    with pytest.raises(DataError, match="ugly"):
        ak.compare(poor, good, [{"text": "a", "label": "ugly"}], backbone=backbone)
    with pytest.raises(ContractError):
        ak.compare(poor, good, rows, backbone=backbone, other_backbone=tiny_backbones["bert-plain"])


def test_the_command_says_it_in_words_and_in_json(pair: Any, tmp_path: Path) -> None:
    backbone, poor, good, rows = pair
    file = write_rows(tmp_path / "rows.jsonl", rows)
    words = ["compare", str(poor), str(good), "--data", file, "--by", "source"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    assert f"{good} is better: accuracy +0." in shown.stdout
    assert "McNemar's exact test: p = " in shown.stdout
    assert "rows would show a difference of 1 point" in shown.stdout
    printed = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    told = ak.compare(poor, good, file, by=["source"], backbone=backbone).to_dict()
    assert printed == json.loads(json.dumps(told))
