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

from relay import recovery, ticking
from relay.actions import Action, CompleteDue, RunDue, Tick
from relay.batch import Groups
from relay.channel import Channel
from relay.clients import Clients
from relay.contract import CONTRACT_FAILURES, Contract
from relay.errors import Conflict, LianqiaoError, Reason, Refused
from relay.evidence import Evidence
from relay.heads import Heads
from relay.journal import Kind, seal
from relay.light.checkpoint import parse_body
from relay.light.types import ClientType, ValidatorSet
from relay.light.validators import decode_set, set_hash
from relay.sent import next_due
from relay.signing import CheckpointSigner
from relay.store import CheckpointRow, Store, Transaction
from relay.store.cosignatures import AT_ONCE, Cosignature, Shown, save_cosignature
from relay.store.identity import last_checkpoint, write_genesis
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
        self._groups: Groups[Step] = Groups(self._run_group)
        self._changed = threading.Condition()
        store.check(chain_id)
        with store.read() as connection:
            head = last_checkpoint(connection)
            if head is None:
                raise Refused(
                    Reason.WRONG_CHAIN,
                    "the database holds no journal",
                    hint="lianqiao init makes a node's directory",
                )
            edge = load_edge(connection, head.size)
        self._check_origin(head)
        self._heads = Heads(store, signer, self.origin, head, edge)
        self._shown_size = self._newest_shown()
        self._told: set[ticking.Failed] = set()
        """What failed when it was last due: said once, and tried with every tick."""
        self._told_recoveries: set[tuple[str, str]] = set()
        """The same of recoveries: client id and reason."""
        self._due = 0
        """When a client must state what it has sent, at the latest."""
        with store.reading() as tx:
            self._due = next_due(tx, tick_seconds)

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
        return self._heads.head

    def run(self, action: Action) -> Any:
        """See relay.ways. Actions that arrive together share one transaction and one head."""

        def step(tx: Transaction, now: int) -> Any:
            return action.apply(self.channel, tx, now)

        return self._groups.submit(step)

    def now(self) -> int:
        """See relay.ways."""
        return max(self._clock(), self.head.time)

    def tick(self) -> bool:
        """Signs what is not signed, completes recoveries and runs what contracts have due, and
        appends a `tick` where the head, or a statement of what was sent, has grown older than
        `tick_seconds`; whether it did the latter."""
        self._catch_up()
        self._complete_recoveries()
        self._run_due()
        if self._clock() < min(self._due, self.head.time + self.tick_seconds):
            return False

        done: bool = self.run(Tick())
        return done

    def _catch_up(self) -> None:
        """Signs what a failure has left unsigned, and takes up what another process on the same
        database has committed, so that whoever waits here is told."""
        with self.store.read() as connection:
            last = last_checkpoint(connection)
        if last is not None and (last.size > self.head.size or not last.note):
            self._groups.submit(_nothing)

    def _complete_recoveries(self) -> None:
        with self.store.reading() as tx:
            if not recovery.any_due(tx, self.now()):
                return
        refused = self.run(CompleteDue())
        for client_id, reason in refused:
            if (client_id, reason) not in self._told_recoveries:
                _log.error("recovery_refused", client_id=client_id, reason=reason)
        self._told_recoveries = set(refused)

    def _run_due(self) -> None:
        with self.store.reading() as tx:
            if not ticking.any_due(self.channel, tx, self.now()):
                return
        failed = self.run(RunDue())
        for port, method, reason in failed:
            if (port, method, reason) not in self._told:
                _log.error("due_refused", port=port, method=method, reason=reason)
        self._told = set(failed)

    def evidence(self) -> Evidence:
        """What this node proves of its journal."""
        return Evidence(self.store, self.tiles, self.shown)

    def wait(self, size: int, timeout: float) -> bool:
        """Waits until a head larger than `size` is signed; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self.head.size > size, timeout)

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
            return self.head.size
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
        """Runs steps as one batch, committed once, then signed; a failure to sign is raised to
        every caller, and what they asked for stays committed all the same."""
        self._heads.sign()  # what a failure has left; no batch is built on it before
        answers = self._commit_once(steps)
        if self._heads.sign():
            self._tell()
        return answers

    def _commit_once(self, steps: Sequence[Step]) -> list[Any]:
        for attempt in range(MAX_ATTEMPTS):
            try:
                return self._commit(steps)
            except Conflict:
                if attempt + 1 == MAX_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _commit(self, steps: Sequence[Step]) -> list[Any]:
        heads = self._heads
        sealed: CheckpointRow | None = None
        with self.store.transaction() as tx:
            heads.follow(tx)
            edge, last = heads.edge, heads.last
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
            stated = None
            if tx.entries:
                if now >= self._due or _may_state(tx):
                    stated = ticking.close_batch(self.channel, tx, now, self.tick_seconds)
                set_now = last.next_set_hash
                announced = _announced(tx) or set_now
                edge, sealed = seal(tx, edge, self.origin, now, set_now, announced)
        if stated is not None:
            self._due = stated
        if sealed is not None:
            heads.committed(edge, sealed)
        return answers


def _nothing(_tx: Transaction, _now: int) -> None:
    """A batch without entries."""


def _may_state(tx: Transaction) -> bool:
    """Whether a client may have something to state from now on."""
    prefixes = tuple(bytes((0, kind)) for kind in (Kind.COUNTERPARTY, Kind.RECOVERED))
    return any(path.startswith(prefixes) for path, _ in tx.entries)


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
