"""Open packets are found without reading those that are closed."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the index; it is built from what is there."""
    where = sa.text("state = 'sent'")
    op.create_index(
        "packet_open", "packet", ["client_id", "index"], sqlite_where=where, postgresql_where=where
    )
