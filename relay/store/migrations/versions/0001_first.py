"""The first schema. Frozen: later versions alter it in files of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _bytes(name: str, **options: bool) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False, **options)  # type: ignore[arg-type]


def _big(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, primary_key=key)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, _KEY, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Creates every table."""
    op.create_table("meta", _text("name", key=True), _text("value"))
    op.create_table("entry", _number("index"), _bytes("path", unique=True), _bytes("value"))
    op.create_table(
        "tile",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        _bytes("hashes"),
    )
    op.create_table(
        "checkpoint",
        _number("size"),
        _big("time"),
        _bytes("body"),
        sa.Column("note", sa.Text, nullable=False),
        _bytes("set_hash"),
        _bytes("next_set_hash"),
    )
    op.create_table(
        "validator_set",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        _bytes("encoded"),
    )
    _create_clients()
    _create_packets()
    _create_lanes()


def _create_clients() -> None:
    op.create_table(
        "client",
        _text("client_id", key=True),
        sa.Column("number", sa.Integer, nullable=False, unique=True),
        _text("client_type"),
        _text("chain_id"),
        _bytes("state"),
        _text("counterparty"),
        *(_big(n) for n in ("frozen", "latest_height", "latest_time", "next_sequence", "floor")),
    )
    op.create_table(
        "consensus",
        _text("client_id", key=True),
        sa.Column("height", sa.BigInteger, primary_key=True, autoincrement=False),
        _bytes("state"),
        _bytes("header"),
        _big("index"),
    )


def _create_packets() -> None:
    op.create_table(
        "packet",
        _text("client_id", key=True),
        _text("direction", key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        _bytes("packet"),
        _text("state"),
        _bytes("acknowledgements"),
        *(_big(n) for n in ("index", "time", "delivery")),
        *(_big(n) for n in ("closed_index", "closed_time", "closed_delivery")),
        _text("error"),
    )
    op.create_index("packet_by_client", "packet", ["client_id", "index"])
    op.create_index("packet_by_index", "packet", ["index"])
    op.create_table(
        "delivery",
        _number("number"),
        _text("client_id"),
        _big("height"),
        _bytes("proof"),
        _bytes("claims"),
        _big("time"),
    )
    op.create_table(
        "request",
        _text("request_id", key=True),
        _bytes("body_hash"),
        _bytes("response"),
        _big("index"),
    )


def _create_lanes() -> None:
    op.create_table("lane", _text("client_id", key=True), _text("side", key=True), _big("cursor"))
    op.create_table(
        "outbox",
        _text("client_id", key=True),
        _text("side", key=True),
        sa.Column("cursor", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("step"),
        _bytes("packet"),
        _bytes("acknowledgements"),
        _big("height"),
        sa.Column("attempts", sa.Integer, nullable=False),
        _big("not_before"),
        _text("reason"),
    )
    op.create_index("outbox_by_time", "outbox", ["client_id", "side", "not_before"])
