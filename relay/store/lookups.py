"""Look-ups that see a transaction's own staged rows as well as the stored ones."""

from __future__ import annotations

from sqlalchemy import bindparam, func, select

from relay.store import tables
from relay.store.rows import ClientRow, ConsensusRow, Direction, PacketRow, PacketState
from relay.store.statements import columns
from relay.store.transaction import Transaction

_CONSENSUS = tables.table(tables.Consensus)
_STATES = (
    select(_CONSENSUS.c.state)
    .where(_CONSENSUS.c.client_id == bindparam("client_id"))
    .order_by(_CONSENSUS.c.height.desc())
    .limit(bindparam("limit"))
)
_PACKET = tables.table(tables.Packet)


def all_clients(tx: Transaction) -> list[ClientRow]:
    """Every client of the node in order of creation (a node holds few)."""
    return sorted(tx.all(ClientRow), key=lambda row: row.number)


def consensus_states(tx: Transaction, lineage: str, limit: int) -> list[bytes]:
    """The encoded states of a client's lineage: staged ones, and the youngest `limit` stored."""
    staged = [row.state for row in tx.staged(ConsensusRow) if row.client_id == lineage]
    stored = tx.connection.execute(_STATES, {"client_id": lineage, "limit": limit}).scalars()
    return [*staged, *(bytes(state) for state in stored)]


def nearest_headers(tx: Transaction, lineage: str, height: int) -> list[ConsensusRow]:
    """The stored headers of a lineage next to a height: at it, else those below and above it."""
    query = select(*columns(ConsensusRow)).where(_CONSENSUS.c.client_id == lineage)
    below = query.where(_CONSENSUS.c.height <= height).order_by(_CONSENSUS.c.height.desc())
    above = query.where(_CONSENSUS.c.height > height).order_by(_CONSENSUS.c.height)
    found = [tx.connection.execute(one.limit(1)).one_or_none() for one in (below, above)]
    rows = [ConsensusRow(*row) for row in found if row is not None]
    return rows[:1] if rows and rows[0].height == height else rows


def header_rows(tx: Transaction, lineage: str, low: int, high: int) -> list[ConsensusRow]:
    """The stored headers of a lineage from height `low` to `high`, both included, ascending."""
    query = (
        select(*columns(ConsensusRow))
        .where(_CONSENSUS.c.client_id == lineage)
        .where(_CONSENSUS.c.height >= low, _CONSENSUS.c.height <= high)
        .order_by(_CONSENSUS.c.height)
    )
    return [ConsensusRow(*row) for row in tx.connection.execute(query)]


def weigh_headers(tx: Transaction, lineage: str, low: int, high: int) -> tuple[int, int]:
    """(how many, bytes in all) of what `header_rows` would give, which may be years of them."""
    query = (
        select(func.count(), func.coalesce(func.sum(func.length(_CONSENSUS.c.header)), 0))
        .where(_CONSENSUS.c.client_id == lineage)
        .where(_CONSENSUS.c.height >= low, _CONSENSUS.c.height <= high)
    )
    count, size = tx.connection.execute(query).one()
    return int(count), int(size)


def count_received(
    tx: Transaction, client_id: str, first: int, end: int, *, expired: bool = False
) -> int:
    """How many packets with sequences from `first` to `end`, excluded, a client has received; or
    how many expired instead."""

    def counts(row: PacketRow) -> bool:
        mine = row.client_id == client_id and row.direction is Direction.IN
        return (
            mine and first <= row.sequence < end and (row.state is PacketState.EXPIRED) is expired
        )

    state = _PACKET.c.state
    query = select(func.count()).where(
        _PACKET.c.client_id == client_id,
        _PACKET.c.direction == Direction.IN.value,
        _PACKET.c.sequence >= first,
        _PACKET.c.sequence < end,
        (state == PacketState.EXPIRED.value) if expired else (state != PacketState.EXPIRED.value),
    )
    stored = int(tx.connection.execute(query).scalar_one())
    return stored + sum(map(counts, tx.added(PacketRow)))


def highest_sent(tx: Transaction, client_id: str, below: int) -> int:
    """The greatest sequence below `below` that a client has sent; 0 where there is none."""
    query = select(func.max(_PACKET.c.sequence)).where(
        _PACKET.c.client_id == client_id,
        _PACKET.c.direction == Direction.OUT.value,
        _PACKET.c.sequence < below,
    )
    stored = tx.connection.execute(query).scalar_one_or_none() or 0
    added = [
        row.sequence
        for row in tx.added(PacketRow)
        if (row.client_id, row.direction) == (client_id, Direction.OUT) and row.sequence < below
    ]
    return max([int(stored), *added])


def lowest_open(tx: Transaction, client_id: str, first: int, default: int) -> int:
    """The lowest sequence from `first` on that a client has sent and that is open still."""
    query = (
        select(_PACKET.c.sequence)
        .where(
            _PACKET.c.client_id == client_id,
            _PACKET.c.direction == Direction.OUT.value,
            _PACKET.c.sequence >= first,
            _PACKET.c.state == PacketState.SENT.value,
        )
        .order_by(_PACKET.c.sequence)
        .limit(1 + len(tx.staged(PacketRow)))
    )
    open_ = [
        row.sequence
        for row in tx.staged(PacketRow)
        if (row.client_id, row.direction) == (client_id, Direction.OUT)
        and row.state is PacketState.SENT
        and row.sequence >= first
    ]
    for sequence in tx.connection.execute(query).scalars():
        row = tx.load(PacketRow, client_id, Direction.OUT, int(sequence))
        if row is not None and row.state is PacketState.SENT:
            open_.append(row.sequence)
            break
    return min(open_, default=default)
