"""Versions, channels, gates, and an audit that only grows."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME, DIGEST, NAME = sa.String(27), sa.String(64), sa.String(200)


def upgrade() -> None:
    """Make the tables; make the audit refuse changes."""
    op.create_table(
        "versions",
        sa.Column("task", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("backbone", sa.String(512), nullable=False),
        sa.Column("fingerprint", DIGEST, nullable=False),
        sa.Column("data", DIGEST),
        sa.Column("recipe", DIGEST, nullable=False),
        sa.Column("parent", DIGEST),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("added_at", TIME, nullable=False),
        sa.Column("added_by", NAME, nullable=False),
        sa.PrimaryKeyConstraint("task", "digest", name="pk_versions"),
    )
    for column in ("fingerprint", "data", "recipe", "parent"):
        op.create_index(f"ix_versions_{column}", "versions", [column])
    op.create_table(
        "channels",
        sa.Column("task", NAME, nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.PrimaryKeyConstraint("task", "channel", name="pk_channels"),
    )
    op.create_table(
        "gates",
        sa.Column("task", NAME, nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("task", "channel", name="pk_gates"),
    )
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("task", NAME, nullable=False),
        sa.Column("channel", NAME, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous", DIGEST, nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    op.create_index("ix_audit_task_channel_at", "audit", ["task", "channel", "at"])
    op.create_table(
        "head",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("hash", DIGEST, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_head"),
        sa.CheckConstraint("id = 1", name="ck_head_only_one"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.execute(f"INSERT INTO head (id, number, at, hash) VALUES (1, 0, '', '{'0' * 64}')")
    for statement in _refusals(op.get_bind().dialect.name):
        op.execute(statement)


def _refusals(dialect: str) -> list[str]:
    """Statements after which an entry of the audit, or a version, can be neither changed nor removed."""
    tables = ("audit", "versions")
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
        return [
            function,
            *(
                f"CREATE TRIGGER {table}_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION adapterkit_only_grows()"
                for table in tables
            ),
        ]
    return []
