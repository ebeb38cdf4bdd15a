from __future__ import annotations

import json

import pytest
import torch

from adapterkit.artifact import load, open_artifact
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError, ContractError
from adapterkit.recipe import Ia3Method
from tests.artifact.conftest import LABELS, logits, make, write
from tests.artifact.mutations import CONFIG, MANIFEST, TENSORS, pack, resign, unpack


def refused(folder) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_artifact(folder)
    assert str(folder) in str(caught.value)
    return "\n".join(caught.value.problems)


def edit(folder, name, **changes):
    value = {**json.loads((folder / name).read_bytes()), **changes}
    if name == MANIFEST:
        resign(folder, value)
    else:
        (folder / name).write_text(json.dumps(value))
        resign(folder)


def test_an_artifact_opens_without_its_backbone(saved):
    artifact = open_artifact(saved)
    assert artifact.task.labels == LABELS
    assert artifact.manifest.method.rank == 2
    assert all(tensor.dtype == torch.bfloat16 for tensor in artifact.state.values())
    assert artifact.card_is_original


def test_the_backbone_can_be_an_object_a_place_or_what_the_artifact_names(saved, tiny_backbones, tiny_folders):
    found = []
    for backbone in (tiny_backbones["bert"], str(tiny_folders["bert"]), tiny_folders["bert"], None):
        with load(saved, backbone) as adapted:
            found.append(logits(adapted).float())
    # A place is loaded in the dtype that the hardware is fast at.
    assert all(torch.allclose(found[0], other, atol=0.2) for other in found)


def test_another_backbone_is_refused_naming_both_sides(saved, tiny_backbones):
    with pytest.raises(ContractError) as caught:
        load(saved, tiny_backbones["bert-plain"])
    mine, theirs = tiny_backbones["bert"], tiny_backbones["bert-plain"]
    (problem,) = caught.value.problems
    assert problem == (
        f"fingerprint: artifact was trained on {mine.fingerprint[:4]}…{mine.fingerprint[-2:]} ({mine.name}), "
        f"this backbone is {theirs.fingerprint[:4]}…{theirs.fingerprint[-2:]} ({theirs.name})"
    )
    assert "retrain: adapterkit train" in str(caught.value)


def test_a_backbone_of_another_family_is_refused_with_every_difference(saved, tiny_backbones):
    with pytest.raises(ContractError) as caught:
        load(saved, tiny_backbones["roberta"])
    found = "\n".join(caught.value.problems)
    for word in ("fingerprint", "architecture", "vocabulary size", "tokenizer", "special tokens"):
        assert word in found


def test_labels_that_the_caller_counts_on_are_compared_in_order(saved, tiny_backbones):
    backbone = tiny_backbones["bert"]
    load(saved, backbone, labels=LABELS).detach()
    with pytest.raises(ContractError, match="the same labels in another order"):
        load(saved, backbone, labels=LABELS[::-1])
    with pytest.raises(ContractError, match="other labels"):
        load(saved, backbone, labels=["a", "b", "c"])


def test_every_problem_of_every_file_is_reported_at_once(saved):
    (saved / CONFIG).write_text("{")
    (saved / TENSORS).write_bytes(b"\0")
    (saved / MANIFEST).write_text('{"format": 1}')
    found = refused(saved)
    assert f"{CONFIG}: not JSON" in found
    assert f"{TENSORS}: 1 bytes" in found
    assert f"{MANIFEST}: task: Field required" in found


def test_one_changed_byte_is_noticed_by_its_digest(saved):
    raw = bytearray((saved / TENSORS).read_bytes())
    raw[-1] ^= 1
    (saved / TENSORS).write_bytes(raw)
    assert "its SHA-256 is not the one" in refused(saved)


def test_an_edited_manifest_is_noticed_by_its_own_digest(saved):
    text = (saved / MANIFEST).read_text()
    (saved / MANIFEST).write_text(text.replace('"perhaps"', '"maybe"'))
    assert "it was edited or damaged" in refused(saved)


def test_an_edited_card_does_not_matter_since_nothing_is_read_from_it(saved, tiny_backbones):
    (saved / "README.md").write_text("# Mine")
    artifact = open_artifact(saved)
    assert not artifact.card_is_original
    artifact.adapted(tiny_backbones["bert"]).detach()


def test_a_manifest_of_a_later_version_asks_for_an_upgrade(saved):
    edit(saved, MANIFEST, format=2)
    assert "format: found 2, expected 1" in refused(saved)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.bert.encoder.layer.0.attention.self.query.weight",
        "base_model.model.bert.embeddings.word_embeddings.weight",
        "bert.pooler.dense.weight",
    ],
)
def test_a_backbone_tensor_is_refused_even_where_everything_is_signed(saved, tiny_backbones, name):
    header, data = unpack((saved / TENSORS).read_bytes())
    header[name] = {"dtype": "BF16", "shape": [32, 32], "data_offsets": [len(data), len(data) + 2048]}
    (saved / TENSORS).write_bytes(pack(header, data + b"\0" * 2048))
    resign(saved)
    assert name in refused(saved)


def test_a_backbone_tensor_that_calls_itself_a_head_is_refused_by_the_backbone(saved, tiny_backbones):
    name = "bert.embeddings.LayerNorm.weight"
    header, data = unpack((saved / TENSORS).read_bytes())
    header[f"base_model.model.{name}"] = {"dtype": "BF16", "shape": [32], "data_offsets": [len(data), len(data) + 64]}
    (saved / TENSORS).write_bytes(pack(header, data + b"\0" * 64))
    edit(saved, MANIFEST, head_tensors=sorted(["classifier.bias", "classifier.weight", name]))
    backbone = tiny_backbones["bert"]
    with pytest.raises(ArtifactError, match="this adapter has no such tensor"):
        open_artifact(saved).adapted(backbone)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_modules": "(a+)+$"}, "expected a list of module names"),
        ({"target_modules": ["(a+)+$"]}, "expected a list of module names"),
        ({"auto_mapping": {"base_model_class": "os"}}, "a field that an artifact does not have"),
        ({"rank_pattern": {".*": 2}}, "expected ranks by module name"),
        ({"r": 10**9}, "expected 1 to 4096"),
        ({"modules_to_save": ["bert"]}, "holds or lies in a module that the method adapts"),
        ({"modules_to_save": ["dropout"]}, "holds no tensor of the head"),
        ({"peft_type": "IA3"}, "expected 'LORA'"),
        ({"lora_alpha": 5}, "alpha 5 is none of the manifest's"),
    ],
)
def test_patterns_paths_and_sizes_in_the_peft_config_are_refused(saved, changes, words):
    edit(saved, CONFIG, **changes)
    assert words in refused(saved)


@pytest.mark.parametrize(
    ("edited", "words"),
    [
        (lambda modules: [], "ia3_l: shape (1, 64), expected (any, 1)"),
        (lambda modules: [*modules, "bert.pooler.dense"], "'bert.pooler.dense' is not one of target_modules"),
        (lambda modules: "(a+)+$", "expected a list of module names"),
        (None, "feedforward_modules: missing"),
    ],
)
def test_an_ia3_whose_config_is_not_that_of_its_tensors_is_refused(tmp_path, tiny_backbones, edited, words):
    with make(tiny_backbones["bert"], Ia3Method()) as adapted:
        folder = write(tmp_path / "out", adapted)
    config = json.loads((folder / "adapter_config.json").read_bytes())
    modules = config.pop("feedforward_modules")
    if edited is not None:
        config["feedforward_modules"] = edited(modules)
    (folder / "adapter_config.json").write_bytes(json.dumps(config).encode())
    resign(folder)
    assert words in refused(folder)


def test_trust_in_an_artifacts_recipe_has_no_effect(saved, monkeypatch):

    edit(saved, MANIFEST, recipe={"backbone": {"trust_remote_code": True}})
    asked = {}

    def stop(name, **options):
        asked.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Backbone, "load", stop)
    with pytest.raises(KeyboardInterrupt):
        load(saved)
    assert not asked.get("trust_remote_code", False)


def test_a_refused_artifact_leaves_the_backbone_as_it_was(saved, tiny_backbones):
    backbone = tiny_backbones["bert"]
    edit(saved, MANIFEST, head_tensors=["classifier.weight"])
    header, data = unpack((saved / TENSORS).read_bytes())
    header.pop("base_model.model.classifier.bias")
    names = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][0])
    moved = b""
    for name in names:
        begin, end = header[name]["data_offsets"]
        header[name]["data_offsets"] = [len(moved), len(moved) + end - begin]
        moved += data[begin:end]
    (saved / TENSORS).write_bytes(pack(header, moved))
    resign(saved)
    with pytest.raises(ArtifactError, match=r"classifier\.bias': missing"):
        load(saved, backbone)
    with make(backbone) as adapted:
        write(saved, adapted, overwrite=True)
