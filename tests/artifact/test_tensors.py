from __future__ import annotations

import json
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save

from adapterkit.artifact.tensors import DTYPES, MAX_TENSORS, dump_tensors, parse_header, read_tensors
from adapterkit.errors import ArtifactError

TWO = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[3.0], [4.0], [5.0]]).bfloat16()}


def packed(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def field(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def read(raw):
    return read_tensors(raw, parse_header(raw, "x"), "x")


def test_what_is_written_is_read_back():
    assert_same(read(dump_tensors(TWO)), TWO)


def test_the_safetensors_library_reads_what_we_write():
    assert_same(safetensors_load(dump_tensors(TWO)), TWO)


def test_we_read_what_the_safetensors_library_writes():
    assert_same(read(safetensors_save(TWO)), TWO)


def test_bytes_do_not_depend_on_the_order_of_tensors_or_on_strides():
    reversed_order = dict(reversed(TWO.items()))
    strided = {"b": torch.tensor([[1.0, 0.0], [2.0, 0.0]])[:, 0], "a": TWO["a"]}
    assert dump_tensors(TWO) == dump_tensors(reversed_order) == dump_tensors(strided)


def test_a_scalar_has_one_value():
    assert_same(read(dump_tensors({"s": torch.tensor(1.5)})), {"s": torch.tensor(1.5)})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 bytes, expected at least 8"),
        (b"\xff" * 8, "a header of 18,446,744,073,709,551,615 bytes, expected at most 0"),
        (packed(b"x" * 10)[:-1], "a header of 10 bytes, expected at most 9"),
        (packed(b"not json"), "not JSON"),
        (packed([1]), "expected an object"),
        (packed(b'{"a": {}, "a": {}}'), "stands twice"),
        (packed({"a": 1}), "expected exactly dtype, shape and data_offsets"),
        (packed({"a": {**field(), "more": 1}}, b"\0" * 8), "expected exactly dtype, shape and data_offsets"),
        (packed({"a": field("F64")}, b"\0" * 8), "dtype 'F64', expected one of F32, BF16, F16"),
        (packed({"a": field(["F32"])}, b"\0" * 8), "expected one of F32, BF16, F16"),
        (packed({"a": field(shape=(-2,))}, b"\0" * 8), "whole numbers of at least 1"),
        (packed({"a": field(shape=(True, 2))}, b"\0" * 8), "whole numbers of at least 1"),
        (packed({"a": field(shape=(2.0,))}, b"\0" * 8), "whole numbers of at least 1"),
        (packed({"a": field(shape=(0,), offsets=(0, 0))}), "whole numbers of at least 1"),
        (packed({"a": field(shape=(1, 1, 1, 1, 2))}, b"\0" * 8), "at most 4 whole numbers"),
        (packed({"a": field(shape=(2**40, 2**40))}, b"\0" * 8), "8 bytes of data, expected 4,835,703"),
        (packed({"a": field(offsets=(0, 9))}, b"\0" * 8), "within 8 bytes of data"),
        (packed({"a": field(offsets=(8, 0))}, b"\0" * 8), "two in order within"),
        (packed({"a": field(offsets=(0, 8, 8))}, b"\0" * 8), "two in order within"),
        (packed({"a": field(offsets=(4, 12))}, b"\0" * 12), "leaves a gap before it"),
        (packed({"a": field(), "b": field(offsets=(4, 12))}, b"\0" * 12), "overlaps the tensor before it"),
        (packed({"a": field(), "b": field()}, b"\0" * 8), "overlaps the tensor before it"),
        (packed({"a": field()}, b"\0" * 9), "1 bytes after the last tensor"),
        (packed({"": field()}, b"\0" * 8), "1 to 512 printable characters"),
        (packed({"a\n": field()}, b"\0" * 8), "1 to 512 printable characters"),
        (packed({"__metadata__": {"format": 1}}), "__metadata__ is not an object of texts"),
        (packed({str(number): 1 for number in range(MAX_TENSORS + 1)}), "16,385 tensors, expected at most 16,384"),
    ],
)
def test_a_bad_header_is_refused_with_the_reason(raw, words):
    with pytest.raises(ArtifactError) as caught:
        parse_header(raw, "x")
    assert words in "; ".join(caught.value.problems)


def test_all_problems_of_a_header_are_reported_at_once():
    with pytest.raises(ArtifactError) as caught:
        parse_header(packed({"a": field("F64"), "b": field(shape=(-1,))}, b"\0" * 8), "x")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES.values() if dtype.is_floating_point], ids=str)
def test_values_that_are_not_finite_are_neither_read_nor_written(value, dtype):
    tensor = torch.tensor([1.0, value], dtype=dtype)
    with pytest.raises(ArtifactError, match="cannot be used"):
        read(safetensors_save({"a": tensor}))
    with pytest.raises(ArtifactError, match="cannot be saved"):
        dump_tensors({"a": tensor})


@pytest.mark.parametrize("tensor", [torch.zeros(2, dtype=torch.int64), torch.zeros(0), torch.zeros(1, 1, 1, 1, 1)])
def test_tensors_that_the_format_cannot_hold_are_not_written(tensor):
    with pytest.raises(ArtifactError, match="cannot be saved"):
        dump_tensors({"a": tensor})


JSON_LEAF = st.none() | st.booleans() | st.integers(-5, 40) | st.floats() | st.sampled_from(["F32", "BF16", "U8", ""])
FIELD = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F16"]) | JSON_LEAF,
        "shape": st.lists(st.integers(-1, 5), max_size=5) | JSON_LEAF,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3) | JSON_LEAF,
    }
)
HEADER = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), FIELD | JSON_LEAF, max_size=3)


@settings(max_examples=300, deadline=None)
@given(HEADER, st.binary(max_size=40))
def test_whatever_we_read_the_safetensors_library_reads_alike(header, data):
    raw = packed(header, data)
    try:
        ours = read(raw)
    except ArtifactError:
        return
    assert_same(ours, safetensors_load(raw))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1), st.binary(max_size=120))
def test_any_bytes_are_read_or_refused_with_our_error(length, rest):
    with suppress(ArtifactError):
        read(length.to_bytes(8, "little") + rest)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
