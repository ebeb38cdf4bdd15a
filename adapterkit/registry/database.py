"""The database behind a registry: SQLite by default, PostgreSQL for many writers, migrated when it is opened."""

import contextlib
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, NoSuchModuleError

from adapterkit.errors import RegistryError

BUSY_S = 30.0
"""How long a writer waits for another one."""


def open_database(url: str) -> Engine:
    """An engine on the database, whose schema is the newest.
    Raises RegistryError: no such database, or one that a newer adapterkit has changed."""
    try:
        address = make_url(url)
        sqlite = address.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_S}} if sqlite else {"pool_pre_ping": True}
        engine = create_engine(address, **options)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise RegistryError(
            f"{url!r} is no address of a registry",
            [f"{type(error).__name__}: {str(error).splitlines()[0]}"],
            "As in sqlite:///registry.db or postgresql+psycopg://user@host/name.",
        ) from error
    _OPEN.add(engine)
    if sqlite:
        if address.database not in (None, "", ":memory:"):
            with contextlib.suppress(OSError, ValueError):  # what SQLite says then names the file
                Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
        # Python's driver would begin a transaction at the first write only, too late for what was read before it.
        event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        # Only who writes takes the lock at once; who reads keeps nobody waiting.
        begin = {True: "BEGIN IMMEDIATE", False: "BEGIN"}
        event.listen(engine, "begin", lambda at: at.exec_driver_sql(begin["writes" in at.get_execution_options()]))
    try:
        with writing(engine) as connection:
            _migrate(connection)
    except RegistryError:
        raise
    except (DatabaseError, ValueError) as error:  # a NUL makes it no path
        told = getattr(error, "orig", None) or error
        raise RegistryError(
            f"{address.render_as_string(hide_password=True)} cannot be used as a registry",
            [str(told).splitlines()[0]],
            "Name a database of adapterkit's own, or an empty one, that may be written.",
        ) from error
    return engine


_OPEN: weakref.WeakSet[Engine] = weakref.WeakSet()


def _forget_connections() -> None:
    """A connection is of the process that opened it: a forked one opens its own, and leaves its parent's alone."""
    for engine in _OPEN:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def writing(engine: Engine) -> contextlib.AbstractContextManager[Connection]:
    """A transaction that holds the writers' lock from its beginning."""
    return engine.execution_options(writes=True).begin()


def one_moment(engine: Engine) -> Connection:
    """A connection to whose every question the registry is as it was at the first; SQLite's are so by themselves."""
    options: Any = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
    return engine.execution_options(**options).connect()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    if connection.dialect.name == "postgresql":  # two replicas that open an empty database at once
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(727274)")
    found = MigrationContext.configure(connection).get_current_revision()
    newest = script.get_current_head()
    if found == newest:
        return
    if found is not None and found not in {step.revision for step in script.walk_revisions()}:
        raise RegistryError(
            "a newer adapterkit has changed this registry",
            [f"schema: found {found}, expected {newest} or older"],
            "Upgrade adapterkit.",
        )
    command.upgrade(config, "head")


@contextmanager
def refused_as_registry_error(what: str) -> Iterator[None]:
    """What the database refuses, as RegistryError: a full disk, a lost connection, a lock that is not given."""
    try:
        yield
    except DBAPIError as error:
        raise RegistryError(
            f"{what} was not written; the registry is as it was",
            [str(error.orig).splitlines()[0][:300]],
            "Try again when the database can be written.",
        ) from error
