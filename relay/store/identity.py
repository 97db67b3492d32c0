"""The first entry of a journal, its heads, and the sets that sign them."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from relay.journal import Kind, host_path, seal
from relay.light.types import ValidatorSet
from relay.light.validators import encode_set, set_hash
from relay.store import tables
from relay.store.rows import CheckpointRow
from relay.store.statements import columns
from relay.store.store import Store
from relay.store.transaction import Transaction
from relay.tiles import Edge, load_edge

_CHECKPOINT = tables.table(tables.Checkpoint)
_META = tables.table(tables.Meta)
_SET = tables.table(tables.SetRow)
_SAVE_NOTE = (
    update(_CHECKPOINT)
    .where(_CHECKPOINT.c.size == bindparam("b_size"), _CHECKPOINT.c.note == "")
    .values(note=bindparam("b_note"))
)
_LOAD_SET = select(_SET.c.encoded).where(_SET.c.hash == bindparam("hash"))
_LAST = select(*columns(CheckpointRow)).order_by(_CHECKPOINT.c.size.desc()).limit(1)


def write_genesis(
    store: Store, chain_id: str, role: str, validators: ValidatorSet, *, epoch: int, now: int
) -> None:
    """Entry 0: the chain id and the first validator set, under a body of size 1."""
    encoded, digest = encode_set(validators), set_hash(validators)

    def write(tx: Transaction) -> None:
        tx.append(host_path(Kind.GENESIS, chain_id), encoded)
        save_set(tx, digest, encoded)
        seal(tx, Edge(), f"{chain_id}/{epoch}", now, digest, digest)

    store.run(write)
    store.set_meta("chain_id", chain_id)
    store.set_meta("role", role)
    store.set_meta("epoch", str(epoch))


def write_epoch(store: Store, origin: str, path: bytes, value: bytes, *, now: int) -> None:
    """The opening of an epoch, under the first body of `origin`. Bodies that were never signed
    are dropped: their sizes belong to the epoch that has ended."""

    def write(tx: Transaction) -> None:
        head, last = last_signed(tx.connection), last_checkpoint(tx.connection)
        assert head is not None
        assert last is not None
        tx.connection.execute(delete(_CHECKPOINT).where(_CHECKPOINT.c.note == ""))
        edge = load_edge(tx.connection, tx.size)
        tx.append(path, value)
        time = max(now, last.time)
        seal(tx, edge, origin, time, head.next_set_hash, last.next_set_hash)
        epoch = origin.rpartition("/")[2]
        tx.connection.execute(update(_META).where(_META.c.name == "epoch").values(value=epoch))

    store.run(write)


def save_set(tx: Transaction, digest: bytes, encoded: bytes) -> None:
    """Keeps the preimage of a set's hash."""

    def save(connection: Connection) -> None:
        if load_set(connection, digest) is None:
            connection.execute(insert(_SET).values(hash=digest, encoded=encoded))

    tx.at_commit(save)


def load_set(connection: Connection, digest: bytes) -> bytes | None:
    """The preimage of a set's hash, or None."""
    found = connection.execute(_LOAD_SET, {"hash": digest}).scalar()
    return None if found is None else bytes(found)


def last_checkpoint(connection: Connection) -> CheckpointRow | None:
    """The newest body, signed or not."""
    found = connection.execute(_LAST).one_or_none()
    return None if found is None else CheckpointRow(*found)


def last_signed(connection: Connection) -> CheckpointRow | None:
    """The newest body that is signed."""
    query = select(*columns(CheckpointRow)).where(_CHECKPOINT.c.note != "")
    found = connection.execute(query.order_by(_CHECKPOINT.c.size.desc()).limit(1)).one_or_none()
    return None if found is None else CheckpointRow(*found)


def unsigned_checkpoints(connection: Connection) -> list[CheckpointRow]:
    """Bodies that were committed and never signed, ascending; there is one after a crash."""
    query = select(*columns(CheckpointRow)).where(_CHECKPOINT.c.note == "")
    found = connection.execute(query.order_by(_CHECKPOINT.c.size))
    return [CheckpointRow(*row) for row in found]


def save_note(store: Store, row: CheckpointRow, note: str) -> CheckpointRow:
    """Adds the signatures to a body that is committed already, as long as it has none: those that
    another process has added are as good. The row as it is stored then."""

    def write(tx: Transaction) -> CheckpointRow:
        asked = {"b_size": row.size, "b_note": note}
        if tx.connection.execute(_SAVE_NOTE, asked).rowcount == 1:
            return replace(row, note=note)
        found = tx.load(CheckpointRow, row.size)
        assert found is not None, "a body that was committed stays"
        return found

    return store.run(write)
