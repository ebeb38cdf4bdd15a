"""Rows in memory and as a stream."""

import hashlib

import pytest

from adapterkit.data import Rows, RowStream, as_rows


def stream(count):
    return RowStream(lambda: ((n, {"n": n}) for n in range(1, count + 1)), "numbers", ["n"])


def test_rows_keep_their_numbers_through_slices_and_selections():
    rows = Rows([{"n": n} for n in "abcd"], [2, 3, 5, 7], "a.jsonl")
    assert rows[1:3].numbers == (3, 5)
    assert rows.select([3, 0]).column("n") == ["d", "a"]
    assert rows.select([3, 0]).numbers == (7, 2)
    assert rows[-1] == {"n": "d"}
    assert repr(rows) == "Rows(4 from 'a.jsonl', columns n)"


def test_rows_need_a_number_each():
    with pytest.raises(ValueError, match="2 rows, but 1 numbers"):
        Rows([{}, {}], [1])


def test_rows_of_a_caller_are_numbered_from_one():
    rows = as_rows([{"text": "a"}, {"text": "b", "label": 1}])
    assert rows.numbers == (1, 2)
    assert rows.columns == ("text", "label")
    assert rows.column("label") == [None, 1]
    assert as_rows(rows) is rows


def test_the_digest_is_sha256_over_one_json_line_per_row():
    expected = hashlib.sha256('{"a":"é","b":[1,null]}\n{"a":"x"}\n'.encode()).hexdigest()
    assert Rows([{"b": [1, None], "a": "é"}, {"a": "x"}]).digest() == expected


@pytest.mark.parametrize("other", [[{"a": 1.0}], [{"a": "1"}], [{"a": True}], [{"b": 1}], [{"a": 1}, {"a": 1}], []])
def test_the_digest_tells_every_difference(other):
    assert Rows(other).digest() != Rows([{"a": 1}]).digest()


def test_the_digest_ignores_numbers_and_source():
    assert Rows([{"a": 1}], [9], "x").digest() == Rows([{"a": 1}], [1], "y").digest()


def test_a_sample_is_seeded_and_in_file_order():
    rows = Rows([{"n": n} for n in range(100)])
    sample = rows.sample(10, seed=3)
    assert sample.numbers == rows.sample(10, seed=3).numbers != rows.sample(10, seed=4).numbers
    assert list(sample.numbers) == sorted(set(sample.numbers))
    assert len(sample) == 10
    assert rows.sample(100) is rows


def test_a_stream_starts_anew_with_every_iteration():
    rows = stream(3)
    assert list(rows) == list(rows) == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [n for n, _ in rows.numbered()] == [1, 2, 3]


def test_a_stream_comes_in_chunks_of_rows():
    assert [chunk.numbers for chunk in stream(5).chunks(2)] == [(1, 2), (3, 4), (5,)]
    assert stream(5).take(2).numbers == (1, 2)
    assert stream(1).take(2).numbers == (1,)
    with pytest.raises(ValueError, match="at least one row"):
        next(stream(5).chunks(0))


@pytest.mark.parametrize("buffer_rows", [1, 7, 100])
def test_a_shuffled_stream_gives_every_row_once_by_seed_and_epoch(buffer_rows):
    def order(seed, epoch):
        return [n for n, _ in stream(50).shuffled(seed, epoch, buffer_rows).numbered()]

    assert sorted(order(0, 0)) == list(range(1, 51))
    assert order(0, 0) == order(0, 0)
    if buffer_rows > 1:
        assert order(0, 0) != order(0, 1) != order(1, 1)


def test_a_stream_reads_no_further_than_it_has_to():
    opened = []

    def rows():
        for n in range(1, 1_000_000):
            opened.append(n)
            yield n, {"n": n}

    endless = RowStream(rows, "numbers")
    assert len(endless.take(3)) == 3
    assert len(opened) <= 4
