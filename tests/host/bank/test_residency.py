"""More adapters than slots: they leave, come back, and answer the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.errors import ArtifactError
from tests.host.artifacts import Recipe
from tests.host.conftest import FolderOf

RECIPES = [
    Recipe("text-classification", "lora"),
    Recipe("text-classification", "houlsby", "linear-mean"),
    Recipe("token-classification", "lora-all-linear"),
    Recipe("text-classification", "none"),
]
ROWS = [(str(number), {"text": "my card was lost"}) for number in range(4)]


@pytest.fixture
def folders(folder_of: FolderOf, tmp_path: Path) -> list[Path]:
    """Four artifacts that a test may damage."""
    return [Path(shutil.copytree(folder_of("bert", r), tmp_path / str(n))) for n, r in enumerate(RECIPES)]


@pytest.fixture
def small(tiny_backbones: Mapping[str, Any], folders: list[Path], tmp_path: Path) -> Iterator[ak.Host]:
    """A host of two slots with four adapters."""
    (tmp_path / "waiting").mkdir()
    with ak.Host(tiny_backbones["bert"], slots=2, folder=tmp_path / "waiting") as host:
        for number, folder in enumerate(folders):
            host.mount(str(number), folder)
        yield host


def resident(host: ak.Host) -> list[str]:
    return [state.name for state in host.status() if state.resident]


def waiting(tmp_path: Path) -> list[Path]:
    return sorted(path for path in (tmp_path / "waiting").rglob("*") if path.is_file())


def test_the_least_recently_used_make_room(small: ak.Host) -> None:
    assert resident(small) == ["2", "3"]
    small.predict([ROWS[2]])
    small.predict([ROWS[0]])

    assert resident(small) == ["0", "2"]
    assert sorted(state.slot for state in small.status() if state.slot is not None) == [0, 1]


def test_those_that_come_back_answer_with_the_same_bits(
    small: ak.Host, tiny_backbones: Mapping[str, Any], folders: list[Path]
) -> None:
    with ak.Host(tiny_backbones["bert"]) as roomy:
        for number, folder in enumerate(folders):
            roomy.mount(str(number), folder)
        for order in (ROWS, ROWS[::-1], ROWS[1:] + ROWS[:1], ROWS):
            assert small.predict(order) == roomy.predict(order)
            assert len(resident(small)) == 2
        # One row per batch: the next batch's adapter is fetched meanwhile.
        assert small.predict(ROWS * 3, batch_size=1) == roomy.predict(ROWS * 3, batch_size=1)


def test_an_adapter_comes_back_though_its_folder_is_gone(small: ak.Host, folders: list[Path]) -> None:
    before = small.predict(ROWS)
    for folder in folders:
        shutil.rmtree(folder)

    assert small.predict(ROWS) == before


def test_a_lost_or_damaged_file_is_replaced_from_the_artifact(small: ak.Host, tmp_path: Path) -> None:
    before = small.predict(ROWS)
    small.predict(ROWS[:2])
    first, *others = waiting(tmp_path)
    first.unlink()
    for path in others:
        content = bytearray(path.read_bytes())
        if content:
            content[len(content) // 2] ^= 1
            path.write_bytes(content)

    assert small.predict(ROWS) == before


def test_where_neither_file_nor_artifact_is_left_the_error_names_the_adapter(
    small: ak.Host, folders: list[Path], tmp_path: Path
) -> None:
    small.predict(ROWS[2:])
    for path in waiting(tmp_path):
        path.unlink()
    shutil.rmtree(folders[0])

    with pytest.raises(ArtifactError, match="'0' is mounted and cannot be read again") as caught:
        small.predict([ROWS[0]])
    assert "host.swap('0'" in str(caught.value)
    assert small.predict([ROWS[1], ROWS[2]])


def test_another_version_in_the_folder_is_not_taken_for_the_mounted_one(
    small: ak.Host, folders: list[Path], folder_of: FolderOf, tmp_path: Path
) -> None:
    small.predict(ROWS[2:])
    for path in waiting(tmp_path):
        path.unlink()
    shutil.rmtree(folders[0])
    shutil.copytree(folder_of("bert", Recipe("text-classification", "lora", seed=9)), folders[0])

    with pytest.raises(ArtifactError, match="cannot be read again"):
        small.predict([ROWS[0]])


def test_a_disk_that_takes_nothing_is_reported_and_the_adapter_stays(
    tiny_backbones: Mapping[str, Any], folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with ak.Host(tiny_backbones["bert"], slots=1) as host:
        host.mount("0", folders[0])
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            with pytest.raises(ArtifactError, match="No space left"):
                host.mount("1", folders[1])
        assert host.predict([ROWS[0]])
        host.mount("1", folders[1])
        assert host.predict(ROWS[:2])


def test_what_was_unmounted_leaves_no_file_behind(small: ak.Host, tmp_path: Path) -> None:
    small.predict(ROWS)
    assert len(waiting(tmp_path)) == 4

    for number in range(4):
        small.unmount(str(number))

    assert waiting(tmp_path) == []


def test_a_call_that_began_before_an_unmount_finishes(small: ak.Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small.predict(ROWS, batch_size=1)
    take, calls = small._bank.take, []

    def unmounting(*arguments: Any) -> Any:
        if not calls:
            for number in range(4):
                small.unmount(str(number))
        calls.append(1)
        return take(*arguments)

    monkeypatch.setattr(small._bank, "take", unmounting)

    assert small.predict(ROWS, batch_size=1) == before
    assert len(calls) == 4
    assert len(small) == 0


def test_a_host_has_a_slot(tiny_backbones: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        ak.Host(tiny_backbones["bert"], slots=0)


def test_a_mounted_adapter_takes_the_bytes_of_its_own_numbers(
    tiny_backbones: Mapping[str, Any], folder_of: FolderOf
) -> None:
    with ak.Host(tiny_backbones["bert"]) as host:
        for number, recipe in enumerate(RECIPES):
            host.mount(str(number), folder_of("bert", recipe))
            held = host._mounted[str(number)].seat.loaded
            saved = open_artifact(folder_of("bert", recipe)).state.values()

            assert held is not None
            own = sum(tensor.untyped_storage().nbytes() for tensor in held.tensors())
            assert own <= 1.05 * sum(tensor.numel() * 4 for tensor in saved)
