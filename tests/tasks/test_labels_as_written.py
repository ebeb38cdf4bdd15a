"""Every way in which data sets write the labels of texts: read as it was meant, or refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapterkit.data import Rows
from adapterkit.errors import DataError
from adapterkit.tasks import Task
from tests.tasks.test_protocol import Make, Vocabularies

KIND = "text-classification"


def rows_of(*labels: Any) -> Rows:
    return Rows({"text": f"text {place}", "label": label} for place, label in enumerate(labels))


def read(task: Task, rows: Any, vocabulary_of: Vocabularies) -> list[Any]:
    return [feature.labels for feature in task.encode(rows, vocabulary_of("bert"), "score").features]


HOT = {
    "int": [[1, 0, 0], [0, 1, 1], [0, 0, 0]],
    "float": [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]],
    "bool": [[True, False, False], [False, True, True], [False, False, False]],
    "text": [["1", "0", "0"], ["0", "1", "1"], ["0", "0", "0"]],
    "text of floats": [["1.0", "0.0", "0.0"], ["0.0", "1.0", "1.0"], ["0.0", "0.0", "0.0"]],
}


@pytest.mark.parametrize("names", [None, ("red", "green", "blue")])
@pytest.mark.parametrize("written", HOT)
def test_a_zero_or_one_for_every_label_is_multi_hot(
    written: str, names: tuple[str, ...] | None, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    rows = rows_of(*HOT[written])
    task = task_of(KIND, rows, labels=names)
    assert (task.problem, task.labels) == ("multi-label", names or ("0", "1", "2"))
    assert read(task, rows, vocabulary_of) == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert task.label_counts(rows) == dict(zip(task.labels, [1, 1, 1], strict=True))
    assert "zeros and ones" in task.notes(rows)[0]
    again = type(task).from_dict(json.loads(json.dumps(task.to_dict())))
    # A single row, or one with names, is read in the same way.
    assert read(again, rows_of([1, 1, 0]), vocabulary_of) == [[1, 1, 0]]
    assert read(again, rows_of([task.labels[2]] if names else [0, 0, 1]), vocabulary_of) == [[0, 0, 1]]


def test_lists_of_label_numbers_stay_label_numbers(task_of: Make, vocabulary_of: Vocabularies) -> None:
    ragged = rows_of([0, 2], [1], [])
    assert read(task_of(KIND, ragged), ragged, vocabulary_of) == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    one_each = rows_of([0], [1], [1])
    assert read(task_of(KIND, one_each), one_each, vocabulary_of) == [[1, 0], [0, 1], [0, 1]]
    named = rows_of([0, 1], [1, 2], [0, 2])
    assert read(task_of(KIND, named, labels=("a", "b", "c")), named, vocabulary_of) == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([[1, 0, 0], [0, 1]], None, r"(?s)one number several times.*row 1: \[1, 0, 0\]"),
        ([[1, 0, 0], [0, 1, 1]], ("a", "b"), r"(?s)one number several times.*the 2 of task\.labels"),
        ([[3, 1, 3], [5, 5, 2]], None, r"task\.problem: regression"),
        (["a|b", "a", "b"], None, r'(?s)row 1: .a\|b.*label_separator: "\|".*lists.*task\.problem: single-label'),
        (["a, b", "b, c", "a, c"], None, r'task\.label_separator: ","'),
        ([-1, 0, 1], None, r"(?s)-1 may stand for 'no label'.*task\.labels"),
        (["1", "1.0"], None, "at least two labels"),
        ([-1, -100, 0], None, "label -1: stands for 'no label' unless"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_in_one_way_is_refused(
    labels: list[Any], names: tuple[str, ...] | None, message: str, task_of: Make
) -> None:
    with pytest.raises(DataError, match=message):
        task_of(KIND, rows_of(*labels), labels=names)


def test_zeros_and_ones_are_refused_where_training_named_labels(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task = task_of(KIND, rows_of(["a"], ["b", "c"]), labels=("a", "b", "c"))
    assert read(task, rows_of([1, 2]), vocabulary_of) == [[0, 1, 1]]
    assert task.check_rows(rows_of(["a"], [1, 0, 0]), "score").problems == [
        (2, "label [1, 0, 0] has a number twice; in training a row's list named its labels")
    ]
    hot = task_of(KIND, rows_of(*HOT["int"]))
    assert hot.check_rows(rows_of([0, 1, 1], [2]), "score").problems == [
        (2, "label [2] is no list of 3 zeros and ones, as in training")
    ]


def test_several_labels_in_a_cell_are_split_where_the_recipe_says(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = rows_of("a|b", "b", " c | a ", None)
    task = task_of(KIND, rows, label_separator="|")
    assert (task.problem, task.labels) == ("multi-label", ("a", "b", "c"))
    assert read(task, rows.select([0, 1, 2]), vocabulary_of) == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert task.check_rows(rows).problems == [(4, "no label")]
    kept = task_of(KIND, rows_of("a|b", "a", "b"), problem="single-label")
    assert kept.labels == ("a", "a|b", "b")


def test_a_single_cell_where_lists_are_expected_names_both_ways(task_of: Make) -> None:
    task = task_of(KIND, rows_of(["a"], ["b"]))
    ((line, reason),) = task.check_rows(rows_of(["a"], "a|b"), "score").problems
    assert line == 2
    assert 'write a list (["a", "b"])' in reason
    assert 'task.label_separator: "|"' in reason


@pytest.mark.parametrize("same", [1, 1.0, "1", "1.0", "1.00"])
def test_whole_floats_and_whole_numbers_are_one_label(same: Any, task_of: Make, vocabulary_of: Vocabularies) -> None:
    for labels in ([0, 1, 2], [0.0, 1.0, 2.0], ["0", "1", "2"], ["0.0", "1.0", "2.0"]):
        task = task_of(KIND, rows_of(*labels))
        assert task.labels == ("0", "1", "2")
        assert read(task, rows_of(same), vocabulary_of) == [1]
    named = task_of(KIND, rows_of(0, 1), labels=("no", "yes"))
    assert read(named, rows_of(same), vocabulary_of) == [1]


def test_what_only_looks_like_a_number_stays_a_name(task_of: Make) -> None:
    assert task_of(KIND, rows_of("007", "7", "1e0", "v1.0")).labels == ("007", "1e0", "7", "v1.0")


def test_numbers_are_positions_only_where_the_recipe_gives_the_names(
    task_of: Make, vocabulary_of: Vocabularies
) -> None:
    learned = task_of(KIND, rows_of("pos", "neg"))
    with pytest.raises(DataError, match=r"(?s)'1': row 1.*a number says nothing.*task\.labels"):
        learned.encode(rows_of(1), vocabulary_of("bert"), "score")
    given = task_of(KIND, rows_of("pos", "neg"), labels=("pos", "neg"))
    assert read(given, rows_of(1, "pos", 1.0), vocabulary_of) == [1, 0, 1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no label"),
        ("", "no label"),
        ("  ", "no label"),
        (float("nan"), "no label"),
        (-1, "label -1 stands for 'no label', unless task.labels names it"),
        ("-1", "label -1 stands for 'no label', unless task.labels names it"),
        (-1.0, "label -1 stands for 'no label', unless task.labels names it"),
        (-100, "label -100 stands for 'no label', unless task.labels names it"),
    ],
)
@pytest.mark.parametrize("labels", [("a", "b"), (0, 1, 2)])
def test_rows_without_a_label_are_left_out_and_counted(
    labels: tuple[Any, ...], value: Any, reason: str, task_of: Make
) -> None:
    rows = rows_of(*labels, value)
    task = task_of(KIND, rows)
    assert task.labels == tuple(map(str, labels))
    assert task.check_rows(rows).problems == [(len(rows), reason)]


def test_minus_one_is_a_label_where_it_is_named_or_one_of_a_scale(task_of: Make) -> None:
    assert task_of(KIND, rows_of(-1, 0, 1), labels=("-1", "0", "1")).check_rows(rows_of(-1)).problems == []
    assert task_of(KIND, rows_of(-1, 0, 1), labels=("0", "1")).labels == ("0", "1")
    assert task_of(KIND, rows_of(-1, 1)).labels == ("-1", "1")
    assert task_of(KIND, rows_of(-2, -1, 0, 1)).labels == ("-2", "-1", "0", "1")
    assert task_of(KIND, rows_of(-1.5, -1, 0.5)).problem == "regression"


def test_padding_in_lists_of_labels_is_no_label(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = rows_of([3, 0, -1], [2, -1, -1], [-1, -1, -1])
    task = task_of(KIND, rows)
    assert task.labels == ("0", "2", "3")
    usable = task.check_rows(rows)
    assert usable.problems == [(3, "label [-1, -1, -1] stands for 'no label', unless task.labels names it")]
    assert read(task, usable.rows, vocabulary_of) == [[1, 0, 1], [0, 1, 0]]
    assert task.notes(usable.rows) == ["-1 stands 3 times in lists of labels, and is read as no label"]


@pytest.mark.parametrize(("labels", "noted"), [((1, 2, 3, 4, 5), True), ((0, 1, 2), False), ((1, 2, 5), False)])
def test_whole_numbers_from_one_up_may_be_ratings(labels: tuple[int, ...], noted: bool, task_of: Make) -> None:
    rows = rows_of(*labels)
    notes = task_of(KIND, rows).notes(rows)
    assert bool(notes) == noted
    assert all("task.problem: regression" in note for note in notes)
    assert task_of(KIND, rows, labels=tuple(map(str, labels))).notes(rows) == []


def test_a_metric_that_cannot_tell_states_apart_gives_way(task_of: Make) -> None:
    single = task_of(KIND, rows_of("a", "b"), metric="mcc")
    assert single.telling_metric(rows_of("a", "b"))[0] == "mcc"
    assert single.telling_metric(rows_of("a", "a"))[0] == "accuracy"
    several = task_of(KIND, rows_of(["a"], ["b"]))
    assert several.telling_metric(rows_of(["a"], []))[0] == "micro_f1"
    assert several.telling_metric(rows_of([], []))[0] == "exact_match"
    numbers = task_of(KIND, rows_of(0.5, 1.5))
    assert numbers.telling_metric(rows_of(0.5, 1.5))[0] == "pearson"
    assert numbers.telling_metric(rows_of(0.5, 0.5))[0] == "mse"
