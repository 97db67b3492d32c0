"""Which process runs a lane, where several share one database."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the table, empty: the first process that asks has the lane."""
    op.create_table(
        "lease",
        sa.Column("client_id", sa.String, primary_key=True),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
