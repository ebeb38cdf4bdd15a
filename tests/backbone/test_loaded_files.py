"""A backbone is what was loaded, whatever becomes of its files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit.backbone import Backbone, backbone
from adapterkit.errors import BackboneError
from adapterkit.heads import build_head
from adapterkit.recipe import HeadSettings


@pytest.fixture
def checkpoint(tiny_folders: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folders["gpt2"], tmp_path / "gpt2"))


def load(folder: Path) -> Backbone:
    return Backbone.load(folder, dtype="float32", device="cpu")


def write_over(file: Path) -> None:
    """Other weights in the very same file, as a program does that opens it for writing."""
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(b"\x3f" * (size - size // 2))


def cut_short(file: Path) -> None:
    os.truncate(file, 16)


@pytest.mark.parametrize("change", [write_over, cut_short])
@torch.no_grad()
def test_what_becomes_of_the_files_changes_no_answer(checkpoint: Path, change: Callable[[Path], None]) -> None:
    loaded = load(checkpoint)
    ids = torch.arange(5)[None]
    before = loaded.trunk(input_ids=ids).last_hidden_state
    change(checkpoint / "model.safetensors")
    assert torch.equal(loaded.trunk(input_ids=ids).last_hidden_state, before)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of what is mapped")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_file_of_a_checkpoint_stays_mapped(tiny_folders: Any, tmp_path: Path, dtype: str) -> None:
    folder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "bert"))
    loaded = Backbone.load(folder, dtype=dtype, device="cpu")
    headed = build_head(loaded, "masked-lm", 0, HeadSettings(kind="family"), seed=0)
    assert len(loaded.heads) == 1
    assert str(folder) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    del loaded, headed


def test_the_fingerprint_is_that_of_what_was_loaded(checkpoint: Path) -> None:
    loaded = load(checkpoint)
    write_over(checkpoint / "model.safetensors")
    assert load(checkpoint).fingerprint != loaded.fingerprint
    with pytest.raises(BackboneError, match="has changed") as caught:
        loaded.fingerprint_read_again()
    assert caught.value.problems == ("model.safetensors: written since",)


def edit(folder: Path, name: str) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_files_that_change_while_they_are_loaded_are_refused(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain = backbone.load_trunk

    def meanwhile(*args: Any, **named: Any) -> Any:
        found = plain(*args, **named)
        write_over(checkpoint / name) if name.endswith(".safetensors") else edit(checkpoint, name)
        return found

    monkeypatch.setattr(backbone, "load_trunk", meanwhile)
    with pytest.raises(BackboneError, match="has changed since the backbone began to be loaded") as caught:
        load(checkpoint)
    assert caught.value.problems == (f"{name}: written since",)


def test_a_head_is_not_borrowed_from_other_files_than_were_loaded(tiny_folders: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "bert"))
    loaded = load(folder)
    write_over(folder / "model.safetensors")
    with pytest.raises(BackboneError, match="has changed"):
        build_head(loaded, "masked-lm", 0, HeadSettings(kind="family"), seed=0)
    assert loaded.heads == {}


def test_files_that_a_checkpoint_does_not_need_may_come_and_go(checkpoint: Path) -> None:
    loaded = load(checkpoint)
    (checkpoint / "README.md").write_text("hello")
    (checkpoint / "pytorch_model.bin").write_bytes(b"x")
    loaded.check_files()
    (checkpoint / "added_tokens.json").write_text("{}")
    with pytest.raises(BackboneError, match=r"added_tokens\.json: new"):
        loaded.check_files()
