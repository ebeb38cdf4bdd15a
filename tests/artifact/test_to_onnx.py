"""ONNX models answer in onnxruntime as the adapter does, at any number of rows and tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit.adapted import build
from adapterkit.artifact import export, save
from adapterkit.artifact.convert import onnx as onnx_export
from adapterkit.errors import ExportError
from adapterkit.manifest import DataFacts
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, TaskSettings
from adapterkit.tasks.table import TASKS
from tests.artifact.conftest import FAMILY, ROWS, make, shake, write

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
LENGTH_1 = HeadSettings(kind="linear", pooling="mean", normalize=True)
LORA, HOULSBY = LoraMethod(rank=2, alpha=8.0), BottleneckMethod(placement="houlsby", width=3)
CASES: list[tuple[str, str, Any, HeadSettings, bool]] = [
    ("bert", "text-classification", LORA, FAMILY, False),
    ("bert", "text-classification", LORA, LENGTH_1, True),
    ("distilbert", "token-classification", BottleneckMethod(width=3), FAMILY, False),
    ("roberta", "question-answering", HOULSBY, FAMILY, False),
    ("bert", "multiple-choice", LORA, FAMILY, True),
    ("bert", "masked-lm", BottleneckMethod(placement="parallel", width=3), FAMILY, False),
    ("gpt2", "causal-lm", LORA, FAMILY, False),
    ("llama", "text-classification", LORA, FAMILY, False),
]


def made(folder: Path, backbone: Any, kind: str, method: Any, head: HeadSettings) -> Any:
    """An artifact with random weights, its adapter and a padded batch of its rows."""
    rows = TASKS[kind].sample_rows(("no", "perhaps", "yes"))
    adapted = build(backbone, TASKS[kind].prepare(TaskSettings(kind=kind), rows), method, head, seed=0)
    shake(adapted)
    facts = DataFacts(source="made up")
    save(folder, adapted, recipe={}, data=facts, metrics={}, seed=0, golden=rows, dtype="float32")
    features = adapted.task.encode(rows, adapted.vocabulary, adapted.task.proof).features
    return adapted, adapted.task.collate(features[:3], adapted.vocabulary, seed=0).inputs


def run(folder: Path, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return torch.from_numpy(session.run(["logits"], {name: value.numpy() for name, value in inputs.items()})[0])


@pytest.mark.parametrize(("family", "kind", "method", "head", "unmerged"), CASES)
def test_onnxruntime_answers_as_the_adapter(
    tmp_path: Path, tiny_backbones: Any, family: str, kind: str, method: Any, head: HeadSettings, unmerged: bool
) -> None:
    backbone = tiny_backbones[family]
    adapted, inputs = made(tmp_path / "in", backbone, kind, method, head)
    folder = export(tmp_path / "in", tmp_path / "out", to="onnx", backbone=backbone, unmerged=unmerged)
    alone = {name: torch.cat([value[:1], value[:1]], dim=-1) for name, value in inputs.items()}
    with adapted, torch.inference_mode():
        for batch in (inputs, alone):  # other rows and other lengths than any that was traced
            expected, found = adapted(batch), run(folder, batch)
            if expected.dim() == 3:
                seen = batch["attention_mask"].bool()
                expected, found = expected[seen], found[seen]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max().clamp(min=1)))
    facts = json.loads((folder / "export.json").read_text())
    assert facts["merged"] == (method is LORA and not unmerged)
    assert {"tokenizer.json", "adapterkit.json", "README.md"} <= {file.name for file in folder.iterdir()}
    assert (folder / "adapterkit.json").read_bytes() == (tmp_path / "in" / "adapterkit.json").read_bytes()


def test_a_model_in_eight_bits_says_what_that_changes(tmp_path: Path, tiny_backbones: Any) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    with make(tiny_backbones["bert"]) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
    options: dict[str, Any] = {"to": "onnx", "backbone": tiny_backbones["bert"], "unmerged": True}
    small = export(tmp_path / "in", tmp_path / "small", quantise="int8", rows=ROWS, **options)
    facts = json.loads((small / "export.json").read_text())
    weights = [each for each in onnx.load(str(small / "model.onnx")).graph.initializer if len(each.dims) == 2]
    assert {each.data_type for each in weights} <= {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert 0 < facts["changes"]["largest"] < 0.5
    rows = [tiny_backbones["bert"].tokenizer(row["text"], return_tensors="pt") for row in ROWS]
    chosen = [adapted.task.labels[int(run(small, dict(row)).argmax())] for row in rows]
    right = sum(label == row["label"] for label, row in zip(chosen, ROWS, strict=True)) / len(ROWS)
    assert facts["metrics"]["accuracy"]["int8"] == pytest.approx(right)
    assert "golden choices are those of float32" in (small / "README.md").read_text()


def test_a_model_that_answers_otherwise_is_not_written(
    tmp_path: Path, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tiny_backbones["bert"]) as adapted:
        write(tmp_path / "in", adapted)
    right = onnx_export.trace

    def bent(adapted: Any, inputs: Any, file: Path) -> None:
        next(iter(adapted.headed.trained.values())).data.add_(0.1)
        right(adapted, inputs, file)

    monkeypatch.setattr(onnx_export, "trace", bent)
    with pytest.raises(ExportError, match="row 1: differs by"):
        export(tmp_path / "in", tmp_path / "out", to="onnx", backbone=tiny_backbones["bert"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "onnx", "quantise": "int3"}, "no way to quantise"),
        ({"to": "onnx", "rows": ROWS}, "nothing is quantised"),
        ({"to": "onnx", "trunk_only": True}, "trunk_only"),
        ({"to": "onnx", "dtype": "bfloat16"}, "dtype: belongs to transformers"),
        ({"to": "adapterhub", "unmerged": True}, "unmerged: belongs to onnx"),
        ({"to": "transformers", "quantise": "int8"}, "quantise: belongs to onnx"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(
    tmp_path: Path, saved: Path, tiny_backbones: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        export(saved, tmp_path / "out", backbone=tiny_backbones["bert"], **options)


def test_what_stands_at_padding_is_compared_with_nothing() -> None:
    from adapterkit.artifact.convert.answering import visible

    answer = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert visible(answer, {"attention_mask": mask}).tolist() == [[0.0, 1.0], [2.0, 3.0], [6.0, 7.0]]
    pooled = torch.zeros(2, 3)
    assert visible(pooled, {"attention_mask": mask}) is pooled
