"""The audit in the database: read whole, and written together with the change that an entry is about, or not at all."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from adapterkit.registry import times
from adapterkit.registry.audit import Entry, chained, written_details
from adapterkit.registry.database import refused_as_registry_error, writing


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


class AuditLedger:
    """The audit of one database.

    Args:
        engine: SQLAlchemy's.
        actor: who acts.
    """

    def __init__(self, engine: Any, actor: str) -> None:
        self._engine, self._actor = engine, actor

    def entries(self, task: str | None = None) -> tuple[Entry, ...]:
        """The oldest first; of one task, or all."""
        from sqlalchemy import select

        from adapterkit.registry.tables import AUDIT

        found = select(AUDIT).order_by(AUDIT.c.number)
        if task is not None:
            found = found.where(AUDIT.c.task == task)
        with self._engine.connect() as connection:
            rows = connection.execute(found).mappings().all()
        return tuple(Entry(**{**row, "details": json.loads(row["details"])}) for row in rows)

    def last(self, task: str, action: str) -> Mapping[str, Any] | None:
        """The details of the last entry about an action on a task; None where there is none."""
        from sqlalchemy import select

        from adapterkit.registry.tables import AUDIT

        same = (AUDIT.c.task == task) & (AUDIT.c.action == action)
        found = select(AUDIT.c.details).where(same).order_by(AUDIT.c.number.desc()).limit(1)
        with self._engine.connect() as connection:
            details = connection.execute(found).scalar_one_or_none()
        return None if details is None else dict(json.loads(details))

    def head(self) -> str:
        """Hash of the last entry."""
        from sqlalchemy import select

        from adapterkit.registry.tables import HEAD

        with self._engine.connect() as connection:
            return str(connection.execute(select(HEAD.c.hash)).scalar_one())

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
