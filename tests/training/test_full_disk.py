"""A disk that takes no more, wherever it happens: one error that names the path, and nothing saved is lost."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.errors import ArtifactError, OutputError
from tests.training.worlds import bytes_of, recipe, rows_of, train, write_rows

# Python 3.12 warns of forks beside threads; a child here waits for no lock.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

NOT_PERMITTED = 77
"""The exit status of a child that may not mount a file system of its own."""


def in_a_child(work: Callable[[], None]) -> None:
    """Do this in a process whose limits and file systems are its own. What it asserts counts here."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except SystemExit as asked:
            status = int(str(asked.code))
        except BaseException:  # noqa: BLE001 - a child may not go on into its parent's tests
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == NOT_PERMITTED:
        pytest.skip("no file system may be mounted here")
    assert status == 0


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def mount(folder: Path, options: str, flags: int = 0) -> None:
    """Mount, or change, a file system in memory that only this process sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, remount = 0x20000, 32
    if not flags & remount and libc.unshare(new_namespace | (0x10000000 if os.geteuid() else 0)):
        raise SystemExit(NOT_PERMITTED)
    private_recursive = 0x40000 | 0x4000
    if not flags & remount:
        libc.mount(None, b"/", None, private_recursive, None)
    if libc.mount(b"none", os.fsencode(folder), b"tmpfs", flags, options.encode()):
        raise SystemExit(NOT_PERMITTED)


@pytest.fixture
def plan(tiny_backbones: Any, tmp_path: Path) -> dict[str, Any]:
    """Four steps with a validation and a checkpoint after each second one."""
    rows = rows_of("text-classification", 24)
    data = {
        "train": write_rows(tmp_path / "train.jsonl", rows[:16]),
        "validation": write_rows(tmp_path / "validation.jsonl", rows[16:]),
        "test": None,
    }
    training = {"epochs": 1, "batch_size": 4, "evaluate_every": 2, "checkpoint_every": 2, "golden_rows": 2}
    return recipe(tmp_path, tiny_backbones["bert"], data=data, training={**training, "cache": "off"})


def test_a_run_that_meets_a_full_disk_anywhere_says_where_and_goes_on_once_there_is_room(
    tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    whole = bytes_of(train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"]).artifact)
    largest = max(len(content) for content in whole.values())
    stopped = []

    def work() -> None:
        for limit in (0, 100, 400, 1000, largest // 4, largest - 1, 3 * largest):
            own = {**plan, "output": str(tmp_path / f"out-{limit}")}
            refusal = None
            try:
                with largest_file(limit):
                    artifact = train(own, backbone=backbone).artifact
            except OutputError as error:
                refusal = error
            if refusal is not None:
                assert os.strerror(errno.EFBIG) in refusal.problems[0], refusal
                assert own["output"] in refusal.problems[0], refusal
                stopped.append(limit)
                resumable = (Path(own["output"]) / "training" / "checkpoint").exists()
                artifact = train(own, backbone=backbone, resume=resumable, overwrite=not resumable).artifact
            assert bytes_of(artifact) == whole
        assert stopped[:4] == [0, 100, 400, 1000]
        assert 3 * largest not in stopped

    in_a_child(work)


def test_no_space_left_on_the_device_is_the_same(tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    whole = bytes_of(train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"]).artifact)
    disk = tmp_path / "disk"
    disk.mkdir()
    own = {**plan, "output": str(disk / "out")}

    def work() -> None:
        pages = 16  # of 4 kB: room for the journal and parts of a checkpoint
        mount(disk, f"size={4 * pages}k")
        with pytest.raises(OutputError, match="cannot be written") as caught:
            train(own, backbone=backbone)
        assert os.strerror(errno.ENOSPC) in caught.value.problems[0]
        assert str(disk) in caught.value.problems[0]
        mount(disk, "size=4m", flags=32)
        resumable = (disk / "out" / "training" / "checkpoint").exists()
        artifact = train(own, backbone=backbone, resume=resumable, overwrite=not resumable).artifact
        assert bytes_of(artifact) == whole

    in_a_child(work)


def test_a_folder_that_may_only_be_read_is_named_before_anything_is_loaded(
    plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterkit.training.reuse.load_backbone", lambda *_: pytest.fail("a backbone was loaded"))
    disk = tmp_path / "disk"
    disk.mkdir()

    def work() -> None:
        mount(disk, "size=4m")
        (disk / "runs").mkdir()
        read_only, remount = 1, 32
        mount(disk, "size=4m", flags=read_only | remount)
        for act in (
            lambda: train({**plan, "output": str(disk / "runs" / "out")}),
            lambda: ak.sweep({**plan, "output": str(disk / "runs" / "out")}, {"method.rank": [1, 2]}, quiet=True),
        ):
            with pytest.raises(OutputError, match="cannot be written") as caught:
                act()
            assert f"{os.strerror(errno.EROFS)}" in caught.value.problems[0]
            assert str(disk / "runs") in caught.value.problems[0]

    in_a_child(work)


def test_a_report_and_trackers_that_cannot_be_written_cost_themselves_alone(
    tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    plan["training"]["trackers"] = ["tensorboard"]
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    (tmp_path / "out" / "training").mkdir()
    (tmp_path / "out" / "training" / "trackers").write_text("a file where a folder has to be")
    result = train(plan, backbone=tiny_backbones["bert"])
    assert (result.artifact / "adapterkit.json").is_file()
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(",")[0] for line in said] == ["trackers write nothing more", "the artifact is saved"]
    assert all(str(tmp_path / "out") in line for line in said)


def test_a_sweep_that_meets_a_full_disk_goes_on_from_what_it_has(
    tiny_folders: Any, plan: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan["backbone"]["name"] = str(tiny_folders["bert"])
    folder = tmp_path / "out-sweep"

    def work() -> None:
        grid = {"method.rank": [1, 2]}
        with largest_file(2000), pytest.raises(OutputError) as caught:
            ak.sweep(plan, grid, quiet=True)
        assert str(folder) in caught.value.problems[0]
        done = ak.sweep(plan, grid, quiet=True)
        results = folder / "results.jsonl"
        size = results.stat().st_size
        results.write_bytes(results.read_bytes().splitlines(keepends=True)[0])
        with largest_file(size - 10), pytest.raises(OutputError) as caught:
            ak.sweep(plan, grid, quiet=True)
        assert str(results) in caught.value.problems[0]
        monkeypatch.setattr("adapterkit.sweeping.runner.train", lambda *_, **__: pytest.fail("trained again"))
        assert ak.sweep(plan, grid, quiet=True).points.keys() == done.points.keys()

    in_a_child(work)


def test_a_trunk_cache_that_cannot_be_written_is_left_out_and_named(
    tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan |= {"method": {"kind": "none"}, "head": {"kind": "linear"}}
    plan["training"]["cache"] = "off"
    backbone = tiny_backbones["bert"]
    whole = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"])
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "cache", Path("/proc/no/cache")):
        own = {**plan, "training": {**plan["training"], "cache": str(place)}, "output": str(tmp_path / "out")}
        result = train(own, backbone=backbone, quiet=False, overwrite=True)
        assert f"the trunk cache cannot be written, {place.parent}" in capfd.readouterr().err
        assert (
            bytes_of(result.artifact)["adapter_model.safetensors"]
            == bytes_of(whole.artifact)["adapter_model.safetensors"]
        )


def test_a_host_whose_disk_is_full_says_where_and_answers_with_what_it_has(
    tiny_backbones: Any, plan: dict[str, Any], tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    first, second = (train(plan, backbone=backbone, overrides=[f"output={tmp_path / n}"]).artifact for n in "ab")
    row = ("a", {"text": "found card"})

    def work() -> None:
        with ak.Host(backbone, slots=1, folder=tmp_path) as host:
            host.mount("a", first)
            expected = host.predict([row])
            with largest_file(100), pytest.raises(ArtifactError, match="make room") as caught:
                host.mount("b", second)
            assert str(tmp_path) in caught.value.problems[0]
            assert host.predict([row]) == expected
            host.mount("b", second)
            assert host.predict([row]) == expected
        (tmp_path / "gone").mkdir()
        with ak.Host(backbone, slots=1, folder=tmp_path / "gone") as host:
            host.mount("a", first)
            (tmp_path / "gone").rmdir()
            with pytest.raises(ArtifactError, match="make room") as caught:
                host.mount("b", second)
            assert str(tmp_path / "gone") in caught.value.problems[0]
            assert host.predict([row]) == expected

    in_a_child(work)
