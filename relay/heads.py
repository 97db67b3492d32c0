"""The right edge of a node's journal: what is committed, what is signed, and the way between.

A batch commits with the body that closes it; the signature follows in a step of its own, never
inside the retries of the batch. So what was committed is never run again, whatever befalls the
signature, and the body is signed exactly as it was committed: by this process, by another one on
the same database, or after a restart. Before a further batch is run, everything committed before
it is signed, so at most one batch is committed and not signed.

Several processes of one operator may extend one journal (one database, one directory of keys).
Each takes up what the others have committed before it commits, and whoever comes first signs. The
high-water mark is one file that all of them raise; a process whose mark is behind what the journal
shows as signed has a mark of its own, and signs nothing.
"""

from __future__ import annotations

from relay.errors import Reason, Refused
from relay.light.types import ValidatorSet
from relay.light.validators import decode_set
from relay.signing import CheckpointSigner
from relay.store import CheckpointRow, Store, Transaction
from relay.store.identity import (
    last_checkpoint,
    last_signed,
    load_set,
    save_note,
    unsigned_checkpoints,
)
from relay.tiles import Edge, load_edge


class Heads:
    """Edge, newest body and newest signed head. Used by one thread at a time, but for `head`."""

    def __init__(
        self, store: Store, signer: CheckpointSigner, origin: str, last: CheckpointRow, edge: Edge
    ) -> None:
        """`last`: the newest body that is committed, `edge` the tree of its size. What is not
        signed yet is signed here. Raises STALE_RESTORE."""
        self._store = store
        self.signer = signer
        self._origin = origin
        self._set: tuple[bytes, ValidatorSet] = (b"", ValidatorSet(()))
        """The set that signed last, by its hash."""
        self._signed_before = False
        """Whether every body before `last` is known to be signed."""
        self.edge = edge
        self.last = last
        """The newest committed body; the same as the head but between commit and signature."""
        if last.note:
            self._check_kept(last)
        signer.check_not_stale(last.size, last.body)
        self.head = last if last.note else self._sign_pending()
        """The newest signed body."""
        self.last = self.head

    # --- committed

    def follow(self, tx: Transaction) -> None:
        """Takes up what another process on the same database has committed meanwhile. Raises
        STALE_RESTORE where it is less than before, or was signed under another mark."""
        if tx.size == self.edge.size:
            return
        last = last_checkpoint(tx.connection)
        assert last is not None, "a journal has a head from its first entry on"
        if last.size < self.edge.size:
            self.signer.check_not_stale(last.size, last.body)
        elif last.note:
            self._check_kept(last)
        self.last, self.edge = last, load_edge(tx.connection, last.size)
        self._signed_before = False

    def committed(self, edge: Edge, last: CheckpointRow) -> None:
        """A batch of this process was committed; it is not signed yet."""
        self._signed_before = bool(self.last.note)
        self.edge, self.last = edge, last

    # --- signed

    def sign(self) -> bool:
        """Signs what is committed and not signed; whether the head grew. Idempotent.

        Raises STALE_RESTORE, CONFIG_INVALID, LIMIT_EXCEEDED (nothing can be written) and what the
        database raises: the bodies stay committed, and are signed at the next call.
        """
        before = self.head.size
        if not self.last.note:
            self.last = self._sign(self.last) if self._signed_before else self._sign_pending()
        self.head = self.last
        return self.head.size > before

    def set_of(self, row: CheckpointRow) -> ValidatorSet:
        """The set that signs a body; it changes seldom."""
        known, validators = self._set
        if known != row.set_hash:
            with self._store.read() as connection:
                encoded = load_set(connection, row.set_hash)
            assert encoded is not None, "a set is stored with the entry that announces it"
            validators = decode_set(encoded)
            self._set = row.set_hash, validators
        return validators

    def _sign(self, row: CheckpointRow) -> CheckpointRow:
        try:
            note = self.signer.sign(row.size, row.body, self.set_of(row))
        except Refused as err:
            found = self._stored(row.size) if err.reason is Reason.STALE_RESTORE else None
            if found is None or not found.note or found.body != row.body:
                raise
            return found  # another process has signed this body, and others after it
        return save_note(self._store, row, note)

    def _sign_pending(self) -> CheckpointRow:
        """Signs all that is not signed, in order: after a crash, or a failure, or where another
        process has not come to it. The newest of it."""
        with self._store.read() as connection:
            pending = unsigned_checkpoints(connection)
            signed, newest = last_signed(connection), last_checkpoint(connection)
        assert newest is not None, "a journal has a head from its first entry on"
        if signed is not None:
            self._check_kept(signed)
        for row in pending:
            done = self._sign(row)
            newest = done if done.size == newest.size else newest
        return newest

    def _check_kept(self, signed: CheckpointRow) -> None:
        """The mark of another epoch says nothing of this one."""
        if signed.body.startswith(f"{self._origin}\n".encode()):
            self.signer.check_mark_kept(signed.size)

    def _stored(self, size: int) -> CheckpointRow | None:
        with self._store.reading() as tx:
            return tx.load(CheckpointRow, size)
