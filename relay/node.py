"""One node: a journal, its clients, its contracts, behind one way in.

Every change is a step of a batch; a batch is one transaction with one time, closed by one
checkpoint body that is signed after the commit. A ledger and a relay are the same program with
different contracts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import structlog

from relay import recovery
from relay.batch import Groups
from relay.chain import Delivery, DeliveryResult
from relay.channel import CONTRACT_FAILURES, Channel
from relay.clients import Clients
from relay.contract import Contract, HeadNeed
from relay.errors import Conflict, LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.host import HostState
from relay.journal import Kind, append_tick, host_path, seal
from relay.light.checkpoint import parse_body
from relay.light.types import ClientState, ClientType, ValidatorSet
from relay.light.validators import decode_set, encode_set, set_hash
from relay.packet import Packet, be64
from relay.signing import CheckpointSigner
from relay.store import CheckpointRow, RequestRow, Store, Transaction
from relay.store.cosignatures import AT_ONCE, Cosignature, Shown, save_cosignature
from relay.store.identity import (
    last_checkpoint,
    load_set,
    save_note,
    save_set,
    unsigned_checkpoints,
    write_genesis,
)
from relay.tiles import TileCache, load_edge

Clock = Callable[[], int]
Step = Callable[[Transaction, int], Any]
MAX_ATTEMPTS = 50
MAX_BODY_BYTES = 8 * 1024 * 1024
DEFAULT_TICK_SECONDS = 60
_log = structlog.get_logger()


class Node:
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

    def deliver(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
        """Applies deliveries of a counterparty in one transaction. Idempotent.

        Raises NotFound(CLIENT_NOT_FOUND); refusals of headers and items are in the results.
        """

        def step(tx: Transaction, now: int) -> list[DeliveryResult]:
            return [self.channel.deliver(tx, delivery, now) for delivery in deliveries]

        result: list[DeliveryResult] = self._groups.submit(step)
        return result

    def call(self, port: str, method: str, body: bytes, request_id: str = "") -> bytes:
        """One action of this node's operator or of an institution it serves (Contract.call).

        With a `request_id` the same call again gives the stored answer; another body under it is
        Refused(REQUEST_ID_REUSED).
        """
        if len(body) > MAX_BODY_BYTES:
            raise Malformed("the body is too long", reason=Reason.LIMIT_EXCEEDED)
        contract = self.contracts.get(port)
        if contract is None:
            raise NotFound(Reason.PORT_NOT_FOUND, "no contract runs on this port", port=port)

        def step(tx: Transaction, now: int) -> bytes:
            return contract.call(method, body, HostState(self.channel, tx, port, now), now)

        whole = b"\0".join((port.encode(), method.encode(), body))
        answer: bytes = self._groups.submit(_once(step, request_id, whole))
        return answer

    def call_each(
        self, port: str, method: str, bodies: Sequence[bytes]
    ) -> list[bytes | LianqiaoError]:
        """The same action for many bodies in one transaction; each stands or fails by itself.

        An answer for each body, or the error that it was refused with.
        """
        contract = self.contracts.get(port)
        if contract is None:
            raise NotFound(Reason.PORT_NOT_FOUND, "no contract runs on this port", port=port)

        def step(tx: Transaction, now: int) -> list[bytes | LianqiaoError]:
            state = HostState(self.channel, tx, port, now)
            answers: list[bytes | LianqiaoError] = []
            for body in bodies:
                mark = tx.mark()
                try:
                    answers.append(contract.call(method, body, state, now))
                except LianqiaoError as err:
                    tx.rollback(mark)
                    if isinstance(err, Conflict):
                        raise
                    answers.append(err)
            return answers

        result: list[bytes | LianqiaoError] = self._groups.submit(step)
        return result

    def create_client(self, state: ClientState, anchor_header: bytes, request_id: str = "") -> str:
        """Pins a chain: its id, algorithm, threshold, witnesses and first header; the client id."""

        def step(tx: Transaction, now: int) -> bytes:
            return self.clients.create(tx, state, anchor_header, now).encode()

        whole = repr(state).encode() + anchor_header
        answer: bytes = self._groups.submit(_once(step, request_id, whole))
        return answer.decode()

    def register_counterparty(self, client_id: str, counterparty_client_id: str) -> None:
        """Names the client on the other side, once. Raises COUNTERPARTY_EXISTS."""

        def step(tx: Transaction, now: int) -> bool:
            return self.clients.register_counterparty(tx, client_id, counterparty_client_id)

        self._groups.submit(step)

    def submit_misbehaviour(self, client_id: str, evidence: bytes) -> None:
        """Freezes a client on verified evidence. Raises NOT_MISBEHAVIOUR."""

        def step(tx: Transaction, now: int) -> bool:
            return self.clients.freeze(tx, client_id, evidence, now)

        self._groups.submit(step)

    def propose_recovery(
        self,
        client_id: str,
        substitute: ClientState,
        anchor_header: bytes,
        delay: int = recovery.DEFAULT_DELAY,
    ) -> int:
        """Proposes a new state and anchor for a client that can judge no more; when it is due.

        Raises what relay.recovery.propose raises.
        """

        def step(tx: Transaction, now: int) -> int:
            return recovery.propose(
                self.clients, tx, client_id, substitute, anchor_header, delay, now
            ).due

        due: int = self._groups.submit(step)
        return due

    def cancel_recovery(self, client_id: str) -> None:
        """Withdraws what was proposed; nothing where nothing is pending."""

        def step(tx: Transaction, now: int) -> bool:
            return recovery.cancel(self.clients, tx, client_id)

        self._groups.submit(step)

    def complete_recovery(self, client_id: str) -> None:
        """Completes what was proposed, as `tick` does by itself once it is due.

        Raises what relay.recovery.complete raises.
        """

        def step(tx: Transaction, now: int) -> None:
            recovery.complete(self.clients, tx, client_id, now)

        self._groups.submit(step)

    def skip_sequences(self, client_id: str, next_sequence: int) -> None:
        """Passes over sequences that were used and forgotten. Raises SEQUENCE_USED."""

        def step(tx: Transaction, now: int) -> bool:
            return recovery.skip(self.clients, tx, client_id, next_sequence)

        self._groups.submit(step)

    def announce_set(self, next_set: ValidatorSet) -> None:
        """Announces the validator set that signs every size after the batch this lands in."""
        encoded, digest = encode_set(next_set), set_hash(next_set)

        def step(tx: Transaction, now: int) -> bytes:
            tx.append(host_path(Kind.SET, self.chain_id, be64(tx.size)), encoded)
            save_set(tx.connection, digest, encoded)
            return digest

        self._groups.submit(step)

    def tick(self) -> bool:
        """Completes recoveries that are due, and appends a `tick` where the head has grown older
        than `tick_seconds`; whether it did the latter."""
        self._complete_recoveries()
        if self._clock() - self._head.time < self.tick_seconds:
            return False

        def step(tx: Transaction, now: int) -> bool:
            append_tick(tx, self.chain_id, now)
            return True

        done: bool = self._groups.submit(step)
        return done

    def _complete_recoveries(self) -> None:
        with self.store.reading() as tx:
            now = max(self._clock(), self._head.time)
            if not recovery.any_due(tx, now):
                return

        def step(tx: Transaction, now: int) -> list[tuple[str, str]]:
            return recovery.complete_due(self.clients, tx, now)

        for client_id, reason in self._groups.submit(step):
            _log.error("recovery_refused", client_id=client_id, reason=reason)

    def heads_needed(self, packets: Sequence[Packet]) -> list[list[HeadNeed]]:
        """For each packet, which clients its contracts want younger before it is delivered. Pure.

        A contract that fails here needs nothing: it is asked again when it receives the packet.
        """
        with self.store.reading() as tx:
            now = max(self._clock(), self._head.time)
            return [self._needs_of(tx, packet, now) for packet in packets]

    def _needs_of(self, tx: Transaction, packet: Packet, now: int) -> list[HeadNeed]:
        needs: list[HeadNeed] = []
        for payload in packet.payloads:
            contract = self.contracts.get(payload.destination_port)
            if contract is None:
                continue
            state = HostState(self.channel, tx, contract.port, now)
            try:
                needs.extend(contract.heads_needed(packet, payload, state, now))
            except CONTRACT_FAILURES:
                continue
        return needs

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


def _once(step: Step, request_id: str, body: bytes) -> Step:
    """`step`, answering a repeated request id from what is stored."""
    if not request_id:
        return step
    if len(request_id) > 64:
        raise Malformed("request_id is longer than 64 characters", field="request_id")
    digest = sha256(body).digest()

    def guarded(tx: Transaction, now: int) -> bytes:
        known = tx.load(RequestRow, request_id)
        if known is not None:
            if known.body_hash != digest:
                raise Refused(
                    Reason.REQUEST_ID_REUSED,
                    "this request id was used for another call",
                    hint="make a new request_id for each call, repeat it only to retry",
                )
            return known.response
        answer: bytes = step(tx, now)
        tx.add(RequestRow(request_id, digest, answer, tx.size))
        return answer

    return guarded


def create(
    store: Store, chain_id: str, role: str, validators: ValidatorSet, *, epoch: int, now: int
) -> None:
    """Writes a new node's first entry: its chain id and first validator set."""
    write_genesis(store, chain_id, role, validators, epoch=epoch, now=now)
