"""One method with a head for each stage, trained in one run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.errors import RecipeError
from adapterkit.stages.course import read_course
from adapterkit.training.jointly import _drawn
from adapterkit.training.journal import read_journal
from adapterkit.training.learner import Learner
from tests.stages.test_streaming import domain
from tests.training.worlds import bytes_of, events, recipe, rows_of, write_rows


def course_of(tmp_path: Path, backbone: Any, **changed: Any) -> dict[str, Any]:
    """Two stages of different kinds on one backbone."""
    shared = recipe(tmp_path, backbone, data={"validation": None}, training={"epochs": 2, "checkpoint_every": 1})
    del shared["output"]
    tags = rows_of("token-classification", 30)
    data = {"train": write_rows(tmp_path / "t.jsonl", tags[:20]), "test": write_rows(tmp_path / "u.jsonl", tags[20:])}
    stages = {
        "birds": domain(tmp_path, "birds", ("owl", "wren")),
        "places": {"task": {"kind": "token-classification"}, "data": data},
    }
    return {"recipe": shared, "stages": stages, "ways": ["joint"], "output": str(tmp_path / "stream"), **changed}


def test_one_method_serves_every_head_and_each_artifact_stands_alone(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    course = course_of(tmp_path, backbone)
    record = ak.stream(course, backbone=backbone, quiet=True, resamples=20)
    folders = [tmp_path / "stream" / "joint" / stage for stage in ("birds", "places")]
    states = [open_artifact(folder).state for folder in folders]
    method = [name for name in states[0] if "lora" in name]
    assert method
    assert all(torch.equal(states[0][name], states[1][name]) for name in method)
    assert any(states[0][name].abs().max() > 0 for name in method if "lora_B" in name)
    assert all(ak.verify(folder, backbone) for folder in folders)
    host = ak.Host(backbone)
    for folder in folders:
        host.mount(folder.name, str(folder))
    answers = host.predict([("birds", {"text": "lost owl"}), ("places", {"tokens": ["a", "card", "in", "London"]})])
    assert answers[0]["label"] in ("owl", "wren")
    assert len(answers[1]["tags"]) == 4
    found = ak.evaluate(folders[0], course["stages"]["birds"]["data"]["test"], backbone=backbone, resamples=20)
    assert record.ways["joint"].after["places"]["birds"].value == found["accuracy"].value
    drawn = {event["task"] for event in events(folders[0], "step")}
    assert drawn == {"birds", "places"}
    journal = folders[0] / "training" / "journal.jsonl"
    assert len(read_journal(journal)) == len(journal.read_text().splitlines())  # so that the report has its curves


def test_a_joint_run_that_was_stopped_goes_on_as_if_it_never_was(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    whole = {**course_of(tmp_path, backbone), "output": str(tmp_path / "whole")}
    ak.stream(whole, backbone=backbone, quiet=True, resamples=0)
    take, taken = Learner.step, []

    def step(self: Learner, clip: float | None, factor: float) -> float:
        taken.append(clip)
        if len(taken) == 4:
            signal.raise_signal(signal.SIGINT)
        return take(self, clip, factor)

    course = course_of(tmp_path, backbone)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(KeyboardInterrupt):
            ak.stream(course, backbone=backbone, quiet=True, resamples=0)
    ak.stream(course, backbone=backbone, resume=True, quiet=True, resamples=0)
    for stage in ("birds", "places"):
        one, other = (tmp_path / name / "joint" / stage for name in ("whole", "stream"))
        assert bytes_of(one) == bytes_of(other)


def test_tasks_are_drawn_by_their_rows_and_more_evenly_the_higher_the_temperature() -> None:
    # 900 and 100 rows: shares of 0.9 and 0.1; at 2 their roots, 30 and 10, so 0.75 and 0.25.
    shares = [float(np.mean(_drawn([900, 100], 20_000, temperature, seed=0) == 1)) for temperature in (1.0, 2.0)]
    assert shares == pytest.approx([0.1, 0.25], abs=0.01)


def test_what_makes_no_one_run_is_refused_at_once(tmp_path: Path) -> None:
    course = course_of(tmp_path, tmp_path)
    course["stages"]["birds"]["training"] = {"patience": 2}
    course["stages"]["birds"]["data"]["validation"] = 0.5
    course["stages"]["places"]["method"] = {"kind": "lora", "rank": 2}
    course["stages"]["places"]["training"] = {"learning_rate": 0.5, "objective": {"kind": "near-start"}}
    with pytest.raises(RecipeError) as refused:
        read_course(course)
    found = "\n".join(refused.value.problems)
    for told in (
        "stages.birds.training.patience: no task stops alone",
        "stages.birds.training.keep_best: the last state is kept, for all tasks; write false",
        "stages.places.method: another than in the first",
        "stages.places.training.learning_rate: 0.5, and 0.02 in the first; one run has one",
        "stages.places.training.objective: is for runs of one task",
    ):
        assert told in found
    with pytest.raises(RecipeError, match="belongs to the joint way"):
        read_course({**course_of(tmp_path, tmp_path), "ways": ["isolated"], "temperature": 2.0})
    json.dumps(course)
