"""Signed receipts: what proves, without the service, that an answer is the one that a version gave.

What is signed is the canonical JSON of the receipt with `answer_sha256`, the digest of
the answer's canonical JSON. Numbers are written as Python writes them, so a checker has to keep them as they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from adapterkit.errors import AdapterkitError, SignatureError
from adapterkit.manifest import parse_json
from adapterkit.signing import canonical, is_signed, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ANSWER, SIGNATURE = "answer_sha256", "signature"


def signed(key: Ed25519PrivateKey, receipt: Mapping[str, str], answer: Any) -> dict[str, str]:
    """A receipt with the digest of its answer and a signature over both, by a service's private key."""
    whole = {**receipt, ANSWER: sha256(canonical(answer)).hexdigest()}
    return {**whole, SIGNATURE: sign(key, canonical(whole))}


@dataclass(frozen=True)
class CheckedReceipt:
    """A receipt as it stands in the file, and why it proves nothing; "" where it proves its answer."""

    receipt: Mapping[str, Any]
    problem: str


def check(raw: bytes, key: Ed25519PublicKey) -> list[CheckedReceipt]:
    """Every receipt of replies of a service: one JSON text, or one a line.
    Raises SignatureError: there is no receipt in it, or it is no JSON."""
    try:
        replies = [parse_json(raw, "reply")]
    except AdapterkitError as error:
        try:
            replies = [parse_json(line, "reply") for line in raw.splitlines() if line.strip()]
        except AdapterkitError:
            raise SignatureError("these are no replies of a service", [error.message]) from error
    found = [CheckedReceipt(receipt, _problem(receipt, answer, key)) for receipt, answer in _receipts(replies)]
    if not found:
        raise SignatureError("there is no receipt", ["expected replies as a service gave them"])
    return found


def _problem(receipt: Any, answer: Any, key: Ed25519PublicKey) -> str:
    if not isinstance(receipt, Mapping):
        return f"found {type(receipt).__name__}, expected a receipt"
    whole = {name: value for name, value in receipt.items() if name != SIGNATURE}
    signature = receipt.get(SIGNATURE)
    if not isinstance(signature, str) or ANSWER not in whole:
        return "it is not signed"
    if not is_signed(key, signature, canonical(whole)):
        return "the signature is not of this key, or the receipt was changed"
    return "" if whole[ANSWER] == sha256(canonical(answer)).hexdigest() else "the answer was changed"


def _receipts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Receipts with their answers, wherever they stand in a reply; of OpenAI's paths, with texts and embeddings."""
    open_ = [value]
    while open_:
        inner = open_.pop()
        if isinstance(inner, list):
            open_ += reversed(inner)
        elif isinstance(inner, Mapping) and {"receipt", "answer"} <= inner.keys():
            yield inner["receipt"], inner["answer"]
        elif isinstance(inner, Mapping) and isinstance(given := inner.get("choices", inner.get("data")), list):
            own = inner.get("adapterkit")
            receipts = own.get("receipts", ()) if isinstance(own, Mapping) else ()
            yield from zip(receipts, [_answer(each) for each in given], strict=False)
        elif isinstance(inner, Mapping):
            open_ += reversed(list(inner.values()))


def _answer(each: Any) -> Any:
    if not isinstance(each, Mapping):
        return None
    message = each.get("message")
    return message.get("content") if isinstance(message, Mapping) else each.get("text", each.get("embedding"))
