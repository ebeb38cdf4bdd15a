"""Guards: what breaks a bound is found, what keeps it stays, however often one looks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from adapterkit.errors import TrafficError
from adapterkit.traffic import read_rules
from adapterkit.traffic.guards import Guards

ANSWER = {"label": "yes", "confidence": 0.9}


def test_a_version_that_keeps_its_bounds_is_taken_off_no_more_often_than_alpha() -> None:
    guards, generator, tripped = Guards(errors=0.1, feedback=0.8, alpha=0.1), random.Random(1), 0
    for _ in range(200):
        tally = guards.tally()
        for row in range(400):
            if generator.random() < 0.1:
                tally.error()
            else:
                tally.answer(ANSWER, 0.01)
            tally.feedback(generator.random() < 0.8)
            if row % 5 == 0 and guards.tripped(tally):
                tripped += 1
                break
    assert tripped <= 200 * guards.alpha


@pytest.mark.parametrize(
    ("settings", "guard", "value"),
    [
        ({"errors": 0.05}, "errors", 0.5),
        ({"latency_ms": 100.0}, "latency_ms", 0.5),
        ({"confidence": 0.6}, "confidence", 0.2),
        ({"disagreement": 0.05}, "disagreement", 1.0),
        ({"feedback": 0.9}, "feedback", 0.5),
    ],
)
def test_every_guard_finds_what_breaks_it_and_says_why(settings: dict[str, Any], guard: str, value: float) -> None:
    guards, found = Guards(**settings), None
    tally, seen = guards.tally(), 0
    while found is None and seen < 5000:
        seen += 1
        if seen % 2 and guard == "errors":
            tally.error()
        else:
            slow_s = None if guards.latency_ms is None else guards.latency_ms / 1000
            tally.answer({"label": "no", "confidence": 0.2}, 0.2 if seen % 2 else 0.001, slow_s)
        tally.feedback(seen % 2 == 0)
        tally.compare(same=False)
        found = guards.tripped(tally)
    assert found is not None
    assert seen < 200
    assert (found.guard, found.value) == (guard, pytest.approx(value, abs=0.1))
    assert found.as_json()["detail"] == str(found)
    assert f"on {found.rows:,} rows, expected" in str(found)


def test_guards_that_are_not_given_are_not_looked_at() -> None:
    tally = Guards().tally()
    for _ in range(500):
        tally.error()
        tally.feedback(right=False)
    assert Guards().tripped(tally) is None


def test_a_tally_says_what_was_seen() -> None:
    tally = Guards().tally()
    for number in range(100):
        tally.answer(
            {"label": "yes" if number < 30 else "no", "confidence": 0.5, "abstained": number < 10}, number / 1000
        )
    tally.error()
    tally.feedback(right=True)
    facts = tally.facts()
    assert (facts["rows"], facts["errors"]["count"], facts["abstained"]["count"]) == (101, 1, 10)
    assert facts["labels"] == {"no": 70, "yes": 30}
    assert facts["latency_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert facts["confidence"]["value"] == pytest.approx(0.5)
    assert facts["right"]["of"] == 1
    assert facts["differing"] == {"count": 0, "of": 0, "share": None}


def test_labels_beyond_a_bound_are_counted_as_one() -> None:
    tally = Guards().tally()
    for number in range(1000):
        tally.answer({"label": f"label {number}"}, 0.0)
    assert len(tally.labels) == 257
    assert tally.labels[""] == 1000 - 256


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"guards": {"error": 0.1}}, "guards.error"),
        ({"guards": {"errors": 1.5}}, "guards.errors"),
        ({"split": {"stable": 1, "next": 1}, "shadow": "next"}, "shadow"),
        ({"shadow": "next", "shadow_share": 0}, "shadow_share"),
        ({"drift_window": 3}, "drift_window"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused_by_name(rules: dict[str, Any], said: str) -> None:
    with pytest.raises(TrafficError, match=said):
        read_rules({"tasks": {"intent": rules}})


def test_alerts_go_to_web_addresses_alone() -> None:
    assert str(read_rules({"alerts": ["https://example.org/hook"]}).alerts[0]) == "https://example.org/hook"
    with pytest.raises(TrafficError, match="alerts"):
        read_rules({"alerts": ["file:///etc/passwd"]})
