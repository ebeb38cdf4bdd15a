"""Finding the name that somebody meant."""

from __future__ import annotations

import pytest

from adapterkit.recipe.suggestions import did_you_mean, nearest

NAMES = ("learning_rate", "batch_size", "text-classification", "seed")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("learning_rat", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("Learning Rate", "learning_rate"),
        ("lr", "learning_rate"),
        ("text_clasification", "text-classification"),
        ("SEED", "seed"),
        ("colour", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_found_or_none(name: str, found: str | None) -> None:
    assert nearest(name, NAMES) == found


def test_initials_of_two_names_point_at_neither() -> None:
    assert nearest("bs", ("batch_size", "beam_search")) is None


def test_the_question_is_left_out_where_nothing_is_near() -> None:
    assert did_you_mean("sede", NAMES) == "; did you mean seed?"
    assert did_you_mean("colour", NAMES) == ""
