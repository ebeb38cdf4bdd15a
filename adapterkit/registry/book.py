"""A registry's tables: all that is asked of them, and every change, which is written with its entry in the audit."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, ColumnElement, Connection, Engine, cast, func, select

from adapterkit.errors import ConflictError, RegistryError
from adapterkit.registry.audit import AuditReport, Entry, chain_problems, chained, written_details
from adapterkit.registry.database import one_moment, refused_as_registry_error, writing
from adapterkit.registry.history import MOVES, disagreements, later_than
from adapterkit.registry.records import SHORT, Version
from adapterkit.registry.tables import AUDIT, CHANNELS, FACTS, GATES, HEAD, VERSIONS


class WriterTurn:
    """A writer's turn: nobody else writes until it ends. `at`: when, later than everything before."""

    def __init__(self, connection: Connection, actor: str) -> None:
        self._head = connection.execute(select(HEAD).with_for_update()).one()
        self.connection, self._actor, self.at = connection, actor, later_than(self._head.at)

    def note(self, action: str, task: str, channel: str, digest: str, details: Mapping[str, Any]) -> None:
        """Write what was done into the audit."""
        about = {"action": action, "task": task, "channel": channel, "digest": digest, "details": details}
        entry = chained(self._head.number + 1, self._head.hash, at=self.at, actor=self._actor, **about)
        self.connection.execute(AUDIT.insert().values(**{**vars(entry), "details": written_details(details)}))
        self.connection.execute(HEAD.update().values(number=entry.number, at=entry.at, hash=entry.hash))


class Book:
    """The tables of one database. `actor`: who writes."""

    def __init__(self, engine: Engine, actor: str) -> None:
        self.engine, self._actor = engine, actor

    def kept_in(self, url: str, asked: str | None) -> str:
        """Where artifacts are kept: as was said when the registry was made; a folder or URL.
        Raises RegistryError where that was elsewhere."""
        asked = asked if asked is None else asked.rstrip("/") if "://" in asked else os.path.abspath(asked)
        with refused_as_registry_error("the store's place"), writing(self.engine) as connection:
            known = connection.execute(select(FACTS.c.value).where(FACTS.c.name == "store")).scalar_one_or_none()
            if known is None:
                known = asked or _beside(url)
                connection.execute(FACTS.insert().values(name="store", value=known))
        if asked not in (None, known):
            raise RegistryError(
                "this registry keeps its artifacts elsewhere", [f"store: found {known}, asked for {asked}"]
            )
        return str(known)

    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks, in order."""
        with self.engine.connect() as connection:
            return tuple(connection.execute(select(VERSIONS.c.task).distinct().order_by(VERSIONS.c.task)).scalars())

    def versions(self, **asked: str) -> tuple[Version, ...]:
        """Versions by task and number, of which these columns have these values."""
        with self.engine.connect() as connection:
            return _versions(connection, *(VERSIONS.c[name] == value for name, value in asked.items()))

    def channels(self, task: str) -> dict[str, Version]:
        """Channel -> the version that it points to."""
        pointed = VERSIONS.c.digest.in_(select(CHANNELS.c.digest).where(CHANNELS.c.task == task))
        with self.engine.connect() as connection:
            found = _versions(connection, VERSIONS.c.task == task, pointed)
        return {channel: version for version in found for channel in version.channels}

    def manifest(self, version: Version) -> bytes:
        """As it was added."""
        same = (VERSIONS.c.task == version.task) & (VERSIONS.c.digest == version.digest)
        with self.engine.connect() as connection:
            return str(connection.execute(select(VERSIONS.c.manifest).where(same)).scalar_one()).encode()

    def add(self, task: str, digest: str, **facts: Any) -> None:
        """Add a version, unless it is there already. `facts`: its other columns."""
        with self.turn(f"version {digest[:SHORT]} of {task}") as turn:
            of_task = select(VERSIONS.c.digest).where(VERSIONS.c.task == task)
            known = turn.connection.execute(of_task).scalars().all()
            if digest in known:
                return  # another writer was quicker
            number = len(known) + 1
            added = {"number": number, "added_at": turn.at, "added_by": self._actor}
            turn.connection.execute(VERSIONS.insert().values(task=task, digest=digest, **facts, **added))
            told = {"source": facts["source"], "location": facts["location"], "number": number}
            turn.note("add", task, "", digest, told)

    def gates(self, channel: str) -> dict[str, Any]:
        """Task -> settings of its gate; "" for all tasks without one of their own."""
        with self.engine.connect() as connection:
            found = connection.execute(select(GATES.c.task, GATES.c.settings).where(GATES.c.channel == channel))
            return {task: json.loads(settings) for task, settings in found}

    def set_gate(self, task: str, channel: str, settings: Mapping[str, Any]) -> None:
        """Say what a promotion to a channel must pass."""
        with self.turn(f"the gate of {channel}") as turn:
            turn.connection.execute(GATES.delete().where((GATES.c.task == task) & (GATES.c.channel == channel)))
            kept = {"task": task, "channel": channel, "settings": json.dumps(settings)}
            turn.connection.execute(GATES.insert().values(**kept))
            turn.note("gate", task, channel, "", settings)

    def revision(self, task: str, channel: str) -> int:
        """How often a channel has moved; 0 where it is not there."""
        same = (CHANNELS.c.task == task) & (CHANNELS.c.channel == channel)
        with self.engine.connect() as connection:
            return int(connection.execute(select(CHANNELS.c.revision).where(same)).scalar_one_or_none() or 0)

    def move(
        self,
        action: str,
        task: str,
        channel: str,
        digest: str,
        before: int,
        details: Mapping[str, Any],
        expected: str | None = None,
    ) -> None:
        """Let a channel point to a version, or to nothing, if nobody has moved it meanwhile.
        `digest`: of the version; "" for nothing. `before`: its revision when this began. `expected`: digest that it has
        to point to still; None takes any."""
        same = (CHANNELS.c.task == task) & (CHANNELS.c.channel == channel)
        with self.turn(f"{action} of {task} {digest[:SHORT] or channel}") as turn:
            row = turn.connection.execute(select(CHANNELS).where(same)).first()
            revision, today = (0, "") if row is None else (row.revision, row.digest)
            if revision != before or expected not in (None, today):
                raise ConflictError(
                    f"{task} {channel} was moved by somebody else meanwhile",
                    [f"it points to {today[:SHORT] or 'nothing'}, which was not so when this began"],
                    "Look at `adapterkit registry history` and try again.",
                )
            change = CHANNELS.insert() if row is None else CHANNELS.update().where(same)
            values = {"task": task, "channel": channel, "digest": digest, "revision": revision + 1, "since": turn.at}
            turn.connection.execute(change.values(**values))
            turn.note(action, task, channel, digest, {**details, "before": today or None})

    def entries(self, task: str | None = None, last: int | None = None) -> tuple[Entry, ...]:
        """Of the audit, the oldest first; of one task, or all; the last so many, or all."""
        with self.engine.connect() as connection:
            return tuple(_entries(connection, task, last))

    def moves(self, task: str, channel: str) -> Sequence[Any]:
        """Action and digest of every entry that moved a channel, the oldest first: all that a way back needs."""
        of_channel = (AUDIT.c.task == task) & (AUDIT.c.channel == channel) & AUDIT.c.action.in_(MOVES)
        with self.engine.connect() as connection:
            found = select(AUDIT.c.action, AUDIT.c.digest).where(of_channel).order_by(AUDIT.c.number)
            return connection.execute(found).all()

    def last(self, task: str, action: str) -> dict[str, Any] | None:
        """The details of the last entry about an action on a task; None where there is none."""
        same = (AUDIT.c.task == task) & (AUDIT.c.action == action)
        found = select(AUDIT.c.details).where(same).order_by(AUDIT.c.number.desc()).limit(1)
        with self.engine.connect() as connection:
            details = connection.execute(found).scalar_one_or_none()
        return None if details is None else dict(json.loads(details))

    def proven(self, head: str | None) -> tuple[AuditReport, tuple[Version, ...]]:
        """What does not fit in the chain, or between it and the versions and channels of the same moment; and those.
        `head`: hash of an entry that has to be there."""
        with one_moment(self.engine) as connection:
            last = str(connection.execute(select(HEAD.c.hash)).scalar_one())
            count = connection.execute(select(func.count()).select_from(AUDIT)).scalar_one()
            noted = connection.execute(select(AUDIT.c.number).where(AUDIT.c.hash.startswith(head or ""))).first()
            versions, problems = _versions(connection), chain_problems(_entries(connection), last)
            if head is not None and noted is None:
                problems.append(f"the entry {head[:SHORT]} is not there: the history was written anew")
            problems += disagreements(_entries(connection), versions)
        return AuditReport(count, last, tuple(problems)), versions

    @contextmanager
    def turn(self, what: str) -> Iterator[WriterTurn]:
        """A turn to write: all that is done in it with its entry, or nothing. `what`: is written, for the error.
        Raises RegistryError: the database refuses."""
        with refused_as_registry_error(what), writing(self.engine) as connection:
            yield WriterTurn(connection, self._actor)


def _versions(connection: Connection, *which: ColumnElement[bool]) -> tuple[Version, ...]:
    """Versions by task and number. Of their manifests, which may be large, the metrics alone leave the database."""
    facts, manifest = [column for column in VERSIONS.c if column.name != "manifest"], VERSIONS.c.manifest
    sqlite = connection.dialect.name == "sqlite"
    metrics: Any = func.json_extract(manifest, "$.metrics") if sqlite else cast(manifest, JSON)["metrics"].as_string()
    found = select(*facts, metrics.label("metrics")).where(*which).order_by(VERSIONS.c.task, VERSIONS.c.number)
    rows = connection.execute(found).mappings().all()
    pointing: dict[tuple[str, str], list[str]] = {}
    for pointer in connection.execute(select(CHANNELS).order_by(CHANNELS.c.channel)):
        pointing.setdefault((pointer.task, pointer.digest), []).append(pointer.channel)
    channels = [tuple(pointing.get((row["task"], row["digest"]), ())) for row in rows]
    return tuple(
        Version(**{**row, "metrics": json.loads(row["metrics"]), "channels": own})
        for row, own in zip(rows, channels, strict=True)
    )


def _entries(connection: Connection, task: str | None = None, last: int | None = None) -> Iterator[Entry]:
    """Of the audit, a few at a time in memory however many there are. Arguments as those of `Book.entries`."""
    found: Any = select(AUDIT) if task is None else select(AUDIT).where(AUDIT.c.task == task)
    if last is not None:
        found = select(found.order_by(AUDIT.c.number.desc()).limit(last).subquery())
    for row in connection.execution_options(yield_per=16).execute(found.order_by("number")).mappings():
        yield Entry(**{**row, "details": json.loads(row["details"])})


def _beside(url: str) -> str:
    """Beside the file of a SQLite registry: `registry.db` keeps its artifacts in `registry-artifacts`."""
    name = url.partition(":///")[2]
    if not url.startswith("sqlite") or not name or name == ":memory:":
        raise RegistryError(
            "this registry does not say where artifacts are kept",
            ["store: expected a folder or a URL"],
            "Name it once, when the registry is made: Registry(url, store=…), on the command line --store URL.",
        )
    path = Path(name)
    return os.path.abspath(path.with_name(f"{path.stem}-artifacts"))
