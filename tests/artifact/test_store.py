"""Artifacts in folders and at URLs: the same versions and checks as on a hub, whatever happens meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.cli.app import app
from adapterkit.errors import ArtifactError, HubError, OutputError
from adapterkit.manifest import MAX_BYTES, Store, fetch_stored, open_manifest, parse_store_name, read_folder
from adapterkit.recipe import LoraMethod
from tests.artifact.conftest import make, write

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def other(tmp_path: Path, tiny_backbones: Any) -> Path:
    with make(tiny_backbones["bert"], LoraMethod(rank=3)) as adapted:
        return write(tmp_path / "other", adapted)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name in MAX_BYTES}


def files_at(place: str) -> list[str]:
    system, path = fsspec.url_to_fs(place)
    return sorted(str(found)[len(path) :].lstrip("/") for found in system.find(path))


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_is_pushed_is_pulled_bit_for_bit_and_nothing_else_is(place: str, saved: Path, tmp_path: Path) -> None:
    (saved / "training").mkdir()
    (saved / "training" / "journal.jsonl").write_text("mine")
    digest = open_manifest(saved).sha256
    published = ak.push(saved, place, tag="v1")
    assert (published.name, published.commit, published.tag) == (f"{place}@v1", digest, "v1")
    assert files_at(place) == sorted([*(f"{digest}/{name}" for name in MAX_BYTES), ".names/main", ".names/v1"])
    for name in (place, f"{place}@v1", f"{place}@main", f"{place}@{digest}"):
        assert bytes_of(ak.pull(name)) == bytes_of(saved)
    assert ak.pull(place, tmp_path / "mine") == tmp_path / "mine"
    assert bytes_of(tmp_path / "mine") == bytes_of(saved)


def test_another_version_replaces_main_and_leaves_the_tag(place: str, saved: Path, other: Path) -> None:
    ak.push(saved, place, tag="v1")
    second = ak.push(other, place)
    assert second.name == f"{place}@{open_manifest(other).sha256}"
    assert bytes_of(ak.pull(place)) == bytes_of(other)
    assert bytes_of(ak.pull(f"{place}@v1")) == bytes_of(saved)


def test_a_tag_never_moves(place: str, saved: Path, other: Path) -> None:
    ak.push(saved, place, tag="v1")
    before = files_at(place)
    with pytest.raises(HubError, match="a tag never moves"):
        ak.push(other, place, tag="v1")
    assert files_at(place) == before
    assert bytes_of(ak.pull(place)) == bytes_of(saved)


def test_of_two_pushers_of_one_tag_one_wins_and_the_other_is_told(place: str, saved: Path, other: Path) -> None:
    told: dict[str, BaseException | None] = {}
    together = threading.Barrier(2)

    def go(folder: Path) -> None:
        store, digest = Store(place, Path()), open_manifest(folder).sha256
        together.wait()
        try:
            store.call("v1", digest)
            told[digest] = None
        except HubError as error:
            told[digest] = error

    threads = [threading.Thread(target=go, args=(folder,)) for folder in (saved, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [digest for digest, error in told.items() if error is None]
    assert [Store(place, Path()).find("v1")[0]] == winners
    assert sum("a tag never moves" in str(error) for error in told.values()) == 1


def test_main_is_one_of_the_two_that_were_pushed_at_once(place: str, saved: Path, other: Path) -> None:
    threads = [threading.Thread(target=ak.push, args=(folder, place)) for folder in (saved, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bytes_of(ak.pull(place)) in (bytes_of(saved), bytes_of(other))
    for folder in (saved, other):
        assert bytes_of(ak.pull(f"{place}@{open_manifest(folder).sha256}")) == bytes_of(folder)


def test_a_version_that_was_pushed_by_half_is_not_there(place: str, saved: Path, other: Path) -> None:
    ak.push(saved, place, tag="v1")
    digest = open_manifest(other).sha256
    system, path = fsspec.url_to_fs(f"{place}/{digest}")
    system.makedirs(path, exist_ok=True)
    system.pipe_file(f"{path}/adapter_config.json", (other / "adapter_config.json").read_bytes())
    assert bytes_of(ak.pull(place)) == bytes_of(saved)
    with pytest.raises(ArtifactError, match="missing"):
        ak.pull(f"{place}@{digest}")
    ak.push(other, place, tag="v2")
    assert bytes_of(ak.pull(f"{place}@v2")) == bytes_of(other)


def test_bytes_that_changed_are_refused_and_nothing_of_them_stays(
    place: str, saved: Path, tmp_path: Path, own_cache: Path
) -> None:
    digest = ak.push(saved, place).commit
    system, path = fsspec.url_to_fs(f"{place}/{digest}/adapter_model.safetensors")
    raw = system.cat_file(path)
    system.pipe_file(path, raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="its SHA-256 is not the one"):
        ak.pull(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list((own_cache / "artifacts").rglob("adapter*"))
    ak.push(saved, place)  # the same content again repairs it
    assert bytes_of(ak.pull(place)) == bytes_of(saved)


def test_a_file_larger_than_its_manifest_says_is_not_read(place: str, saved: Path) -> None:
    digest = ak.push(saved, place).commit
    system, path = fsspec.url_to_fs(f"{place}/{digest}/adapter_config.json")
    system.pipe_file(path, system.cat_file(path) + b" " * 1000)
    with pytest.raises(ArtifactError, match=r"bytes, expected"):
        ak.pull(place)


def test_another_artifact_under_a_digest_is_refused(place: str, saved: Path, other: Path) -> None:
    ak.push(saved, place)
    Store(place, Path()).put("0" * 64, read_folder(other))
    with pytest.raises(ArtifactError, match="is another artifact"):
        ak.pull(f"{place}@{'0' * 64}")


def test_a_name_that_stands_for_no_digest_is_refused(place: str, saved: Path) -> None:
    ak.push(saved, place)
    system, path = fsspec.url_to_fs(f"{place}/.names/main")
    for content in (b"../../etc/passwd", b"", b"x" * 5000, b"\xff\xfe"):
        system.pipe_file(path, content)
        with pytest.raises(ArtifactError, match=r"expected a digest|expected at most"):
            ak.pull(place)


def test_a_revision_is_never_a_path(place: str, saved: Path) -> None:
    ak.push(saved, place, tag="v1")
    for revision in ("../v1", "v1/../../x", "v 1", "..", ""):
        with pytest.raises(ArtifactError):
            ak.pull(f"{place}@{revision}")


def test_what_is_not_there_is_named_with_what_is(place: str, saved: Path) -> None:
    ak.push(saved, place, tag="v1")
    with pytest.raises(HubError, match=r"there is no artifact .*@v9") as refused:
        ak.pull(f"{place}@v9")
    assert refused.value.problems == ("names there: main, v1",)
    with pytest.raises(ArtifactError):
        ak.pull(f"{place}-elsewhere")


def test_a_folder_of_an_artifact_is_a_store_of_one(place: str, saved: Path) -> None:
    system, path = fsspec.url_to_fs(place)
    system.makedirs(path, exist_ok=True)
    for name, raw in bytes_of(saved).items():
        system.pipe_file(f"{path}/{name}", raw)
    assert bytes_of(ak.pull(place)) == bytes_of(saved)
    assert open_artifact(place).manifest == open_manifest(saved)


def test_every_way_in_takes_a_store(bucket: str, saved: Path, tmp_path: Path) -> None:
    name, here = ak.push(saved, bucket, tag="v1").name, ak.push(saved, str(tmp_path / "shared"), tag="v1").name
    with ak.Host(ak.Backbone.load(open_manifest(saved).backbone.name)) as host:
        host.mount("intent", name)
        host.swap("intent", bucket)
        assert ak.verify(name, host.backbone).ok
        assert (
            ak.load(here, host.backbone).predict(["ada"])[0]["label"] == host.predict([("intent", "ada")])[0]["label"]
        )
    (tmp_path / "rows.jsonl").write_text('{"text": "ada lives in london", "label": "no"}\n')
    (tmp_path / "mixed.jsonl").write_text('{"task": "intent", "text": "ada lives in london"}\n')
    for words in (
        ("inspect", name, "--json"),
        ("inspect", here, "--json"),
        ("evaluate", name, "--data", tmp_path / "rows.jsonl", "--json"),
        ("predict", here, tmp_path / "rows.jsonl", "--json"),
        ("predict", "--mount", f"intent={name}", tmp_path / "mixed.jsonl", "--json"),
        ("pull", name, tmp_path / "out", "--json"),
    ):
        done = run(*words)
        assert done.exit_code == 0, (words, done.output)


def test_a_copy_from_before_is_given_where_nobody_answers(
    saved: Path, other: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = "memory://here/intent"
    ak.push(saved, place)
    assert bytes_of(ak.pull(place)) == bytes_of(saved)
    ak.push(other, place)

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError("nobody there")

    with monkeypatch.context() as cut:
        cut.setattr(MemoryFileSystem, "open", unreachable)
        assert bytes_of(ak.pull(place)) == bytes_of(saved)
        assert "is the copy that was fetched before" in caplog.text
        with pytest.raises(HubError, match="cannot be reached"):
            ak.pull("memory://elsewhere/intent")
    assert bytes_of(ak.pull(place, offline=True)) == bytes_of(saved)
    with pytest.raises(HubError, match="is not here"):
        ak.pull("memory://elsewhere/intent", offline=True)
    assert bytes_of(ak.pull(place)) == bytes_of(other)
    MemoryFileSystem.store.clear()


def test_a_refusal_is_no_outage(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = "memory://here/intent"
    ak.push(saved, place)
    ak.pull(place)

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(MemoryFileSystem, "open", forbidden)
    with pytest.raises(HubError, match="cannot be used") as refused:
        ak.pull(place)
    assert "Access Denied" in refused.value.problems[0]
    assert "credentials" in refused.value.remedy
    MemoryFileSystem.store.clear()


def test_missing_credentials_are_named(bucket: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(HubError, match="cannot be used") as refused:
        ak.push(saved, bucket)
    assert "credentials" in refused.value.problems[0].lower()


def test_a_bucket_that_is_not_there_is_named(bucket: str, saved: Path) -> None:
    nowhere = bucket.replace("team-", "nowhere-")
    for act in (lambda: ak.push(saved, nowhere), lambda: ak.pull(nowhere)):
        with pytest.raises(HubError):
            act()


def test_a_system_that_is_not_installed_is_named(saved: Path) -> None:
    with pytest.raises(HubError, match="no place that artifacts can be kept in"):
        ak.push(saved, "nosuch://place/x")


def test_a_copy_that_was_damaged_here_is_fetched_again(saved: Path) -> None:
    place = "memory://here/intent"
    ak.push(saved, place)
    copy = ak.pull(place)
    (copy / "adapter_config.json").write_bytes(b"{}")
    assert bytes_of(ak.pull(place)) == bytes_of(saved)
    MemoryFileSystem.store.clear()


def test_an_artifact_that_changes_while_it_is_pulled_is_refused_or_whole(
    saved: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a URL of one artifact, which somebody writes over by hand after its manifest was read."""
    system, _ = fsspec.url_to_fs("memory://")
    for name, raw in bytes_of(saved).items():
        system.pipe_file(f"/hand/{name}", raw)
    opened = MemoryFileSystem.open

    def changing(self: Any, path: str, *rest: Any, **how: Any) -> Any:
        if path.endswith("adapter_config.json"):
            for name, raw in bytes_of(other).items():
                system.store[f"/hand/{name}"].seek(0)
                system.store[f"/hand/{name}"].truncate()
                system.store[f"/hand/{name}"].write(raw)
        return opened(self, path, *rest, **how)

    monkeypatch.setattr(MemoryFileSystem, "open", changing)
    with pytest.raises(ArtifactError, match=r"SHA-256|expected at most"):
        ak.pull("memory://hand")
    assert bytes_of(ak.pull("memory://hand")) == bytes_of(other)
    MemoryFileSystem.store.clear()


def test_links_of_a_store_are_not_followed(saved: Path, tmp_path: Path) -> None:
    place = tmp_path / "shared"
    ak.push(saved, str(place))
    (tmp_path / "secret").write_text("0" * 64)
    (place / ".names" / "main").unlink()
    (place / ".names" / "main").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="a link, expected a plain file"):
        ak.pull(str(place))


def test_a_folder_with_other_things_in_it_becomes_no_store(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds chapter\.txt"):
        ak.push(saved, str(tmp_path / "thesis"))
    with pytest.raises(OutputError, match="is no folder"):
        ak.push(saved, str(tmp_path / "thesis" / "chapter.txt"))
    assert os.listdir(tmp_path / "thesis") == ["chapter.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        ak.push(saved, str(tmp_path / "closed" / "intent"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"tag": "main"}, "main is what was pushed last"),
        ({"tag": "v 1"}, "expected what git takes"),
        ({"private": True, "message": "hi"}, "private: belongs to a hub"),
    ],
)
def test_what_belongs_to_a_hub_is_refused(saved: Path, tmp_path: Path, words: dict[str, Any], said: str) -> None:
    with pytest.raises(HubError, match=said):
        ak.push(saved, str(tmp_path / "shared"), **words)
    with pytest.raises(HubError, match="a version's name is its tag"):
        ak.push(saved, str(tmp_path / "shared@v1"))
    assert not (tmp_path / "shared").exists()


def test_a_folder_that_is_not_there_is_said_before_any_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for missing in ("missing", "runs/missing", "./missing", str(tmp_path / "missing")):
        done = run("predict", "--mount", f"x={missing}")
        assert done.exit_code == 1
        assert "No such file or directory, expected a folder" in " ".join(done.output.split())
    told = " ".join(run("predict", "--mount", "x=me/missing").output.split())
    assert told.startswith("HubError: there is no folder me/missing here")


def test_a_registry_and_a_push_keep_artifacts_alike(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    with ak.Registry(f"sqlite:///{tmp_path}/r.db", store=tmp_path / "kept", actor="ada") as registry:
        version = registry.add("intent", saved)
    assert bytes_of(ak.pull(f"file://{version.location}")) == bytes_of(saved)
    ak.push(saved, str(tmp_path / "kept"), tag="v1")
    assert bytes_of(ak.pull(f"{tmp_path}/kept@v1")) == bytes_of(saved)
    assert fetch_stored(parse_store_name(f"{tmp_path}/kept@v1"), tmp_path) == tmp_path / "kept" / version.digest  # type: ignore[arg-type]
