"""Drift against scipy, hand arithmetic, and its promised rate of false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import energy_distance

from adapterkit.metrics.drift import WIDTH, energy_test, label_shift, projected


def test_the_energy_distance_is_that_of_scipy() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=40), generator.normal(0.7, 2.0, size=25)
    found, _ = energy_test(a[:, None], b[:, None])
    assert found == pytest.approx(energy_distance(a, b) ** 2, rel=1e-9)


def test_unchanged_rows_are_called_drifted_no_more_often_than_asked() -> None:
    generator = np.random.default_rng(1)
    alarms = 0
    for seed in range(300):
        a, b = generator.standard_t(4, size=(2, 30, 5))
        alarms += energy_test(a, b, rounds=99, seed=seed)[1] <= 0.05
    assert alarms <= 300 * 0.05 + 3 * math.sqrt(300 * 0.05 * 0.95)  # three standard errors


def test_rows_that_moved_or_spread_are_found() -> None:
    generator = np.random.default_rng(2)
    a = generator.normal(size=(100, 8))
    for b in (generator.normal(0.5, 1.0, size=(60, 8)), generator.normal(0.0, 2.0, size=(60, 8))):
        distance, p = energy_test(a, b)
        assert distance > 0
        assert p == 1 / 200


def test_projections_keep_distances_and_are_the_same_for_ever() -> None:
    states = np.random.default_rng(3).normal(size=(50, 384))
    kept = projected(states)
    assert kept.shape == (50, WIDTH)
    ratio = np.linalg.norm(kept[:25] - kept[25:], axis=1) / np.linalg.norm(states[:25] - states[25:], axis=1)
    assert abs(ratio.mean() - 1) < 0.1
    eye = projected(np.eye(8))
    assert np.abs(eye) == pytest.approx(1 / math.sqrt(WIDTH))
    assert "".join("+" if x > 0 else "-" for x in eye[0, :16]) == SIGNS


SIGNS = "++--+-+--+--++++"  # the first bits of shake_256(b"adapterkit 8 64"), the highest first


def test_label_shift_is_arithmetic() -> None:
    assert label_shift({"a": 5, "b": 5}, {"a": 50, "b": 50}) == 0
    expected = (0.9 - 0.5) * math.log(0.9 / 0.5) + (0.1 - 0.5) * math.log(0.1 / 0.5)
    assert label_shift({"a": 5, "b": 5}, {"a": 9, "b": 1}) == pytest.approx(expected)
    assert label_shift({"a": 1}, {"new": 1}) == pytest.approx(2 * 0.9999 * math.log(1 / 0.0001))
    assert label_shift({}, {"a": 1}) is None
    assert label_shift({"a": 1}, {}) is None
