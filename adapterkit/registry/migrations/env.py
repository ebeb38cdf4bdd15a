"""What Alembic runs: the migrations, on the connection that the registry hands over."""

from alembic import context

from adapterkit.registry.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
