"""Channels in the database: moved by one writer at a time, who is told when somebody else was quicker."""

from collections.abc import Mapping
from typing import Any

from adapterkit.errors import ConflictError
from adapterkit.registry.audit import Entry
from adapterkit.registry.ledger import AuditLedger, WriterTurn
from adapterkit.registry.records import SHORT


class Pointers:
    """The channels of one database."""

    def __init__(self, engine: Any, ledger: AuditLedger) -> None:
        self._engine, self._ledger = engine, ledger

    def moves(self, task: str, channel: str) -> int:
        """How often a channel has moved; 0 where it is not there."""
        from sqlalchemy import select

        from adapterkit.registry.tables import CHANNELS

        same = (CHANNELS.c.task == task) & (CHANNELS.c.channel == channel)
        with self._engine.connect() as connection:
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
        `digest`: of the version; "" for nothing. `before`: how often it had moved when this began. `expected`: digest
        that it has to point to still; None takes any."""
        from sqlalchemy import select

        from adapterkit.registry.tables import CHANNELS

        same = (CHANNELS.c.task == task) & (CHANNELS.c.channel == channel)

        def change(turn: WriterTurn) -> Entry:
            row = turn.connection.execute(select(CHANNELS).where(same)).mappings().first()
            revision, today = (0, "") if row is None else (int(row["revision"]), row["digest"])
            if revision != before or expected not in (None, today):
                raise ConflictError(
                    f"{task} {channel} was moved by somebody else meanwhile",
                    [f"it points to {today[:SHORT] or 'nothing'}, which was not so when this began"],
                    "Look at `adapterkit registry history` and try again.",
                )
            values = {"digest": digest, "revision": revision + 1, "since": turn.at}
            if row is None:
                turn.connection.execute(CHANNELS.insert().values(task=task, channel=channel, **values))
            else:
                turn.connection.execute(CHANNELS.update().where(same).values(**values))
            return turn.entry(action, task, channel, digest, {**details, "before": today or None})

        self._ledger.write(f"{action} of {task} {digest[:SHORT] or channel}", change)
