"""What the audit's entries say of a channel: where it pointed when, and where a roll back leads."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterkit.registry.audit import Entry
from adapterkit.registry.records import Served, Version

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
