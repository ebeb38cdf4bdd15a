"""Signatures with Ed25519 (RFC 8032) over bytes, and the key files that both sides keep.

A private key is PKCS 8 in PEM, a public one SubjectPublicKeyInfo in PEM: what `openssl genpkey -algorithm ed25519` and
`openssl pkey -pubout` write. In one line, a public key is `ed25519:` and its 32 bytes in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterkit.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_KEY_BYTES = 10_000
ED25519 = "ed25519:"


def make_key(file: Path) -> Path:
    """Write a new private key, which its owner alone may read, and the public one beside it as FILE.pub.

    Raises SignatureError: one of the two is there already, or cannot be written.
    """
    serial = _library("serialization")
    public_file = file.with_name(f"{file.name}.pub")
    key = _library("asymmetric.ed25519").Ed25519PrivateKey.generate()
    pem = key.private_bytes(serial.Encoding.PEM, serial.PrivateFormat.PKCS8, serial.NoEncryption())
    public = key.public_key().public_bytes(serial.Encoding.PEM, serial.PublicFormat.SubjectPublicKeyInfo)
    try:
        for place, content, mode in ((file, pem, 0o600), (public_file, public, 0o644)):
            place.touch(mode, exist_ok=False)
            place.write_bytes(content)
    except OSError as error:
        raise SignatureError(f"{error.filename} cannot be written", [error.strerror or str(error)]) from error
    return public_file


def read_private(file: Path) -> Ed25519PrivateKey:
    """The private key of a file. Raises SignatureError where it holds none."""
    serial, kind = _library("serialization"), _library("asymmetric.ed25519").Ed25519PrivateKey
    return _read(  # type: ignore[no-any-return]
        file, lambda raw: serial.load_pem_private_key(raw, password=None), kind, "a private key"
    )


def read_public(file: Path) -> Ed25519PublicKey:
    """The public key of a file. Raises SignatureError where it holds none."""
    serial, kind = _library("serialization"), _library("asymmetric.ed25519").Ed25519PublicKey
    return _read(file, serial.load_pem_public_key, kind, "a public key")  # type: ignore[no-any-return]


def public_key(given: str | Path) -> Ed25519PublicKey:
    """A public key from its file, or from the line that spells it. Raises SignatureError where it is none."""
    if not str(given).startswith(ED25519):
        return read_public(Path(given))
    kind = _library("asymmetric.ed25519").Ed25519PublicKey
    try:
        return kind.from_public_bytes(base64.b64decode(str(given).removeprefix(ED25519), validate=True))  # type: ignore[no-any-return]
    except ValueError as error:
        expected = f"expected {ED25519} and 32 bytes in base64"
        raise SignatureError("this is no public key", [f"found {str(given)[:80]!r}, {expected}"], _REMEDY) from error


def spelled(key: Ed25519PublicKey | Ed25519PrivateKey) -> str:
    """A public key, or that of a private one, in one line."""
    public = key.public_key() if hasattr(key, "public_key") else key
    return ED25519 + base64.b64encode(public.public_bytes_raw()).decode()


def canonical(value: Any) -> bytes:
    """JSON in the one form that is signed: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def sign(key: Ed25519PrivateKey, content: bytes) -> str:
    """The signature of bytes, in base64."""
    return base64.b64encode(key.sign(content)).decode()


def is_signed(key: Ed25519PublicKey, signature: str, content: bytes) -> bool:
    """Whether the owner of the private key has signed these bytes."""
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _read(file: Path, load: Any, kind: type, what: str) -> Any:
    raw = b""
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_KEY_BYTES)
        key = load(raw)
    except OSError as error:
        raise SignatureError(f"{file} cannot be read", [error.strerror or str(error)]) from error
    except (ValueError, TypeError) as error:
        other = next((one for one in ("private", "public") if f"{one.upper()} KEY".encode() in raw), "")
        if other and other not in what:
            hint = (
                "Its public key is in FILE.pub." if other == "private" else "The private key is in FILE without .pub."
            )
            raise SignatureError(f"{file} is not {what}", [f"found a {other} key, expected {what}"], hint) from error
        raise SignatureError(f"{file} is not {what}", [str(error).splitlines()[0][:200]], _REMEDY) from error
    if not isinstance(key, kind):
        raise SignatureError(f"{file} is not {what} of Ed25519", [f"found {type(key).__name__}"], _REMEDY)
    return key


_REMEDY = "Make one: adapterkit receipt make-key FILE, or openssl genpkey -algorithm ed25519."


def _library(name: str) -> Any:
    """A module of `cryptography`. Raises SignatureError where it is not installed."""
    from importlib import import_module

    try:
        return import_module(f"cryptography.hazmat.primitives.{name}")
    except ImportError as error:
        raise SignatureError("signatures need cryptography", remedy="pip install 'adapterkit[sign]'") from error
