"""An append-only record of everything that was done: each entry carries the hash of the one before."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

START = "0" * 64
"""What the first entry names as the hash before it."""


@dataclass(frozen=True)
class Entry:
    """One thing that was done.

    Attributes:
        number: 1, 2, … without a gap.
        at: when, UTC; later than the entry before.
        action: "add", "promote", "roll-back", "withdraw", "split" or "gate".
        task: of which task; "" for a gate of all tasks.
        channel: which pointer moved; "" where none did.
        digest: the version that it is about; "" where none is.
        details: the evidence, the version before, and whatever else belongs to the action.
        previous: hash of the entry before.
        hash: SHA-256 over all of it.
    """

    number: int
    at: str
    actor: str
    action: str
    task: str
    channel: str
    digest: str
    details: Mapping[str, Any]
    previous: str
    hash: str


def chained(number: int, previous: str, **fields: Any) -> Entry:
    """The entry that follows the one with the hash `previous`."""
    content = {"number": number, "previous": previous, **fields}
    return Entry(**content, hash=_hash(content))


def written_details(details: Mapping[str, Any]) -> str:
    """The details as the database keeps them: the same for the same details."""
    return json.dumps(details, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def chain_problems(entries: Iterable[Entry], head: str) -> list[str]:
    """What does not fit: an entry that was changed, removed, put in or put elsewhere.

    Whoever can rewrite the whole database can write another whole chain: keep the head's hash somewhere else to notice.
    `entries`: all, in order. `head`: the hash that the last one should have."""
    problems = []
    last, number, moment = START, 0, ""
    for entry in entries:
        number += 1
        if entry.number != number:
            problems.append(f"entry {number}: missing, found {entry.number}")
            number = entry.number
        if entry.previous != last:
            problems.append(f"entry {entry.number}: it does not follow the entry before it")
        content = asdict(entry)
        if content.pop("hash") != _hash(content):
            problems.append(f"entry {entry.number}: its content is not what was written")
        if entry.at <= moment:
            problems.append(f"entry {entry.number}: {entry.at} is not later than the entry before it")
        last, moment = entry.hash, entry.at
    if last != head:
        problems.append(f"the end: found {last[:12]}, expected {head[:12]}: entries at the end are missing or too many")
    return problems


@dataclass(frozen=True)
class AuditReport:
    """What an audit found. `bool(report)` is whether nothing was wrong.

    Attributes:
        entries: how many there are.
        head: hash of the last one; whoever keeps it elsewhere can prove later that nothing before it has changed.
        problems: everything that does not fit.
    """

    entries: int
    head: str
    problems: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.problems


def _hash(content: Mapping[str, Any]) -> str:
    return sha256(written_details(content).encode()).hexdigest()
