"""Alembic's entry: migrations run on the connection, and in the transaction, of the caller."""

from __future__ import annotations

from alembic import context

from assistants_server.store.rows import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
