"""Recovery of clients: which proposal is pending, and which gave the present anchor."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the columns; no client was recovered before."""
    for name in ("recovery", "recovered"):
        op.add_column(
            "client", sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
        )
