"""One node: a journal, its clients, its contracts, behind one way in.

Every change is a step of a batch; a batch is one transaction with one time, closed by one
checkpoint body that is signed after the commit. A ledger and a relay are the same program with
different contracts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from relay import recovery
from relay.actions import Action, CompleteDue, Tick
from relay.batch import Groups
from relay.channel import Channel
from relay.clients import Clients
from relay.contract import CONTRACT_FAILURES, Contract
from relay.errors import Conflict, LianqiaoError, Reason, Refused
from relay.journal import Kind, seal
from relay.light.checkpoint import parse_body
from relay.light.types import ClientType, ValidatorSet
from relay.light.validators import decode_set, set_hash
from relay.signing import CheckpointSigner
from relay.store import CheckpointRow, Store, Transaction
from relay.store.cosignatures import AT_ONCE, Cosignature, Shown, save_cosignature
from relay.store.identity import (
    last_checkpoint,
    load_set,
    save_note,
    unsigned_checkpoints,
    write_genesis,
)
from relay.tiles import TileCache, load_edge
from relay.ways import Ways

Clock = Callable[[], int]
Step = Callable[[Transaction, int], Any]
MAX_ATTEMPTS = 50
DEFAULT_TICK_SECONDS = 60
_log = structlog.get_logger()


class Node(Ways):
    """A ledger or a relay in this process. Thread-safe; `close()` when done."""

    def __init__(
        self,
        *,
        chain_id: str,
        role: str,
        store: Store,
        signer: CheckpointSigner,
        client_types: Mapping[str, ClientType],
        contracts: Mapping[str, Contract],
        clock: Clock,
        epoch: int = 0,
        tick_seconds: int = DEFAULT_TICK_SECONDS,
        shown: Shown = AT_ONCE,
    ) -> None:
        """Opens a node on a store that `create` made. Raises WRONG_CHAIN, WRONG_SCHEMA,
        STALE_RESTORE."""
        self.chain_id = chain_id
        self.origin = f"{chain_id}/{epoch}"
        self.role = role
        self.store = store
        self.contracts = contracts
        self.client_types = client_types
        self.tiles = TileCache()
        self.tick_seconds = tick_seconds
        self.shown = shown
        """Which signed heads others are shown."""
        self.clients = Clients(client_types)
        self.channel = Channel(chain_id, self.clients, contracts)
        self._clock = clock
        self._signer = signer
        self._groups: Groups[Step] = Groups(self._run_group)
        self._changed = threading.Condition()
        self._set: tuple[bytes, ValidatorSet] = (b"", ValidatorSet(()))
        """The set that signed last, by its hash."""
        store.check(chain_id)
        with store.read() as connection:
            head = last_checkpoint(connection)
            if head is None:
                raise Refused(
                    Reason.WRONG_CHAIN,
                    "the database holds no journal",
                    hint="lianqiao init makes a node's directory",
                )
            self._edge = load_edge(connection, head.size)
        self._check_origin(head)
        if head.note and head.body.startswith(f"{self.origin}\n".encode()):
            signer.check_mark_kept(head.size)
        signer.check_not_stale(head.size, head.body)
        self._last = head
        """The newest committed body; the same as the head but between commit and signature."""
        self._head = self._last = head if head.note else self._sign_pending()
        self._shown_size = self._newest_shown()

    def _check_origin(self, head: CheckpointRow) -> None:
        found = parse_body(head.body).origin
        if found != self.origin:
            raise Refused(
                Reason.WRONG_CHAIN,
                f"the journal continues as {found}, this node is started as {self.origin}",
                hint="correct `chain_id` or `epoch`; an epoch is opened by lianqiao epoch open",
            )

    # --- what others ask of it

    @property
    def head(self) -> CheckpointRow:
        """The newest signed checkpoint."""
        return self._head

    def run(self, action: Action) -> Any:
        """See relay.ways. Actions that arrive together share one transaction and one head."""

        def step(tx: Transaction, now: int) -> Any:
            return action.apply(self.channel, tx, now)

        return self._groups.submit(step)

    def now(self) -> int:
        """See relay.ways."""
        return max(self._clock(), self._head.time)

    def tick(self) -> bool:
        """Completes recoveries that are due, and appends a `tick` where the head has grown older
        than `tick_seconds`; whether it did the latter."""
        self._complete_recoveries()
        if self._clock() - self._head.time < self.tick_seconds:
            return False

        done: bool = self.run(Tick())
        return done

    def _complete_recoveries(self) -> None:
        with self.store.reading() as tx:
            if not recovery.any_due(tx, self.now()):
                return
        for client_id, reason in self.run(CompleteDue()):
            _log.error("recovery_refused", client_id=client_id, reason=reason)

    def wait(self, size: int, timeout: float) -> bool:
        """Waits until a head larger than `size` is signed; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._head.size > size, timeout)

    @property
    def shown_size(self) -> int:
        """Size of the newest head that others are shown."""
        return self._shown_size

    def wait_shown(self, size: int, timeout: float) -> bool:
        """Waits until a head larger than `size` is shown; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._shown_size > size, timeout)

    def add_cosignature(self, cosignature: Cosignature) -> None:
        """Keeps a co-signature of one of this node's heads, verified by the caller."""
        save_cosignature(self.store, cosignature)
        self._tell()

    def _newest_shown(self) -> int:
        if not self.shown.quorum:
            return self._head.size
        with self.store.read() as connection:
            return self.shown.newest(connection)

    def _tell(self) -> None:
        """Wakes whoever waits for a head."""
        newest = self._newest_shown()
        with self._changed:
            self._shown_size = newest
            self._changed.notify_all()

    def close(self) -> None:
        """Releases the database."""
        self.store.close()

    # --- batches

    def _run_group(self, steps: Sequence[Step]) -> list[Any]:
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self._commit(steps)
            except Conflict:
                if attempt + 1 == MAX_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _commit(self, steps: Sequence[Step]) -> list[Any]:
        sealed: CheckpointRow | None = None
        with self.store.transaction() as tx:
            self._follow(tx)
            edge, last = self._edge, self._last
            now = max(self._clock(), last.time)
            answers: list[Any] = []
            for step in steps:
                mark = tx.mark()
                try:
                    answers.append(step(tx, now))
                except CONTRACT_FAILURES as err:
                    tx.rollback(mark)
                    if isinstance(err, Conflict):
                        raise
                    if not isinstance(err, LianqiaoError):
                        _log.error("step_failed", kind=type(err).__name__, exc_info=err)
                    answers.append(err)
            if tx.entries:
                set_now = last.next_set_hash
                announced = _announced(tx) or set_now
                edge, sealed = seal(tx, edge, self.origin, now, set_now, announced)
        if sealed is not None:
            behind = not last.note
            self._edge, self._last = edge, sealed
            self._head = self._last = self._sign_pending() if behind else self._sign(sealed)
            self._tell()
        return answers

    def _follow(self, tx: Transaction) -> None:
        """Takes up what another process on the same database has committed meanwhile."""
        if tx.size == self._edge.size:
            return
        last = last_checkpoint(tx.connection)
        assert last is not None, "a journal has a head from its first entry on"
        self._last, self._edge = last, load_edge(tx.connection, last.size)

    def _sign(self, row: CheckpointRow) -> CheckpointRow:
        note = self._signer.sign(row.size, row.body, self._set_of(row))
        return save_note(self.store, row, note)

    def _set_of(self, row: CheckpointRow) -> ValidatorSet:
        """The set that signs a body; it changes seldom."""
        known, validators = self._set
        if known != row.set_hash:
            with self.store.read() as connection:
                encoded = load_set(connection, row.set_hash)
            assert encoded is not None, "a set is stored with the entry that announces it"
            validators = decode_set(encoded)
            self._set = row.set_hash, validators
        return validators

    def _sign_pending(self) -> CheckpointRow:
        """Signs what was committed and not signed, in order: after a crash, or a failure. The
        newest of it."""
        with self.store.read() as connection:
            pending = unsigned_checkpoints(connection)
            newest = last_checkpoint(connection)
        assert newest is not None, "a journal has a head from its first entry on"
        for row in pending:
            signed = self._sign(row)
            newest = signed if signed.size == newest.size else newest
        return newest


def _announced(tx: Transaction) -> bytes | None:
    """Hash of the last set announced among the staged entries."""
    prefix = bytes((0, Kind.SET))
    found = [value for path, value in tx.entries if path.startswith(prefix)]
    return set_hash(decode_set(found[-1])) if found else None


def create(
    store: Store, chain_id: str, role: str, validators: ValidatorSet, *, epoch: int, now: int
) -> None:
    """Writes a new node's first entry: its chain id and first validator set."""
    write_genesis(store, chain_id, role, validators, epoch=epoch, now=now)
