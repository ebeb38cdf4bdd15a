"""API keys: random, shown once, kept as digests, each with the scopes that it opens.

A key has 256 bits of chance, so a plain SHA-256 of it cannot be searched; slow hashes protect words that people choose.
"""

import hmac
import json
import secrets
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapterkit.errors import ServingError
from adapterkit.manifest import read_file, write_file

Scope = Literal["predict", "feedback", "admin"]
SCOPES: tuple[Scope, ...] = ("predict", "feedback", "admin")
MARK = "ak_"
"""How every key begins, so that scanners of repositories can find one that was committed."""


class Key(BaseModel):
    """Who may ask for what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    """Of whoever has it; requests that wait are served in turn by name."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Scope, ...] = ("predict",)


class Keys:
    """The keys of a service; None where everybody may do everything."""

    def __init__(self, keys: Sequence[Key] | None) -> None:
        self.required = keys is not None
        self._keys = tuple(keys or ())

    def find(self, secret: str) -> Key | None:
        """Whose key this is; None where it is nobody's. Takes as long for every wrong one."""
        digest = sha256(secret.encode("utf-8", errors="replace")).hexdigest()
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return found


def read_keys(file: Path | None) -> Keys:
    """The keys of a file that `add_key` wrote; everybody's for None. Raises ServingError: it holds something else."""
    return Keys(None if file is None else _read(file))


def add_key(file: Path, name: str, scopes: Sequence[Scope]) -> str:
    """Make a key and keep its digest. Returns the key, which nobody can read again.
    Raises ServingError: the name has one already, or the file holds something else."""
    known = _read(file) if file.exists() else []
    if any(key.name == name for key in known):
        raise ServingError(
            f"{file} has a key of {name!r} already", remedy="Choose another name, or remove the old one."
        )
    secret = MARK + secrets.token_urlsafe(32)
    try:
        fresh = Key(name=name, sha256=sha256(secret.encode()).hexdigest(), scopes=tuple(scopes))
    except ValidationError as error:
        raise ServingError("the key cannot be made", [item["msg"] for item in error.errors()]) from error
    kept = [key.model_dump(mode="json") for key in [*known, fresh]]
    write_file(file, (json.dumps(kept, indent=2) + "\n").encode(), mode=0o600)
    return secret


def _read(file: Path) -> list[Key]:
    try:
        return [Key.model_validate(item) for item in json.loads(bytes(read_file(file, 1 << 20)))]
    except (ValueError, TypeError) as error:  # of JSON, of pydantic, of the file
        reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        raise ServingError(
            f"{file} cannot be read as keys", [reason], "Make one: adapterkit serve --keys FILE --new-key NAME."
        ) from error
