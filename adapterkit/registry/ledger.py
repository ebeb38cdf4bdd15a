"""The audit in the database: read one by one, and written together with the change that an entry is about, or not."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from adapterkit.registry import times
from adapterkit.registry.audit import AuditReport, Entry, chain_problems, chained, written_details
from adapterkit.registry.database import one_moment, refused_as_registry_error, writing
from adapterkit.registry.history import MOVES, disagreements
from adapterkit.registry.listing import listed_versions
from adapterkit.registry.records import SHORT, Version


class WriterTurn:
    """A writer's turn: nobody else writes until it ends.

    Attributes:
        connection: in the transaction of this turn.
        at: the time of what is done now; later than everything before.
    """

    def __init__(self, connection: Any, head: Any, actor: str) -> None:
        self.connection = connection
        self.at = times.after(head.at)
        self._head, self._actor = head, actor

    def entry(self, action: str, task: str, channel: str, digest: str, details: Mapping[str, Any]) -> Entry:
        """What the audit shall say of it."""
        return chained(
            self._head.number + 1,
            self._head.hash,
            at=self.at,
            actor=self._actor,
            action=action,
            task=task,
            channel=channel,
            digest=digest,
            details=details,
        )


def each_entry(connection: Any, task: str | None = None, last: int | None = None) -> Iterator[Entry]:
    """The oldest first, a few at a time in memory however many there are. Arguments as those of `entries`."""
    from sqlalchemy import select

    from adapterkit.registry.tables import AUDIT

    found = select(AUDIT) if task is None else select(AUDIT).where(AUDIT.c.task == task)
    if last is not None:
        newest = found.order_by(AUDIT.c.number.desc()).limit(last).subquery()
        found = select(newest)
    rows = connection.execution_options(yield_per=16).execute(found.order_by("number"))
    for row in rows.mappings():
        yield Entry(**{**row, "details": json.loads(row["details"])})


class AuditLedger:
    """The audit of one database.

    Args:
        engine: SQLAlchemy's.
        actor: who acts.
    """

    def __init__(self, engine: Any, actor: str) -> None:
        self._engine, self._actor = engine, actor

    def entries(self, task: str | None = None, last: int | None = None) -> tuple[Entry, ...]:
        """The oldest first; of one task, or all; the last so many, or all."""
        with self._engine.connect() as connection:
            return tuple(each_entry(connection, task, last))

    def moves(self, task: str, channel: str) -> Sequence[Any]:
        """Action and digest of every entry that moved a channel, the oldest first: all that a way back needs."""
        from sqlalchemy import select

        from adapterkit.registry.tables import AUDIT

        of_channel = (AUDIT.c.task == task) & (AUDIT.c.channel == channel) & AUDIT.c.action.in_(MOVES)
        with self._engine.connect() as connection:
            found = select(AUDIT.c.action, AUDIT.c.digest).where(of_channel).order_by(AUDIT.c.number)
            return list(connection.execute(found))

    def proven(self, head: str | None) -> tuple[AuditReport, tuple[Version, ...]]:
        """What does not fit in the chain, or between it and the versions and channels of the same moment; and those.

        Args:
            head: hash of an entry that has to be there.
        """
        from sqlalchemy import func, select

        from adapterkit.registry.tables import AUDIT, HEAD

        with one_moment(self._engine) as connection:
            last = str(connection.execute(select(HEAD.c.hash)).scalar_one())
            entries = connection.execute(select(func.count()).select_from(AUDIT)).scalar_one()
            noted = connection.execute(select(AUDIT.c.number).where(AUDIT.c.hash.startswith(head or ""))).first()
            versions, problems = listed_versions(connection), chain_problems(each_entry(connection), last)
            if head is not None and noted is None:
                problems.append(f"the entry {head[:SHORT]} is not there: the history was written anew")
            problems += disagreements(each_entry(connection), versions)
        return AuditReport(entries, last, tuple(problems)), versions

    def last(self, task: str, action: str) -> Mapping[str, Any] | None:
        """The details of the last entry about an action on a task; None where there is none."""
        from sqlalchemy import select

        from adapterkit.registry.tables import AUDIT

        same = (AUDIT.c.task == task) & (AUDIT.c.action == action)
        found = select(AUDIT.c.details).where(same).order_by(AUDIT.c.number.desc()).limit(1)
        with self._engine.connect() as connection:
            details = connection.execute(found).scalar_one_or_none()
        return None if details is None else dict(json.loads(details))

    def write(self, what: str, change: Callable[[WriterTurn], Entry | None]) -> None:
        """One change with its entry, or neither.

        Args:
            what: is written, for the error.
            change: makes it and says what the entry is; None where there was nothing to change.

        Raises:
            RegistryError: the database refuses.
        """
        from sqlalchemy import select

        from adapterkit.registry.tables import AUDIT, HEAD

        with refused_as_registry_error(what), writing(self._engine) as connection:
            head = connection.execute(select(HEAD).with_for_update()).one()
            entry = change(WriterTurn(connection, head, self._actor))
            if entry is None:
                return
            connection.execute(AUDIT.insert().values(**{**vars(entry), "details": written_details(entry.details)}))
            connection.execute(HEAD.update().values(number=entry.number, at=entry.at, hash=entry.hash))
