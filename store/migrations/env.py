"""Alembic's entry: runs on the connection that `store.migrations` hands over."""

from alembic import context

from store.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
