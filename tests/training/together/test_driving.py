"""Runs side by side: each ends as it would alone, whatever the others do, and however they are stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adapterkit.backbone import Backbone
from adapterkit.errors import DivergedError
from adapterkit.heads.lanes import NoLanesError
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.reuse import Reuse
from adapterkit.training.run import Result, begin_run
from adapterkit.training.together import Together, train_together
from adapterkit.training.together import driving as module
from adapterkit.training.together.joint import Joint
from adapterkit.training.turn import Turn
from tests.training.worlds import bytes_of, events, losses, recipe, train

RATES = (0.01, 0.02, 0.03)
Plan = dict[str, Any]


@pytest.fixture
def jointly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any trial says that it pays."""
    monkeypatch.setattr(module, "LEAST_GAIN", 0.0)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial says that it pays."""
    monkeypatch.setattr(module, "LEAST_GAIN", 1e9)


@pytest.fixture
def still(fresh_backbone: Callable[..., Backbone]) -> Backbone:
    """BERT without dropout."""
    backbone = fresh_backbone("bert", dtype="float32", device="cpu")
    for part in backbone.trunk.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return backbone


@pytest.fixture
def plan(tmp_path: Path, still: Backbone) -> Plan:
    return recipe(tmp_path, still, training={"epochs": 2, "batch_size": 4, "seed": 3})


def overrides_of(folder: Path, rate: float, *more: str) -> list[str]:
    return [f"training.learning_rate={rate}", f"output={folder / str(rate)}", *more]


def side_by_side(
    plan: Plan,
    backbone: Backbone,
    folder: Path,
    *more: str,
    each: Mapping[float, list[str]] | None = None,
    **options: Any,
) -> Together:
    reuse, interrupt = Reuse(), Interrupt()
    runs = [
        begin_run(
            plan,
            interrupt,
            reuse,
            backbone=backbone.twin(),
            overrides=overrides_of(folder, rate, *more, *(each or {}).get(rate, [])),
            quiet=True,
            **options,
        )
        for rate in RATES
    ]
    return train_together(runs, interrupt, backbone)


def alone(plan: Plan, backbone: Backbone, folder: Path, rate: float, *more: str) -> Result:
    result: Result = train(plan, backbone=backbone, overrides=overrides_of(folder, rate, *more))
    return result


@pytest.mark.usefixtures("jointly")
@pytest.mark.parametrize("more", [[], ["training.gradient_checkpointing=true"], ["method.kind=none"]], ids=str)
def test_in_one_batch_every_run_takes_the_steps_that_it_takes_alone(
    plan: Plan, still: Backbone, tmp_path: Path, more: list[str]
) -> None:
    seeds = {rate: [f"training.seed={seed}"] for seed, rate in enumerate(RATES)}
    found = side_by_side(plan, still, tmp_path / "together", *more, each=seeds)
    assert found.jointly
    assert found.decision.startswith("3 in one batch, ")
    for rate in RATES:
        one = alone(plan, still, tmp_path / "alone", rate, *more, *seeds[rate])
        assert losses(tmp_path / "together" / str(rate)) == pytest.approx(losses(one.artifact), rel=1e-3)
        state = load_file(one.artifact / "adapter_model.safetensors")
        for name, tensor in load_file(tmp_path / "together" / str(rate) / "adapter_model.safetensors").items():
            assert torch.allclose(tensor, state[name], atol=2e-3), name


@pytest.mark.usefixtures("apart")
def test_where_it_does_not_pay_every_run_gives_the_bytes_that_it_gives_alone(
    tmp_path: Path, tiny_folders: Mapping[str, Path]
) -> None:
    backbone = Backbone.load(str(tiny_folders["bert"]), dtype="float32", device="cpu")
    plan = recipe(tmp_path, backbone)  # with dropout
    found = side_by_side(plan, backbone, tmp_path / "together")
    assert not found.jointly
    assert found.decision.startswith("one after another: in one batch 3 steps take ")
    for rate in RATES:
        one = alone(plan, backbone, tmp_path / "alone", rate)
        assert bytes_of(tmp_path / "together" / str(rate)) == bytes_of(one.artifact)


@pytest.mark.usefixtures("jointly")
def test_a_run_that_ends_early_leaves_the_others_as_they_are(plan: Plan, still: Backbone, tmp_path: Path) -> None:
    each = {0.01: ["training.max_steps=2"], 0.02: ["training.max_steps=5"]}
    found = side_by_side(plan, still, tmp_path / "together", each=each)
    assert [outcome.steps for outcome in found.outcomes if isinstance(outcome, Result)] == [2, 5, 16]
    one = alone(plan, still, tmp_path / "alone", 0.03)
    assert losses(tmp_path / "together" / "0.03") == pytest.approx(losses(one.artifact), rel=1e-3)


@pytest.mark.usefixtures("jointly")
def test_a_run_that_diverges_is_told_and_the_others_go_on(
    plan: Plan, still: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Turn.finish

    def poisoned(turn: Turn, **asked: bool) -> Any:
        if turn.number == 3 and turn.learning.settings.learning_rate == 0.02:
            for parameter in turn.learning.learner.parameters.values():
                parameter.data.fill_(torch.nan)
        return real(turn, **asked)

    monkeypatch.setattr(Turn, "finish", poisoned)
    first, second, third = side_by_side(plan, still, tmp_path / "together").outcomes
    assert isinstance(second, DivergedError)
    assert "step 3" in second.summary
    assert isinstance(first, Result)
    assert isinstance(third, Result)
    assert first.steps == third.steps == 16


@pytest.mark.usefixtures("jointly")
def test_stopped_runs_all_write_a_checkpoint_and_end_as_if_they_had_never_stopped(
    tmp_path: Path, tiny_folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone.load(str(tiny_folders["bert"]), dtype="float32", device="cpu")
    plan = recipe(tmp_path, backbone)  # with dropout, whose masks have to be those of the runs that were not stopped
    side_by_side(plan, backbone, tmp_path / "whole")
    real = Interrupt.wished
    asked = iter([*[False] * 10, True, *[False] * 9])  # by the second of three runs, after its fourth step

    def wished(interrupt: Interrupt, accelerator: Any) -> bool:
        if next(asked):
            signal.raise_signal(signal.SIGINT)
        return real(interrupt, accelerator)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "wished", wished)
        with pytest.raises(KeyboardInterrupt):
            side_by_side(plan, backbone, tmp_path / "stopped")
    assert signal.getsignal(signal.SIGINT) is before
    done = [len(events(tmp_path / "stopped" / str(rate), "step")) for rate in RATES]
    assert done == [5, 4, 4]  # the first one had already been asked
    backbone = Backbone.load(str(tiny_folders["bert"]), dtype="float32", device="cpu")
    side_by_side(plan, backbone, tmp_path / "stopped", resume=True)
    for rate in RATES:
        whole, again = losses(tmp_path / "whole" / str(rate)), losses(tmp_path / "stopped" / str(rate))
        assert len(again) == len(whole) == 8
        assert again[:4] == whole[:4]


@pytest.mark.usefixtures("jointly")
def test_runs_that_stop_at_one_step_go_on_byte_for_byte(tmp_path: Path, tiny_folders: Mapping[str, Path]) -> None:
    def fresh() -> Backbone:
        return Backbone.load(str(tiny_folders["bert"]), dtype="float32", device="cpu")

    plan = recipe(tmp_path, fresh())  # with dropout
    side_by_side(plan, fresh(), tmp_path / "whole")
    paused = side_by_side(plan, fresh(), tmp_path / "paused", pause_after=lambda batches: 4)
    assert [str(outcome) for outcome in paused.outcomes] == ["paused after step 4"] * 3
    side_by_side(plan, fresh(), tmp_path / "paused", resume=True)
    for rate in RATES:
        assert bytes_of(tmp_path / "paused" / str(rate)) == bytes_of(tmp_path / "whole" / str(rate))


def test_a_batch_that_has_no_lanes_is_computed_one_by_one(
    plan: Plan, still: Backbone, tmp_path: Path, jointly: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Joint.compute, iter(range(1000))

    def sometimes(joint: Joint, turns: Any) -> None:
        if next(calls) > 6:  # behind the trial
            raise NoLanesError("rows that are mixed")
        real(joint, turns)

    monkeypatch.setattr(Joint, "compute", sometimes)
    side_by_side(plan, still, tmp_path / "together")
    one = alone(plan, still, tmp_path / "alone", 0.03)
    assert losses(tmp_path / "together" / "0.03") == pytest.approx(losses(one.artifact), rel=1e-3)


@pytest.mark.usefixtures("jointly")
@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (NoLanesError("method odd"), "one after another: method odd cannot be trained in one batch"),
        (torch.OutOfMemoryError("full"), "one after another: the memory does not hold 3 batches"),
    ],
    ids=["lanes", "memory"],
)
def test_what_the_trial_meets_is_told(
    plan: Plan, still: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str
) -> None:
    def refuse(joint: Joint, turns: Any) -> None:
        raise raised

    monkeypatch.setattr(Joint, "compute", refuse)
    found = side_by_side(plan, still, tmp_path / "together", "training.max_steps=1")
    assert (found.jointly, found.decision) == (False, reason)


@pytest.mark.usefixtures("jointly")
def test_other_gradients_than_alone_are_never_used(
    plan: Plan, still: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Joint.compute

    def wrong(joint: Joint, turns: Any) -> None:
        real(joint, turns)
        for _, turn in turns[:1]:
            for parameter in turn.learning.learner.parameters.values():
                parameter.grad = None if parameter.grad is None else 1.01 * parameter.grad

    monkeypatch.setattr(Joint, "compute", wrong)
    found = side_by_side(plan, still, tmp_path / "together", "training.max_steps=1")
    assert found.decision == (
        "one after another: this model, whose gradients are others there, cannot be trained in one batch"
    )


@pytest.mark.usefixtures("jointly")
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("method.dora=true", "LoRA with DoRA or with biases of the backbone cannot be trained in one batch"),
        ("training.accumulate=2", "training.accumulate cuts batches for want of memory"),
    ],
)
def test_what_cannot_be_trained_in_one_batch_is_trained_all_the_same(
    plan: Plan, still: Backbone, tmp_path: Path, more: str, reason: str
) -> None:
    found = side_by_side(plan, still, tmp_path / "together", more, "training.max_steps=2")
    assert found.decision == f"one after another: {reason}"
    assert [outcome.steps for outcome in found.outcomes if isinstance(outcome, Result)] == [2, 2, 2]


@pytest.mark.usefixtures("jointly")
@pytest.mark.parametrize("method", [{"kind": "lora", "top": 1}, {"kind": "none"}], ids=["lora", "none"])
def test_kept_states_serve_all_runs(plan: Plan, still: Backbone, tmp_path: Path, method: dict[str, Any]) -> None:
    plan = {**plan, "method": method}
    cached = [f"training.cache={tmp_path / 'cache'}"]
    found = side_by_side(plan, still, tmp_path / "together", *cached)
    assert found.jointly
    for rate in RATES:
        (begun,) = events(tmp_path / "together" / str(rate), "begin")
        assert " texts " in begun["trunk_cache"]
        one = alone(plan, still, tmp_path / "alone", rate)
        assert losses(tmp_path / "together" / str(rate)) == pytest.approx(losses(one.artifact), rel=1e-3)


@pytest.mark.usefixtures("jointly")
@pytest.mark.parametrize("dtype", ["int8", "nf4"])
def test_a_quantised_backbone_serves_all_runs(
    tmp_path: Path, fresh_backbone: Callable[..., Backbone], dtype: str
) -> None:
    pytest.importorskip({"int8": "torchao", "nf4": "bitsandbytes"}[dtype])
    backbone = fresh_backbone("bert", dtype=dtype, compute_dtype="float32", device="cpu")
    for part in backbone.trunk.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    plan = recipe(tmp_path, backbone, training={"max_steps": 4, "batch_size": 4}, backbone={"dtype": dtype})
    found = side_by_side(plan, backbone, tmp_path / "together")
    assert found.jointly
    one = alone(plan, backbone, tmp_path / "alone", 0.02)
    assert losses(tmp_path / "together" / "0.02") == pytest.approx(losses(one.artifact), rel=1e-3)


@pytest.mark.usefixtures("jointly")
def test_in_bfloat16_runs_differ_by_its_rounding_alone(plan: Plan, still: Backbone, tmp_path: Path) -> None:
    found = side_by_side(plan, still, tmp_path / "together", "training.precision=bf16", "training.max_steps=4")
    assert found.jointly
    one = alone(plan, still, tmp_path / "alone", 0.01, "training.precision=bf16", "training.max_steps=4")
    assert losses(tmp_path / "together" / "0.01") == pytest.approx(losses(one.artifact), rel=0.05)
