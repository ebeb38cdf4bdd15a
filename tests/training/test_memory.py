"""Rows from memory train, score and answer as those of a file do."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.data import IN_MEMORY, rows_of
from adapterkit.errors import DataError, TrainingError
from adapterkit.training.learner import Learner
from tests.training.worlds import bytes_of, recipe, train
from tests.training.worlds import rows_of as made

KIND = "text-classification"
ROWS = made(KIND, 52)
TRAIN, TEST = ROWS[:40], ROWS[40:]


def from_memory(folder: Path, backbone: Any, **data: Any) -> dict[str, Any]:
    """The recipe of the tests without any file."""
    whole = recipe(folder, backbone, data=data)
    for name in ("train", "test"):
        del whole["data"][name]
    return whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def result(folder: Path, tiny_backbones: Any) -> Any:
    backbone = tiny_backbones["bert"]
    held = {"train": pd.DataFrame(TRAIN), "test": datasets.Dataset.from_list(TEST)}
    return train(from_memory(folder, backbone), data=held, backbone=backbone)


def test_rows_from_memory_learn_what_those_of_a_file_do(result: Any, folder: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    from_files = train({**recipe(folder, backbone), "output": str(folder / "files")}, backbone=backbone)
    assert result.metrics == from_files.metrics
    assert (
        bytes_of(result.artifact)["adapter_model.safetensors"]
        == bytes_of(from_files.artifact)["adapter_model.safetensors"]
    )
    kept, other = (open_artifact(one.artifact).manifest.data for one in (result, from_files))
    assert kept.source == IN_MEMORY
    assert kept.digests == other.digests
    assert kept.digests["test"] == rows_of(TEST).digest()


def test_the_artifact_is_scored_on_rows_of_any_kind(result: Any, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    renamed = pd.DataFrame(TEST).rename(columns={"text": "sentence", "label": "Intent"})
    for rows in (TEST, pd.DataFrame(TEST), datasets.Dataset.from_list(TEST), renamed):
        scores = ak.evaluate(result.artifact, rows, backbone=backbone, resamples=0)
        assert scores["accuracy"].value == result.metrics["test"]["accuracy"].value
    own = renamed.rename(columns={"sentence": "said"})
    scores = ak.evaluate(result.artifact, own, backbone=backbone, columns={"text": "said"}, resamples=0)
    assert scores["accuracy"].value == result.metrics["test"]["accuracy"].value


def test_the_artifact_does_not_pretend_that_its_rows_are_in_a_file(result: Any, tiny_backbones: Any) -> None:
    with pytest.raises(DataError, match="handed over from memory"):
        ak.evaluate(result.artifact, backbone=tiny_backbones["bert"])
    with pytest.raises(DataError, match="handed over from memory"):
        train(result.artifact, backbone=tiny_backbones["bert"], overrides=["output=elsewhere"])


def test_rows_of_any_kind_are_answered_alike(result: Any, tiny_backbones: Any) -> None:
    with open_artifact(result.artifact).adapted(tiny_backbones["bert"]) as adapted:
        expected = adapted.predict(TEST)
        for rows in (pd.DataFrame(TEST), datasets.Dataset.from_list(TEST), (row for row in TEST)):
            assert adapted.predict(rows) == expected
        assert adapted.predict(pd.DataFrame(TEST)["text"]) == expected


def test_a_stopped_run_goes_on_with_the_same_rows_and_refuses_others(
    tmp_path: Path, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch, result: Any
) -> None:
    backbone, step, steps = tiny_backbones["bert"], Learner.step, 0
    plan, held = from_memory(tmp_path, backbone), {"train": TRAIN, "test": TEST}

    def stopped(self: Learner, clip: float | None, factor: float) -> float:
        nonlocal steps
        steps += 1
        if steps == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, clip, factor)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(plan, data=held, backbone=backbone)
    with pytest.raises(TrainingError, match="another run"):
        train(plan, data={**held, "train": TRAIN[::-1]}, backbone=backbone, resume=True)
    assert train(plan, data=held, backbone=backbone, resume=True).metrics == result.metrics
