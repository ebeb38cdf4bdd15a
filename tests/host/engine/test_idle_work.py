"""A view leaves out what changes no answer, and answers bit for bit as the trunk."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from adapterkit.host.engine.idle_work import without_idle_work
from adapterkit.host.engine.shared_modules import view_of
from tests import tiny
from tests.host import worlds


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_view_and_a_copy_of_it_answer_as_the_trunk_does(tiny_backbones: Any, family: str) -> None:
    trunk = tiny_backbones[family].trunk
    inputs = worlds.batch(range(worlds.ROWS), family)
    expected = worlds.states(trunk, inputs)
    view = without_idle_work(view_of(trunk))
    for one in (view, view_of(view), without_idle_work(view_of(view)), copy.deepcopy(view)):
        assert torch.equal(worlds.states(one, inputs), expected)
    assert not any(type(module) is nn.Dropout for module in view.modules())


@pytest.mark.parametrize(("family", "method"), [("bert", "feed_forward_chunk"), ("distilbert", "ff_chunk")])
def test_a_copy_runs_its_own_modules(
    tiny_backbones: Any, family: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = without_idle_work(view_of(tiny_backbones[family].trunk))
    second = view_of(first)
    owners = [module for module in second.modules() if hasattr(module, method)]
    assert len(owners) == 3
    assert all(getattr(module, method)._module is module for module in owners)
    inputs = worlds.batch(range(worlds.ROWS), family)
    expected = worlds.states(first, inputs)
    for module in owners:  # another work on the copy is no work on the first
        for linear in module.modules():
            if isinstance(linear, nn.Linear):
                linear.forward = lambda x, own=linear: nn.Linear.forward(own, x) * 0  # type: ignore[method-assign]
    assert torch.equal(worlds.states(first, inputs), expected)
    assert not torch.equal(worlds.states(second, inputs), expected)


def test_a_layer_with_chunks_is_still_cut(tiny_backbones: Any) -> None:
    trunk = copy.deepcopy(tiny_backbones["bert"].trunk)
    inputs = {name: tensor[:, :3] for name, tensor in worlds.batch([4, 4], "bert").items()}
    expected = worlds.states(trunk, inputs)
    for layer in trunk.encoder.layer:
        layer.chunk_size_feed_forward = 1
    view = without_idle_work(view_of(trunk))
    calls = []
    for module in view.modules():
        if isinstance(module, nn.Linear) and module.in_features > module.out_features:
            module.register_forward_hook(lambda _, args, __: calls.append(args[0].shape[1]))
    torch.testing.assert_close(worlds.states(view, inputs), expected)
    assert calls == [1] * 3 * len(trunk.encoder.layer)


def test_signatures_are_at_hand(tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    view = without_idle_work(view_of(tiny_backbones["bert"].trunk))
    seen = []
    plain = inspect._signature_from_function  # type: ignore[attr-defined]
    monkeypatch.setattr(inspect, "_signature_from_function", lambda *a, **k: (seen.append(a[1]), plain(*a, **k))[1])
    worlds.states(view, worlds.batch([1], "bert"))
    assert [function.__name__ for function in seen if "chunk" in function.__name__] == []
