"""Versions, channels, gates, and an audit that only grows."""

from alembic import op

from adapterkit.registry.audit import START
from adapterkit.registry.tables import AUDIT, HEAD, METADATA, VERSIONS

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables; make the audit and the versions refuse changes.
    Who changes a table in a later step writes down here what it was before."""
    METADATA.create_all(op.get_bind())
    op.execute(HEAD.insert().values(id=1, number=0, at="", hash=START))
    for statement in _refusals(op.get_bind().dialect.name):
        op.execute(statement)


def _refusals(dialect: str) -> list[str]:
    tables = (AUDIT.name, VERSIONS.name)
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_keeps_{what.lower()} BEFORE {what} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} only grows'); END"
            for table in tables
            for what in ("UPDATE", "DELETE")
        ]
    if dialect == "postgresql":
        function = (
            "CREATE FUNCTION adapterkit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% only grows', TG_TABLE_NAME; END $$"
        )
        triggers = (
            f"CREATE TRIGGER {table}_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION adapterkit_only_grows()"
            for table in tables
        )
        return [function, *triggers]
    return []
