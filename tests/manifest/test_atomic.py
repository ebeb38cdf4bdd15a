from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapterkit.errors import OutputError
from adapterkit.manifest import atomic
from adapterkit.manifest.atomic import check_output, write_folder

OLD = {"a": b"old a", "b": b"old b"}
NEW = {"a": b"new a", "c": b"new c"}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_stand_there_and_nothing_beside_them(tmp_path):
    write_folder(tmp_path / "deep" / "out", NEW)
    assert files_in(tmp_path) == {f"deep/out/{name}": content for name, content in NEW.items()}


def test_an_empty_folder_is_not_in_the_way(tmp_path):
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", NEW)
    assert files_in(tmp_path / "out") == NEW


def test_what_stands_there_is_not_replaced_unless_asked(tmp_path):
    write_folder(tmp_path / "out", OLD)
    with pytest.raises(OutputError, match="exists") as caught:
        write_folder(tmp_path / "out", NEW)
    assert "holds a, b" in caught.value.problems[0]
    assert files_in(tmp_path) == {"out/a": b"old a", "out/b": b"old b"}
    write_folder(tmp_path / "out", NEW, overwrite=True)
    assert files_in(tmp_path) == {"out/a": b"new a", "out/c": b"new c"}


def test_entries_to_keep_are_carried_over_and_not_in_the_way(tmp_path):
    (tmp_path / "out" / "training").mkdir(parents=True)
    (tmp_path / "out" / "training" / "journal").write_bytes(b"1")
    (tmp_path / "out" / "LICENSE").write_bytes(b"2")
    write_folder(tmp_path / "out", NEW, keep=["training", "LICENSE", "absent"])
    assert files_in(tmp_path / "out") == {**NEW, "training/journal": b"1", "LICENSE": b"2"}


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(".")]
)
def test_a_file_or_a_link_in_the_way_is_refused_even_with_overwrite(tmp_path, make):
    make(tmp_path / "out")
    with pytest.raises(OutputError):
        write_folder(tmp_path / "out", NEW, overwrite=True)


def test_an_output_can_be_checked_before_the_work(tmp_path):
    check_output(tmp_path / "out")
    write_folder(tmp_path / "out", OLD)
    check_output(tmp_path / "out", overwrite=True)
    with pytest.raises(OutputError):
        check_output(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_an_output_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        write_folder(tmp_path / "out", NEW)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("before", [None, OLD], ids=["nothing", "old"])
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two-renames"])
def test_a_disk_that_fails_at_any_step_leaves_what_stood_there(tmp_path, monkeypatch, before, exchange):
    """Every call that reaches the disk fails once, at its first, second, … use; each time all is as it was."""
    out = tmp_path / "out"
    if before:
        write_folder(out, before)
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    failures = 0
    for name in ("open", "fsync", "rename", "mkdir"):
        for step in range(1, 20):
            if not fails_at(monkeypatch, name, step, lambda: write_folder(out, NEW, overwrite=True)):
                break
            failures += 1
            assert files_in(tmp_path) == {f"out/{file}": content for file, content in (before or {}).items()}
        else:
            pytest.fail(f"{name} was never called for the last time")
        assert files_in(out) == NEW
        write_folder(out, before or {}, overwrite=True)
        if not before:
            out.rmdir()
    assert failures >= 4


def fails_at(monkeypatch, name, step, act) -> bool:
    """Run `act` with the `step`-th call of `os.<name>` failing as a full disk does. Returns whether it failed."""
    real, calls = getattr(os, name), 0

    def failing(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == step:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        try:
            act()
        except OutputError as error:
            return "No space left on device" in str(error)
    return False


def test_a_write_that_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    def half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OutputError):
        write_folder(tmp_path / "out", NEW)
    assert list(tmp_path.iterdir()) == []


# The module alone: its package imports torch, which takes longer than all the rest of the test.
WRITER = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("atomic", sys.argv[3])
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
if sys.argv[2] == "two-renames":
    atomic._exchange = lambda first, second: False
out, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    content = str(number).encode() * 50_000
    atomic.write_folder(out, {"a": content, "b": content}, overwrite=True)
"""


@pytest.mark.parametrize("way", ["exchange", "two-renames"])
def test_a_writer_killed_at_any_moment_leaves_a_whole_folder(tmp_path, way):
    source = str(Path(atomic.__file__).parents[2])
    generator = random.Random(0)
    out = tmp_path / "out"
    for _ in range(4):
        command = [sys.executable, "-c", WRITER, str(out), way, atomic.__file__]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source})
        writer.stdout.readline()
        time.sleep(generator.uniform(0.01, 0.3))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        if way == "two-renames" and not out.exists():
            # Between two renames nothing stands there; the old folder waits beside it, and the next save puts it back.
            atomic._remove_leftovers(out)
        if out.exists():
            found = files_in(out)
            assert found.keys() == {"a", "b"}
            assert found["a"] == found["b"]
    write_folder(out, NEW, overwrite=True)
    assert files_in(tmp_path) == {f"out/{name}": content for name, content in NEW.items()}


def test_the_leftovers_of_a_save_that_still_runs_are_not_touched(tmp_path):
    running = tmp_path / f".out{atomic._MARK}x"
    dead = tmp_path / f".out{atomic._MARK}y"
    running.mkdir()
    dead.mkdir()
    handle = os.open(running, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    write_folder(tmp_path / "out", NEW)
    os.close(handle)
    assert running.exists()
    assert not dead.exists()
