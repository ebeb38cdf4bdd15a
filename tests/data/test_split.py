"""The validation share: stratified, and decided by content and seed."""

import random
from collections import Counter

import pytest

from adapterkit.data import Rows, RowStream, split_stream, split_validation
from adapterkit.errors import DataError


def rows_of(**classes):
    return Rows([{"text": f"{name} {n}", "label": name} for name, count in classes.items() for n in range(count)])


def test_every_class_gives_its_share():
    train, validation = split_validation(rows_of(a=100, b=50, c=10), 0.1, stratify_by="label")
    assert Counter(validation.column("label")) == {"a": 10, "b": 5, "c": 1}
    assert Counter(train.column("label")) == {"a": 90, "b": 45, "c": 9}


def test_the_parts_are_disjoint_and_whole_and_in_file_order():
    rows = rows_of(a=30, b=30)
    train, validation = split_validation(rows, 0.2, stratify_by="label")
    assert sorted(train.numbers + validation.numbers) == list(rows.numbers)
    assert list(train.numbers) == sorted(train.numbers)
    assert [row["text"] for row in validation] == [rows[n - 1]["text"] for n in validation.numbers]


def test_small_classes_round_so_that_the_whole_is_right():
    rows = rows_of(**{f"class {n}": 5 for n in range(20)})
    _, validation = split_validation(rows, 0.1, stratify_by="label")
    assert len(validation) == 10
    assert max(Counter(validation.column("label")).values()) == 1


def test_a_class_with_one_row_stays_in_training():
    train, validation = split_validation(rows_of(a=2, b=1, c=1), 0.9, stratify_by="label")
    assert set(train.column("label")) == {"a", "b", "c"}
    assert validation.column("label") == ["a"]


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    rows = rows_of(a=40, b=40)
    shuffled = rows.select(random.Random(1).sample(range(80), 80))

    def texts(rows, seed):
        return set(split_validation(rows, 0.25, seed, "label")[1].column("text"))

    assert texts(rows, 0) == texts(shuffled, 0)
    assert texts(rows, 0) != texts(rows, 1)


def test_identical_rows_stay_together():
    rows = Rows([{"text": f"text {n // 2}"} for n in range(200)])
    train, validation = split_validation(rows, 0.1)
    assert len(validation) == 20
    assert not set(train.column("text")) & set(validation.column("text"))


def test_a_function_or_a_list_of_labels_stratifies():
    rows = Rows([{"text": f"{n}", "labels": ["a", "b"] if n % 2 else []} for n in range(40)])
    _, by_list = split_validation(rows, 0.5, stratify_by="labels")
    _, by_function = split_validation(rows, 0.5, stratify_by=lambda row: len(row["labels"]))
    assert Counter(map(len, by_list.column("labels"))) == {2: 10, 0: 10}
    assert Counter(map(len, by_function.column("labels"))) == {2: 10, 0: 10}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 3])
def test_a_share_is_between_none_and_all(share):
    with pytest.raises(DataError, match="out of range"):
        split_validation(rows_of(a=10), share)


@pytest.mark.parametrize(
    ("texts", "share", "cause"),
    [
        ("abc", 0.5, "every class has one row, which training keeps"),
        ("aaab", 0.1, "0.1 of 4 rows is less than one row"),
        # Each of eight texts of a class stands ten times, and a share of 5 % is four rows of it.
        (
            "aaaaaaaabbbbbbbb" * 10,
            0.05,
            "the different rows number 16 only: .* has 10 rows, where the share has room for 4",
        ),
    ],
)
def test_a_split_that_leaves_no_validation_names_its_cause(texts, share, cause):
    rows = Rows({"label": label, "n": n % 16} for n, label in enumerate(texts))
    with pytest.raises(DataError, match=f"(?s)no row is left for validation.*{cause}"):
        split_validation(rows, share, stratify_by="label")


def test_a_stream_splits_by_content():
    stream = RowStream(lambda: ((n, {"n": n}) for n in range(1, 2_001)), "numbers", ["n"])
    train, validation = split_stream(stream, 0.2)
    numbers = [[n for n, _ in part.numbered()] for part in (train, validation)]
    assert sorted(numbers[0] + numbers[1]) == list(range(1, 2_001))
    assert 340 < len(numbers[1]) < 460  # 400 ± 3.4 standard deviations of a fair draw; the seed is fixed
