"""The registry's tables. Alembic's migrations make them; `tests/registry` holds the two against each other."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, String, Table, Text

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Times are texts such as 2026-11-28T09:30:00.000000Z: they compare as they read, in every database.
_Time = String(27)
_Digest = String(64)
_Name = String(200)

VERSIONS = Table(
    "versions",
    METADATA,
    Column("task", _Name, primary_key=True),
    Column("digest", _Digest, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("method", String(64), nullable=False),
    Column("backbone", String(512), nullable=False),
    Column("fingerprint", _Digest, nullable=False),
    Column("data", _Digest),
    Column("recipe", _Digest, nullable=False),
    Column("parent", _Digest),
    Column("size_bytes", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("added_at", _Time, nullable=False),
    Column("added_by", _Name, nullable=False),
    Index(None, "fingerprint"),
    Index(None, "data"),
    Index(None, "recipe"),
    Index(None, "parent"),
)
"""One row for every version of a task. No row changes."""

CHANNELS = Table(
    "channels",
    METADATA,
    Column("task", _Name, primary_key=True),
    Column("channel", _Name, primary_key=True),
    Column("digest", _Digest, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("since", _Time, nullable=False),
)
"""Where every channel points. The only rows that change, each together with an entry of the audit."""

GATES = Table(
    "gates",
    METADATA,
    Column("task", _Name, primary_key=True),
    Column("channel", _Name, primary_key=True),
    Column("settings", Text, nullable=False),
)
"""What a promotion must pass; a task of "" stands for every task."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", _Time, nullable=False),
    Column("actor", _Name, nullable=False),
    Column("action", String(32), nullable=False),
    Column("task", _Name, nullable=False),
    Column("channel", _Name, nullable=False),
    Column("digest", _Digest, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous", _Digest, nullable=False),
    Column("hash", _Digest, nullable=False),
    Index(None, "task", "channel", "at"),
)
"""Everything that was done, each entry with the hash of the one before. The database lets nobody change one."""

HEAD = Table(
    "head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
    Column("at", _Time, nullable=False),
    Column("hash", _Digest, nullable=False),
    CheckConstraint("id = 1", name="only_one"),
)
"""The last entry of the audit. Writers lock this row, so they come one after the other."""

FACTS = Table("facts", METADATA, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))
"""Where the artifacts are kept."""
