"""Artifacts that are pushed with a signature, and pulled by whoever requires one, through every kind of store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest
from typer.testing import CliRunner

pytest.importorskip("cryptography")

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import ArtifactError, SignatureError
from adapterkit.manifest import CARD, MAX_BYTES, SIGNATURE, open_manifest
from adapterkit.signing import make_key
from tests.artifact.conftest import make, write
from tests.artifact.test_store import bytes_of

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "release.pem")
    return tmp_path / "release.pem"


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("release.pem.pub")


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    make_key(tmp_path / "stranger.pem")
    return tmp_path / "stranger.pem"


def at(place: str, name: str) -> Any:
    """A file of a store, to be damaged."""
    return fsspec.open(f"{place}/{name}", "wb")


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_what_is_signed_is_pulled_by_whom_a_signature_is_required(
    place: str, saved: Path, key: Path, public: Path, tmp_path: Path
) -> None:
    ak.push(saved, place, tag="v1", sign=key)
    assert not (saved / SIGNATURE).exists()  # what is pushed is left as it is
    for name in (place, f"{place}@v1", f"{place}@{open_manifest(saved).sha256}"):
        assert bytes_of(ak.pull(name, require_signature=public)) == bytes_of(saved)
    mine = ak.pull(place, tmp_path / "mine", require_signature=[public])
    assert sorted(file.name for file in mine.iterdir()) == sorted([*MAX_BYTES, SIGNATURE])
    assert open_manifest(mine).sha256 == open_manifest(saved).sha256
    assert ak.pull(str(mine), tmp_path / "again", require_signature=public)  # a folder too


def test_what_is_unsigned_or_of_a_stranger_is_refused_and_nothing_is_written(
    place: str, saved: Path, public: Path, stranger: Path, tmp_path: Path
) -> None:
    ak.push(saved, place)
    with pytest.raises(SignatureError, match="is not signed"):
        ak.pull(place, tmp_path / "out", require_signature=public)
    ak.push(saved, place, sign=stranger)
    with pytest.raises(SignatureError, match="not signed by whom it should be"):
        ak.pull(place, tmp_path / "out", require_signature=public)
    assert not (tmp_path / "out").exists()
    assert ak.pull(place, tmp_path / "out")


def test_who_signs_later_signs_beside_who_signed_before_and_copies_learn_of_it(
    place: str, saved: Path, key: Path, public: Path, stranger: Path
) -> None:
    name = f"{place}@{open_manifest(saved).sha256}"
    ak.push(saved, place)
    assert bytes_of(ak.pull(name)) == bytes_of(saved)
    ak.push(saved, place, sign=stranger)
    ak.push(saved, place, sign=key)
    for trusted in (public, stranger.with_name("stranger.pem.pub")):
        assert bytes_of(ak.pull(name, require_signature=trusted)) == bytes_of(saved)


def test_a_signature_damaged_in_a_store_is_refused(
    place: str, saved: Path, key: Path, public: Path, tmp_path: Path
) -> None:
    published = ak.push(saved, place, sign=key)
    with at(place, f"{published.commit}/{SIGNATURE}") as file:
        file.write(b'{"format": 1')
    with pytest.raises(SignatureError, match="cannot be read"):
        ak.pull(place, tmp_path / "out", require_signature=public)
    with at(place, f"{published.commit}/{SIGNATURE}") as file:
        file.write(b" " * 70_000)
    with pytest.raises((SignatureError, ArtifactError), match=r"(70,000|65,537) bytes, expected at most 65,536"):
        ak.pull(place, tmp_path / "out", require_signature=public)
    assert not (tmp_path / "out").exists()


def test_an_edited_card_is_signed_as_it_is(place: str, saved: Path, key: Path, public: Path) -> None:
    ak.push(saved, place, sign=key)
    ak.push(saved, place)
    (saved / CARD).write_text("# Better words")
    with pytest.raises(SignatureError, match="is signed, and what would stand there next is not"):
        ak.push(saved, place)
    assert ak.pull(place, require_signature=public)
    ak.push(saved, place, sign=key)
    assert (ak.pull(place, require_signature=public) / CARD).read_text() == "# Better words"


def test_training_over_a_signed_artifact_takes_its_signature_off(
    saved: Path, key: Path, public: Path, tmp_path: Path, tiny_backbones: Any
) -> None:
    signed = ak.pull(ak.push(saved, str(tmp_path / "shared"), sign=key).name, tmp_path / "signed")
    with make(tiny_backbones["bert"]) as adapted:
        write(signed, adapted, overwrite=True)
    assert not (signed / SIGNATURE).exists()


def test_verify_says_who_signed_and_fails_what_does_not_fit(
    saved: Path, key: Path, public: Path, stranger: Path, tmp_path: Path, tiny_backbones: Any
) -> None:
    bert = tiny_backbones["bert"]
    assert [check.name for check in ak.verify(saved, bert).checks][-1] == "golden rows"
    unsigned = ak.verify(saved, bert, require_signature=public)
    assert (unsigned.ok, unsigned.checks[-1].name) == (False, "signature")
    signed = ak.pull(ak.push(saved, str(tmp_path / "shared"), sign=key).name, tmp_path / "signed")
    found = ak.verify(signed, bert)
    assert found.ok
    assert "ed25519:" in found.checks[-1].detail
    assert not ak.verify(signed, bert, require_signature=f"{stranger}.pub")
    (signed / SIGNATURE).write_text("{}")
    assert not ak.verify(signed, bert)  # what stands beside it has to fit, whoever asks


def test_the_verbs_sign_require_and_tell(saved: Path, key: Path, public: Path, stranger: Path, tmp_path: Path) -> None:
    place = f"{tmp_path}/shared"
    assert run("push", saved, place, "--sign", public).exit_code == 1
    pushed = run("push", saved, place, "--sign", key)
    assert pushed.exit_code == 0, pushed.output
    refused = run("pull", place, tmp_path / "out", "--require-signature", f"{stranger}.pub")
    assert refused.exit_code == 1
    assert "SignatureError" in refused.stderr
    assert "is not signed by whom it should be" in refused.stderr
    both = ("--require-signature", f"{stranger}.pub", "--require-signature", public)
    pulled = run("pull", place, tmp_path / "out", *both)
    assert pulled.exit_code == 0, pulled.output
    (signer,) = json.loads(run("inspect", tmp_path / "out", "--json").stdout)["signed_by"]
    assert signer in run("inspect", tmp_path / "out").stdout
    (tmp_path / "out" / SIGNATURE).write_text("{}")
    assert "cannot be read" in run("inspect", tmp_path / "out").stdout
    assert "cannot be read" in json.loads(run("inspect", tmp_path / "out", "--json").stdout)["signature_problem"]
    assert "signed_by" not in json.loads(run("inspect", saved, "--json").stdout)
