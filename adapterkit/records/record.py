"""What every record says of itself: its schema, what answered, on which rows, and what it was made with.

Nothing in a record tells the time, a machine or a folder of its own, so that the same command gives the same bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adapterkit.errors import DataError
from adapterkit.manifest import Manifest, parse_object

MAX_RECORD_BYTES = 32 * 2**20

Number = Annotated[
    float | None,
    BeforeValidator(lambda value: None if isinstance(value, float) and not math.isfinite(value) else value),
]
"""A figure; null where it is not defined."""


class Values(BaseModel):
    """A block of a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Answerer(Values):
    """An artifact and the backbone under it.

    Attributes:
        sha256: digest of the artifact's manifest, which names every other file of it.
        kind: of its task.
        version: how many versions it has had.
        parent: digest of the version before it.
        backbone: as the artifact names it.
        fingerprint: digest of the backbone's config, tokenizer and weights.
        dtype: the number format that the backbone's products were computed in.
    """

    sha256: str
    kind: str
    version: int
    parent: str | None
    backbone: str
    revision: str | None
    fingerprint: str
    dtype: str

    @classmethod
    def of(cls, manifest: Manifest, dtype: str) -> Self:
        """From what an artifact says of itself, and the format it was run in."""
        backbone = manifest.backbone
        return cls(
            sha256=manifest.sha256,
            kind=manifest.kind,
            version=manifest.version,
            parent=manifest.parent,
            backbone=backbone.name,
            revision=backbone.revision,
            fingerprint=backbone.fingerprint,
            dtype=dtype,
        )


class RowsUsed(Values):
    """The rows that were answered.

    Attributes:
        source: a file or a hub data set as it was named; "rows in memory".
        rows: how many were used.
        unusable: how many could not be.
        digest: SHA-256 over the content of the rows used, in order.
    """

    source: str
    rows: int
    unusable: int
    digest: str


class Record(Values):
    """A record of one kind.

    Attributes:
        form: kind and version of the record; "schema" in JSON.
        made_with: versions of Python and of the libraries that take part.
        seed: of everything that was drawn.
    """

    form: str = Field(alias="schema")
    made_with: dict[str, str]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


Kind = TypeVar("Kind", bound=Record)


def read_record(kind: type[Kind], source: str | Path) -> Kind:
    """Read a record from a file.

    Raises:
        DataError: it is no record of that kind; with every field that is wrong.
    """
    path = Path(source)
    try:
        with path.open("rb") as opened:
            raw = opened.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read", [str(error.strerror)]) from error
    if len(raw) > MAX_RECORD_BYTES:
        raise DataError(f"{path} is too large for a record", [f"expected at most {MAX_RECORD_BYTES:,} bytes"])
    try:
        return kind.model_validate(parse_object(raw, path.name))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise DataError(f"{path} is no {kind.__name__}", problems[:20]) from error
