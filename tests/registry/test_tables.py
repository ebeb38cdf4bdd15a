"""The tables that the code speaks of are those that the migrations make."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from adapterkit.registry import Registry
from adapterkit.registry.tables import METADATA


def test_the_migrations_make_the_tables_that_the_code_names(registry: Registry) -> None:
    with create_engine(registry.url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
