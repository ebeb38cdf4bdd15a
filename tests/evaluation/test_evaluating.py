"""Scoring an artifact on rows that are read as those that it was trained on."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import numpy as np
import pytest
import sklearn.metrics

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.data import Rows
from adapterkit.data.problems import unusable_note
from adapterkit.errors import ArtifactError, ContractError, DataError
from adapterkit.evaluation import score
from adapterkit.evaluation.rows import data_settings
from adapterkit.recipe import DataSettings
from adapterkit.tasks import TASKS
from tests.training.worlds import events, recipe, rows_of, train, write_rows

KIND = "text-classification"


@pytest.fixture(scope="module")
def world(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with an artifact that was trained on columns `said` and `mood`, its backbone and its result."""
    folder, backbone = tmp_path_factory.mktemp("evaluate"), tiny_backbones["bert"]
    rows = [{"said": row["text"], "mood": row["label"]} for row in rows_of(KIND, 60)]
    data = {
        "train": write_rows(folder / "train.jsonl", rows[:32]),
        "test": write_rows(folder / "test.jsonl", rows[32:]),
        "columns": {"text": "said", "label": "mood"},
    }
    return folder, backbone, train(recipe(folder, backbone, data=data), backbone=backbone)


def test_without_data_the_recipes_test_rows_are_scored(world: Any) -> None:
    _, backbone, result = world
    assert ak.evaluate(result.artifact, backbone=backbone) == result.metrics["test"]


@pytest.mark.parametrize("names", [("said", "mood"), ("text", "label"), ("said", "label")])
def test_other_files_have_the_recipes_column_names_or_the_tasks(
    world: Any, tmp_path: Path, names: tuple[str, str]
) -> None:
    _, backbone, result = world
    rows = [{names[0]: row["text"], names[1]: row["label"]} for row in rows_of(KIND, 60)[32:]]
    file = write_rows(tmp_path / "other.jsonl", rows)
    assert ak.evaluate(result.artifact, file, backbone=backbone) == result.metrics["test"]


def test_an_option_that_there_is_not_is_refused(world: Any, tmp_path: Path) -> None:
    _, backbone, result = world
    others = {"compare": (result.artifact,), "calibrate": (None, tmp_path / "out"), "probe": (), "attribute": ()}
    for verb, more in {"evaluate": (), **others}.items():
        with pytest.raises(TypeError, match="batchsize"):
            getattr(ak, verb)(result.artifact, *more, backbone=backbone, batchsize=8)
    assert not (tmp_path / "out").exists()


def test_columns_that_are_named_count_more_than_the_recipes(world: Any, tmp_path: Path) -> None:
    _, backbone, result = world
    rows = [{"said": "nothing", "words": row["text"], "mood": row["label"]} for row in rows_of(KIND, 60)[32:]]
    file = write_rows(tmp_path / "other.jsonl", rows)
    assert ak.evaluate(result.artifact, file, backbone=backbone, columns={"text": "words"}) == result.metrics["test"]
    with pytest.raises(DataError, match="columns"):
        ak.evaluate(result.artifact, file, backbone=backbone, columns={"text": "wrods"})


def test_rows_may_be_given_and_a_root_says_where_files_are(world: Any) -> None:
    folder, backbone, result = world
    expected = result.metrics["test"]
    assert ak.evaluate(result.artifact, rows_of(KIND, 60)[32:], backbone=backbone) == expected
    assert ak.evaluate(result.artifact, "test.jsonl", backbone=backbone, data_root=folder) == expected


def test_the_format_of_another_file_is_its_own(world: Any, tmp_path: Path) -> None:
    _, backbone, result = world
    rows = rows_of(KIND, 60)[32:]
    file = tmp_path / "rows.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows))
    assert ak.evaluate(result.artifact, file, backbone=backbone) == result.metrics["test"]


def test_a_hub_data_set_is_read_with_the_recipes_configuration_revision_and_split(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    asked: list[Any] = []

    def load(name: str, config: str | None, *, revision: str | None, split: str, streaming: bool) -> Any:
        asked.append((name, config, revision, split))
        return datasets.Dataset.from_list(rows_of(KIND, 20)).rename_column("text", "sentence")

    monkeypatch.setattr("datasets.load_dataset", Mock(side_effect=load))
    data = {
        "train": "owner/set", "test": "owner/set", "config": "en", "revision": "v1",
        "splits": {"test": "held"}, "columns": {"text": "sentence"},
    }  # fmt: skip
    result = train(recipe(tmp_path, backbone, data=data, training={"max_steps": 1}), backbone=backbone)
    asked.clear()
    assert ak.evaluate(result.artifact, backbone=backbone) == result.metrics["test"]
    assert ak.evaluate(result.artifact, "owner/set", backbone=backbone) == result.metrics["test"]
    assert set(asked) == {("owner/set", "en", "v1", "held")}
    asked.clear()
    ak.evaluate(result.artifact, "other/set", backbone=backbone)
    assert set(asked) == {("other/set", None, None, "test")}


def test_rows_that_cannot_be_used_are_reported_by_line(
    world: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, backbone, result = world
    rows = rows_of(KIND, 6)
    rows[2]["label"] = None
    with caplog.at_level("WARNING", logger="adapterkit"):
        ak.evaluate(result.artifact, write_rows(tmp_path / "rows.jsonl", rows), backbone=backbone)
    (record,) = caplog.records
    assert "1 of 6 " in record.getMessage()
    assert "lines 3" in record.getMessage()


def test_what_does_not_fit_is_refused(world: Any, tiny_backbones: Any, tmp_path: Path) -> None:
    _, backbone, result = world
    for other in ("bert-plain", "distilbert"):
        with pytest.raises(ContractError, match="does not fit"):
            ak.evaluate(result.artifact, backbone=tiny_backbones[other])
    with pytest.raises(DataError, match="ugly"):
        ak.evaluate(result.artifact, [{"text": "a", "label": "ugly"}], backbone=backbone)
    with pytest.raises(DataError):
        ak.evaluate(result.artifact, [], backbone=backbone)
    with pytest.raises(ArtifactError):
        ak.evaluate(tmp_path, backbone=backbone)


def test_an_artifact_without_test_rows_is_scored_on_its_validation_rows_or_asks_for_some(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    for share in (0.25, "file", None):
        data = {"test": None, **({} if share == "file" else {"validation": share})}
        wanted = recipe(tmp_path, backbone, data=data, training={"max_steps": 1})
        wanted["output"] = str(tmp_path / str(share))
        result = train(wanted, backbone=backbone)
        if share is None:
            with pytest.raises(DataError, match="names no test rows"):
                ak.evaluate(result.artifact, backbone=backbone)
        else:
            assert ak.evaluate(result.artifact, backbone=backbone) == result.metrics["validation"]


def test_validation_rows_that_changed_since_are_not_scored_unasked(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    wanted = recipe(tmp_path, backbone, data={"test": None, "validation": 0.25}, training={"max_steps": 1})
    artifact = train(wanted, backbone=backbone).artifact
    file = Path(wanted["data"]["train"])
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
    with pytest.raises(DataError, match=r"its validation rows are others than they were"):
        ak.evaluate(artifact, backbone=backbone)


def test_a_stored_data_block_that_is_not_valid_is_refused(world: Any) -> None:
    artifact = open_artifact(world[2].artifact)
    artifact.manifest.recipe["data"]["columns"] = 3
    with pytest.raises(ArtifactError, match="not valid"):
        data_settings(artifact)


def test_metrics_are_scikit_learns_on_the_predictions(world: Any) -> None:
    _, backbone, result = world
    rows = rows_of(KIND, 41)
    found = ak.evaluate(result.artifact, rows, backbone=backbone)
    with ak.load(result.artifact, backbone) as adapted:
        predicted = [answer["label"] for answer in adapted.predict(rows)]
    gold = [row["label"] for row in rows]
    assert found["accuracy"].value == pytest.approx(sklearn.metrics.accuracy_score(gold, predicted))
    assert found["macro_f1"].value == pytest.approx(sklearn.metrics.f1_score(gold, predicted, average="macro"))
    assert found["mcc"].value == pytest.approx(sklearn.metrics.matthews_corrcoef(gold, predicted))


def test_intervals_hold_the_value_and_can_be_left_out(world: Any) -> None:
    _, backbone, result = world
    rows = [*rows_of(KIND, 20), *({"text": row["text"], "label": "bad"} for row in rows_of(KIND, 20))]
    wide = ak.evaluate(result.artifact, rows, backbone=backbone)["accuracy"]
    assert wide.low < wide.value < wide.high
    bare = ak.evaluate(result.artifact, rows, backbone=backbone, resamples=0)["accuracy"]
    assert bare.low == bare.value == bare.high == wide.value


@pytest.mark.parametrize(("metric", "generates"), [("perplexity", False), ("chrf", True)])
def test_validation_generates_only_to_pick_the_best_and_the_end_always_does(
    tiny_backbones: Any, tmp_path: Path, metric: str, generates: bool
) -> None:
    backbone = tiny_backbones["t5"]
    result = train(
        recipe(tmp_path, backbone, "seq2seq-lm", task={"metric": metric}, training={"max_steps": 2}),
        backbone=backbone,
    )
    (validation,) = events(result.artifact, "validation")
    assert ("chrf" in validation["metrics"]) == generates
    assert {"chrf", "perplexity"} <= set(result.metrics["validation"])
    assert {"chrf", "perplexity"} <= set(result.metrics["test"])
    assert all(found.low <= found.value <= found.high for found in result.metrics["test"].values())
    with ak.load(result.artifact, backbone) as adapted:
        assert "chrf" not in score(adapted, rows_of("seq2seq-lm", 12), generated=False, resamples=0)


def test_the_shares_of_two_processes_are_put_together_in_row_order(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("adapterkit.scoring")  # the package has a function of this name
    items, shares = list(range(7)), []

    def compute(part: list[int]) -> list[int]:
        return [item * 10 for item in part]

    monkeypatch.setattr("accelerate.utils.gather_object", lambda part: shares.extend(part) or part)
    for index in (0, 1):
        module.share_out(items, compute, Mock(num_processes=2, process_index=index))
    assert sorted(index for share in shares for index, _ in share) == items  # nothing twice
    monkeypatch.setattr("accelerate.utils.gather_object", lambda part: shares)
    found = module.share_out(items, compute, Mock(num_processes=2, process_index=0))
    assert found == compute(items)


@pytest.mark.parametrize(
    ("kind", "validation", "unit"),
    [
        (KIND, 0.1, "line"),
        ("causal-lm", 0.1, "paragraph"),
        ("masked-lm", "v.txt", "document"),
        ("causal-lm", None, "document"),
    ],
)
def test_text_is_read_in_the_units_of_training(kind: str, validation: Any, unit: str) -> None:
    assert TASKS[kind].text_unit(DataSettings(train="t.txt", validation=validation)) == unit
    assert TASKS[kind].text_unit(None) == ("line" if kind == KIND else "document")


def test_unusable_rows_are_told_by_reason() -> None:
    problems = [(number, f"reason {number % 7}") for number in range(1, 15)]
    note = unusable_note("train", Rows([{}] * 100), problems)
    assert note.startswith("14 of 100 train rows cannot be used (reason 1: rows 1, 8; ")
    assert note.endswith("; 2 more reasons)")


def test_the_interval_is_that_of_a_bootstrap(world: Any) -> None:
    _, backbone, result = world
    rows = [*rows_of(KIND, 50), *({"text": row["text"], "label": "good"} for row in rows_of(KIND, 50))]
    with ak.load(result.artifact, backbone) as adapted:
        right = np.array([a["label"] == r["label"] for a, r in zip(adapted.predict(rows), rows, strict=True)])
    drawn = np.random.default_rng(7).choice(right, (4000, len(right))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = ak.evaluate(result.artifact, rows, backbone=backbone)["accuracy"]
    # Two bootstraps of 1,000 and 4,000 draws over 100 rows: their ends differ by a row or two.
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
