"""The gains of head and representation, against what their own answers say."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import sklearn.dummy
import sklearn.metrics
import torch
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import ContractError, DataError
from tests.training.worlds import recipe, rows_of, train, write_rows

KIND = "text-classification"


def uneven(count: int) -> list[dict[str, Any]]:
    """Two rows of three are good."""
    return [row for place, row in enumerate(rows_of(KIND, count * 2)) if row["label"] == "good" or place % 4 == 1]


@pytest.fixture(scope="module")
def world(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, backbone = tmp_path_factory.mktemp("attribute"), tiny_backbones["bert"]
    data = {
        "train": write_rows(folder / "train.jsonl", uneven(40)),
        "test": write_rows(folder / "test.jsonl", rows_of(KIND, 70)[30:]),
    }
    return folder, backbone, train(recipe(folder, backbone, data=data), backbone=backbone).artifact


def test_gains_are_those_of_the_answers(world: Any, tmp_path: Path) -> None:
    _, backbone, artifact = world
    found = ak.attribute(artifact, backbone=backbone, output=tmp_path / "head")
    rows = rows_of(KIND, 70)[30:]
    gold = [row["label"] for row in rows]
    dummy = sklearn.dummy.DummyClassifier(strategy="most_frequent").fit(
        [[0]] * 60, [row["label"] for row in uneven(40)]
    )
    expected = [sklearn.metrics.accuracy_score(gold, dummy.predict([[0]] * 40))]
    for each in (tmp_path / "head", artifact):
        with ak.load(each, backbone) as adapted:
            expected.append(np.mean([a["label"] == g for a, g in zip(adapted.predict(rows), gold, strict=True)]))
    assert [gain.name for gain in found.gains] == ["head", "representation"]
    assert [found.gains[0].difference.a, *(gain.difference.b for gain in found.gains)] == pytest.approx(expected)
    assert all(gain.difference.low <= gain.difference.difference <= gain.difference.high for gain in found.gains)
    with ak.load(tmp_path / "head", backbone) as adapted:
        assert adapted.method_parameters() == {}
    assert found.starts_from == "constant answer"
    assert found == ak.attribute(artifact, backbone=backbone)


@pytest.mark.parametrize("kind", ["token-classification", "multiple-choice", "question-answering"])
def test_other_kinds_start_from_what_is_common_to_them(kind: str, tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    artifact = train(recipe(tmp_path, backbone, kind, training={"max_steps": 2}), backbone=backbone).artifact
    found = ak.attribute(artifact, backbone=backbone)
    rows = rows_of(kind, 52)[40:]
    if kind == "token-classification":  # O everywhere finds no entity
        assert (found.starts_from, found.gains[0].difference.a) == ("constant answer", 0.0)
    elif kind == "multiple-choice":  # the first choice
        share = Counter(row["answer"] for row in rows)[0] / len(rows)
        assert found.gains[0].difference.a == pytest.approx(share)
    else:
        assert (found.starts_from, [gain.name for gain in found.gains]) == ("head", ["representation"])


def test_another_version_of_the_backbone_and_what_is_trained_on_it_stand_apart(
    world: Any, tmp_path: Path, tiny_backbones: Any
) -> None:
    _, backbone, artifact = world
    rows = rows_of(KIND, 70)[30:]
    gold = [row["label"] for row in rows]
    other = other_version(backbone, tmp_path / "other")
    found = ak.attribute(artifact, backbone=backbone, other_backbone=other, output=tmp_path / "again")
    with ak.load(artifact, backbone) as adapted:
        expected = [np.mean([a["label"] == g for a, g in zip(adapted.predict(rows), gold, strict=True)])]
        state = adapted.state()
        built = ak.build(ak.Backbone.load(other), adapted.task, adapted.method, adapted.head)
    built.load_state(state)
    expected.append(np.mean([a["label"] == g for a, g in zip(built.predict(rows), gold, strict=True)]))
    with ak.load(tmp_path / "again") as adapted:
        expected.append(np.mean([a["label"] == g for a, g in zip(adapted.predict(rows), gold, strict=True)]))
    assert (found.starts_from, [gain.name for gain in found.gains]) == ("artifact", ["backbone", "trained again"])
    assert [found.gains[0].difference.a, *(gain.difference.b for gain in found.gains)] == pytest.approx(expected)
    assert found.again is not None
    assert found.again.fingerprint != found.answering.fingerprint
    with pytest.raises(ContractError, match="architecture: artifact needs bert"):
        ak.attribute(artifact, backbone=backbone, other_backbone=tiny_backbones["gpt2"])


def other_version(backbone: Any, folder: Path) -> Path:
    """A checkpoint like another, with somewhat other weights."""
    shutil.copytree(backbone.folder, folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    moved = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    safetensors.torch.save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_last_step_trains_every_weight_and_leaves_the_backbone_as_it_was(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    artifact = train(recipe(tmp_path, backbone, training={"epochs": 8}), backbone=backbone).artifact
    before = {name: tensor.clone() for name, tensor in backbone.trunk.state_dict().items()}
    found = ak.attribute(artifact, backbone=backbone, full_rate=1e-3)
    assert [gain.name for gain in found.gains] == ["head", "representation", "full fine-tuning"]
    assert found.gains[2].difference.b > 0.9  # a word tells the label
    after = backbone.trunk.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    still = ak.attribute(artifact, backbone=backbone, full_rate=1e-12)
    assert still.gains[2].difference.b < 0.9  # nothing was learned


def test_what_has_no_head_or_no_recipe_is_refused(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    text = train(recipe(tmp_path, backbone, "masked-lm", training={"max_steps": 1}), backbone=backbone).artifact
    with pytest.raises(DataError, match="no head of its own"):
        ak.attribute(text, backbone=backbone)


def test_the_command_ends_in_a_sentence(world: Any) -> None:
    shown = CliRunner().invoke(app, ["attribute", str(world[2])])
    assert shown.exit_code == 0, shown.stderr
    last = shown.stdout.splitlines()[-1]
    assert last.startswith("constant answer 0.")
    assert " → head " in last
    assert last.endswith("(accuracy)")
