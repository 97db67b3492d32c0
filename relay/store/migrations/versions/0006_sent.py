"""What was sent, and as of when everything is here; the sequence of what waits."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the columns. Of what waits already the sequence is unknown, which 0 says: nothing is
    stated past it until it is done."""
    zero = sa.text("0")
    for table, name in (
        ("client", "stated"),
        ("client", "complete_time"),
        ("client", "complete_sequence"),
        ("outbox", "sequence"),
    ):
        op.add_column(table, sa.Column(name, sa.BigInteger, nullable=False, server_default=zero))
    empty = "x''" if op.get_bind().dialect.name == "sqlite" else "''"
    column = sa.Column("sent", sa.LargeBinary, nullable=False, server_default=sa.text(empty))
    op.add_column("delivery", column)
