"""Signatures of artifacts: who vouches for this adapter, on this backbone. They stand in a file of their own beside the
artifact, change nothing of it, and are made and checked without torch.

What is signed is a line that says what it is, so that no other signature of the same key can be taken for it, and then
the canonical JSON of a statement: the artifact's digest, under which is everything that its manifest says, and by
themselves its backbone, tokenizer, parts in their order, formats and card.
"""

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from adapterkit.errors import ArtifactError, SignatureError
from adapterkit.manifest.atomic import write_file
from adapterkit.manifest.codec import parse_manifest, validation_problems
from adapterkit.manifest.facts import Facts, Manifest, Object
from adapterkit.manifest.folder import CARD, MANIFEST, MAX_BYTES, MAX_SIGNATURE_BYTES, SIGNATURE, Files, read_file
from adapterkit.manifest.strict_json import dump_json, parse_object
from adapterkit.signing import canonical, is_signed, public_key, read_private, sign, spelled

SIGNED_AS = b"adapterkit signature 1\n"
MOST_SIGNERS = 16

TrustedKeys = str | Path | Sequence[str | Path]
"""Public keys, each a file or the line that spells it."""


class _Signature(Facts):
    """One signature of the statement; `key` only says which key to try."""

    key: Annotated[str, Field(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")]
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class _Signed(Facts):
    """What the file holds."""

    format: Literal[1]
    statement: Object
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=MOST_SIGNERS)]


def read_trusted(given: TrustedKeys | None) -> tuple[str, ...]:
    """The keys of which one must have signed, each spelled in one line; () where none is asked for.
    Raises SignatureError: one of them is no public key; or there is none in the list, which would ask for nothing."""
    if given is None:
        return ()
    keys = [given] if isinstance(given, str | Path) else list(given)
    if not keys:
        raise SignatureError("a signature is required, and no key is named", remedy="Name the public key of a signer.")
    return tuple(dict.fromkeys(spelled(public_key(key)) for key in keys))


def statement_of(manifest: Manifest, card_sha256: str) -> dict[str, Any]:
    """What a signature of an artifact says.
    `card_sha256`: of the card as it is, which people may edit before they sign."""
    return {
        "artifact": manifest.sha256,
        "backbone": {"fingerprint": manifest.backbone.fingerprint, "coverage": manifest.backbone.coverage},
        "tokenizer": str(manifest.backbone.contract.get("tokenizer", "")),
        "parts": [{"name": fact.name, "tensors": fact.sha256} for fact in manifest.parts],
        "formats": {"manifest": manifest.format, "tensors": manifest.dtype},
        "card": card_sha256,
    }


def sign_statement(statement: Mapping[str, Any], key_file: str | Path, before: bytes | None = None) -> bytes:
    """The content of a signature's file.
    `key_file`: a private key's. `before`: such a file, whose signatures of the same statement are kept."""
    key = read_private(Path(key_file))
    own = {"key": spelled(key), "signature": sign(key, SIGNED_AS + canonical(statement))}
    kept = () if before is None else tuple(one for one in _kept(before, statement) if one["key"] != own["key"])
    return _dump(statement, (*kept, own))


def signature_beside(before: bytes | None, signature: bytes | None, files: Files, what: object) -> bytes | None:
    """The signature's file of what is published, where one may stand: whoever signed the same before stays in it.
    `before`: the file that stands there. `signature`: that of the files, or None where nobody signs them. `what`: is
    published, for the message. Raises SignatureError: something else was signed there, and this is signed by nobody."""
    if before is None:
        return signature
    statement = statement_of(parse_manifest(files.content[MANIFEST]), files.sha256(CARD))
    kept = _kept(before, statement)
    if signature is None and not kept:
        raise SignatureError(
            f"{what} is signed, and what would stand there next is not",
            [f"{SIGNATURE}: of another artifact or card, or of none that can be read"],
            f"Sign it: --sign KEY. Where nobody requires a signature any more, delete {SIGNATURE} there first.",
        )
    own = () if signature is None else _kept(signature, statement)
    return _dump(statement, tuple({tuple(one.items()): one for one in (*kept, *own)}.values()))


def check_statement(
    raw: bytes | None, statement: Mapping[str, Any], what: object, keys: Sequence[str] = ()
) -> list[str]:
    """Who has signed a statement, spelled in one line each, of those whose signature fits.
    `raw`: the content of the signature's file; None where there is none. `what`: is signed, for the messages. `keys`:
    of which one must have signed; without any, every signature has to fit. Raises SignatureError: it is not signed, the
    file cannot be read, another statement was signed, or no signature fits."""
    asked = f"expected the signature of {' or '.join(keys) or 'anybody'}"
    if raw is None:
        raise SignatureError(f"{what} is not signed", [f"{SIGNATURE}: missing, {asked}"], _REMEDY)
    signed = _parse_for(raw, statement, what)
    content = SIGNED_AS + canonical(statement)
    looked = {(one.key, is_signed(public_key(one.key), one.signature, content)) for one in signed.signatures}
    fit = [key for key, fits in sorted(looked) if fits]
    forged = [key for key, fits in sorted(looked) if not fits and key not in fit]
    if (not keys and forged) or (keys and not {*keys} & {*fit}):
        problems = [f"{key}: its signature does not fit: damaged or forged" for key in forged]
        problems += [f"signed by {', '.join(fit) or 'nobody'}, {asked}"] if keys else []
        raise SignatureError(f"{what} is not signed by whom it should be", problems, _REMEDY)
    return fit


def signers_of(folder: str | Path, manifest: Manifest, keys: Sequence[str] = ()) -> list[str]:
    """Who has signed the artifact in a folder, of which this manifest was read. See `check_statement`."""
    return check_statement(read_signature(folder), _stated(folder, manifest), folder, keys)


def signature_for(folder: str | Path, manifest: Manifest, key_file: str | Path | None = None) -> bytes | None:
    """The signature to publish with the artifact in a folder: the one beside it, and that of a key where one is named.
    Raises SignatureError: the one beside it is of something else, or the key is none."""
    before, statement = read_signature(folder), _stated(folder, manifest)
    if key_file is not None:
        return sign_statement(statement, key_file, before)
    if before is not None:
        _parse_for(before, statement, folder)
    return before


def _stated(folder: str | Path, manifest: Manifest) -> dict[str, Any]:
    card = read_file(Path(folder) / CARD, MAX_BYTES[CARD])
    return statement_of(manifest, sha256(card).hexdigest())


def signature_file(what: str | Path) -> Path:
    """Where the signature of an artifact's folder, or of a composition's file, stands."""
    what = Path(what)
    return what.with_name(f"{what.name}.{SIGNATURE}") if what.is_file() else what / SIGNATURE


def read_signature(what: str | Path) -> bytes | None:
    """The signature's file of an artifact or a composition; None where there is none.
    Raises SignatureError: it is a link, no plain file, or too large."""
    if not os.path.lexists(path := signature_file(what)):
        return None
    try:
        return bytes(read_file(path, MAX_SIGNATURE_BYTES))
    except ArtifactError as error:
        raise SignatureError(f"the signature of {what} cannot be read", error.problems, _REMEDY) from error


def write_signature(what: Path, raw: bytes) -> Path:
    """Put a signature beside what it is of, whole or not at all, and say where. Nobody sees a file in an artifact's
    folder that is none of its."""
    write_file(path := signature_file(what), raw, beside=what)
    return path


def _parse_for(raw: bytes, statement: Mapping[str, Any], what: object) -> _Signed:
    """A signature's file, which has to be of this statement."""
    signed = _parse(raw, what)
    pairs = {name: (signed.statement.get(name), statement.get(name)) for name in {*signed.statement, *statement}}
    problems = [f"{n}: signed {_shown(a)}, found {_shown(b)}" for n, (a, b) in sorted(pairs.items()) if a != b]
    if problems:
        count = f"{len(problems)} difference{'s' if len(problems) > 1 else ''}"
        raise SignatureError(f"the signature of {what} is of something else ({count})", problems, _REMEDY)
    return signed


def _parse(raw: bytes, what: object) -> _Signed:
    try:
        parse_object(raw, SIGNATURE)
        return _Signed.model_validate_json(raw)
    except ArtifactError as error:
        problems: Sequence[str] = error.problems
    except ValidationError as error:
        problems = validation_problems(error, SIGNATURE)
    raise SignatureError(f"the signature of {what} cannot be read", problems, _REMEDY)


def _kept(raw: bytes, statement: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """The signatures of a file that are of this statement; () where it is of another, or none."""
    try:
        signed = _parse(raw, "")
    except SignatureError:
        return ()
    return tuple(one.model_dump() for one in signed.signatures) if signed.statement == statement else ()


def _dump(statement: Mapping[str, Any], signatures: Sequence[Mapping[str, str]]) -> bytes:
    if len(signatures) > MOST_SIGNERS:
        raise SignatureError(f"it would have {len(signatures)} signatures", [f"expected at most {MOST_SIGNERS}"])
    return dump_json({"format": 1, "statement": dict(statement), "signatures": list(signatures)})


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    if isinstance(value, dict):
        return " ".join(f"{name} {_shown(value[name])}" for name in sorted(value))
    return "nothing" if value in (None, "") else str(value)[:16] + ("…" if len(str(value)) > 16 else "")


_REMEDY = (
    "Fetch it again, or ask its author for one that is signed: adapterkit push FOLDER TARGET --sign KEY. "
    "Without --require-signature it is taken unproven."
)
