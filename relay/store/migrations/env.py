"""Run by alembic with the connection that relay.store.migrate hands over."""

from alembic import context
from sqlmodel import SQLModel

import relay.store.tables  # noqa: F401 - fills SQLModel.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=True,
)
context.run_migrations()
