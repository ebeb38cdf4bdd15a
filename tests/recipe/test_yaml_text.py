"""The YAML of a recipe: plain values, and nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.recipe.yaml_text import DEEPEST, LARGEST_TEXT_BYTES, YamlError, parse_yaml, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("2.0e-3", 0.002),
        ("1E3", 1000.0),
        ("+.5", 0.5),
        ("-3", -3),
        ("007", 7),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("off", "off"),
        ("2026-01-01", "2026-01-01"),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("'1'", "1"),
        ('"null"', "null"),
        ("[1, a, [b]]", [1, "a", ["b"]]),
        ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ('{"json": [true, null, 1.5]}', {"json": [True, None, 1.5]}),
    ],
)
def test_plain_values_are_read_as_yaml_1_2_has_them(text: str, value: Any) -> None:
    found = parse_yaml(text).value
    assert found == value
    assert type(found) is type(value)


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("a: 1\na: 2", "line 2, column 1", "a stands twice, first on line 1"),
        ("m: {x: 1, x: 2}", "line 1, column 11", "m.x stands twice"),
        (BOMB, "line 1", "an anchor"),
        ("a: *b", "line 1", "alias"),
        ("a: !!python/object/apply:os.system ['true']", "line 1", "a tag"),
        ("!!set {a, b}", "line 1", "a tag"),
        ("1: a", "line 1", "the key '1' is not text"),
        ("true: a", "line 1", "the key 'true' is not text"),
        ("? [a]\n: b", "line 1", "a key is a list"),
        ("a: .nan", "line 1, column 4", "not a finite number"),
        ("a: -.inf", "line 1, column 4", "not a finite number"),
        ("a: 1e999", "line 1, column 4", "too large"),
        ("a: " + "9" * 5000, "line 1, column 4", "5000 characters"),
        ("a: 1\n---\nb: 2", "line 2, column 1", "a second document begins; a recipe is one"),
        ("a: [1, 2", "line 1", "expected"),
        ("a:\n\t- 1", "line 2", "cannot start any token"),
        ("a: 1\nb: \x00", "line 2", "character"),
        ('a: "\\ud800"', "line 1, column 4", "half a character"),
        ("[" * (DEEPEST + 1), "line 1", "nested deeper"),
        ("{a: " * 5000, "line 1", "nested deeper"),
        ("- " * 5000 + "x", "line 1", "nested deeper"),
        ("# " + "x" * LARGEST_TEXT_BYTES, "", "is larger than"),
    ],
)
def test_what_no_recipe_needs_is_refused_with_its_place(text: str, place: str, reason: str) -> None:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    assert str(caught.value).startswith(place)
    assert reason in str(caught.value)


def test_every_value_knows_its_line() -> None:
    lines = parse_yaml("a: 1\nb:\n  c: [x,\n    y]\n  d: {e: 2}\n").lines
    assert lines[("a",)] == 1
    assert lines[("b", "c")] == 3
    assert lines[("b", "c", 1)] == 4
    assert lines[("b", "d", "e")] == 5


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.from_regex(r"[-+]?[0-9.]{1,3}[eE][-+]?[0-9]{1,2}", fullmatch=True)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.-_ é:#", max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_what_yaml_and_json_write_is_read_back(value: Any) -> None:
    assert parse_yaml(json.dumps(value)).value == value
    assert parse_yaml(write_yaml(value)).value == value


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_as_such(text: str) -> None:
    try:
        value = parse_yaml(text).value
    except YamlError:
        return
    assert value is None or isinstance(value, bool | int | str | list | dict) or math.isfinite(value)
