"""Where things are kept, and that nobody else can reach them there."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapterkit.own_folder import cache_folder, open_private, private_folder, secret

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root gives files away")
STRANGER = 12_345


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == Path(os.environ["ADAPTERKIT_CACHE"])
    monkeypatch.delenv("ADAPTERKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "adapterkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for system, expected in (("linux", ".cache/adapterkit"), ("darwin", "Library/Caches/adapterkit")):
        monkeypatch.setattr("sys.platform", system)
        assert cache_folder() == tmp_path / expected
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "adapterkit" / "cache"


def test_a_private_folder_is_closed_to_everybody_else(tmp_path: Path) -> None:
    made = private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o755)
    assert stat.S_IMODE(private_folder(made).stat().st_mode) == 0o700


def test_a_folder_that_others_could_move_away_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PermissionError, match="others can write to it"):
        private_folder(tmp_path / "open" / "mine")
    (tmp_path / "open").chmod(0o1777)  # as /tmp: others can write, and move nothing that is not theirs
    assert private_folder(tmp_path / "open" / "mine").is_dir()


@as_root
def test_a_strangers_folder_is_refused_wherever_a_link_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    for place in (tmp_path / "theirs", tmp_path / "link", tmp_path / "theirs" / "below"):
        with pytest.raises(PermissionError, match=f"belongs to user {STRANGER}"):
            private_folder(place)


def test_only_plain_files_are_opened_and_nothing_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with open(open_private(tmp_path / "file"), "rb") as stream:
        assert stream.read() == b"abc"
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(OSError):  # noqa: PT011 - whatever the system says of it
            open_private(tmp_path / name)


@as_root
def test_a_strangers_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    os.chown(tmp_path / "file", STRANGER, STRANGER)
    with pytest.raises(PermissionError, match=f"user {STRANGER}"):
        open_private(tmp_path / "file")


def test_a_secret_is_made_once_and_is_the_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path))
    found = secret("a")
    assert len(found) == 32
    assert secret("a") == found
    assert secret("b") != found
    assert sorted(os.listdir(tmp_path / "keys")) == ["a", "b"]
    assert stat.S_IMODE((tmp_path / "keys" / "a").stat().st_mode) == 0o600
    (tmp_path / "keys" / "a").write_bytes(b"short")
    with pytest.raises(OSError, match="5 bytes"):
        secret("a")


def test_of_processes_that_make_a_secret_at_once_all_have_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path))
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: secret("a"), range(32)))) == 1
