"""A host that mounts what trusted keys have signed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import AdapterkitError, SignatureError
from adapterkit.host import Host
from adapterkit.manifest import SIGNATURE, open_manifest
from adapterkit.manifest.signature import signature_for, write_signature
from adapterkit.serving.opening import mount_folder, mounted_fleet
from adapterkit.signing import make_key
from tests.host.artifacts import Recipe, make


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "release.pem")
    return tmp_path / "release.pem"


@pytest.fixture
def folders(tmp_path: Path, tiny_backbones: Any, key: Path) -> dict[str, Path]:
    """Two artifacts that are signed, and one that is not."""
    made = {
        name: make(tmp_path / "runs" / name, tiny_backbones["bert"], Recipe("text-classification", "lora", seed=seed))
        for seed, name in enumerate(("first", "second", "unsigned"))
    }
    for name in ("first", "second"):
        sign(made[name], key)
    return made


def sign(folder: Path, key: Path) -> None:
    raw = signature_for(folder, open_manifest(folder), key)
    assert raw is not None
    write_signature(folder, raw)


@pytest.fixture
def host(tiny_backbones: Any, key: Path) -> Iterator[Host]:
    with Host(tiny_backbones["bert"], require_signature=f"{key}.pub") as opened:
        yield opened


def test_what_is_signed_answers_and_what_is_not_is_refused(host: Host, folders: dict[str, Path]) -> None:
    host.mount("a", folders["first"])
    assert host.predict([("a", "a card")])
    for source in (folders["unsigned"], ak.load(folders["unsigned"], host.backbone) and str(folders["unsigned"])):
        with pytest.raises(SignatureError, match="is not signed"):
            host.mount("b", source)
        with pytest.raises(SignatureError, match="is not signed"):
            host.swap("a", source)
    assert [status.source for status in host.status()] == [str(folders["first"])]


def test_a_signature_that_is_deleted_or_of_another_artifact_is_refused(host: Host, folders: dict[str, Path]) -> None:
    (folders["unsigned"] / SIGNATURE).write_bytes((folders["first"] / SIGNATURE).read_bytes())
    with pytest.raises(SignatureError, match="of something else"):
        host.mount("b", folders["unsigned"])
    (folders["first"] / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match="is not signed"):
        host.mount("a", folders["first"])


def test_every_member_of_a_composition_is_asked(host: Host, folders: dict[str, Path]) -> None:
    host.mount("both", ak.compose.stack(str(folders["first"]), str(folders["second"])))
    with pytest.raises(AdapterkitError, match="is not signed"):
        host.mount("other", ak.compose.stack(str(folders["first"]), str(folders["unsigned"])))
    assert [status.name for status in host.status()] == ["both"]


def test_a_host_without_keys_is_no_host_with_a_policy(tiny_backbones: Any) -> None:
    with pytest.raises(SignatureError, match="no key is named"):
        Host(tiny_backbones["bert"], require_signature=[])


def test_a_service_refuses_what_is_unsigned_at_its_start_and_when_it_is_steered(
    tiny_folders: Any, folders: dict[str, Path], key: Path
) -> None:
    on: Any = {"backbones": [str(tiny_folders["bert"])], "slots": None, "dtype": "float32"}
    with pytest.raises(SignatureError, match="is not signed"):
        mounted_fleet({"a": str(folders["unsigned"])}, **on, require_signature=f"{key}.pub")
    fleet = mounted_fleet({"a": str(folders["first"])}, **on, require_signature=f"{key}.pub")
    with fleet.host:
        with pytest.raises(SignatureError, match="is not signed"):
            mount_folder(fleet, "a", str(folders["unsigned"]))
        (mounted,) = fleet.host.status()
        assert mounted.source == str(folders["first"])


# -- compositions in files


@pytest.fixture
def stacked(tmp_path: Path, folders: dict[str, Path], key: Path) -> Path:
    """A stack in a file that is signed."""
    file = tmp_path / "stack.yaml"
    file.write_text(f"stack: {{members: {{a: {folders['first']}, b: {folders['second']}}}, head: b}}\n")
    done = CliRunner().invoke(app, ["sign", str(file), "--key", str(key)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "stack.yaml.signature.json").is_file()
    return file


def test_a_composition_in_a_file_is_mounted_as_it_was_signed(host: Host, stacked: Path) -> None:
    host.mount("both", str(stacked))
    text = stacked.read_text()
    stacked.write_text(f"# another comment\n{text}")  # what it says is signed, not how it is written
    host.swap("both", stacked)


def test_members_in_another_order_are_refused(host: Host, stacked: Path, folders: dict[str, Path]) -> None:
    stacked.write_text(f"stack: {{members: {{b: {folders['second']}, a: {folders['first']}}}, head: b}}\n")
    with pytest.raises(SignatureError, match="of something else") as refused:
        host.mount("both", stacked)
    (problem,) = refused.value.problems
    digests = [open_manifest(folders[name]).sha256[:16] for name in ("first", "second")]
    signed, _, found = problem.partition(", found ")
    assert signed.index(digests[0]) < signed.index(digests[1])
    assert found.index(digests[1]) < found.index(digests[0])


def test_another_member_or_another_head_or_no_signature_is_refused(
    host: Host, stacked: Path, folders: dict[str, Path], key: Path
) -> None:
    signed = stacked.read_text()
    for changed in (
        signed.replace("head: b", "head: a"),
        signed.replace(f"b: {folders['second']}", f"b: {folders['first']}"),
    ):
        stacked.write_text(changed)
        with pytest.raises(SignatureError, match="of something else"):
            host.mount("both", stacked)
    stacked.write_text(signed)
    (folders["second"] / SIGNATURE).unlink()
    with pytest.raises(AdapterkitError, match="is not signed"):
        host.mount("both", stacked)
    sign(folders["second"], key)
    stacked.with_name("stack.yaml.signature.json").unlink()
    with pytest.raises(SignatureError, match=r"stack\.yaml is not signed"):
        host.mount("both", stacked)


def test_an_artifact_s_signature_is_none_of_a_composition(host: Host, stacked: Path, folders: dict[str, Path]) -> None:
    stacked.with_name("stack.yaml.signature.json").write_bytes((folders["first"] / SIGNATURE).read_bytes())
    with pytest.raises(SignatureError, match="of something else"):
        host.mount("both", stacked)


def test_an_artifact_is_signed_where_it_lies(host: Host, folders: dict[str, Path], key: Path) -> None:
    done = CliRunner().invoke(app, ["sign", str(folders["unsigned"]), "--key", str(key)])
    assert done.exit_code == 0, done.output
    host.mount("a", folders["unsigned"])
    refused = CliRunner().invoke(app, ["sign", str(folders["unsigned"]), "--key", f"{key}.pub"])
    assert (refused.exit_code, "found a public key, expected a private key" in refused.stderr) == (1, True)
