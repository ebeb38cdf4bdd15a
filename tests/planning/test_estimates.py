"""A step without content against the same step on real tensors: parameters, operations, kept bytes, peak."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adapterkit.adapted import Adapted, build
from adapterkit.errors import BackboneError
from adapterkit.methods.fused import frozen
from adapterkit.planning.dry_step import DryStep, count_step
from adapterkit.planning.hollow import Unfilled, hollow_backbone
from adapterkit.recipe import BackboneSettings
from tests import tiny
from tests.laws.cases import CASES, HEADS, KINDS, METHODS, Case
from tests.laws.worlds import batch_of, prepared

EXPERTS = "mixtral"
SOME = {"deberta-v2", "bloom"}
"""Of the families beyond the nine."""


def chosen() -> list[Case]:
    """Cases of the laws' table, so few that every kind, family and kind of method is there."""
    found: list[Case] = []
    seen: set[Any] = set()
    for case in CASES:
        method = case.row.settings.kind
        if method == "none" and case.kind.endswith("-lm"):
            continue  # nothing would train
        if case.family in set(tiny.OTHERS) - SOME:
            continue
        new = {case.kind, case.family, method} - seen
        if new and not case.method.startswith(("lora-pissa", "lora-olora")):
            seen |= new
            found.append(case)
    return found


def hollow_case(case: Case, folder: Any) -> tuple[Adapted, DryStep]:
    with Unfilled():
        backbone = hollow_backbone(BackboneSettings(name=str(folder)), torch.float32).backbone
        method, head = case.row.settings, HEADS[case.head]
        adapted = build(backbone, prepared(case.kind), method, head, 0)
    return adapted, count_step(adapted, batch_of(adapted))


@contextmanager
def keeping(adapted: Adapted, batch: Any) -> Iterator[dict[int, int]]:
    """The bytes of each storage that autograd keeps of what is computed inside; one that is let go of leaves."""
    there = {tensor.untyped_storage()._cdata for tensor in (*adapted.parameters(), *adapted.buffers())}
    there |= {tensor.untyped_storage()._cdata for tensor in batch.inputs.values()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in there | kept.keys():
            kept[storage._cdata] = storage.nbytes()
            weakref.finalize(storage, kept.pop, storage._cdata, None)  # another may get its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def test_every_kind_family_and_method_is_compared() -> None:
    cases = chosen()
    assert {case.kind for case in cases} == set(KINDS)
    assert {case.family for case in cases} == {*tiny.FAMILIES, *tiny.UNKNOWN, *SOME}
    assert {case.row.settings.kind for case in cases} == {"lora", "bottleneck", "ia3", "none"}


@pytest.mark.parametrize("case", chosen(), ids=str)
def test_a_step_without_content_costs_what_a_real_step_costs(
    case: Case, tiny_folders: Any, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rows without a gradient are left out of a real step, and only their numbers tell which.
    monkeypatch.setattr(frozen, "rows_with_gradient", lambda g_NO: None)
    hollow, step = hollow_case(case, tiny_folders[case.family])
    backbone = tiny_backbones[case.family]
    with build(backbone, prepared(case.kind), case.row.settings, HEADS[case.head], 0) as real:
        batch = batch_of(real)
        real.train()
        assert {name: p.shape for name, p in hollow.method_parameters().items()} == {
            name: p.shape for name, p in real.method_parameters().items()
        }
        if not case.kind.endswith("-lm"):  # whether a checkpoint brings its head is decided by the plan
            assert {name: p.shape for name, p in hollow.head_parameters().items()} == {
                name: p.shape for name, p in real.head_parameters().items()
            }
        forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
        with forward, keeping(real, batch) as kept:
            loss = real.task.loss(real(batch.inputs), batch).total
        gc.collect()  # what only cycles hold is kept by nobody
        kept_bytes = sum(kept.values())
        with backward:
            loss.backward()
    if not case.kind.endswith("-lm"):
        assert step.forward_flops == forward.get_total_flops()
        assert step.backward_flops == backward.get_total_flops()
        assert step.saved_bytes == kept_bytes
    assert step.forward_flops == pytest.approx(forward.get_total_flops(), rel=0.15)
    assert step.saved_bytes == pytest.approx(kept_bytes, rel=0.15)


def test_products_that_need_content_are_told(tiny_folders: Any) -> None:
    case = next(case for case in CASES if case.family == EXPERTS)
    with pytest.raises(BackboneError, match="steps of mixtral cannot be counted without weights"):
        hollow_case(case, tiny_folders[EXPERTS])


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_the_peak_of_a_step_is_that_of_torchs_own_memory_profile(
    method: str, tiny_folders: Any, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of so small a model a table of draws would be the half, and what torch compares it in.
    monkeypatch.setattr("adapterkit.backbone.dropout._STARTS", 256)
    name = next(name for name, case in METHODS.items() if case.settings.kind == method)
    case = Case("text-classification", "bert", name, "linear-mean")
    _, step = hollow_case(case, tiny_folders["bert"])
    with build(tiny_backbones["bert"], prepared(case.kind), METHODS[name].settings, HEADS[case.head], 0) as real:
        batch = batch_of(real)
        real.train()
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            real.task.loss(real(batch.inputs), batch).total.backward()
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    assert step.peak_bytes == pytest.approx(peak, rel=0.15)
