"""Run the migrations on the connection, and in the transaction, that `Ledger.upgrade` opened."""

from alembic import context

from service.ledger.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite has it too; Alembic does not assume so
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
