"""Alembic runs this module to migrate the connection that `migrating` gives it."""

from __future__ import annotations

from alembic import context

from opentrail.adapters.sql.schema import METADATA, VERSION

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION.name,
)
with context.begin_transaction():
    context.run_migrations()
