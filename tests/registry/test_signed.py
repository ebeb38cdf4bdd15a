"""A gate that asks for a signature looks at it itself, in the registry's own copy."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cryptography")
from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.errors import GateError, RegistryError, SignatureError
from adapterkit.manifest import SIGNATURE, open_manifest
from adapterkit.manifest.signature import read_trusted, signature_for, write_signature
from adapterkit.registry import Registry
from adapterkit.registry.gates import Gate
from adapterkit.signing import make_key
from tests.registry.conftest import Make


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "release.pem")
    return tmp_path / "release.pem"


def sign(folder: Path, key: Path) -> Path:
    raw = signature_for(folder, open_manifest(folder), key)
    assert raw is not None
    write_signature(folder, raw)
    return folder


@pytest.fixture
def gated(registry: Registry, key: Path) -> Registry:
    registry.set_gate(Gate(require=("signature",), signers=read_trusted(f"{key}.pub")))
    return registry


def test_what_is_signed_passes_and_the_history_says_by_whom(gated: Registry, make: Make, key: Path) -> None:
    gated.add("intent", sign(make(), key))
    gated.promote("intent", "1")
    (move,) = gated.history("intent")
    assert move.evidence["signature"]["facts"] == {"signed_by": [*read_trusted(f"{key}.pub")]}
    assert (gated.fetch("intent") / SIGNATURE).is_file()


def test_what_is_unsigned_or_of_a_stranger_stops_there(gated: Registry, make: Make, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger.pem")
    gated.add("intent", make("unsigned"))
    gated.add("intent", sign(make("of a stranger"), tmp_path / "stranger.pem"))
    for version, words in (("1", "is not signed"), ("2", "not signed by whom it should be")):
        with pytest.raises(GateError) as refused:
            gated.promote("intent", version)
        assert words in str(refused.value)
    gated.promote("intent", "2", force="the key is lost")


def test_a_version_that_is_signed_later_is_the_same_version(gated: Registry, make: Make, key: Path) -> None:
    folder = make()
    first = gated.add("intent", folder)
    assert gated.add("intent", sign(folder, key)) == first
    assert gated.promote("intent", "1").digest == first.digest


def test_a_signature_deleted_in_the_store_stops_a_promotion(gated: Registry, make: Make, key: Path) -> None:
    gated.add("intent", sign(make(), key))
    (gated.fetch("intent", "1") / SIGNATURE).unlink()
    with pytest.raises(GateError, match="is not signed"):
        gated.promote("intent", "1")


def test_nobody_can_say_of_a_version_that_it_is_signed(gated: Registry, make: Make) -> None:
    gated.add("intent", make())
    for check in ("signature", "files"):
        with pytest.raises(RegistryError, match="the registry looks itself"):
            gated.promote("intent", "1", evidence={check: {"passed": True}})


def test_a_gate_that_names_nobody_lets_nothing_pass(registry: Registry, make: Make, key: Path) -> None:
    registry.set_gate(Gate(require=("signature",)))
    registry.add("intent", sign(make(), key))
    with pytest.raises(GateError, match="no key is trusted"):
        registry.promote("intent", "1")
    with pytest.raises(ValueError, match="where a signature is required"):
        Gate(signers=read_trusted(f"{key}.pub"))


def test_a_signature_of_something_else_is_not_added(registry: Registry, make: Make, key: Path) -> None:
    signed, other = sign(make("a"), key), make("b", seed=1)
    (other / SIGNATURE).write_bytes((signed / SIGNATURE).read_bytes())
    with pytest.raises(SignatureError, match="of something else"):
        registry.add("intent", other)
    assert registry.versions("intent") == ()


def test_the_verb_takes_a_key_as_a_file(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERKIT_REGISTRY", f"sqlite:///{tmp_path}/registry.db")
    words = ["registry", "gate", "--require", "files", "--require", "signature", "--signer", f"{key}.pub"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert read_trusted(f"{key}.pub")[0] in done.stdout
    assert CliRunner().invoke(app, [*words[:-1], str(key)]).exit_code == 1
