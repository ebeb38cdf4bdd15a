"""Whether keeping states pays, against hand arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from adapterkit.training.trunk_cache.estimate import Estimate


def estimate(**changes: Any) -> Estimate:
    """6 layers of 50 million parameters on a CPU: one layer takes 1 ms per token; 1,000 tokens of 1 kB an epoch."""
    facts: dict[str, Any] = {
        "layer": 5,
        "layers": 6,
        "adapted": True,
        "layer_parameters": 50_000_000,
        "device": "cpu",
        "epoch_tokens": 1000,
        "epoch_bytes": 1_000_000,
        "scored_tokens": 0,
        "scored_bytes": 0,
        "new_tokens": 1000,
        "new_bytes": 1_000_000,
        "free_bytes": 10**12,
        "epochs": 3.0,
    }
    return Estimate(**{**facts, **changes})


def test_an_epoch_costs_its_passes_and_its_reading() -> None:
    assert estimate().plain_seconds == pytest.approx(7.0)  # 6 forward and 1 back
    assert estimate().kept_seconds == pytest.approx(2.001)  # 1 forward, 1 back, 1 MB at 1 GB/s
    assert estimate().filling_seconds == pytest.approx(5.001)
    assert estimate().gain == pytest.approx(3.498, abs=1e-3)
    assert estimate(layer=4).gain == pytest.approx(8 / 4.001)


def test_a_head_alone_only_reads() -> None:
    alone = estimate(layer=6, adapted=False)
    assert alone.plain_seconds == pytest.approx(6.0)
    assert alone.kept_seconds == pytest.approx(0.001)
    assert alone.gain == pytest.approx(6000)


def test_one_epoch_does_not_pay_and_two_do() -> None:
    assert "over 1 epochs it would not pay: 5 of 6" in estimate(epochs=1.0).objection()
    assert estimate(epochs=2.0).objection() == ""


def test_one_epoch_pays_where_everything_is_kept_already() -> None:
    assert estimate(epochs=1.0, new_tokens=0, new_bytes=0).objection() == ""


def test_rows_that_are_scored_once_neither_pay_nor_cost() -> None:
    """Four times as many test rows: 24 s without, or 4 s with and 20 s to compute them, and their bytes twice."""
    scored = {"scored_tokens": 4000, "scored_bytes": 4_000_000, "new_tokens": 5000, "new_bytes": 5_000_000}
    assert estimate(epochs=2.0, **scored).objection() == ""
    assert estimate(epochs=1.0, **scored).objection() != ""


def test_a_sweep_counts_all_its_runs() -> None:
    """One epoch alone takes 7 s; with the states kept 2 s, and 5 s to compute them once."""
    assert estimate(epochs=1.0, runs=2).objection() == ""
    sparse = estimate(epochs=0.1, runs=3).objection()
    assert sparse == "over 0.1 epochs of 3 runs it would not pay: 5 of 6 layers are below"


def test_more_than_half_of_the_free_space_is_too_much() -> None:
    assert estimate(free_bytes=2_000_000).objection() == ""
    assert estimate(free_bytes=1_999_999).objection() == "it would take 1 MB of 2 MB that are free on the disk"


def test_layers_that_are_computed_faster_than_they_are_read_are_not_kept() -> None:
    """On a GPU 1,000 tokens take 5 ms a layer; reading 100 MB takes 100 ms."""
    small = estimate(device="cuda", epoch_bytes=10**8, new_bytes=0, new_tokens=0)
    assert small.plain_seconds == pytest.approx(0.035)
    assert "would not pay" in small.objection()
