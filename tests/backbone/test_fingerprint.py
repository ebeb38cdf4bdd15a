"""The fingerprint: what changes it, and what must not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from adapterkit.backbone import Backbone, file_digests, fingerprint, fingerprints
from adapterkit.backbone.fingerprint import BLOCK_BYTES, BLOCKS, WHOLE_BYTES, weights_digest
from adapterkit.errors import BackboneError

TOKENIZER = "0" * 64


@pytest.fixture
def checkpoint(tiny_folders: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folders["bert"], tmp_path / "bert"))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any weights count as large."""
    monkeypatch.setattr(fingerprint, "SAMPLED_FROM_BYTES", 0)


def digest(folder: Path) -> str:
    return fingerprints(folder, TOKENIZER)["whole"]


def shard(folder: Path, parts: int) -> None:
    """Spread the weights over files whose names and order say nothing."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors, reverse=True)
    weight_map: dict[str, str] = {}
    for number in range(parts):
        mine = names[number::parts]
        save_file({name: tensors[name] for name in mine}, folder / f"part-{number}.safetensors")
        weight_map |= dict.fromkeys(mine, f"part-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"x": 1}, "weight_map": weight_map}))


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


SAME: dict[str, Callable[[Path], object]] = {
    "three shards": lambda folder: shard(folder, 3),
    "one shard": lambda folder: shard(folder, 1),
    "other metadata": lambda folder: save_file(
        load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"a": "b"}
    ),
    "other transformers": lambda folder: edit_config(folder, transformers_version="9.9", _name_or_path="elsewhere"),
    "other dtype to load in": lambda folder: edit_config(folder, dtype="bfloat16", torch_dtype="float16"),
    "config keys in another order": lambda folder: (folder / "config.json").write_text(
        json.dumps(dict(reversed(json.loads((folder / "config.json").read_text()).items())), indent=7)
    ),
    "a card": lambda folder: (folder / "README.md").write_text("hello"),
    "PyTorch's weights beside": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"),
}
OTHER: dict[str, Callable[[Path], object]] = {
    "one weight": lambda folder: edit_weights(folder, lambda t: t["bert.pooler.dense.bias"].data[0].add_(1e-6)),
    "another name": lambda folder: edit_weights(folder, lambda t: t.update(x=t.pop("bert.pooler.dense.bias"))),
    "one tensor less": lambda folder: edit_weights(folder, lambda t: t.pop("bert.pooler.dense.bias")),
    "another shape": lambda folder: edit_weights(
        folder, lambda t: t.update({"bert.pooler.dense.bias": t["bert.pooler.dense.bias"].view(2, 16)})
    ),
    "another stored dtype": lambda folder: edit_weights(
        folder, lambda t: t.update({"bert.pooler.dense.bias": t["bert.pooler.dense.bias"].half()})
    ),
    "two tensors swapped": lambda folder: edit_weights(
        folder,
        lambda t: t.update(
            {
                "bert.pooler.dense.bias": t["bert.encoder.layer.0.output.dense.bias"],
                "bert.encoder.layer.0.output.dense.bias": t["bert.pooler.dense.bias"],
            }
        ),
    ),
    "another epsilon": lambda folder: edit_config(folder, layer_norm_eps=1e-5),
}


@pytest.mark.parametrize("change", SAME)
def test_how_a_checkpoint_is_written_does_not_count(checkpoint: Path, large: None, change: str) -> None:
    before = fingerprints(checkpoint, TOKENIZER)
    SAME[change](checkpoint)
    assert fingerprints(checkpoint, TOKENIZER) == before
    assert before.keys() == {"whole", "samples"}


@pytest.mark.parametrize("change", OTHER)
def test_what_a_checkpoint_computes_with_counts(checkpoint: Path, large: None, change: str) -> None:
    before = fingerprints(checkpoint, TOKENIZER)
    OTHER[change](checkpoint)
    after = fingerprints(checkpoint, TOKENIZER)
    assert [coverage for coverage in before if before[coverage] == after[coverage]] == []


def test_another_tokenizer_is_another_fingerprint(checkpoint: Path) -> None:
    assert fingerprints(checkpoint, "1" * 64)["whole"] != digest(checkpoint)


def test_weights_are_read_whole_unless_they_are_large_and_samples_are_asked_for(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (checkpoint / "model.safetensors").stat().st_size
    monkeypatch.setattr(fingerprint, "SAMPLED_FROM_BYTES", size + 1)
    assert fingerprints(checkpoint, TOKENIZER, "samples").keys() == {"whole"}
    monkeypatch.setattr(fingerprint, "SAMPLED_FROM_BYTES", size)
    assert fingerprints(checkpoint, TOKENIZER, "samples").keys() == {"samples"}
    assert fingerprints(checkpoint, TOKENIZER).keys() == {"whole", "samples"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_it_is_loaded_in_does_not_count(tiny_folders: Any, tiny_backbones: Any, dtype: str) -> None:
    loaded = Backbone.load(tiny_folders["t5"], dtype=dtype, device="cpu")
    assert loaded.fingerprint == tiny_backbones["t5"].fingerprint
    assert (loaded.coverage, loaded.fingerprint_read_again()) == ("whole", loaded.fingerprint)


def test_all_tiny_families_differ(tiny_backbones: Any) -> None:
    found = {family: tiny_backbones[family].fingerprint for family in [*tiny_backbones, "bert-plain"]}
    assert len(set(found.values())) == len(found)
    assert all(len(value) == 64 for value in found.values())


def test_every_single_weight_of_a_large_tensor_counts(tmp_path: Path) -> None:
    content = torch.ones(WHOLE_BYTES, dtype=torch.int16)
    file = tmp_path / "model.safetensors"
    save_file({"w": content}, file)
    found = {weights_digest((file,))}
    for place in torch.randint(len(content), (20,), generator=torch.Generator().manual_seed(0)).tolist():
        content[place] += 1
        save_file({"w": content}, file)
        found.add(weights_digest((file,)))
    content[len(content) // 100 :] = 0
    save_file({"w": content}, file)
    assert len(found | {weights_digest((file,))}) == 22


def test_a_tensor_is_hashed_in_pieces_with_its_name_format_shape_and_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "PIECE_BYTES", 8)
    file = tmp_path / "model.safetensors"
    save_file({"w": torch.arange(20, dtype=torch.uint8), "v": torch.zeros(0)}, file)
    pieces = b"".join(hashlib.sha256(bytes(range(start, min(20, start + 8)))).digest() for start in (0, 8, 16))
    lines = ("v F32 [0] 0", "w U8 [20] 20")
    told = [len(line).to_bytes(8, "little") + line.encode() for line in lines]
    expected = told[0] + hashlib.sha256(b"").digest() + told[1] + hashlib.sha256(pieces).digest()
    assert weights_digest((file,)) == hashlib.sha256(expected).hexdigest()


def test_a_large_tensor_is_sampled_where_that_is_asked_for(tmp_path: Path) -> None:
    size = 4 * WHOLE_BYTES
    content = torch.zeros(size, dtype=torch.uint8)
    file = tmp_path / "model.safetensors"

    def both() -> tuple[str, str]:
        save_file({"w": content}, file)
        return weights_digest((file,), "samples"), weights_digest((file,))

    untouched = both()
    content[0] = 1
    first = both()
    content[0], content[-1] = 0, 1
    last = both()
    # The second of the blocks starts at (size - block) // (blocks - 1) and ends a block later.
    content[-1], content[(size - BLOCK_BYTES) // (BLOCKS - 1) + BLOCK_BYTES] = 0, 1
    between = both()
    assert len({untouched[0], first[0], last[0]}) == 3
    assert between[0] == untouched[0]
    assert len({untouched[1], first[1], last[1], between[1]}) == 4


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.dictionaries(
        st.text("abc.", min_size=1, max_size=6), st.lists(st.integers(0, 4), max_size=3), max_size=6
    ),
    seed=st.integers(0, 9),
)
def test_any_order_of_any_tensors_gives_one_digest(
    tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, list[int]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, folder / "a.safetensors")
    whole = weights_digest((folder / "a.safetensors",))
    names = sorted(tensors)
    half = len(names) // 2
    save_file({name: tensors[name] for name in names[half:]}, folder / "x.safetensors", metadata={"m": "1"})
    save_file({name: tensors[name] for name in names[:half]}, folder / "y.safetensors")
    assert weights_digest((folder / "x.safetensors", folder / "y.safetensors")) == whole


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60), length=st.one_of(st.none(), st.integers(0, 80)))
def test_any_bytes_are_hashed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, length: int | None
) -> None:
    file = tmp_path_factory.mktemp("bytes") / "model.safetensors"
    file.write_bytes(data if length is None else length.to_bytes(8, "little") + data)
    with contextlib.suppress(BackboneError):
        assert len(weights_digest((file,))) == 64


@pytest.mark.parametrize(
    "header",
    [
        '{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}',
        '{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        '{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        '{"w": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}',
        '{"w": {"dtype": "F32"}}',
        '{"w": 1}',
        "[]",
        "[" * 5000,
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: str) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(BackboneError, match="damaged"):
        weights_digest((file,))


def test_pytorchs_own_files_are_hashed_whole_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"one")
    (tmp_path / "b.bin").write_bytes(b"two")
    (tmp_path / "c.bin").write_bytes(b"one")
    one = weights_digest((tmp_path / "a.bin", tmp_path / "b.bin"))
    assert weights_digest((tmp_path / "b.bin", tmp_path / "c.bin")) == one
    assert weights_digest((tmp_path / "a.bin",)) != one


def test_no_weights_is_an_error(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="no weights"):
        digest(checkpoint)


def test_the_digest_is_kept_and_taken_from_the_cache(checkpoint: Path, cache: Path) -> None:
    first = digest(checkpoint)
    (entry,) = (cache / "fingerprints").iterdir()
    entry.write_text("f" * 64)
    assert digest(checkpoint) != first  # so the entry is what was used
    entry.unlink()
    assert digest(checkpoint) == first


def test_a_file_that_was_only_just_written_is_not_remembered(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
    digest(checkpoint)
    assert list((tmp_path / "cache" / "fingerprints").iterdir()) == []


def test_what_is_remembered_goes_with_the_file_and_not_with_its_name(checkpoint: Path, cache: Path) -> None:
    first = digest(checkpoint)
    (entry,) = (cache / "fingerprints").iterdir()
    checkpoint.rename(checkpoint.with_name("moved"))
    entry.write_text("f" * 64)
    assert digest(checkpoint.with_name("moved")) != first


def test_reading_again_asks_the_files_and_not_what_is_remembered(checkpoint: Path, cache: Path) -> None:
    backbone = Backbone.load(checkpoint, dtype="float32", device="cpu")
    (entry,) = (cache / "fingerprints").iterdir()
    entry.write_text("f" * 64)
    assert Backbone.load(checkpoint, dtype="float32", device="cpu").fingerprint != backbone.fingerprint
    assert backbone.fingerprint_read_again() == backbone.fingerprint


@pytest.mark.parametrize("content", [b"", b"nonsense", b"F" * 64, b"\xff" * 64, b"a" * 63, b"a" * 65])
def test_a_damaged_cache_entry_is_not_believed(checkpoint: Path, cache: Path, content: bytes) -> None:
    first = digest(checkpoint)
    (entry,) = (cache / "fingerprints").iterdir()
    entry.write_bytes(content)
    assert digest(checkpoint) == first
    assert len(entry.read_text()) == 64


def test_a_file_changed_in_place_is_read_again_even_with_its_time_set_back(checkpoint: Path, cache: Path) -> None:
    file = checkpoint / "model.safetensors"
    before, times = digest(checkpoint), file.stat()
    with file.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(checkpoint) != before


@pytest.mark.parametrize("obstacle", ["a file in its place", "a folder without rights", "a path that cannot be"])
def test_a_cache_that_cannot_be_written_changes_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    before = digest(checkpoint)
    place = tmp_path / "place"
    if obstacle == "a file in its place":
        place.write_text("")
    elif obstacle == "a folder without rights":
        place.mkdir()
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
    else:
        place = tmp_path / ("x" * 300)
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(place))
    assert digest(checkpoint) == before


def test_nothing_half_written_stays_when_the_disk_is_full(
    checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert len(digest(checkpoint)) == 64
    assert list((cache / "fingerprints").iterdir()) == []


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, for files that count as settled as soon as they are written."""
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_digests, "SETTLED_NS", -(10**18))
    return tmp_path / "cache"
