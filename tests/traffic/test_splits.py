"""Sticky splits against their definition: shares, stickiness, and how little moves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from adapterkit.errors import TrafficError
from adapterkit.traffic import arm_of, read_rules

KEYS = [f"user {number}" for number in range(20_000)]


def test_shares_are_those_that_were_asked_for() -> None:
    split = {"stable": 0.7, "candidate": 0.2, "other": 0.1}
    counts = Counter(arm_of(split, key) for key in KEYS)
    assert chisquare([counts[arm] for arm in split], [len(KEYS) * share for share in split.values()]).pvalue > 0.001


def test_moving_five_percent_moves_five_percent() -> None:
    before, after = {"stable": 0.95, "candidate": 0.05}, {"stable": 0.90, "candidate": 0.10}
    moved = [(arm_of(before, key), arm_of(after, key)) for key in KEYS]
    assert {pair for pair in moved if pair[0] != pair[1]} == {("stable", "candidate")}
    share = sum(one != other for one, other in moved) / len(KEYS)
    assert abs(share - 0.05) < 4 * (0.05 * 0.95 / len(KEYS)) ** 0.5  # four standard errors


def test_splits_of_two_tasks_are_independent() -> None:
    split = {"a": 0.5, "b": 0.5}
    both = Counter((arm_of(split, key, salt="intent"), arm_of(split, key, salt="ner")) for key in KEYS)
    assert chisquare(list(both.values())).pvalue > 0.001


@given(st.text(), st.text())
def test_an_arm_without_a_share_never_answers(key: str, salt: str) -> None:
    assert arm_of({"stable": 1.0, "candidate": 0.0}, key, salt=salt) == "stable"


@pytest.mark.parametrize("split", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": float("nan")}, {"a": float("inf")}])
def test_shares_that_make_no_sense_are_refused(split: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        arm_of(split, "x")


def test_rules_name_every_channel_that_is_asked(tmp_path: Any) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text("tasks:\n  intent:\n    split: {stable: 0.9, candidate: 0.1, old: 0}\n")
    rules = read_rules(file)
    assert rules.of("intent").channels == ("stable", "candidate")
    assert rules.of("anything else").split == {"stable": 1.0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tasks: {intent: {splits: {stable: 1}}}", "splits"),
        ("tasks: {intent: {split: {stable: 0}}}", "above 0"),
        ("tasks: [", "rules"),
    ],
)
def test_rules_that_make_no_sense_are_refused(tmp_path: Any, text: str, said: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(TrafficError, match=said):
        read_rules(tmp_path / "rules.yaml")
