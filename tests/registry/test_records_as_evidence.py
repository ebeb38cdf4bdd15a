"""What verbs print is evidence for the version that it is about, and for no other."""

from __future__ import annotations

from typing import Any

import pytest

from adapterkit.errors import GateError, RegistryError
from adapterkit.registry import Registry
from tests.records.test_records import evaluation
from tests.registry.conftest import Make

BINS = [{"low": 0.5, "high": 0.9, "items": 4, "confidence": 0.75, "accuracy": 0.75}]


def answering(digest: str) -> dict[str, Any]:
    return {**evaluation()["answering"], "sha256": digest}


def comparison(a: str, b: str, verdict: str = "better", low: float = 0.01) -> dict[str, Any]:
    shared = evaluation()
    return {
        "schema": "adapterkit.comparison/1",
        **{name: shared[name] for name in ("made_with", "seed", "data", "resamples")},
        "a": answering(a),
        "b": answering(b),
        "metric": "accuracy",
        "verdict": verdict,
        "rows_for_a_point": None,
        "metrics": {
            "accuracy": {"a": 0.5, "b": 0.6, "difference": 0.1, "low": low, "high": 0.2, "standard_error": 0.05,
                         "higher_is_better": True, "verdict": verdict}
        },
        "sides": None,
        "slices": [],
        "slices_left_out": 0,
        "false_alarms": 0.0,
    }  # fmt: skip


def calibrated(digest: str, ece: float) -> dict[str, Any]:
    figures = {
        "items": 4,
        "ece": ece,
        "brier": 0.2,
        "nll_nats": None,
        "confidence": 0.75,
        "accuracy": 0.75,
        "bins": BINS,
    }
    return evaluation(answering=answering(digest), calibration=figures)


def problems(registry: Registry, version: str, **evidence: Any) -> tuple[str, ...]:
    with pytest.raises(GateError) as caught:
        registry.promote("intent", version, evidence=evidence)
    return caught.value.problems


def test_a_comparison_with_what_answers_today_lets_a_version_pass(registry: Registry, make: Make) -> None:
    old, new = registry.add("intent", make("a")), registry.add("intent", make("b"))
    registry.promote("intent", "1")
    registry.set_gate({"require": ["compare"]})
    assert problems(registry, "2") == ("compare: no evidence, expected some",)
    about = ("compare: the record is about another version (a)", "compare: the record is about another version (a, b)")
    assert problems(registry, "2", compare=comparison("f" * 64, new.digest)) == about[:1]
    assert problems(registry, "2", compare=comparison(new.digest, old.digest)) == about[1:]
    worse = problems(registry, "2", compare=comparison(old.digest, new.digest, "worse", -0.2))
    assert worse == ("compare: worse: accuracy +0.1000 [-0.2000, +0.2000] on 2 rows",)
    registry.promote("intent", "2", evidence={"compare": comparison(old.digest, new.digest, "no difference shown")})
    kept = registry.history("intent")[-1].evidence["compare"]
    assert kept["facts"] == {"a": old.digest, "b": new.digest, "data": evaluation()["data"]["digest"]}


def test_a_calibration_error_within_the_gate_s_bound_passes(registry: Registry, make: Make) -> None:
    version = registry.add("intent", make("a"))
    registry.set_gate({"require": ["calibration"], "most_ece": 0.02})
    told = ("calibration: calibration error 0.0300 on 2 rows, expected at most 0.02",)
    assert problems(registry, "1", calibration=calibrated(version.digest, 0.03)) == told
    assert problems(registry, "1", calibration=evaluation(answering=answering(version.digest))) == (
        "calibration: no confidence on 2 rows, expected at most 0.02",
    )
    assert "another version" in problems(registry, "1", calibration=calibrated("f" * 64, 0.01))[0]
    registry.promote("intent", "1", evidence={"calibration": calibrated(version.digest, 0.02)})


def test_records_that_are_none_are_refused(registry: Registry, make: Make) -> None:
    version = registry.add("intent", make("a"))
    for wrong in (
        {"compare": calibrated(version.digest, 0.01)},
        {"calibration": {"schema": "adapterkit.probe/1"}},
        {"compare": {"schema": "adapterkit.comparison/1"}},
    ):
        with pytest.raises(RegistryError, match="cannot be used"):
            registry.promote("intent", "1", evidence=wrong)
