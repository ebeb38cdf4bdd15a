"""A host that mounts what trusted keys have signed, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

import adapterkit as ak
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
