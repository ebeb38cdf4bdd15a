"""The registry's schema, step by step. Alembic runs what a database lacks when it is opened."""
