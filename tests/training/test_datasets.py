"""The rows of a recipe: what is used, what is reported, and what is refused before anything trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import datasets
import pytest

from adapterkit.artifact import open_artifact
from adapterkit.data import Rows, RowStream
from adapterkit.errors import DataError
from adapterkit.recipe import load_recipe
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from tests.training.worlds import entries, recipe, rows_of, train, write_rows

KIND = "text-classification"
Read = Callable[..., RecipeRows]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read 20 rows for training and 6 for the test, or others; `data` is laid over the recipe's block."""

    def read(train: list[Any] | None = None, test: list[Any] | None = None, **data: Any) -> RecipeRows:
        rows = rows_of(KIND, 26)
        files = {
            "train": write_rows(tmp_path / "train.jsonl", rows[:20] if train is None else train),
            "test": write_rows(tmp_path / "test.jsonl", rows[20:] if test is None else test),
        }
        return read_recipe_rows(load_recipe(recipe(tmp_path, Path("b"), data={**files, **data})))

    return read


def test_rows_are_split_counted_and_digested(read: Read) -> None:
    rows = read(validation=0.2)
    assert (len(rows.train), len(rows.validation), len(rows.test)) == (16, 4, 6)
    assert rows.sample is rows.train
    assert rows.facts.rows == {"train": 16, "validation": 4, "test": 6}
    assert rows.facts.unusable == {"train": 0, "test": 0}
    assert rows.facts.label_counts == {
        "train": {"bad": 8, "good": 8},
        "validation": {"bad": 2, "good": 2},
        "test": {"bad": 3, "good": 3},
    }
    assert rows.facts.digests == {name: getattr(rows, name).digest() for name in ("train", "validation", "test")}
    assert rows.notes == ()


def test_rows_that_cannot_be_used_are_named_by_line_and_reason(read: Read) -> None:
    broken = rows_of(KIND, 20)
    broken[3]["label"] = None
    broken[7]["text"] = None
    rows = read(train=broken, validation=None)
    assert len(rows.train) == 18
    assert rows.facts.unusable == {"train": 2, "test": 0}
    (note,) = rows.notes
    assert note.startswith("2 of 20 train rows cannot be used (")
    assert "lines 4" in note
    assert "no text: lines 8" in note


def test_rows_that_test_and_training_share_are_reported(read: Read) -> None:
    rows = read(test=[*rows_of(KIND, 2), {"text": "never seen", "label": "bad"}], validation=None)
    (note,) = rows.notes
    assert note.startswith("test: 2 of 3 rows of ")
    assert ": 1, 2 (there 1, 2)" in note


@pytest.mark.parametrize(("share", "expected"), [(None, None), (0.5, 10), (0.1, 2)])
def test_a_share_is_split_off_to_validate(read: Read, share: float | None, expected: int | None) -> None:
    rows = read(validation=share)
    assert (None if rows.validation is None else len(rows.validation)) == expected


def test_a_limit_draws_rows_of_every_part(read: Read) -> None:
    rows = read(limit=8, validation=0.25)
    assert rows.facts.rows == {"train": 6, "validation": 2, "test": 6}


def test_columns_are_found_under_the_names_that_the_recipe_gives(read: Read) -> None:
    renamed = [{"said": row["text"], "mood": row["label"]} for row in rows_of(KIND, 20)]
    rows = read(train=renamed, test=renamed, columns={"text": "said", "label": "mood"}, validation=None)
    assert rows.train[0]["text"] == renamed[0]["said"]
    assert rows.facts.label_counts["test"] == {"bad": 10, "good": 10}


def test_columns_that_look_meant_and_are_not_read_are_named(read: Read) -> None:
    extra = [{**row, "sentence2": "also", "Review": "x", "id": 1} for row in rows_of(KIND, 20)]
    notes = read(train=extra, validation=None).notes
    assert [note for note in notes if "is not read" in note] == [
        "train: the column 'Review' is not read, though its name is usual for text; text is 'text'"
    ]


def test_labels_that_a_part_lacks_are_named_before_training(read: Read) -> None:
    rows = rows_of(KIND, 20)
    rare = [*rows, {"text": "once", "label": "rare"}]
    found = read(train=rare, test=rows[:3:2], validation=0.2, columns={})
    assert found.notes[-3:] == (
        "train: 1 of 3 labels have one row only: 'rare'",
        "validation: 1 of 3 labels have no row: 'rare'",
        "test: 2 of 3 labels have no row: 'bad', 'rare'",
    )


def test_a_metric_that_validation_rows_cannot_tell_gives_way_and_is_said(tmp_path: Path) -> None:
    tagged = [{"tokens": ["the", "fox"], "tags": ["O", "B-x" if number < 9 else "O"]} for number in range(12)]
    train = write_rows(tmp_path / "train.jsonl", tagged[:9])
    validation = write_rows(tmp_path / "validation.jsonl", tagged[9:])
    data = {"train": train, "validation": validation, "test": None}
    rows = read_recipe_rows(load_recipe(recipe(tmp_path, Path("b"), "token-classification", data=data)))
    assert rows.metric == "loss"
    assert not rows.task.higher_is_better(rows.metric)
    (note,) = (note for note in rows.notes if note.startswith("validation: they hold no entity"))
    assert note.endswith("the state that is kept is picked by loss")


def test_ratings_and_missing_labels_are_said(read: Read) -> None:
    rated = [{"text": f"text {place}", "label": place % 5 + 1 if place < 18 else -1} for place in range(20)]
    notes = read(train=rated, test=rated[:5], validation=None).notes
    assert any("-1 stands for 'no label'" in note and "lines 19, 20" in note for note in notes)
    assert any("whole numbers 1 to 5" in note and "task.problem: regression" in note for note in notes)


class TestAStream:
    def test_it_is_not_held_and_a_share_of_it_validates(self, read: Read) -> None:
        rows = read(streaming=True, validation=0.3)
        assert isinstance(rows.train, RowStream)
        held = list(rows.train)
        assert len(held) + len(rows.validation) == 20
        assert list(rows.sample) == held
        assert rows.facts.rows == {"validation": len(rows.validation), "test": 6}

    def test_labels_of_a_sorted_file_are_all_learned(self, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("adapterkit.training.datasets.STREAM_SAMPLE_ROWS", 40)
        by_label = [{"text": f"text {n}", "label": "abcd"[n // 50]} for n in range(200)]
        rows = read(train=by_label, test=by_label[::50], streaming=True, validation=0.3)
        assert rows.task.labels == ("a", "b", "c", "d")
        assert {row["label"] for row in rows.validation} == {"a", "b", "c", "d"}
        assert len(rows.sample) == 40

    def test_with_a_limit_it_is_held(self, read: Read) -> None:
        rows = read(streaming=True, validation=None, limit=5)
        assert isinstance(rows.train, Rows)
        assert len(rows.train) == 5
        assert list(rows.train) == list(read(streaming=True, validation=None, limit=5).train)


def test_a_hub_data_set_has_its_configuration_revision_and_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"train": rows_of(KIND, 20), "dev": rows_of(KIND, 26)[20:]}

    def load(name: str, config: str, *, revision: str, split: str, streaming: bool) -> Any:
        asked.append((name, config, revision, split))
        return datasets.Dataset.from_list(parts[split]).rename_column("text", "sentence")

    asked: list[Any] = []
    monkeypatch.setattr("datasets.load_dataset", Mock(side_effect=load))
    data = {
        "train": "owner/set", "validation": "owner/set", "test": None, "config": "en", "revision": "v1",
        "splits": {"validation": "dev"}, "columns": {"text": "sentence"},
    }  # fmt: skip
    rows = read_recipe_rows(load_recipe(recipe(tmp_path, Path("b"), data=data)))
    assert sorted(asked) == [("owner/set", "en", "v1", "dev"), ("owner/set", "en", "v1", "train")]
    assert (len(rows.train), len(rows.validation)) == (20, 6)
    assert (rows.facts.source, rows.facts.revision) == ("owner/set", "v1")


def good() -> list[dict[str, Any]]:
    return rows_of(KIND, 20)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a label that only the test has": ({"test": [{"text": "a", "label": "ugly"}]}, "ugly"),
    "one class only": ({"train": [row for row in good() if row["label"] == "bad"]}, "bad"),
    "no rows": ({"train": []}, "empty"),
    "no usable rows": ({"train": [{"text": None, "label": None}]}, "none of the 1"),
    "no usable test rows": ({"test": [{"text": None, "label": "bad"}]}, "none of the 1"),
    "no such column": ({"train": [{"words": "a", "class": "b"}]}, "columns"),
    "no such file": ({"validation": "no-such.jsonl"}, "no-such.jsonl"),
    "no row left to validate": ({"train": good()[:2], "validation": 0.1}, "no row is left"),
    "numbers that are not finite": ({"train": [{"text": "a", "label": float("nan")}] * 3}, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_make_no_sense_are_refused_and_nothing_is_left(
    tiny_backbones: Any, tmp_path: Path, name: str
) -> None:
    changed, said = REFUSED[name]
    data: dict[str, Any] = {"validation": None}
    for part, rows in changed.items():
        data[part] = write_rows(tmp_path / f"{part}.jsonl", rows) if isinstance(rows, list) else rows
    with pytest.raises(DataError) as refused:
        train(recipe(tmp_path, Path("b"), data=data), backbone=tiny_backbones["bert"])
    assert said in str(refused.value)
    assert entries(tmp_path / "out") == []


def test_text_without_a_single_block_is_refused(tiny_backbones: Any, tmp_path: Path) -> None:
    empty = write_rows(tmp_path / "empty.jsonl", [{"text": ""}])
    with pytest.raises(DataError):
        train(
            recipe(tmp_path, Path("b"), "causal-lm", data={"train": empty, "validation": None, "test": None}),
            backbone=tiny_backbones["gpt2"],
        )
    assert entries(tmp_path / "out") == []


def test_the_artifact_keeps_the_facts(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"max_steps": 1})
    artifact = train(plan, backbone=backbone).artifact
    kept = open_artifact(artifact).manifest.data
    assert kept.model_copy(update={"length_tokens": {}}) == read_recipe_rows(load_recipe(plan)).facts


@pytest.mark.parametrize("streaming", [False, True])
def test_a_limited_sample_is_drawn_over_the_whole_file(read: Read, streaming: bool) -> None:
    by_label = sorted(rows_of(KIND, 60), key=lambda row: str(row["label"]))
    rows = read(train=by_label, validation=None, limit=20, streaming=streaming)
    assert len(rows.train) == 20
    counts = rows.facts.label_counts["train"]
    assert min(counts.values()) >= 4
    assert sum(counts.values()) == 20


def test_how_a_file_was_read_is_told(read: Read, tmp_path: Path) -> None:
    table = "text;label\n" + "".join(f"{row['text']};{row['label']}\n" for row in rows_of(KIND, 20))
    (tmp_path / "table.csv").write_text(table)
    assert read(validation=None).notes == ()
    noted = read_recipe_rows(load_recipe(recipe(tmp_path, Path("b"), data={"train": str(tmp_path / "table.csv")})))
    assert noted.notes[0] == "train: read as CSV, semicolons between cells"
