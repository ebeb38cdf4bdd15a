"""Publishing to a hub and fetching from it, against a local server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import ArtifactError, HubError, OutputError, SignatureError
from adapterkit.manifest import MAX_BYTES, SIGNATURE
from adapterkit.signing import make_key
from tests.artifact.conftest import make, write
from tests.hub import TOKEN, commit_of, serving

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # huggingface_hub's call of httpx


@dataclass
class Hub:
    repositories: dict[str, dict[str, Path]]
    requests: list[str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories: dict[str, dict[str, Path]] = {}
    constants = huggingface_hub.constants
    with serving(repositories, store=tmp_path / "store") as (address, requests):
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address),
        )
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # else large files go to a service of their own
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
        yield Hub(repositories, requests)


@pytest.fixture
def other(tmp_path: Path, tiny_backbones: Any) -> Path:
    with make(tiny_backbones["bert"]) as adapted:
        return write(tmp_path / "other", adapted, seed=1)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name in MAX_BYTES}


def test_what_is_published_is_fetched_bit_for_bit_and_nothing_else_is(hub: Hub, saved: Path, tmp_path: Path) -> None:
    (saved / "training").mkdir()
    (saved / "training" / "journal.jsonl").write_text("mine")
    published = ak.push(saved, "me/intent", tag="v1")
    assert published.name == "me/intent@v1"
    assert sorted(entry.name for entry in hub.repositories["me/intent"]["main"].iterdir()) == sorted(MAX_BYTES)
    for place in ("me/intent", "me/intent@v1", f"me/intent@{published.commit}"):
        assert bytes_of(ak.pull(place)) == bytes_of(saved)
    assert ak.pull("me/intent", tmp_path / "mine") == tmp_path / "mine"
    assert bytes_of(tmp_path / "mine") == bytes_of(saved)
    assert [request for request in hub.requests if "/commit/" in request] == ["POST /api/models/me/intent/commit/main"]


def test_another_version_replaces_main_and_leaves_the_tag(hub: Hub, saved: Path, other: Path) -> None:
    first = ak.push(saved, "me/intent", tag="v1")
    second = ak.push(other, "me/intent")
    assert first.commit != second.commit == commit_of(hub.repositories["me/intent"]["main"])
    assert bytes_of(ak.pull("me/intent")) == bytes_of(other)
    assert bytes_of(ak.pull("me/intent@v1")) == bytes_of(saved)


def test_a_tag_never_moves(hub: Hub, saved: Path, other: Path) -> None:
    ak.push(saved, "me/intent", tag="v1")
    with pytest.raises(HubError, match="a tag never moves"):
        ak.push(other, "me/intent", tag="v1")
    assert bytes_of(hub.repositories["me/intent"]["main"]) == bytes_of(saved)


def test_a_commit_without_its_tag_is_named(hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_tag", fails)
    with pytest.raises(HubError, match="gone") as refused:
        ak.push(saved, "me/intent", tag="v1")
    assert commit_of(hub.repositories["me/intent"]["main"]) in refused.value.summary


def test_a_damaged_artifact_is_not_published(hub: Hub, saved: Path) -> None:
    (saved / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtifactError):
        ak.push(saved, "me/intent")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("repository", "tag", "what"),
    [("intent", None, "repository"), ("me/intent@v1", None, "repository"), ("me/x/y", "v 1", "tag"), ("", "-v", "tag")],
)
def test_names_that_can_be_none_are_told_at_once(
    hub: Hub, saved: Path, repository: str, tag: str | None, what: str
) -> None:
    with pytest.raises(HubError) as refused:
        ak.push(saved, repository, tag=tag)
    assert [problem.partition(":")[0] for problem in refused.value.problems][-1] == what
    assert hub.requests == []


def test_without_the_right_to_write_nothing_is_published(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_somebody")
    with pytest.raises(HubError, match="me/intent cannot be written") as refused:
        ak.push(saved, "me/intent")
    assert "401" in refused.value.problems[0]
    assert "HF_TOKEN" in refused.value.remedy
    assert hub.repositories == {}


def test_what_is_not_there_is_named(hub: Hub, saved: Path, tmp_path: Path) -> None:
    ak.push(saved, "me/intent")
    for place, reason in (("me/nothing", "RepositoryNotFound"), ("me/intent@v9", "RevisionNotFound")):
        with pytest.raises(HubError, match=reason):
            ak.pull(place, tmp_path / "out")
    for nowhere in ("intent", "me/intent@", "me/intent@..", "me/intent@./x", "../intent"):
        with pytest.raises(HubError, match="is no name on a hub"):
            ak.pull(nowhere, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_copy_here_is_fetched_again_and_a_damaged_one_there_refused(
    hub: Hub, saved: Path, tmp_path: Path
) -> None:
    ak.push(saved, "me/intent")
    copy = ak.pull("me/intent")
    (copy / "adapterkit.json").write_bytes(b"{}")
    assert bytes_of(ak.pull("me/intent")) == bytes_of(saved)
    (hub.repositories["me/intent"]["main"] / "adapter_model.safetensors").write_bytes(b"other")
    with pytest.raises(ArtifactError):
        ak.pull("me/intent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_in_the_way_is_refused_before_anything_is_fetched(hub: Hub, saved: Path, tmp_path: Path) -> None:
    ak.push(saved, "me/intent")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    before = len(hub.requests)
    with pytest.raises(OutputError):
        ak.pull("me/intent", tmp_path / "out")
    assert len(hub.requests) == before
    assert bytes_of(ak.pull("me/intent", tmp_path / "out", overwrite=True)) == bytes_of(saved)


def test_the_command_line_publishes_and_fetches(hub: Hub, saved: Path, tmp_path: Path) -> None:
    def run(*words: Any) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words])

    pushed = run("push", saved, "me/intent", "--tag", "v1")
    assert pushed.exit_code == 0, pushed.output
    assert "adapterkit pull me/intent@v1" in pushed.output
    pulled = run("pull", "me/intent@v1", tmp_path / "out")
    assert pulled.exit_code == 0, pulled.output
    assert bytes_of(tmp_path / "out") == bytes_of(saved)
    again = run("push", saved, "me/intent", "--tag", "v1")
    assert again.exit_code == 1
    assert "a tag never moves" in again.output
    assert "Traceback" not in again.output


@contextmanager
def offering(monkeypatch: pytest.MonkeyPatch, repositories: Any, **given: Any) -> Iterator[list[str]]:
    """Another hub, which behaves otherwise."""
    constants = huggingface_hub.constants
    with serving(repositories, **given) as (address, requests):
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield requests


def cached(tmp_path: Path) -> list[str]:
    return [str(file) for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_size_that_no_artifact_has_is_refused_before_anything_is_fetched(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = {"adapter_model.safetensors": 3 << 30}
    with offering(
        monkeypatch, {"a/b": {"main": saved}}, announced=lambda f: huge.get(f.name, f.stat().st_size)
    ) as asked:
        with pytest.raises(ArtifactError, match=r"announces 3221225472 bytes, expected at most 2,147,483,648"):
            ak.pull("a/b")
        assert not [request for request in asked if "/resolve/" in request]
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"announced": lambda file: 100}, "more than 100 bytes came, and the hub announced 100"),
        ({"trailing": {"README.md": b"x" * 10}}, "README.md: more than"),
        ({"announced": lambda file: file.stat().st_size + 1}, "bytes came, and the hub announced"),
    ],
    ids=["more", "one file more", "less"],
)
def test_other_bytes_than_announced_are_refused_and_do_not_stay(
    hub: Hub, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], words: str
) -> None:
    with offering(monkeypatch, {"a/b": {"main": saved}}, **given), pytest.raises(ArtifactError, match=words):
        ak.pull("a/b")
    assert cached(tmp_path) == []


def test_what_is_refused_does_not_stay_and_the_copy_from_before_does(hub: Hub, saved: Path, tmp_path: Path) -> None:
    ak.push(saved, "me/intent")
    copy = ak.pull("me/intent")
    (hub.repositories["me/intent"]["main"] / "adapter_config.json").write_bytes(b"{}")
    with pytest.raises(ArtifactError, match="is refused"):
        ak.pull("me/intent")
    assert bytes_of(copy) == bytes_of(saved)
    assert {Path(file).parent for file in cached(tmp_path)} == {copy, copy / ".cache"}


def test_a_second_pull_fetches_nothing_that_is_here(hub: Hub, saved: Path) -> None:
    ak.push(saved, "me/intent")
    first = ak.pull("me/intent")
    before = len(hub.requests)
    assert ak.pull("me/intent") == first
    assert hub.requests[before:] == ["GET /api/models/me/intent/revision/main"]


def test_a_refusal_is_no_outage(hub: Hub, saved: Path) -> None:
    ak.push(saved, "me/intent")
    ak.pull("me/intent")
    del hub.repositories["me/intent"]  # taken down, or made private: the hub answers 401
    with pytest.raises(HubError, match=r"no folder me/intent here, and the hub refuses it(.|\n)*RepositoryNotFound"):
        ak.pull("me/intent")
    assert bytes_of(ak.pull("me/intent", offline=True)) == bytes_of(saved)


def test_a_hub_that_cannot_be_reached_gives_the_copy_from_before_and_says_so(
    hub: Hub, saved: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ak.push(saved, "me/intent")
    ak.pull("me/intent")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    assert bytes_of(ak.pull("me/intent")) == bytes_of(saved)
    assert "me/intent is the copy that was fetched before" in caplog.text
    with pytest.raises(HubError, match="no hub gives it"):
        ak.pull("me/other")
    with pytest.raises(HubError, match="offline nothing is fetched"):
        ak.pull("me/other", offline=True)


def test_an_answer_that_is_nested_without_end_is_refused(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (
        offering(monkeypatch, {}, nonsense={"a/b": b"[" * 200_000}),
        pytest.raises(HubError, match="no hub gives it"),
    ):
        ak.pull("a/b")


@pytest.mark.parametrize("tag", ["HEAD", "a..b", "v1.lock", "v1.", "0" * 40, "v 1", "ä", "a/b", "@{1}"])
def test_a_tag_that_git_refuses_is_refused_before_the_commit(hub: Hub, saved: Path, tag: str) -> None:
    with pytest.raises(HubError, match="expected what git takes"):
        ak.push(saved, "me/intent", tag=tag)
    assert hub.requests == []


def test_a_signature_is_published_with_its_artifact_and_goes_on_with_it(hub: Hub, saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    trusted, second = make_key(tmp_path / "key.pem"), make_key(tmp_path / "second.pem")
    ak.push(saved, "me/intent", tag="v1", sign=tmp_path / "key.pem")
    names = sorted(entry.name for entry in hub.repositories["me/intent"]["v1"].iterdir())
    assert names == sorted([*MAX_BYTES, SIGNATURE])
    pulled = ak.pull("me/intent@v1", tmp_path / "mine", require_signature=trusted)
    assert bytes_of(pulled) == bytes_of(saved)
    ak.push(pulled, "me/again")  # goes on with it
    assert ak.pull("me/again", require_signature=trusted)
    ak.push(saved, "me/intent", sign=tmp_path / "second.pem")
    ak.push(saved, "me/intent")  # of what was signed there
    for key in (trusted, second):
        assert ak.pull("me/intent", require_signature=key)


def test_what_nobody_signed_does_not_take_the_place_of_what_is_signed(
    hub: Hub, saved: Path, other: Path, tmp_path: Path
) -> None:
    pytest.importorskip("cryptography")
    trusted = make_key(tmp_path / "key.pem")
    ak.push(saved, "me/intent", sign=tmp_path / "key.pem")
    before = commit_of(hub.repositories["me/intent"]["main"])
    with pytest.raises(SignatureError, match="me/intent is signed, and what would stand there next is not") as refused:
        ak.push(other, "me/intent", tag="v2")
    assert "--sign KEY" in refused.value.remedy
    assert (commit_of(hub.repositories["me/intent"]["main"]), [*hub.repositories["me/intent"]]) == (before, ["main"])
    ak.push(other, "me/intent", sign=tmp_path / "key.pem")
    assert bytes_of(ak.pull("me/intent", require_signature=trusted)) == bytes_of(other)
    (hub.repositories["me/intent"]["main"] / SIGNATURE).unlink()  # by hand, where nobody requires one any more
    ak.push(saved, "me/intent")
    with pytest.raises(SignatureError, match="me/intent is not signed"):
        ak.pull("me/intent", tmp_path / "refused", require_signature=trusted)
    assert not (tmp_path / "refused").exists()


def test_a_signature_that_a_hub_announces_as_too_large_is_not_fetched(hub: Hub, saved: Path, tmp_path: Path) -> None:
    ak.push(saved, "me/intent")
    (hub.repositories["me/intent"]["main"] / SIGNATURE).write_bytes(b" " * 70_000)
    with pytest.raises(ArtifactError, match=r"signature\.json: the hub announces 70000 bytes, expected at most 65,536"):
        ak.pull("me/intent", tmp_path / "out")
