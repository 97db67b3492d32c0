"""Look-ups that see a transaction's own staged rows as well as the stored ones."""

from __future__ import annotations

from sqlalchemy import bindparam, select

from relay.store import tables
from relay.store.rows import ClientRow, ConsensusRow
from relay.store.transaction import Transaction, columns

_CONSENSUS = tables.table(tables.Consensus)
_STATES = (
    select(_CONSENSUS.c.state)
    .where(_CONSENSUS.c.client_id == bindparam("client_id"))
    .order_by(_CONSENSUS.c.height.desc())
    .limit(bindparam("limit"))
)


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
