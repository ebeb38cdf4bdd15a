from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.errors import ArtifactError
from adapterkit.manifest.strict_json import MAX_DEPTH, dump_json, parse_json, parse_object

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    # Category Cs holds lone surrogates, which UTF-8 cannot hold.
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_is_written_is_read_back(value):
    assert parse_json(dump_json(value), "x") == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_our_error(raw):
    try:
        value = parse_json(raw, "x")
    except ArtifactError:
        return
    assert value == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": 1, "a": 2}', "stands twice"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "out of range"),
        (b"[9223372036854775808]", "the integer 9223372036854775808 is out of range"),
        (b"[1, -9223372036854775808]", "the integer -9223372036854775808 is out of range"),
        (b"[" + b"9" * 100_000 + b"]", "out of range"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "nested deeper"),
        (b"[" * 1_000_000, "nested deeper"),
        (b'{"a": 1} x', "line 1, column 10"),
        (b"", "not JSON"),
    ],
)
def test_bad_json_is_refused_with_the_reason(raw, words):
    with pytest.raises(ArtifactError) as caught:
        parse_json(raw, "file.json")
    assert caught.value.problems[0].startswith("file.json: ")
    assert words in caught.value.problems[0]


def test_the_deepest_allowed_nesting_is_read():
    parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "x")


def test_a_list_is_no_object():
    with pytest.raises(ArtifactError, match=r"x cannot be read"):
        parse_object(b"[]", "x")


def test_bytes_do_not_depend_on_the_order_of_keys():
    assert dump_json({"a": 1, "b": 2}) == dump_json({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, {"a": object()}, "\ud800"])
def test_what_is_not_json_is_not_written(value):
    with pytest.raises(ArtifactError):
        dump_json(value)
