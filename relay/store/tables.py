"""The schema. Changed only together with a migration in relay/store/migrations.

Keys are in order of arrival wherever that is possible: at a million rows a random unique key
costs ten times a sequential one. Plain SQL types only, so that PostgreSQL-compatible engines
remain possible.
"""

from __future__ import annotations

from typing import cast

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    literal_column,
    text,
)
from sqlmodel import Field, SQLModel

_BigKey = BigInteger().with_variant(Integer, "sqlite")
_SENT = text("state = 'sent'")


def table(model: type[SQLModel]) -> Table:
    """The Core table of a model: bulk statements go through it, rows through frozen values."""
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


class Meta(SQLModel, table=True):
    """Identity of the database."""

    __tablename__ = "meta"
    name: str = Field(primary_key=True)
    value: str


class Entry(SQLModel, table=True):
    """The journal."""

    __tablename__ = "entry"
    index: int = Field(sa_column=Column(_BigKey, primary_key=True, autoincrement=False))
    path: bytes = Field(sa_column=Column(LargeBinary, nullable=False, unique=True))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Tile(SQLModel, table=True):
    """Hashes of complete subtrees of height 8 x level, 256 to a row (C2SP tlog-tiles layout)."""

    __tablename__ = "tile"
    level: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    hashes: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Checkpoint(SQLModel, table=True):
    """relay.store.rows.CheckpointRow."""

    __tablename__ = "checkpoint"
    size: int = Field(sa_column=Column(_BigKey, primary_key=True, autoincrement=False))
    time: int = Field(sa_column=Column(BigInteger, nullable=False))
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    note: str = Field(sa_column=Column(Text, nullable=False))
    set_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    next_set_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Block(SQLModel, table=True):
    """relay.store.rows.BlockRow."""

    __tablename__ = "block"
    __table_args__ = (Index("block_by_size", "size"),)
    height: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    time: int = Field(sa_column=Column(BigInteger, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    root: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Cosignature(SQLModel, table=True):
    """relay.store.cosignatures.Cosignature."""

    __tablename__ = "cosignature"
    size: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    name: str = Field(primary_key=True)
    algorithm: str = Field(primary_key=True)
    key: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SetRow(SQLModel, table=True):
    """Preimages of this node's own validator sets."""

    __tablename__ = "validator_set"
    hash: bytes = Field(sa_column=Column(LargeBinary, primary_key=True))
    encoded: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Client(SQLModel, table=True):
    """relay.store.rows.ClientRow."""

    __tablename__ = "client"
    client_id: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(Integer, nullable=False, unique=True))
    client_type: str
    chain_id: str
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    counterparty: str
    frozen: int = Field(sa_column=Column(BigInteger, nullable=False))
    latest_height: int = Field(sa_column=Column(BigInteger, nullable=False))
    latest_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    next_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    floor: int = Field(sa_column=Column(BigInteger, nullable=False))
    recovery: int = Field(sa_column=Column(BigInteger, nullable=False))
    recovered: int = Field(sa_column=Column(BigInteger, nullable=False))
    stated: int = Field(sa_column=Column(BigInteger, nullable=False))
    complete_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    complete_sequence: int = Field(sa_column=Column(BigInteger, nullable=False))


class Consensus(SQLModel, table=True):
    """relay.store.rows.ConsensusRow."""

    __tablename__ = "consensus"
    client_id: str = Field(primary_key=True)
    height: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    state: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    header: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    index: int = Field(sa_column=Column(BigInteger, nullable=False))


class Packet(SQLModel, table=True):
    """relay.store.rows.PacketRow."""

    __tablename__ = "packet"
    __table_args__ = (
        Index("packet_by_client", "client_id", "index"),
        Index("packet_by_index", "index"),
        # As long as what is open, however old the journal: see OPEN.
        Index("packet_open", "client_id", "index", sqlite_where=_SENT, postgresql_where=_SENT),
    )
    client_id: str = Field(primary_key=True)
    direction: str = Field(primary_key=True)
    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    packet: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    state: str
    acknowledgements: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    index: int = Field(sa_column=Column(BigInteger, nullable=False))
    time: int = Field(sa_column=Column(BigInteger, nullable=False))
    delivery: int = Field(sa_column=Column(BigInteger, nullable=False))
    closed_index: int = Field(sa_column=Column(BigInteger, nullable=False))
    closed_time: int = Field(sa_column=Column(BigInteger, nullable=False))
    closed_delivery: int = Field(sa_column=Column(BigInteger, nullable=False))
    error: str


OPEN = table(Packet).c.state == literal_column("'sent'")
"""Of packets sent from here: neither acknowledged nor timed out. A literal, since no database
takes an index of some rows for a question whose value it learns later."""


class DeliveryTable(SQLModel, table=True):
    """relay.store.rows.DeliveryRow."""

    __tablename__ = "delivery"
    number: int = Field(sa_column=Column(_BigKey, primary_key=True, autoincrement=False))
    client_id: str
    height: int = Field(sa_column=Column(BigInteger, nullable=False))
    proof: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    claims: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    time: int = Field(sa_column=Column(BigInteger, nullable=False))
    sent: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Request(SQLModel, table=True):
    """relay.store.rows.RequestRow."""

    __tablename__ = "request"
    request_id: str = Field(primary_key=True)
    body_hash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    response: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    index: int = Field(sa_column=Column(BigInteger, nullable=False))


class Lane(SQLModel, table=True):
    """How far a relayer has read one side of a lane (relay.outbox)."""

    __tablename__ = "lane"
    client_id: str = Field(primary_key=True)
    side: str = Field(primary_key=True)
    cursor: int = Field(sa_column=Column(BigInteger, nullable=False))


class Outbox(SQLModel, table=True):
    """Steps that could not be finished in passing, with their next attempt (relay.outbox)."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_by_time", "client_id", "side", "not_before"),)
    client_id: str = Field(primary_key=True)
    side: str = Field(primary_key=True)
    cursor: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    step: str
    sequence: int = Field(sa_column=Column(BigInteger, nullable=False))
    packet: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    acknowledgements: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    entries: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    height: int = Field(sa_column=Column(BigInteger, nullable=False))
    attempts: int = Field(sa_column=Column(Integer, nullable=False))
    not_before: int = Field(sa_column=Column(BigInteger, nullable=False))
    reason: str


class Lease(SQLModel, table=True):
    """Which process runs a lane, and until when nobody else does (relay.store.leases)."""

    __tablename__ = "lease"
    client_id: str = Field(primary_key=True)
    holder: str
    until: int = Field(sa_column=Column(BigInteger, nullable=False))
