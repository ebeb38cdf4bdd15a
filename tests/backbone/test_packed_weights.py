"""Weights in oneDNN's layout: the same numbers in place of the plain ones, and the same answers."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Conv1D

from adapterkit.backbone import packed_weights, packing_choice
from adapterkit.backbone.packed_weights import PackedLinear, is_packed, pack, plain_source, plain_weight
from adapterkit.backbone.packing_choice import pays
from adapterkit.backbone.quantisation import is_plain
from adapterkit.backbone.quantisation import plain_weight as weight_of

ONEDNN = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
pytestmark = pytest.mark.skipif(not ONEDNN, reason="this torch was built without oneDNN")

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every linear is packed, however small it is."""
    monkeypatch.setattr(packed_weights, "pays", lambda *_: True)


def trunk_of(*linears: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    for linear in linears:
        nn.init.normal_(linear.weight, std=0.1)
        nn.init.normal_(linear.bias)
    return nn.Sequential(*linears).to(dtype).requires_grad_(False).eval()


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lambda: nn.Linear(33, 70), lambda: Conv1D(70, 33)])
def test_a_packed_linear_computes_the_same_and_gives_its_weight_back(make: Any, dtype: torch.dtype) -> None:
    trunk = trunk_of(make(), dtype=dtype)
    weight = trunk[0].weight.clone()
    inputs = [torch.randn(*shape, 33).to(dtype) for shape in ((1,), (5, 7), (130,), (0,))]
    expected = [trunk(x) for x in inputs]
    pack(trunk, ["0"])
    assert is_packed(trunk[0])
    assert not is_plain(trunk[0])
    assert torch.equal(weight_of(trunk[0]), weight)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            for x, wanted in zip(inputs, expected, strict=True):
                found = trunk(x)
                assert found.shape == wanted.shape
                assert not len(x) or relative(found, wanted) <= (1e-6 if dtype == torch.float32 else 0.0)


def test_a_gradient_goes_through_a_packed_linear_as_through_a_plain_one() -> None:
    trunk = trunk_of(nn.Linear(20, 30))
    x = torch.randn(4, 20, requires_grad=True)
    (expected,) = torch.autograd.grad(trunk(x).square().sum(), x)
    pack(trunk, ["0"])
    (found,) = torch.autograd.grad(trunk(x).square().sum(), x)
    assert torch.equal(found, expected)


def test_what_is_not_frozen_plain_and_a_linear_of_torch_or_gpt2_stays_as_it_is() -> None:
    class Own(nn.Linear):
        pass

    trunk = trunk_of(nn.Linear(8, 8), Own(8, 8), nn.Linear(8, 8))
    trunk[2].weight.requires_grad_(True)
    pack(trunk, ["0", "1", "2"])
    assert [is_packed(module) for module in trunk] == [True, False, False]
    packed = trunk[0].weight
    pack(trunk, ["0"])
    assert trunk[0].weight is packed


def test_the_plain_weight_is_freed() -> None:
    trunk = trunk_of(nn.Linear(8, 8))
    plain = weakref.ref(trunk[0].weight)
    pack(trunk, ["0"])
    gc.collect()
    assert plain() is None


def test_one_linear_in_two_places_is_packed_once_for_both() -> None:
    shared = nn.Linear(8, 8)
    trunk = trunk_of(shared, shared)
    x = torch.randn(3, 8)
    expected = trunk(x)
    pack(trunk, ["0", "1"])
    assert trunk[0] is trunk[1]
    assert relative(trunk(x), expected) <= 1e-6


def test_twins_of_a_packed_backbone_have_plain_weights_that_they_share(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"].twin()
    paths = [site.path for site in backbone.sites.sites if site.linear]
    plain = {path: backbone.trunk.get_submodule(path).weight.clone() for path in paths}
    pack(backbone.trunk, paths)
    one, two = backbone.twin(), backbone.twin()
    for path, weight in plain.items():
        own, other = one.trunk.get_submodule(path), two.trunk.get_submodule(path)
        assert type(own) is nn.Linear
        assert torch.equal(own.weight, weight)
        assert own.weight.data_ptr() == other.weight.data_ptr()
        assert own.weight is not other.weight
        assert type(backbone.trunk.get_submodule(path)) is PackedLinear
    del one
    gc.collect()
    assert (
        two.trunk.get_submodule(paths[0]).weight.data_ptr()
        == backbone.twin().trunk.get_submodule(paths[0]).weight.data_ptr()
    )


def test_a_trunk_that_is_not_packed_is_its_own_source() -> None:
    trunk = trunk_of(nn.Linear(8, 8))
    assert plain_source(trunk) is trunk


def test_conv1d_gives_its_weight_back_as_its_class_has_it() -> None:
    trunk = trunk_of(Conv1D(5, 3))
    weight = trunk[0].weight.clone()
    pack(trunk, ["0"])
    assert torch.equal(plain_weight(trunk[0]), weight)
    source = plain_source(trunk)
    assert type(source[0]) is Conv1D
    assert torch.equal(source[0].weight, weight)


class Layouts:
    """Two layouts, and a clock by which a product takes a second in the other one, and what is said in torch's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, plain_seconds: float) -> None:
        self.products, self._now, self._plain_seconds = 0, 0.0, plain_seconds
        self._other: list[torch.Tensor] = []
        monkeypatch.setattr(packing_choice.time, "perf_counter", lambda: self._now)

    def layout(self, weight: torch.Tensor) -> torch.Tensor:
        self._other.append(weight.clone())
        return self._other[-1]

    def product(self, x: torch.Tensor, weight: torch.Tensor, bias: None) -> torch.Tensor:
        self.products += 1
        self._now += 1.0 if any(weight is other for other in self._other) else self._plain_seconds
        return x


@pytest.mark.parametrize(("plain_seconds", "packed"), [(2.0, True), (0.5, False)])
def test_the_choice_is_measured_once_per_machine(
    plain_seconds: float, packed: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packing_choice, "_known", {})
    weight, layouts = torch.zeros(128, 256), Layouts(monkeypatch, plain_seconds=plain_seconds)
    assert pays(weight, layouts.layout, layouts.product) is packed
    measured = layouts.products
    assert measured
    assert pays(weight, layouts.layout, layouts.product) is packed
    packing_choice._known.clear()  # as another process
    assert pays(weight, layouts.layout, layouts.product) is packed
    assert layouts.products == measured
    (file,) = (tmp_path / "cache" / "packed").iterdir()
    file.write_text("nonsense")
    packing_choice._known.clear()
    assert pays(weight, layouts.layout, layouts.product) is packed
    assert layouts.products == 2 * measured


@pytest.mark.parametrize(("shape", "dtype"), [((64, 512), torch.float32), ((512, 512), torch.float16)])
def test_narrow_linears_and_other_formats_stay_plain_unmeasured(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts = Layouts(monkeypatch, plain_seconds=2.0)
    assert not pays(torch.zeros(shape, dtype=dtype), layouts.layout, layouts.product)
    assert not layouts.products
