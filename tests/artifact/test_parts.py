"""The parts of a fusion: found by name, known again by digest, and never read from where a manifest points."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterkit.adapted import build
from adapterkit.artifact import load, open_artifact, read_parts, verify
from adapterkit.errors import AdapterkitError, ArtifactError
from adapterkit.recipe import BottleneckMethod, FusionMethod, HeadSettings, LoraMethod
from tests.artifact.conftest import FAMILY, ROWS, logits, make, shake, write
from tests.artifact.mutations import CONFIG, MANIFEST, TENSORS, mutate, resign

NECK = BottleneckMethod(placement="pfeiffer", width=3)
OTHER = BottleneckMethod(placement="pfeiffer", width=5, activation="tanh", scale=2.0)


def fuse(folder: Path, backbone: Any, parts: list[Path], name: str = "fused") -> Path:
    """A fusion artifact beside its parts."""
    method = FusionMethod(parts=tuple(map(str, parts)))
    with make(backbone) as plain:
        task = plain.task
    with build(backbone, task, method, FAMILY, 0, parts=read_parts(method, backbone)) as adapted:
        shake(adapted)
        return write(folder / name, adapted)


@pytest.fixture(scope="session")
def world_once(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Any) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    backbone = tiny_backbones["bert"]
    for name, method in (("a", NECK), ("b", OTHER)):
        with make(backbone, method, HeadSettings()) as part:
            write(folder / name, part)
    fuse(folder, backbone, [folder / "a", folder / "b"])
    return folder


@pytest.fixture
def world(world_once: Path, tmp_path: Path) -> Path:
    """A folder with the artifacts a, b and fused, to be damaged."""
    return Path(shutil.copytree(world_once, tmp_path / "world"))


def edit(folder: Path, change: Any) -> None:
    """Change a manifest, and sign it again."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    resign(folder, manifest)


def refused(folder: Path, backbone: Any, **options: Any) -> str:
    with pytest.raises(ArtifactError) as caught:
        load(folder, backbone, **options)
    return str(caught.value)


def test_a_fusion_names_its_parts_by_name_digest_and_settings(world: Path) -> None:
    manifest = open_artifact(world / "fused").manifest
    assert [part.name for part in manifest.parts] == ["a", "b"]
    assert [part.sha256 for part in manifest.parts] == [
        open_artifact(world / name).manifest.files[TENSORS].sha256 for name in ("a", "b")
    ]
    assert [part.method for part in manifest.parts] == [NECK, OTHER]
    assert isinstance(manifest.method, FusionMethod)
    assert manifest.method.parts == ("a", "b")  # names: no path of the machine
    card = (world / "fused" / "README.md").read_text()
    assert "A 2-part fusion adapter" in card
    assert all(part.sha256 in card for part in manifest.parts)
    assert "PeftModel" not in card


def test_parts_are_found_beside_the_fusion_or_where_the_caller_says(world: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with load(world / "fused", backbone) as adapted:
        expected = logits(adapted)
    shutil.move(world / "b", world.parent / "elsewhere")
    message = refused(world / "fused", backbone)
    assert f"b: no artifact at {world / 'b'}" in message
    assert "--part NAME=FOLDER" in message
    assert open_artifact(world / "fused").manifest.kind == "text-classification"  # inspecting needs no parts
    with load(world / "fused", backbone, parts={"b": world.parent / "elsewhere"}) as adapted:
        assert torch.equal(logits(adapted), expected)
    assert verify(world / "fused", backbone, parts={"b": world.parent / "elsewhere"})
    report = verify(world / "fused", backbone)
    assert not report
    assert "no artifact at" in str(report)
    assert "c: not a part of this adapter, which has a, b" in refused(world / "fused", backbone, parts={"c": world})


def test_a_fusion_is_found_from_inside_its_folder(
    world: Path, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world / "fused")
    load(".", tiny_backbones["bert"]).detach()


def test_a_link_is_followed_only_where_the_caller_names_it(world: Path, tiny_backbones: Any) -> None:
    shutil.move(world / "a", world.parent / "real")
    (world / "a").symlink_to(world.parent / "real")
    assert "is a link, which is followed only where you name it" in refused(world / "fused", tiny_backbones["bert"])
    load(world / "fused", tiny_backbones["bert"], parts={"a": world / "a"}).detach()


def test_other_tensors_or_settings_are_refused_naming_both_sides(world: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    before = open_artifact(world / "a").manifest.files[TENSORS].sha256
    tensors = load_file(world / "a" / TENSORS)
    save_file({name: tensor * 2 for name, tensor in tensors.items()}, world / "a" / TENSORS, {"format": "pt"})
    resign(world / "a")
    after = open_artifact(world / "a").manifest.files[TENSORS].sha256

    def scale(manifest: Any) -> None:
        manifest["method"]["scale"] = 4.0

    edit(world / "b", scale)
    message = refused(world / "fused", backbone)
    assert f"a: trained with tensors {before[:8]}…{before[-4:]} (pfeiffer, relu, scale 1.0)" in message
    assert f"{world / 'a'} holds {after[:8]}…{after[-4:]}" in message
    assert "(pfeiffer, tanh, scale 2.0)" in message
    assert "(pfeiffer, tanh, scale 4.0)" in message


def test_what_an_answer_does_not_depend_on_may_change(world: Path, tiny_backbones: Any) -> None:
    (world / "a" / "README.md").write_text("edited")
    edit(world / "b", lambda manifest: manifest["method"].update(dropout=0.3))
    load(world / "fused", tiny_backbones["bert"]).detach()


HOSTILE_NAMES = ["../a", "/etc", "a/b", "..", ".", "", ".hidden", "a\\b", "a\x00b", "a\nb", "x" * 300, "~/a/", None, 3]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_a_name_that_is_a_path_is_refused_before_anything_is_read_there(
    world: Path, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    def point(manifest: Any) -> None:
        manifest["parts"][0]["name"] = name
        manifest["method"]["parts"][0] = name

    edit(world / "fused", point)
    opened: list[str] = []
    plain = os.open

    def watch(path: Any, *args: Any, **kwargs: Any) -> int:
        opened.append(os.fspath(path))
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", watch)
    with pytest.raises(ArtifactError, match="parts"):
        load(world / "fused", "nowhere")
    assert set(opened) == {str(world / "fused"), MANIFEST, CONFIG, TENSORS, "README.md"}


def swap_names(manifest: Any) -> None:
    manifest["parts"].reverse()


def drop_parts(manifest: Any) -> None:
    del manifest["parts"]


def two_placements(manifest: Any) -> None:
    manifest["parts"][0]["method"]["placement"] = "houlsby"


def wide_query(manifest: Any) -> None:
    manifest["method"]["query_width"] = 1 << 30


def other_query(manifest: Any) -> None:
    manifest["method"]["query_width"] = 7


def no_value(manifest: Any) -> None:
    manifest["method"]["value"] = False


def unknown_field(manifest: Any) -> None:
    manifest["parts"][0]["path"] = "/tmp"


def lora_part(manifest: Any) -> None:
    manifest["parts"][0]["method"] = LoraMethod().model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap_names, "parts: found b, a, expected a, b: those that the method names"),
        (drop_parts, "parts: found none, expected a, b: those that the method names"),
        (two_placements, "placements houlsby and pfeiffer, expected one"),
        (wide_query, "method.query_width: Input should be less than or equal to 65536"),
        (other_query, "query_width: 32 is not the manifest's (7)"),
        (no_value, "fusion_value.weight: the method, as the manifest describes it, has none"),
        (unknown_field, "parts.0.path"),
        (lora_part, "parts.0.method"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_manifest_that_contradicts_itself_is_refused(world: Path, change: Any, words: str) -> None:
    edit(world / "fused", change)
    with pytest.raises(ArtifactError) as caught:
        open_artifact(world / "fused")
    assert words in str(caught.value)


def test_parts_belong_to_fusions_only(world: Path) -> None:
    parts = json.loads((world / "fused" / MANIFEST).read_bytes())["parts"]
    edit(world / "a", lambda manifest: manifest.update(parts=parts))
    with pytest.raises(ArtifactError, match="refused") as caught:
        open_artifact(world / "a")
    assert "parts: found a, b, expected none: those that the method names" in str(caught.value)


def test_a_config_of_another_placement_is_refused(world: Path) -> None:
    content = json.loads((world / "fused" / CONFIG).read_bytes())
    (world / "fused" / CONFIG).write_text(json.dumps({**content, "placement": "houlsby"}))
    resign(world / "fused")
    with pytest.raises(ArtifactError, match="refused") as caught:
        open_artifact(world / "fused")
    assert "placement: houlsby is not that of the parts" in str(caught.value)


def test_only_bottlenecks_can_be_parts(world: Path, saved: Path, tiny_backbones: Any) -> None:
    for place, kind in ((saved, "lora"), (world / "fused", "fusion")):
        method = FusionMethod(parts=(str(world / "a"), str(place)))
        with pytest.raises(ArtifactError, match="cannot be a part") as caught:
            read_parts(method, tiny_backbones["bert"])
        assert f"found {kind}, expected bottleneck" in str(caught.value)


def test_every_damaged_fusion_answers_the_same_or_is_refused(
    world_once: Path, tmp_path: Path, tiny_backbones: Any
) -> None:
    backbone = tiny_backbones["bert"]
    with load(world_once / "fused", backbone) as whole:
        expected = logits(whole)
    places = {name: world_once / name for name in ("a", "b")}
    original = json.loads((world_once / "fused" / MANIFEST).read_bytes())
    outcomes: Counter[str] = Counter()
    for number in range(120):
        folder = tmp_path / str(number)
        shutil.copytree(world_once / "fused", folder)
        done = mutate(folder, random.Random(number))
        try:
            adapted = load(folder, backbone, parts=places)
        except AdapterkitError:
            outcomes["refused"] += 1
        else:
            outcomes["loaded"] += 1
            found = json.loads((folder / MANIFEST).read_bytes())
            with adapted:
                told = [*("method", "task", "head", "parts"), "files"]  # what was signed anew is another adapter
                if all(found[field] == original[field] for field in told):
                    assert torch.equal(logits(adapted, ROWS[:3]), expected), done
        shutil.rmtree(folder)
    assert outcomes["refused"] > 90
    assert outcomes["loaded"] > 0
