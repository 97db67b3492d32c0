"""Entries that travel with a packet, kept with what waits."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column; nothing that waits has entries yet."""
    empty = "x''" if op.get_bind().dialect.name == "sqlite" else "''"
    column = sa.Column("entries", sa.LargeBinary, nullable=False, server_default=sa.text(empty))
    op.add_column("outbox", column)
