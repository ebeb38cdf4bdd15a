"""Packing by remembered places: the same numbers as packing tensor by tensor, and the same refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.tensors import dump_tensors, parse_header, read_tensors
from adapterkit.errors import ArtifactError
from adapterkit.host.packing.packers import pack
from adapterkit.host.packing.permutation import Slab
from adapterkit.recipe import LoraMethod
from tests.methods.cases import attached

METHODS = {
    "query and value": LoraMethod(rank=3, alpha=5),
    "every linear": LoraMethod(rank=2, alpha=2, sites="all-linear"),
    "ranks and alphas of their own": LoraMethod(
        rank=2,
        alpha=6,
        sites="all-linear",
        rank_pattern={"attention.output": 5},
        alpha_pattern={"feedforward.output": 9},
    ),
    "stabilised": LoraMethod(rank=4, alpha=7, rslora=True),
    "split weights": LoraMethod(rank=2, initialization="pissa"),
}
FAMILIES = ("bert", "gpt2", "llama", "t5", "bart")


def states(backbone: Any, method: LoraMethod, count: int) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """The config of a LoRA, and so many states of it with other numbers and a head, each with memory of its own."""
    with attached(backbone, method) as attachment:
        config, shapes = attachment.config(), {name: tensor.shape for name, tensor in attachment.state().items()}
    shapes["classifier.weight"] = torch.Size((3, 8))
    found = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        found.append({PREFIX + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})
    return config, found


def as_read(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The state as it comes out of a file."""
    raw = bytearray(dump_tensors({name: tensor.to(dtype) for name, tensor in state.items()}))
    return read_tensors(raw, parse_header(raw, "x"), "x")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_second_of_a_recipe_is_packed_as_tensor_by_tensor(
    tiny_backbones: Mapping[str, Any], family: str, name: str, dtype: torch.dtype
) -> None:
    backbone, method = tiny_backbones[family], METHODS[name]
    config, found = states(backbone, method, 3)
    for state in found:
        read = as_read(state, dtype)
        apart = {key: tensor.clone() for key, tensor in read.items()}
        assert Slab.of(read) is not None
        assert Slab.of(apart) is None
        packed, expected = (pack(method, config, each, backbone) for each in (read, apart))
        assert packed is not None
        assert expected is not None
        assert packed.structure is expected.structure
        assert packed.lowest_layer == expected.lowest_layer
        assert torch.equal(packed.flat, expected.flat)


def test_what_lies_elsewhere_is_not_taken_for_the_same(tiny_backbones: Mapping[str, Any]) -> None:
    backbone, method = tiny_backbones["bert"], METHODS["every linear"]
    config, (first, second) = states(backbone, method, 2)
    pack(method, config, as_read(first, torch.float32), backbone)
    wider = {**second, f"{PREFIX}classifier.weight": torch.ones(5, 8)}  # moves all that stands behind it
    packed = pack(method, config, as_read(wider, torch.float32), backbone)
    expected = pack(method, config, second, backbone)
    assert packed is not None
    assert expected is not None
    assert torch.equal(packed.flat, expected.flat)


def test_a_second_that_is_misshapen_incomplete_or_out_of_range_is_named(tiny_backbones: Mapping[str, Any]) -> None:
    backbone, method = tiny_backbones["bert"], LoraMethod(rank=2, alpha=16, sites=("attention.query",), layers=(0,))
    config, (first, second) = states(backbone, method, 2)
    pack(method, config, as_read(first, torch.float32), backbone)
    (a_name, b_name) = (name for name in second if "lora_" in name)
    less = {name: tensor for name, tensor in second.items() if name != b_name}
    for state, words in (
        (less, "missing"),
        ({**second, a_name: torch.ones(3, 32)}, r"shape \(3, 32\)"),
        ({**second, b_name: torch.full((32, 2), 1e38)}, "holds values up to 1e"),
    ):
        with pytest.raises(ArtifactError, match=words):
            pack(method, config, as_read(state, torch.float32), backbone)
