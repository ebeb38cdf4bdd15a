"""Matrices of eight bits: against numpy, and against what a stranger may have written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adapterkit as ak
from adapterkit.artifact.eight_bits import decode, encode, matrix_shape, stored_shape
from adapterkit.artifact.tensors import dump_tensors, parse_header, read_tensors
from adapterkit.errors import AdapterkitError, ArtifactError
from tests.artifact.mutations import resign
from tests.training.worlds import recipe, train

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(1e-20, 1e15))
@settings(max_examples=60, deadline=None)
def test_a_number_is_off_by_half_a_step_of_its_line_at_most(shape: Any, seed: int, size: float) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size
    found = decode(encode(matrix)).numpy().astype(float)
    axis = 1 if shape[0] <= shape[1] else 0
    largest = np.abs(matrix.numpy().astype(float)).max(axis=axis, keepdims=True)
    step = largest / 127 * (1 + 2**-15)  # the scale is rounded up to 16 bits
    assert (np.abs(found - matrix.numpy()) <= step / 2 * (1 + 1e-6)).all()


@given(SHAPES, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_what_was_read_is_written_to_the_same_bytes(shape: Any, seed: int) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    once = encode(matrix)
    assert torch.equal(encode(decode(once)), once)
    assert once.shape == stored_shape(shape)
    assert matrix_shape(once.shape) == shape


def test_by_hand() -> None:
    """Row 1: the largest is 254, so the scale is 2; row 2 is nothing."""
    stored = encode(torch.tensor([[254.0, -2.0, 5.0], [0.0, 0.0, 0.0]]))
    assert stored[:, 4:].tolist() == [[127, -1, 2], [0, 0, 0]]
    assert stored[:, :4].tolist() == [[0, 0, 0, 0x40], [0, 0, 0, 0]]  # 2.0 in float32 is 0x40000000
    assert decode(stored).tolist() == [[254.0, -2.0, 4.0], [0.0, 0.0, 0.0]]
    tall = encode(torch.tensor([[254.0], [-2.0], [5.0]]))
    assert tall.shape == (7, 1)
    assert decode(tall).tolist() == [[254.0], [-2.0], [4.0]]


@pytest.mark.parametrize("shape", [[5], [2, 2], [5, 5], [1, 4], [4, 1], [5, 3], [3, 6], [2, 2, 9]])
def test_a_shape_that_holds_no_matrix_is_refused(shape: list[int]) -> None:
    count = int(np.prod(shape))
    header = json.dumps({"x": {"dtype": "I8", "shape": shape, "data_offsets": [0, count]}}).encode()
    with pytest.raises(ArtifactError, match="eight bits"):
        parse_header(len(header).to_bytes(8, "little") + header + bytes(count), "x")


@pytest.mark.parametrize("scale", [b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\0\0\x7f\x7f"])
def test_a_scale_that_nobody_can_compute_with_is_refused(scale: bytes) -> None:
    """Infinity, no number, and what is nearly as large as can be."""
    raw = dump_tensors({"x": encode(torch.ones(1, 4))})
    raw = raw[:-8] + scale + raw[-4:]
    with pytest.raises(ArtifactError, match=r"not finite|expected at most"):
        read_tensors(raw, parse_header(raw, "x"), "x")


@pytest.fixture(scope="module")
def trained(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, backbone = tmp_path_factory.mktemp("eight"), tiny_backbones["bert"]
    settings = {"training": {"max_steps": 2, "save_dtype": "int8"}, "output": str(folder / "int8")}
    return backbone, train(recipe(folder, backbone, **settings), backbone=backbone).artifact


def test_a_training_saves_them_and_everything_reads_them(trained: Any) -> None:
    backbone, folder = trained
    assert ak.verify(folder, backbone)
    rows = ["lost card", "found boat in the train"]
    with ak.load(folder, backbone) as adapted:
        alone = adapted.predict(rows)
    with ak.Host(backbone, slots=2) as host:
        host.mount("x", folder)
        mounted = host.predict([("x", row) for row in rows])
    assert [one["label"] for one in mounted] == [one["label"] for one in alone]
    assert [one["score"] for one in mounted] == pytest.approx([one["score"] for one in alone], abs=1e-5)


def test_plain_peft_refuses_them_instead_of_taking_numbers_for_weights(trained: Any) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    backbone, folder = trained
    model = AutoModelForSequenceClassification.from_pretrained(backbone.folder, num_labels=2)
    with pytest.raises(RuntimeError, match="size mismatch"):
        PeftModel.from_pretrained(model, folder)


def test_a_manifest_that_says_otherwise_than_the_file_is_refused(trained: Any, tmp_path: Path) -> None:
    _, folder = trained
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    manifest = json.loads((other / "adapterkit.json").read_text())
    resign(other, {**manifest, "dtype": "bfloat16"})
    with pytest.raises(AdapterkitError, match="expected bfloat16"):
        ak.load(other)
