"""Who vouches for an artifact: what is signed, and everything that somebody may try who wants another one believed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from adapterkit.errors import ArtifactError, SignatureError
from adapterkit.manifest import CARD, SIGNATURE, TENSORS, Manifest, open_manifest, read_folder
from adapterkit.manifest.signature import (
    check_statement,
    read_signature,
    read_trusted,
    signature_beside,
    signature_for,
    signers_of,
    statement_of,
    write_signature,
)
from adapterkit.signing import canonical, make_key, public_key, read_private, read_public, sign, spelled
from tests.registry.conftest import Make, make

__all__ = ["make"]

FIRST = {"name": "first", "sha256": "3" * 64, "method": {"kind": "bottleneck"}}
SECOND = {"name": "second", "sha256": "4" * 64, "method": {"kind": "bottleneck"}}


def backbone(**changes: Any) -> dict[str, Any]:
    contract = {"tokenizer": changes.pop("tokenizer", "5" * 64)}
    own = {"name": "tiny", "revision": None, "fingerprint": "1" * 64, "coverage": "whole", "contract": contract}
    return {**own, **changes}


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "release.pem")
    return tmp_path / "release.pem"


@pytest.fixture
def trusted(key: Path) -> tuple[str, ...]:
    return read_trusted(f"{key}.pub")


@pytest.fixture
def signed(make: Make, key: Path) -> Path:
    """An artifact that the key has signed."""
    return put_signature(make("signed", backbone=backbone()), key)


def put_signature(folder: Path, key: Path) -> Path:
    raw = signature_for(folder, open_manifest(folder), key)
    assert raw is not None
    write_signature(folder, raw)
    return folder


def test_what_is_signed_can_be_checked_by_hand(signed: Path, key: Path) -> None:
    told = json.loads((signed / SIGNATURE).read_bytes())
    manifest = json.loads((signed / "adapterkit.json").read_bytes())
    assert told["statement"] == {
        "artifact": manifest["sha256"],
        "backbone": {"fingerprint": "1" * 64, "coverage": "whole"},
        "tokenizer": "5" * 64,
        "parts": [],
        "formats": {"manifest": 1, "tensors": "float32"},
        "card": sha256((signed / CARD).read_bytes()).hexdigest(),
    }
    public: Any = load_pem_public_key(Path(f"{key}.pub").read_bytes())
    line = json.dumps(told["statement"], sort_keys=True, separators=(",", ":")).encode()
    (one,) = told["signatures"]
    public.verify(base64.b64decode(one["signature"]), b"adapterkit signature 1\n" + line)
    raw_key = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert one["key"] == "ed25519:" + base64.b64encode(raw_key).decode()


def test_an_artifact_is_signed_from_inside_its_folder_too(
    make: Make, key: Path, trusted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make("here")
    beside = {path.name for path in folder.parent.iterdir()}
    monkeypatch.chdir(folder)
    put_signature(Path(), key.absolute())
    assert signers_of(folder, open_manifest(folder), trusted) == list(trusted)
    assert {path.name for path in folder.parent.iterdir()} == beside


def test_a_signature_changes_nothing_of_the_artifact(signed: Path, trusted: tuple[str, ...]) -> None:
    manifest = open_manifest(signed)
    (signed / SIGNATURE).unlink()
    assert open_manifest(signed) == manifest
    assert signature_for(signed, manifest) is None


def test_any_one_of_the_trusted_keys_is_enough_and_others_may_have_signed_too(signed: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "second.pem")
    put_signature(signed, tmp_path / "second.pem")
    both = [*read_trusted(tmp_path / "release.pem.pub"), *read_trusted(tmp_path / "second.pem.pub")]
    manifest = open_manifest(signed)
    assert signers_of(signed, manifest) == sorted(both)
    for one in both:
        assert signers_of(signed, manifest, [one, "ed25519:" + "A" * 43 + "="]) == sorted(both)


def test_signatures_of_two_who_signed_apart_stand_together(signed: Path, tmp_path: Path, make: Make) -> None:
    make_key(tmp_path / "second.pem")
    manifest, first = open_manifest(signed), read_signature(signed)
    (signed / SIGNATURE).unlink()
    second = signature_for(signed, manifest, tmp_path / "second.pem")
    assert first is not None
    assert second is not None
    write_signature(signed, signature_beside(first, second, read_folder(signed), signed) or b"")
    assert len(signers_of(signed, manifest)) == 2
    other = put_signature(make("other"), tmp_path / "second.pem")
    before = read_signature(other)  # of something else: left out
    write_signature(signed, signature_beside(before, second, read_folder(signed), signed) or b"")
    assert signers_of(signed, manifest) == [*read_trusted(tmp_path / "second.pem.pub")]
    with pytest.raises(SignatureError, match="is signed, and what would stand there next is not"):
        signature_beside(before, None, read_folder(signed), signed)


# -- what somebody may try

Attack = Callable[[Path, Make, Path], Path]
"""Changes a signed artifact, or makes one, and says where the result is."""


def of_another(what: str, **changes: Any) -> Attack:
    """The signature of an artifact on an artifact that differs in one thing, whose manifest agrees with itself."""

    def attack(signed: Path, make: Make, key: Path) -> Path:
        folder = make(f"other-{what}", **{"backbone": backbone(), **changes})
        (folder / SIGNATURE).write_bytes((signed / SIGNATURE).read_bytes())
        return folder

    return attack


def rewritten(change: Callable[[dict[str, Any]], Any]) -> Attack:
    """The signature's file, written anew."""

    def attack(signed: Path, make: Make, key: Path) -> Path:
        told = json.loads((signed / SIGNATURE).read_bytes())
        change(told)
        (signed / SIGNATURE).write_text(json.dumps(told))
        return signed

    return attack


def filled(content: Callable[[bytes], bytes]) -> Attack:
    def attack(signed: Path, make: Make, key: Path) -> Path:
        (signed / SIGNATURE).write_bytes(content((signed / SIGNATURE).read_bytes()))
        return signed

    return attack


def deleted(signed: Path, make: Make, key: Path) -> Path:
    (signed / SIGNATURE).unlink()
    return signed


def linked(signed: Path, make: Make, key: Path) -> Path:
    (signed / SIGNATURE).rename(signed.parent / "elsewhere.json")
    (signed / SIGNATURE).symlink_to(signed.parent / "elsewhere.json")
    return signed


def piped(signed: Path, make: Make, key: Path) -> Path:
    import os

    (signed / SIGNATURE).unlink()
    os.mkfifo(signed / SIGNATURE)
    return signed


def foldered(signed: Path, make: Make, key: Path) -> Path:
    (signed / SIGNATURE).unlink()
    (signed / SIGNATURE).mkdir()
    return signed


def by_a_stranger(signed: Path, make: Make, key: Path) -> Path:
    make_key(key.with_name("stranger.pem"))
    (signed / SIGNATURE).unlink()
    return put_signature(signed, key.with_name("stranger.pem"))


def in_the_name_of_the_trusted(signed: Path, make: Make, key: Path) -> Path:
    own = spelled(read_private(key))
    by_a_stranger(signed, make, key)
    return rewritten(lambda told: told["signatures"][0].update(key=own))(signed, make, key)


def as_a_receipt(signed: Path, make: Make, key: Path) -> Path:
    """What the same key signs as a service's receipt: the canonical JSON, without the line that says what it is."""
    told = json.loads((signed / SIGNATURE).read_bytes())
    told["signatures"][0]["signature"] = sign(read_private(key), canonical(told["statement"]))
    (signed / SIGNATURE).write_text(json.dumps(told))
    return signed


def with_another_card(signed: Path, make: Make, key: Path) -> Path:
    (signed / CARD).write_text("pip install something-else")
    return signed


ATTACKS: dict[str, tuple[Attack, str]] = {
    "another artifact's": (of_another("artifact", seed=1), "artifact: signed "),
    "another backbone's": (
        of_another("backbone", backbone=backbone(fingerprint="2" * 64)),
        "backbone: signed coverage whole fingerprint 1111111111111111…, found ",
    ),
    "of another tokenizer": (of_another("tokenizer", backbone=backbone(tokenizer="6" * 64)), "tokenizer: signed 5555"),
    "of another coverage": (of_another("coverage", backbone=backbone(coverage="samples")), "found coverage samples"),
    "of other numbers": (
        of_another("dtype", dtype="float16"),
        "formats: signed manifest 1 tensors float32, found manifest 1 tensors float16",
    ),
    "of another card": (with_another_card, "card: signed "),
    "deleted": (deleted, "missing, expected the signature of ed25519:"),
    "cut short": (filled(lambda raw: raw[: len(raw) // 2]), "not JSON"),
    "empty": (filled(lambda raw: b""), "not JSON"),
    "no JSON": (filled(lambda raw: b"\xff\xfe signature"), "is not UTF-8"),
    "too large": (filled(lambda raw: raw + b" " * 70_000), "expected at most 65,536"),
    "deep": (filled(lambda raw: b"[" * 30_000), "nested deeper than"),
    "a key twice": (filled(lambda raw: raw.replace(b'{\n  "format"', b'{"format": 1, "format"')), "stands twice"),
    "of a later format": (rewritten(lambda told: told.update(format=2)), "format"),
    "with another field": (rewritten(lambda told: told.update(trust="me")), "trust"),
    "without signatures": (rewritten(lambda told: told.update(signatures=[])), "signatures"),
    "with very many": (rewritten(lambda told: told.update(signatures=told["signatures"] * 17)), "signatures"),
    "not in base64": (rewritten(lambda told: told["signatures"][0].update(signature="no")), "signature"),
    "of a statement changed": (rewritten(lambda told: told["statement"].update(artifact="0" * 64)), "signed 0000"),
    "of a statement without its backbone": (
        rewritten(lambda told: told["statement"].pop("backbone")),
        "signed nothing",
    ),
    "a link": (linked, "a link, expected a plain file"),
    "a pipe": (piped, "no plain file"),
    "of a stranger": (by_a_stranger, "signed by ed25519:"),
    "of a stranger in a trusted name": (in_the_name_of_the_trusted, "damaged or forged"),
    "of a receipt": (as_a_receipt, "damaged or forged"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_signature_proves_one_artifact_and_nothing_else(
    name: str, signed: Path, make: Make, key: Path, trusted: tuple[str, ...]
) -> None:
    attack, words = ATTACKS[name]
    assert signers_of(signed, open_manifest(signed), trusted) == [*trusted]
    attacked = attack(signed, make, key)
    with pytest.raises(SignatureError) as refused:
        signers_of(attacked, open_manifest(attacked), trusted)
    assert words in " ".join(refused.value.problems), refused.value
    assert str(attacked) in refused.value.summary
    assert "adapterkit push FOLDER TARGET --sign KEY" in refused.value.remedy


def test_parts_in_another_order_are_another_composition(make: Make, key: Path, trusted: tuple[str, ...]) -> None:
    def fusion(name: str, *parts: dict[str, Any]) -> Path:
        method = {"kind": "fusion", "parts": [part["name"] for part in parts]}
        return make(name, parts=list(parts), method=method, backbone=backbone())

    signed = put_signature(fusion("as signed", FIRST, SECOND), key)
    swapped = fusion("swapped", SECOND, FIRST)
    (swapped / SIGNATURE).write_bytes((signed / SIGNATURE).read_bytes())
    assert signers_of(signed, open_manifest(signed), trusted) == [*trusted]
    with pytest.raises(SignatureError, match="something else") as refused:
        signers_of(swapped, open_manifest(swapped), trusted)
    first, second = (f"name {name} tensors {digit * 16}…" for name, digit in (("first", "3"), ("second", "4")))
    assert f"parts: signed [{first}, {second}], found [{second}, {first}]" in refused.value.problems


def test_tensors_changed_after_signing_are_refused_before_anybody_is_asked(signed: Path) -> None:
    (signed / TENSORS).write_bytes(b"others")  # as long as b"signed"
    with pytest.raises(ArtifactError, match="it was edited or damaged"):
        open_manifest(signed)


def test_a_file_beside_it_is_no_part_of_it_and_refused(signed: Path) -> None:
    (signed / "extra.py").write_text("import os")
    with pytest.raises(ArtifactError, match=r"extra\.py: not a file of an artifact"):
        open_manifest(signed)


def test_a_folder_in_the_place_of_a_signature_is_refused_by_every_reader(signed: Path, make: Make, key: Path) -> None:
    with pytest.raises(ArtifactError, match=r"signature\.json: not a file of an artifact"):
        open_manifest(foldered(signed, make, key))


def test_what_is_signed_of_something_else_is_not_published(signed: Path, make: Make, key: Path) -> None:
    other = of_another("artifact", seed=1)(signed, make, key)
    with pytest.raises(SignatureError, match="of something else"):
        signature_for(other, open_manifest(other))
    put_signature(other, key)  # signing it anew leaves the other's out
    assert len(signers_of(other, open_manifest(other))) == 1


def test_a_damaged_signature_beside_a_sound_one_keeps_nobody_out_who_names_the_sound_one(
    signed: Path, key: Path, trusted: tuple[str, ...]
) -> None:
    forged = {"key": "ed25519:" + "B" * 43 + "=", "signature": "B" * 86 + "=="}
    rewritten(lambda told: told["signatures"].append(forged))(signed, None, key)  # type: ignore[arg-type]
    manifest: Manifest = open_manifest(signed)
    assert signers_of(signed, manifest, trusted) == [*trusted]
    with pytest.raises(SignatureError, match="damaged or forged"):  # who names none has to see it
        signers_of(signed, manifest)


# -- keys


def test_a_key_is_a_file_or_a_line_and_the_same_one_counts_once(key: Path, trusted: tuple[str, ...]) -> None:
    (line,) = trusted
    assert read_trusted([f"{key}.pub", line, Path(f"{key}.pub")]) == trusted
    assert spelled(public_key(line)) == line == spelled(read_private(key))
    assert read_trusted(None) == ()


def test_a_key_that_is_none_is_named(key: Path, tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1()).public_key()
    (tmp_path / "ec.pub").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "text.pub").write_text("hello")
    expected = {
        str(key): "found a private key, expected a public key",
        str(tmp_path / "ec.pub"): "found",
        str(tmp_path / "text.pub"): "is not a public key",
        str(tmp_path / "none.pub"): "cannot be read",
        "": "cannot be read",
        "ed25519:AAAA": "expected ed25519: and 32 bytes in base64",
        "ed25519:??": "expected ed25519: and 32 bytes in base64",
    }
    for given, words in expected.items():
        with pytest.raises(SignatureError) as refused:
            read_trusted(given)
        assert words in str(refused.value)
    with pytest.raises(SignatureError, match="found a public key, expected a private key"):
        read_private(Path(f"{key}.pub"))
    with pytest.raises(SignatureError, match=r"FILE\.pub"):
        read_public(key)


def test_a_list_without_keys_asks_for_nothing_and_is_refused() -> None:
    with pytest.raises(SignatureError, match="no key is named"):
        read_trusted([])


def test_the_statement_is_of_the_manifest_and_the_card_that_were_read(signed: Path, trusted: tuple[str, ...]) -> None:
    manifest = open_manifest(signed)
    statement = statement_of(manifest, sha256((signed / CARD).read_bytes()).hexdigest())
    assert check_statement(read_signature(signed), statement, "it", trusted) == [*trusted]
