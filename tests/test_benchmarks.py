"""What the benchmarks measure still runs, and still compares before it measures."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
ELSEWHERE = {"adapterhub_side"}
"""Runs in an environment of its own."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A benchmark by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.mark.parametrize("name", sorted({file.stem for file in FOLDER.glob("*.py")} - ELSEWHERE))
def test_every_benchmark_can_be_imported(script: Any, name: str) -> None:
    assert script(name).__doc__


def test_a_mixed_batch_is_compared_with_pefts(script: Any) -> None:
    mixed = script("host_mixed")
    backbone = mixed.bert(64, torch.float32)
    found = mixed.measure(backbone, mixed.Engine(backbone), count=4, tokens=4, rank=2, repeats=1, peft=True)
    assert 0 < found["largest_difference"] < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_is_compared_with_pefts(script: Any, dtype: torch.dtype) -> None:
    steps = script("training_step")
    found = steps.measure(steps.Case("tiny", 64, 1, 2, 8, dtype=dtype), repeats=1)
    assert found["step / peft"] > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # Dynamo warns of what it does itself
def test_what_is_measured_on_a_gpu_runs_on_a_cpu_too(script: Any) -> None:
    found = script("gpu").measure(torch.device("cpu"), tiny=True, repeats=1)
    (steps,), (packed,), (mixed,) = found["steps"], found["packed"], found["mixed"]
    assert steps["CUDA graphs"].startswith("refused")
    for way in ("plain", "compiled"):
        assert steps[way]["ms"].keys() == {"adapterkit", "peft"}, steps[way]
    assert packed["ms"].keys() == {"in one batch", "one after another", "peft, one after another"}
    assert mixed["largest difference"] < 1e-5
