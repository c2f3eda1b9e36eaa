"""How Alembic reaches the database: the registry hands over a connection whose transaction it holds."""

from alembic import context

from mlc_registry.stores.tables import REVISION_TABLE, TABLES

context.configure(
    connection=context.config.attributes["connection"], target_metadata=TABLES, version_table=REVISION_TABLE
)
context.run_migrations()
