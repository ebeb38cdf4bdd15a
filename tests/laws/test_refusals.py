"""Law 9: another backbone, tokenizer or label order is refused, naming both sides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.errors import ContractError
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.laws.cases import KINDS
from tests.laws.worlds import adapter, write
from tests.methods.cases import snapshot


def other_weights(folder: Path) -> None:
    """The same names and shapes, another value in one tensor."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = max(tensors, key=lambda name: tensors[name].numel())
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, file, {"format": "pt"})


def one_layer_less(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers -= 1
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:-1]
    AutoModel.from_pretrained(folder, config=config).save_pretrained(folder)


def other_tokenizer(folder: Path) -> None:
    """Two words change places in the vocabulary; its size stays the same."""
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary[40], vocabulary[41] = vocabulary[41], vocabulary[40]
    else:
        first, second = (next(word for word, place in vocabulary.items() if place == at) for at in (40, 41))
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(content))


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "other weights": (other_weights, {"fingerprint"}),
    "another depth": (one_layer_less, {"fingerprint", "number of layers"}),
    "another tokenizer": (other_tokenizer, {"fingerprint", "tokenizer"}),
}
"""What is changed -> how, and the points on which the two then differ."""


def sides(problem: str) -> tuple[str, str]:
    """The two values that a problem names."""
    _, _, text = problem.partition(": ")
    mine, _, theirs = text.partition(", this backbone ")
    return mine.split(" ", 2)[2], theirs.split(" ", 1)[1]


@pytest.mark.filterwarnings("ignore:Some weights")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_another_backbone_is_refused_naming_both_sides(
    tiny_backbones: Mapping[str, Any], tiny_folders: Mapping[str, Path], tmp_path: Path, family: str, change: str
) -> None:
    backbone = tiny_backbones[family]
    kinds = [kind for kind, row in KINDS.items() if family in row.families]
    kind = kinds[tiny.FAMILIES.index(family) % len(kinds)]
    with adapter(backbone, kind, LoraMethod(rank=2), HeadSettings()) as adapted:
        write(tmp_path / "artifact", adapted)
    alter, points = CHANGES[change]
    shutil.copytree(tiny_folders[family], tmp_path / "other")
    alter(tmp_path / "other")
    other = Backbone.load(str(tmp_path / "other"), dtype="float32", device="cpu")
    before = snapshot(other.trunk)
    with pytest.raises(ContractError) as caught:
        load(tmp_path / "artifact", other)
    found = {problem.partition(":")[0]: problem for problem in caught.value.problems}
    assert found.keys() == points
    assert all(mine != theirs and mine and theirs for mine, theirs in map(sides, found.values()))
    assert backbone.name in found["fingerprint"]
    assert other.name in found["fingerprint"]
    assert snapshot(other.trunk) == before
    load(tmp_path / "artifact", backbone).detach()


@pytest.mark.parametrize("kind", ["text-classification", "token-classification"])
def test_another_label_order_is_refused_naming_both_sides(
    tiny_backbones: Mapping[str, Any], tmp_path: Path, kind: str
) -> None:
    backbone = tiny_backbones["bert"]
    with adapter(backbone, kind, LoraMethod(rank=2)) as adapted:
        labels = adapted.task.labels
        write(tmp_path / "artifact", adapted)
    with pytest.raises(ContractError) as caught:
        load(tmp_path / "artifact", backbone, labels=labels[::-1])
    (problem,) = caught.value.problems
    assert problem.startswith(f"labels: artifact has ['{labels[0]}', ")
    assert f"expected ['{labels[-1]}', " in problem
    assert problem.endswith("(the same labels in another order)")


def test_the_same_checkpoint_in_another_place_and_dtype_is_the_same_backbone(
    tiny_backbones: Mapping[str, Any], tiny_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LoraMethod(rank=2)) as adapted:
        write(tmp_path / "artifact", adapted)
    shutil.copytree(tiny_folders["bert"], tmp_path / "moved")
    moved = Backbone.load(str(tmp_path / "moved"), dtype="bfloat16", device="cpu")
    with load(tmp_path / "artifact", moved) as adapted:
        assert adapted.backbone.dtype == torch.bfloat16
