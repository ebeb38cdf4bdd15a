"""How a bottleneck layer gets its residual."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import nn

from adapterkit.errors import SiteError
from tests.methods.bottleneck.worlds import linear_world


def test_a_sublayer_without_its_residual_says_so() -> None:
    _, layer, entry = linear_world("pfeiffer")
    with pytest.raises(SiteError, match="residual of entry is not there"):
        layer(torch.randn(1, 4))
    entry(torch.randn(1, 4))
    layer(torch.randn(1, 4))
    with pytest.raises(SiteError, match="not there"):
        layer(torch.randn(1, 4))  # it is used once


def test_a_skipped_sublayer_leaves_nothing_for_the_next_call() -> None:
    _, layer, entry = linear_world("parallel")
    x, r = torch.randn(1, 4), torch.randn(1, 4)
    entry(r)
    expected = layer(x)
    entry(torch.randn(1, 4))  # and the linear is never reached
    entry(r)
    assert torch.equal(layer(x), expected)


def test_threads_do_not_see_each_others_residual() -> None:
    _, layer, entry = linear_world("parallel")
    x, own, other = torch.randn(1, 4), torch.randn(1, 4), torch.randn(1, 4)
    entry(own)
    expected = layer(x)
    entry(own)
    thread = threading.Thread(target=entry, args=(other,))
    thread.start()
    thread.join()
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_listens_to_its_own_modules(clone: Any) -> None:
    _, layer, entry = linear_world("parallel")
    model = nn.ModuleDict({"entry": entry, "layer": layer})
    copied = clone(model)
    x, r = torch.randn(1, 4), torch.randn(1, 4)
    copied["entry"](r)
    found = copied["layer"](x)
    entry(r)
    assert torch.equal(found, layer(x))
    copied["layer"].release()
    assert not copied["entry"]._forward_pre_hooks
    assert entry._forward_pre_hooks


def test_a_residual_passed_by_name_is_seen() -> None:
    _, layer, entry = linear_world("parallel")
    x, r = torch.randn(1, 4), torch.randn(1, 4)
    entry(r)
    expected = layer(x)
    entry(input=r)
    assert torch.equal(layer(x), expected)
