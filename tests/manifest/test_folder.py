from __future__ import annotations

import os

import pytest

from adapterkit.errors import ArtifactError
from adapterkit.manifest import folder as folder_module
from adapterkit.manifest.atomic import write_folder
from adapterkit.manifest.folder import MANIFEST, MAX_BYTES, read_folder


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / "artifact"
    inner.mkdir()
    for name in MAX_BYTES:
        (inner / name).write_bytes(name.encode())
    return inner


def problems_of(folder):
    with pytest.raises(ArtifactError) as caught:
        read_folder(folder)
    return caught.value.problems


def test_the_four_files_are_read(folder):
    assert read_folder(folder).content == {name: name.encode() for name in MAX_BYTES}


def test_a_link_to_the_folder_itself_may_be_given(folder, tmp_path):
    (tmp_path / "latest").symlink_to(folder)
    assert read_folder(tmp_path / "latest").content


def test_what_hubs_and_runs_put_beside_the_files_is_not_in_the_way(folder):
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (folder / "LICENSE").write_text("Apache")
    (folder / "training").mkdir()
    (folder / ".cache").mkdir()
    assert read_folder(folder).content.keys() == MAX_BYTES.keys()


def test_every_missing_file_is_named_at_once(folder):
    for name in MAX_BYTES:
        (folder / name).unlink()
    assert problems_of(folder) == tuple(f"{name}: missing" for name in MAX_BYTES)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "adapter_model.bin", "code.py", "adapter_model.safetensors~"])
def test_a_file_that_an_artifact_does_not_have_is_named(folder, name):
    (folder / name).write_bytes(b"")
    assert problems_of(folder) == (f"{name}: not a file of an artifact; move it elsewhere",)


def test_a_folder_in_the_place_of_an_ignored_file_is_named(folder):
    (folder / "LICENSE").mkdir()
    assert problems_of(folder) == ("LICENSE: not a file of an artifact; move it elsewhere",)


@pytest.mark.parametrize("name", MAX_BYTES)
def test_a_link_is_refused_wherever_it_leads(folder, name):
    (folder / name).rename(folder / "LICENSE")
    (folder / name).symlink_to("LICENSE")
    assert problems_of(folder) == (f"{name}: a link, expected a plain file inside the folder",)


def test_a_pipe_a_folder_and_a_device_are_refused_and_nothing_waits(folder):
    kinds = {"README.md": os.mkfifo, "adapterkit.json": os.mkdir}
    for name, make in kinds.items():
        (folder / name).unlink()
        make(folder / name)
    assert set(problems_of(folder)) == {
        f"{name}: no plain file, expected a plain file inside the folder" for name in kinds
    }


def test_a_file_that_is_too_large_is_refused_before_it_is_read(folder, monkeypatch):
    with open(folder / "adapter_model.safetensors", "r+b") as file:
        file.truncate(MAX_BYTES["adapter_model.safetensors"] + 1)
    (problem,) = problems_of(folder)
    assert problem == "adapter_model.safetensors: 2,147,483,649 bytes, expected at most 2,147,483,648"


def test_a_folder_with_very_many_entries_is_not_listed_to_its_end(folder, monkeypatch):
    monkeypatch.setattr(folder_module, "MAX_ENTRIES", 5)
    for number in range(20):
        (folder / f"x{number}").touch()
    found = problems_of(folder)
    assert "more than 5 entries" in found[-1]
    assert len(found) <= 6


@pytest.mark.parametrize("path", ["nowhere", "file", "a\0b", "x" * 5000])
def test_what_is_no_folder_is_refused(tmp_path, path):
    (tmp_path / "file").touch()
    assert len(problems_of(f"{tmp_path}/{path}")) == 1


def test_an_odd_name_is_shown_escaped(folder):
    (folder / "a\n\x1b[31m").touch()
    assert problems_of(folder)[0].startswith("a\\n\\x1b[31m: not a file")


@pytest.mark.parametrize("times", [1, 2])
def test_a_reader_beside_a_writer_reads_the_folder_that_stands_there(folder, tmp_path, monkeypatch, times):
    """The old folder is removed while its first file is read. One that is replaced again meanwhile is not retried."""
    read, left = folder_module._read, [times]

    def replaced_meanwhile(handle, name, limit_bytes):
        if name == MANIFEST and left[0]:
            left[0] -= 1
            fresh = {name: f"{name} {left[0]}".encode() for name in MAX_BYTES}
            write_folder(folder, fresh, overwrite=True)
        return read(handle, name, limit_bytes)

    monkeypatch.setattr(folder_module, "_read", replaced_meanwhile)
    if times == 1:
        assert read_folder(folder).content == {name: f"{name} 0".encode() for name in MAX_BYTES}
    else:
        assert problems_of(folder) == tuple(f"{name}: missing" for name in MAX_BYTES)


def test_a_folder_that_is_replaced_by_one_that_is_no_artifact_is_refused(folder, monkeypatch):
    read = folder_module._read

    def replaced_meanwhile(handle, name, limit_bytes):
        if (folder / MANIFEST).exists():
            write_folder(folder, {"thesis.txt": b"years of work"}, overwrite=True)
        return read(handle, name, limit_bytes)

    monkeypatch.setattr(folder_module, "_read", replaced_meanwhile)
    assert problems_of(folder)[0] == "thesis.txt: not a file of an artifact; move it elsewhere"
