"""Grids as they are written on the command line and in Python."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.errors import SweepError
from adapterkit.recipe.yaml_text import parse_yaml
from adapterkit.sweeping.grid import Axis, as_override, axes_of, combinations, parse_grid

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("a.b=1e-3,2e-3", (0.001, 0.002)),
        ("a.b=4", (4,)),
        ("a.b=auto,all-linear", ("auto", "all-linear")),
        ("a.b=[x,y],[z],auto", (["x", "y"], ["z"], "auto")),
        ("a.b=[x,y]", (["x", "y"],)),
        ("a.b=null,true", (None, True)),
        ('a.b="one, two",three', ("one, two", "three")),
        ("a.b={x: 1, y: 2},{x: 3}", ({"x": 1, "y": 2}, {"x": 3})),
        ('a.b=""', ("",)),
    ],
)
def test_what_stands_behind_a_path_is_the_inside_of_a_list(word: str, values: tuple[Any, ...]) -> None:
    assert parse_grid([word]) == (Axis("a.b", values),)


@given(st.lists(PLAIN, min_size=1, max_size=4, unique_by=lambda value: json.dumps(value)))
def test_every_value_can_be_written_and_reaches_the_recipe_as_it_was(values: list[Any]) -> None:
    written = ",".join(json.dumps(value) for value in values)
    (axis,) = parse_grid([f"a={written}"])
    assert list(axis.values) == values
    assert [parse_yaml(as_override("a", value).partition("=")[2]).value for value in axis.values] == values


def test_words_and_mappings_give_the_same_axes() -> None:
    words = parse_grid(["method.rank=4,8", "seed=0,1"])
    assert words == axes_of({"method.rank": (4, 8), "seed": range(2)})
    assert words == (Axis("method.rank", (4, 8)), Axis("training.seed", (0, 1)))


def test_combinations_go_through_the_last_axis_fastest() -> None:
    assert combinations(parse_grid(["a=1,2", "b=3,4"])) == [
        {"a": 1, "b": 3},
        {"a": 1, "b": 4},
        {"a": 2, "b": 3},
        {"a": 2, "b": 4},
    ]


def test_all_mistakes_of_a_grid_are_told_at_once() -> None:
    words = ["rank", "a=[1", "b=", "c=1,1", "output=x,y", "task.metric=mcc", "seed=0", "training.seed=1"]
    with pytest.raises(SweepError) as caught:
        parse_grid(words)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "'rank'",
        "a",
        "b",
        "c",
        "output",
        "task.metric",
        "training.seed",
    ]


@pytest.mark.parametrize("grid", [{}, {"a": []}, {"a": "abc"}, {"a": 3}])
def test_a_grid_without_values_is_refused(grid: Any) -> None:
    with pytest.raises(SweepError, match="The grid cannot be used"):
        axes_of(grid)
