"""What is no backbone, and what is said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterkit.backbone import Backbone
from adapterkit.errors import BackboneError, DeviceError


@pytest.fixture
def copied(tiny_folders: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a tiny checkpoint that the test may damage."""
    return lambda family: Path(shutil.copytree(tiny_folders[family], tmp_path / family))


# What is wrong with the folder -> what it takes to make it so, and what the message has to say.
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: remove(folder, "config.json"), "no config.json"),
    "config not JSON": (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
    "config no object": (lambda folder: (folder / "config.json").write_text("[]"), "expected a JSON object"),
    "config no type": (lambda folder: (folder / "config.json").write_text("{}"), "no model_type"),
    "unknown type": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'),
        "knows no architecture 'nonesuch'",
    ),
    "own code": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "x", "auto_map": {"AutoModel": "x.X"}}'),
        "trust_remote_code",
    ),
    "no weights": (lambda folder: remove(folder, "model.safetensors"), "no weights"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "do not load"),
    "cut weights": (lambda folder: cut(folder / "model.safetensors"), "do not load"),
    "other widths": (lambda folder: set_config(folder, hidden_size=16), "do not load"),
    "lost layer": (lambda folder: drop_tensors(folder, "layer.1."), "lack"),
    "no tokenizer": (
        lambda folder: remove(folder, "tokenizer*"),
        "no tokenizer",
    ),
    "no vocabulary": (
        lambda folder: (remove(folder, "tokenizer.json"), set_tokenizer(folder, tokenizer_class="BertTokenizer")),
        "no tokenizer",
    ),
    "tokenizer not JSON": (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer"),
    "no pad token": (lambda folder: set_tokenizer(folder, pad_token=None), "no pad token"),
    "lost shard": (
        lambda folder: (
            remove(folder, "model.safetensors"),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}'),
        ),
        "one.safetensors: is missing",
    ),
    "shard outside": (
        lambda folder: (
            (folder / "model.safetensors").rename(folder.parent / "out.safetensors"),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../out.safetensors"}}'),
        ),
        "leads out of the folder",
    ),
    "index without map": (
        lambda folder: (
            remove(folder, "model.safetensors"),
            (folder / "model.safetensors.index.json").write_text('{"weight_map": []}'),
        ),
        "no weight_map",
    ),
}


def remove(folder: Path, pattern: str) -> int:
    found = list(folder.glob(pattern))
    for path in found:
        path.unlink()
    return len(found)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def set_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def set_tokenizer(folder: Path, **changes: Any) -> int:
    path = folder / "tokenizer_config.json"
    return path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_tensors(folder: Path, part: str) -> None:
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if part not in name}
    save_file(kept, path, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_backbone_is_refused_with_a_remedy(copied: Any, damage: str) -> None:
    folder = copied("bert")
    make, words = DAMAGES[damage]
    make(folder)
    with pytest.raises(BackboneError) as caught:
        Backbone.load(folder, device="cpu")
    assert words in str(caught.value)
    assert caught.value.remedy


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused(copied: Any, tiny_folders: Any) -> None:
    folder = copied("bert")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_folders["roberta"] / name, folder / name)
    with pytest.raises(BackboneError, match="rows 0 to 221"):
        Backbone.load(folder, device="cpu")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="there is no folder"):
        Backbone.load(tmp_path / "nowhere")
    with pytest.raises(BackboneError, match="there is no folder"):
        Backbone.load("./nowhere")


def test_a_file_is_not_a_backbone(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BackboneError, match="is a file"):
        Backbone.load(tmp_path / "model.safetensors")


def test_a_folder_has_no_revision(tiny_folders: Any) -> None:
    with pytest.raises(BackboneError, match="no revision 'main'"):
        Backbone.load(tiny_folders["bert"], revision="main")


def test_a_hub_id_without_a_network_is_refused_with_what_to_do() -> None:
    with pytest.raises(BackboneError, match="cannot be reached") as caught:
        Backbone.load("nobody/nothing", revision="v9")
    assert "v9" in caught.value.summary
    assert "HF_HUB_OFFLINE" in caught.value.remedy


def test_a_name_that_no_hub_takes_is_refused() -> None:
    with pytest.raises(BackboneError, match="neither a folder here nor a model"):
        Backbone.load("not a name")


@pytest.mark.parametrize(
    ("error", "words"),
    [("GatedRepoError", "is gated"), ("RepositoryNotFoundError", "neither"), ("RevisionNotFoundError", "no revision")],
)
def test_each_answer_of_the_hub_has_its_own_words(monkeypatch: pytest.MonkeyPatch, error: str, words: str) -> None:
    kind = getattr(huggingface_hub.errors, error)

    def refuse(*_: Any, **__: Any) -> str:
        raise kind.__new__(kind)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BackboneError, match=words) as caught:
        Backbone.load("someone/something", revision="v1")
    assert caught.value.remedy


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the test asks for in vain")
def test_a_gpu_that_is_not_there_is_refused(tiny_folders: Any) -> None:
    with pytest.raises(DeviceError, match="GPU 0 was asked for"):
        Backbone.load(tiny_folders["bert"], device="cuda")


def test_a_backbones_embeddings_are_not_made_up(copied: Any) -> None:
    folder = copied("bert-without-pooler")
    drop_tensors(folder, "embeddings.word")
    with pytest.raises(BackboneError, match="word_embeddings"):
        Backbone.load(folder, device="cpu")
