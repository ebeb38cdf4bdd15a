"""What every record says of itself: its schema, what answered, on which rows, and what it was made with.

Nothing in a record tells the time, a machine or a folder of its own, so that the same command gives the same bytes.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adapterkit.errors import DataError
from adapterkit.glance import in_short
from adapterkit.manifest import Manifest, parse_object, validation_problems

ABOUT = ("schema", "made_with", "seed", "resamples", "answering", "head_alone", "again", "a", "b", "data", "kind")
"""Fields of a record that say what it is about, and are no findings."""

MAX_RECORD_BYTES = 32 * 2**20

Number = Annotated[
    float | None,
    BeforeValidator(lambda value: None if isinstance(value, float) and not math.isfinite(value) else value),
]
"""A figure; null where it is not defined."""


class Values(BaseModel):
    """A block of a record."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, use_attribute_docstrings=True)

    __repr__ = __str__ = in_short()


class Answerer(Values):
    """An artifact and the backbone under it."""

    sha256: str
    """Digest of the artifact's manifest, which names every other file of it."""
    kind: str
    """Of its task."""
    version: int
    """How many versions it has had."""
    parent: str | None
    """Digest of the version before it."""
    backbone: str
    """As the artifact names it."""
    revision: str | None
    fingerprint: str
    """Digest of the backbone's config, tokenizer and weights."""
    dtype: str
    """The number format that the backbone's products were computed in."""

    @classmethod
    def of(cls, manifest: Manifest, dtype: str) -> Self:
        """From what an artifact says of itself, and the format it was run in."""
        own = {name: getattr(manifest, name) for name in ("sha256", "kind", "version", "parent")}
        under = {name: getattr(manifest.backbone, name) for name in ("revision", "fingerprint")}
        return cls(**own, **under, backbone=manifest.backbone.name, dtype=dtype)


class RowsUsed(Values):
    """The rows that were answered."""

    source: str
    """A file or a hub data set as it was named; "rows in memory"."""
    rows: int
    """How many were used."""
    unusable: int
    """How many could not be."""
    digest: str
    """SHA-256 over the content of the rows used, in order."""


class Record(Values):
    """A record of one kind."""

    form: str = Field(alias="schema")
    """Kind and version of the record; "schema" in JSON."""
    made_with: dict[str, str]
    """Versions of Python and of the libraries that take part."""
    seed: int
    """Of everything that was drawn."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)


def figures_of(record: Record) -> dict[str, float]:
    """Every figure of a record by its path, as trackers take them; those of lists by their names, else their places."""
    told = {name: value for name, value in record.to_dict().items() if name not in ABOUT}
    return {
        path: float(value)
        for path, value in _leaves("", told)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def identity_of(record: Record) -> dict[str, str | int | float]:
    """What a record is about by its path: digests, backbones, rows, versions and the seed."""
    told = record.to_dict()
    found = _leaves("", {name: told[name] for name in ABOUT if name in told})
    return {path: value if isinstance(value, int | float) else str(value) for path, value in found}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inside = value.items()
    elif isinstance(value, list):
        inside = ((_called(each, place), each) for place, each in enumerate(value))
    else:
        yield path, value
    for name, each in inside:
        yield from _leaves(f"{path}/{name}" if path else str(name), each)


def _called(value: Any, place: int) -> Any:
    return next((value[name] for name in ("name", "layer") if isinstance(value, Mapping) and name in value), place)


Kind = TypeVar("Kind", bound=Record)


def read_record(kind: type[Kind], source: str | Path) -> Kind:
    """Read a record from a file.

    Raises:
        DataError: it is no record of that kind; with every field that is wrong.
    """
    path = Path(source)
    try:
        with path.open("rb") as opened:
            return kind.model_validate(parse_object(opened.read(MAX_RECORD_BYTES), path.name))
    except OSError as error:
        raise DataError(f"{path} cannot be read", [str(error.strerror)]) from error
    except ValidationError as error:
        raise DataError(f"{path} is no {kind.__name__}", validation_problems(error, path.name)) from error
