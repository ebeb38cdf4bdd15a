"""What the audit's entries say of a channel: where it pointed when, and where a roll back leads.

Times are UTC, to the microsecond, in texts that compare as they read.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from adapterkit.errors import RegistryError
from adapterkit.registry.audit import Entry
from adapterkit.registry.records import Served, Version

_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"
MOVES = ("promote", "roll-back", "withdraw")
"""Actions after which a channel points elsewhere, or to nothing."""


def moves_of(entries: Iterable[Entry], channel: str) -> list[Entry]:
    """The entries that moved a channel, of the task that all of them are about."""
    return [entry for entry in entries if entry.channel == channel and entry.action in MOVES]


def history_of(moves: Sequence[Entry], versions: Mapping[str, Version]) -> tuple[Served, ...]:
    """What a channel answered with, the oldest first. `moves`: of the channel. `versions`: by digest."""
    ends: list[Entry | None] = [*moves[1:], None]
    return tuple(
        Served(
            version=versions[move.digest],
            channel=move.channel,
            since=move.at,
            until=None if end is None else end.at,
            by=move.actor,
            action=move.action,
            evidence=move.details.get("evidence", {}),
            forced=move.details.get("forced", ""),
            why=move.details.get("why", {}),
            ended=end.details.get("why", {}) if end is not None else {},
        )
        for move, end in zip(moves, ends, strict=False)
        if move.digest
    )


def way_back(moves: Iterable[Any]) -> list[str]:
    """The versions that roll backs go through, the last one being where the channel points; "" is nothing.
    `moves`: entries that moved a channel, or their actions and digests alone."""
    stack: list[str] = []
    for move in moves:
        if move.action == "roll-back":
            stack.pop()
            continue
        if stack[-1:] == [""]:
            stack.pop()  # nobody goes back to nothing
        if stack[-1:] != [move.digest]:
            stack.append(move.digest)
    return stack


def disagreements(entries: Iterable[Entry], versions: Iterable[Version]) -> list[str]:
    """Versions that nobody added and channels that nobody moved, by what the audit says."""
    added, pointed, problems = set[tuple[str, str]](), dict[tuple[str, str], str](), list[str]()
    for entry in entries:
        if entry.action == "add":
            added.add((entry.task, entry.digest))
        elif entry.action in MOVES:
            pointed[entry.task, entry.channel] = entry.digest
    for version in versions:
        if (version.task, version.digest) not in added:
            problems.append(f"{version.task} {version.short}: no entry says that it was added")
        problems += [
            f"{version.task} {channel}: it points to {version.short}, which no entry says"
            for channel in version.channels
            if pointed.get((version.task, channel)) != version.digest
        ]
    return problems


def written(when: datetime) -> str:
    """A time as the registry writes it."""
    return when.astimezone(UTC).strftime(_FORM)


def later_than(previous: str) -> str:
    """This moment, and later than `previous` even where the clocks of two writers disagree."""
    moment = written(datetime.now(UTC))
    if moment > previous:
        return moment
    return written(datetime.strptime(previous, _FORM).replace(tzinfo=UTC) + timedelta(microseconds=1))


def parse_time(when: str | datetime) -> str:
    """A time that somebody gave: ISO 8601; without a zone it is UTC, a mere date is its first moment.
    Raises RegistryError: it is no time."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            raise RegistryError(
                f"{when!r} is no time", ["at: expected ISO 8601"], "As in 2026-11-28T09:30 or 2026-11-28T10:30+01:00."
            ) from None
    return written(when if when.tzinfo is not None else when.replace(tzinfo=UTC))
