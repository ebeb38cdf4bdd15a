"""Stop and resume equals never stopped."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import OutputError, TrainingError
from adapterkit.training import Paused
from adapterkit.training.learner import Learner
from adapterkit.training.standing import INDEX, read_index
from tests.training.ranks import command, wait_for_step
from tests.training.worlds import bytes_of, entries, events, recipe, rows_of, train, write_rows

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

DROPPING = {"kind": "lora", "rank": 2, "dropout": 0.2}
STEPS = 12
"""Three epochs of four steps."""


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`stop_after(steps)`: Ctrl-C comes while that step is taken."""
    take = Learner.step

    def arm(steps: int) -> None:
        taken = 0

        def step(self: Learner, clip: float | None, factor: float) -> float:
            nonlocal taken
            taken += 1
            if taken == steps:
                signal.raise_signal(signal.SIGINT)
            return take(self, clip, factor)

        monkeypatch.setattr(Learner, "step", step)

    return arm


def plan_of(tmp_path: Path, backbone: Any, **blocks: Any) -> dict[str, Any]:
    training = {"epochs": 3, "evaluate_every": 3, "checkpoint_every": 5, **blocks.pop("training", {})}
    return recipe(tmp_path, backbone, method=DROPPING, training=training, **blocks)


def history(artifact: Path) -> list[dict[str, Any]]:
    """The journal without what differs between two runs: where they began, and how long a step took."""
    lines = (artifact / "training" / "journal.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{**event, "seconds": None} for event in found if event["event"] != "begin"]


@pytest.fixture(scope="module")
def unstopped(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("unstopped")
    return train(plan_of(folder, tiny_backbones["bert"]), backbone=tiny_backbones["bert"])


@pytest.mark.parametrize("steps", [1, 4, 6, STEPS], ids=["first", "end of an epoch", "middle of an epoch", "last"])
def test_a_run_that_was_stopped_goes_on_as_if_it_never_was(
    tiny_backbones: Any, tmp_path: Path, stop_after: Callable[[int], None], unstopped: Any, steps: int
) -> None:
    backbone = tiny_backbones["bert"]
    plan = {**plan_of(unstopped.artifact.parent, backbone), "output": str(tmp_path / "out")}  # the same data files
    stop_after(steps)
    with pytest.raises(KeyboardInterrupt):
        train(plan, backbone=backbone)
    assert entries(tmp_path / "out") == ["training"]
    resumed = train(plan, backbone=backbone, resume=True)
    assert resumed.steps == STEPS
    assert resumed.metrics == unstopped.metrics
    assert bytes_of(resumed.artifact) == bytes_of(unstopped.artifact)
    assert history(resumed.artifact) == history(unstopped.artifact)
    assert [event["step"] for event in events(resumed.artifact, "begin")] == [0, steps]
    assert entries(resumed.artifact / "training") == ["journal.jsonl"]


def test_a_run_that_is_stopped_twice_goes_on_too(
    tiny_backbones: Any, tmp_path: Path, stop_after: Callable[[int], None]
) -> None:
    backbone = tiny_backbones["bert"]
    plan = plan_of(tmp_path, backbone, training={"batch_size": None, "batch_tokens": 100, "accumulate": 2})
    del plan["training"]["batch_size"]
    whole = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"])
    for steps, resume in ((2, False), (3, True)):
        stop_after(steps)
        with pytest.raises(KeyboardInterrupt):
            train(plan, backbone=backbone, resume=resume)
    resumed = train(plan, backbone=backbone, resume=True)
    assert bytes_of(resumed.artifact) == bytes_of(whole.artifact)
    assert history(resumed.artifact) == history(whole.artifact)


def test_a_crash_loses_no_more_than_the_steps_after_the_checkpoint_and_the_journal_has_no_doubles(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unstopped: Any
) -> None:
    backbone = tiny_backbones["bert"]
    plan = plan_of(tmp_path, backbone)
    take, taken = Learner.step, []

    def crash(self: Learner, clip: float | None, factor: float) -> float:
        taken.append(clip)
        if len(taken) == 8:
            raise MemoryError
        return take(self, clip, factor)

    monkeypatch.setattr(Learner, "step", crash)
    with pytest.raises(MemoryError):
        train(plan, backbone=backbone)
    assert [event["step"] for event in events(tmp_path / "out", "step")] == [1, 2, 3, 4, 5, 6, 7]
    resumed = train(plan, backbone=backbone, resume=True)
    assert [event["step"] for event in events(resumed.artifact, "begin")] == [0, 5]
    assert [event["step"] for event in events(resumed.artifact, "step")] == list(range(1, STEPS + 1))
    name = "adapter_model.safetensors"
    assert bytes_of(resumed.artifact)[name] == bytes_of(unstopped.artifact)[name]


@pytest.mark.parametrize("steps", [4, 7, 8], ids=["early", "before the last", "when it is enough"])
def test_early_stopping_counts_on_after_a_stop(
    tiny_backbones: Any, tmp_path: Path, stop_after: Callable[[int], None], steps: int
) -> None:
    backbone = tiny_backbones["bert"]
    # At this rate no answer changes: those at 4, 6 and 8 are no better than the validation at step 2, and as good.
    still = {"learning_rate": 1e-9, "evaluate_every": 2, "patience": 3}
    plan = plan_of(tmp_path, backbone, training=still)
    stop_after(steps)
    with pytest.raises(KeyboardInterrupt):
        train(plan, backbone=backbone)
    resumed = train(plan, backbone=backbone, resume=True)
    assert resumed.steps == 8
    assert [(event["step"], event["kept"]) for event in events(resumed.artifact, "validation")] == [
        (2, True),
        (4, True),
        (6, True),
        (8, True),
    ]


def test_a_stream_goes_on_in_the_middle_of_its_epoch(
    tiny_backbones: Any, tmp_path: Path, stop_after: Callable[[int], None]
) -> None:
    backbone = tiny_backbones["bert"]
    plan = plan_of(tmp_path, backbone, data={"streaming": True}, training={"max_steps": 9})
    whole = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"])
    stop_after(6)
    with pytest.raises(KeyboardInterrupt):
        train(plan, backbone=backbone)
    resumed = train(plan, backbone=backbone, resume=True)
    assert bytes_of(resumed.artifact) == bytes_of(whole.artifact)


@pytest.fixture(scope="module")
def stopped(tiny_folders: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    plan = plan_of(tmp_path_factory.mktemp("stopped"), tiny_folders["bert"])
    with pytest.raises(Paused):
        train(plan, pause_after=lambda batches: 3)
    return plan


class TestWhatDoesNotFit:
    """One run stopped at its third step."""

    @pytest.fixture
    def plan(self, stopped: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
        shutil.copytree(stopped["output"], tmp_path / "out")
        return {**stopped, "output": str(tmp_path / "out")}

    def test_another_recipe_other_rows_or_another_backbone_are_refused(
        self, tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path
    ) -> None:
        backbone = tiny_backbones["bert"]
        changes = ["training.seed=1", "training.learning_rate=0.5"]
        with pytest.raises(TrainingError, match="belongs to another run") as refused:
            train(plan, backbone=backbone, overrides=changes, resume=True)
        rate = plan["training"]["learning_rate"]
        assert f"training.learning_rate: {rate} in the checkpoint, 0.5 now" in refused.value.problems
        assert "training.seed: 0 in the checkpoint, 1 now" in refused.value.problems
        changed = {problem.split(":")[0] for problem in refused.value.problems}
        # The seed draws the validation rows.
        assert changed == {"training.learning_rate", "training.seed", "rows.train", "rows.validation"}
        with pytest.raises(TrainingError, match="fingerprint: "):
            train(plan, backbone=tiny_backbones["bert-plain"], resume=True)
        fewer = write_rows(tmp_path / "fewer.jsonl", rows_of("text-classification", 39))
        with pytest.raises(TrainingError, match=r"rows\.train: "):
            train(plan, backbone=backbone, overrides=[f"data.train={fewer}"], resume=True)

    def test_a_setting_that_the_checkpoint_does_not_know_was_at_its_default(
        self, tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path
    ) -> None:
        backbone, folder = tiny_backbones["bert"], tmp_path / "out" / "training" / "checkpoint"
        index = read_index(folder)
        for block, name in (("training", "clip"), ("training", "patience"), ("method", "layers")):
            index.progress.made_of[block].pop(name)
        (folder / INDEX).write_bytes(index.dump())
        with pytest.raises(TrainingError, match="belongs to another run") as refused:
            train(plan, backbone=backbone, overrides=["training.clip=2", "training.patience=7"], resume=True)
        assert refused.value.problems == (
            "training.clip: 1.0 in the checkpoint, 2.0 now",
            "training.patience: null in the checkpoint, 7 now",
        )
        assert train(plan, backbone=backbone, resume=True).steps == STEPS

    def test_an_unfinished_run_is_not_overwritten_by_accident(
        self, tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path
    ) -> None:
        backbone = tiny_backbones["bert"]
        with pytest.raises(OutputError, match="stopped at step 3") as refused:
            train(plan, backbone=backbone)
        assert "--resume" in str(refused.value)
        assert train(plan, backbone=backbone, overwrite=True).steps == STEPS

    @pytest.mark.parametrize(
        "name", ["progress.json", "adapter.safetensors", "optimizer.safetensors", "kept.safetensors"]
    )
    @pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
    def test_a_damaged_checkpoint_is_refused(
        self, tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path, name: str, damage: str
    ) -> None:
        file = tmp_path / "out" / "training" / "checkpoint" / name
        content = file.read_bytes()
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x80" * len(content))
        with pytest.raises(TrainingError, match="checkpoint"):
            train(plan, backbone=tiny_backbones["bert"], resume=True)
        assert entries(tmp_path / "out") == ["training"]


def test_a_run_that_has_ended_has_nothing_to_go_on_from(tiny_backbones: Any, unstopped: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    with pytest.raises(TrainingError, match="no checkpoint to go on from"):
        train(unstopped.artifact, backbone=backbone, overrides=[f"output={unstopped.artifact}"], resume=True)
    with pytest.raises(TrainingError, match="no checkpoint to go on from"):
        train(plan_of(tmp_path, backbone), backbone=backbone, resume=True)
    assert entries(tmp_path / "out") == []


def test_a_signal_to_the_command_leaves_a_checkpoint_and_says_how_to_go_on(
    tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPTERKIT_DATA", raising=False)
    plan = plan_of(tmp_path, tiny_folders["bert"], training={"epochs": 2000, "evaluate_every": 10})
    file = tmp_path / "plan.yaml"
    file.write_text(json.dumps(plan))
    with command(["train", str(file)], tmp_path / "log") as process:
        wait_for_step(process, tmp_path / "out", 6)
        process.terminate()
        process.join(60)
    said = (tmp_path / "log").read_text()
    assert process.exitcode == 130, said
    steps = len(events(tmp_path / "out", "step"))
    assert f"The checkpoint of step {steps} is kept; go on with: adapterkit train {file} --resume" in said
    assert entries(tmp_path / "out") == ["training"]
