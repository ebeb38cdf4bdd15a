"""The record of what is mounted under a name: all that answering needs, and nothing of the artifact beyond that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterkit.compose.mountable import Origin
from adapterkit.glance import in_short
from adapterkit.host.bank.residency import Seat
from adapterkit.host.engine.heads import Template
from adapterkit.tasks.asked import Asked
from adapterkit.tasks.protocol import Task


@dataclass(frozen=True, eq=False, slots=True)
class MountedHead:
    """One head of what is mounted: its task and how rows of it are written, and its modules."""

    asked: Asked
    template: Template

    @property
    def task(self) -> Task:
        """What it answers."""
        return self.asked.task


@dataclass(frozen=True, eq=False, slots=True)
class Mounted:
    """One version of what is mounted under a name. It never changes; a swap puts another in its place.

    Attributes:
        version: 1 for what was mounted, one more for every swap since.
        origin: the artifact; nothing for a composition, whose `report` is what it says of itself.
        heads: name -> head; one usually, under any name.
        method: what is attached, in the order of application: "lora", "houlsby + lora", "none".
        rank: the largest rank of a LoRA or width of a bottleneck; None without either.
        backbone: fingerprint of the one that answers.
    """

    name: str
    version: int
    origin: Origin
    heads: Mapping[str, MountedHead]
    method: str
    rank: int | None
    seat: Seat
    report: Mapping[str, Any]
    backbone: str

    @property
    def kind(self) -> str:
        """The kinds of its heads, in words."""
        return ", ".join(dict.fromkeys(head.task.kind for head in self.heads.values()))


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to know of one mounted adapter.

    Attributes:
        version: 1 when mounted, one more for every swap.
        artifact: the version that the artifact says of itself; 0 for a composition.
        kind: of its tasks, in words; method and rank as in `Mounted`.
        slot: its place in the bank; None while it is away, and not `resident` where the backbone is.
        size_bytes: of its tensors, packed method and head.
        hits: rows that were asked of it.
        source: the artifact's folder; nothing for a composition, whose `report` is what it says of itself.
    """

    name: str
    version: int
    artifact: int
    kind: str
    method: str
    rank: int | None
    slot: int | None
    size_bytes: int
    hits: int
    resident: bool
    source: str
    report: Mapping[str, Any]

    __repr__ = in_short("name", "kind", "method", "version", "size_bytes", "resident")

    @classmethod
    def of(cls, mounted: Mounted) -> Status:
        """The state of what is mounted, at this moment."""
        seat = mounted.seat
        origin = mounted.origin
        return cls(
            mounted.name,
            mounted.version,
            origin.version,
            mounted.kind,
            mounted.method,
            mounted.rank,
            seat.slot,
            seat.size_bytes,
            seat.hits,
            seat.loaded is not None,
            origin.source,
            mounted.report,
        )


_COLUMNS = ("name", "version", "kind", "method", "rank", "slot", "bytes", "hits", "resident")


class Statuses(tuple[Status, ...]):
    """The states of all that is mounted, by name; printed as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = [
            (s.name, s.version, s.kind, s.method, s.rank, s.slot, f"{s.size_bytes:,}", f"{s.hits:,}", s.resident)
            for s in self
        ]
        cells: list[Sequence[str]] = [_COLUMNS, *(list(map(_shown, row)) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
        return "\n".join([*lines, f"{len(self)} mounted, {sum(s.size_bytes for s in self):,} bytes"])

    __repr__ = __str__


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
