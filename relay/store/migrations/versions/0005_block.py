"""Blocks of a journal that a replicated engine extends."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the table; no journal was replicated before."""
    op.create_table(
        "block",
        sa.Column("height", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
    )
    op.create_index("block_by_size", "block", ["size"])
