"""The chain as CometBFT sees it: executes decided blocks, each written in one transaction.

A block is executed in memory (`finalize`) and written when CometBFT says that it is decided for
good on this node (`commit`): a process that ends between the two has written nothing, and CometBFT
gives it the block again. `info` tells it from where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

from adapters.cometbft.engine.asked import (
    MAX_TX_BYTES,
    Asked,
    decode_asked,
    verify_asked,
)
from adapters.cometbft.engine.execution import (
    PROVE_THEMSELVES,
    Execution,
    Outcome,
    Result,
    nonce_path,
)
from adapters.cometbft.engine.genesis import Genesis, decode_genesis
from relay.actions import Deliver
from relay.chain import Delivery, Item, Step
from relay.channel import Channel
from relay.deciding import founding_quorum_path, operators_of
from relay.errors import Conflict, Exhausted, LianqiaoError, Malformed, Reason, Refused
from relay.light.membership import entry_hash
from relay.light.sent import decode_sent
from relay.light.types import Claim, ValidatorSet
from relay.light.validators import encode_set
from relay.packet import MAX_INT, be64, receipt_path
from relay.paths import Kind, host_path
from relay.powers import Power, check_powers, write_powers
from relay.store import (
    BlockRow,
    ClientRow,
    ConsensusRow,
    Direction,
    PacketRow,
    PacketState,
    Store,
    Transaction,
)
from relay.store.blocks import app_hash, block_at, last_block
from relay.tiles import Edge, extend, load_edge, write_tiles

MAX_PROPOSAL_BYTES = 3 * 1024 * 1024
MAX_BLOCK_TXS = 1000
MAX_WAITING_TXS, MAX_WAITING_BYTES = 1000, 16 * 1024 * 1024
"""Of one operator between two blocks: more is not spread, or he alone would fill what CometBFT lets
wait (5000 transactions), and keep the others' out."""
Told = Callable[[BlockRow, Mapping[bytes, Result]], None]


def _nobody(block: BlockRow, results: Mapping[bytes, Result]) -> None:
    return None


class Application:
    """One replica's state machine. CometBFT calls it one block at a time; checks run beside it."""

    def __init__(
        self,
        store: Store,
        channel: Channel,
        *,
        origin: str,
        role: str,
        told: Told = _nobody,
    ) -> None:
        """`told` hears of each committed block, with the results by transaction hash."""
        self._store = store
        self._channel = channel
        self._origin = origin
        self._role = role
        self._told = told
        self._lock = threading.RLock()
        self._open: tuple[Outcome, Sequence[bytes]] | None = None
        """The executed block that waits to be committed."""
        self._execution: Execution | None = None
        self._edge = Edge()
        self._operators = ValidatorSet(())
        self._waiting: dict[str, tuple[int, int]] = {}
        """Of each operator, how many transactions were taken to be spread since the last block, and
        their bytes. CometBFT asks about all that still wait after each block."""
        self._counting = threading.Lock()
        self.last: BlockRow | None = None
        """The newest committed block; None before the genesis."""
        self.met = False
        """Whether CometBFT has begun with this process, and nothing failed since (service)."""
        self.reload()

    def reload(self) -> None:
        """Takes up what the database holds: at the start, and after a snapshot was restored."""
        with self._lock, self._store.reading() as tx:
            self._open = None
            self.last = last_block(tx.connection)
            if self.last is None:
                return
            self._edge = load_edge(tx.connection, self.last.size)
            self._operators = operators_of(tx, self._channel.chain_id)
            self._execution = Execution(self._store, self._channel, self._origin)

    # --- the way of a block

    def info(self) -> tuple[int, bytes]:
        """(height of the newest committed block, its app hash)."""
        with self._lock:
            if self.last is None:
                return 0, b""
            return self.last.height, app_hash(self.last) if self.last.height else b""

    def init_chain(
        self, chain_id: str, time: int, initial_height: int, state: bytes, powers: Sequence[Power]
    ) -> bytes:
        """Writes the genesis; the app hash. Idempotent, since it is asked again after a crash.

        Raises Refused(WRONG_CHAIN), Malformed, Conflict where another genesis is written.
        """
        genesis = decode_genesis(state)
        if chain_id != self._origin or genesis.role != self._role or initial_height != 1:
            raise Refused(
                Reason.WRONG_CHAIN,
                f"the genesis file is of {chain_id[:64]!r} as {genesis.role}, this node is "
                f"{self._origin} as {self._role}",
            )
        ordered = tuple(sorted(powers, key=lambda p: (p.algorithm, p.key)))
        check_powers(ordered)
        with self._lock:
            if self.last is None:
                self._write_genesis(genesis, time, ordered)
                self.reload()
            assert self.last is not None
            with self._store.reading() as tx:
                first = block_at(tx.connection, 0)
                written = tx.get(host_path(Kind.GENESIS, self._channel.chain_id))
            if self.last.height or written != encode_set(genesis.operators):
                raise Conflict(Reason.CONFLICT, "another genesis was written here before")
            return app_hash(first)

    def _write_genesis(self, genesis: Genesis, time: int, powers: tuple[Power, ...]) -> None:
        chain_id = self._channel.chain_id

        def write(tx: Transaction) -> None:
            tx.append(host_path(Kind.GENESIS, chain_id), encode_set(genesis.operators))
            tx.append(founding_quorum_path(chain_id), be64(genesis.quorum))
            write_powers(tx, chain_id, {(p.algorithm, p.key): p.power for p in powers})
            edge, touched = extend(Edge(), [entry_hash(p, v) for p, v in tx.entries])
            tx.at_commit(lambda connection: write_tiles(connection, touched))
            tx.add(BlockRow(0, time, edge.size, edge.root()))

        self._store.run(write)
        self._store.set_meta("chain_id", chain_id)

    def finalize(self, height: int, time: int, transactions: Sequence[bytes]) -> Outcome:
        """Executes the next block in memory. Raises Conflict where it is not the next one."""
        with self._lock:
            if self.last is None or self._execution is None or height != self.last.height + 1:
                raise Conflict(
                    Reason.CONFLICT,
                    f"block {height} does not follow {self.last.height if self.last else None}",
                )
            # The block's time alone, which rises by the rules of the chain: what a replica was told
            # of earlier times by a snapshot is under no hash.
            outcome = self._execution.block(height, time, transactions, self._edge)
            self._open = (outcome, [sha256(raw).digest() for raw in transactions])
            return outcome

    def commit(self) -> BlockRow:
        """Writes the executed block in one transaction. Raises Conflict where there is none."""
        with self._lock:
            if self._open is None:
                raise Conflict(Reason.CONFLICT, "no executed block waits to be committed")
            outcome, hashes = self._open

            def write(tx: Transaction) -> None:
                assert tx.size == outcome.base, "nothing else extends a replicated journal"
                outcome.staged.flush(tx.connection)

            self._store.run(write)  # again where a lane's own bookkeeping won
            self._open = None
            self.last, self._edge = outcome.block, outcome.edge
            self._operators = outcome.operators
        with self._counting:
            self._waiting = {}
        self._told(outcome.block, dict(zip(hashes, outcome.results, strict=True)))
        return outcome.block

    # --- what is spread and proposed

    def check(self, raw: bytes) -> None:
        """Whether a transaction is worth spreading: form, operator, nonce, and for deliveries
        whether anything in them is new. Cheap: no proof is verified. Raises its refusal, and
        Exhausted(LIMIT_EXCEEDED) where too much of its operator waits."""
        asked = self._verified(raw, None)
        with self._store.reading() as tx:
            if not isinstance(asked.action, PROVE_THEMSELVES):
                if tx.get(nonce_path(asked)) is not None:
                    raise Refused(Reason.REQUEST_ID_REUSED, "this was asked for before")
            elif isinstance(asked.action, Deliver) and nothing_new(tx, asked.action.deliveries):
                raise Conflict(Reason.CONFLICT, "all of this was delivered before")
        self._count(asked.operator, len(raw))

    def _count(self, operator: str, size: int) -> None:
        with self._counting:
            number, total = self._waiting.get(operator, (0, 0))
            if number == MAX_WAITING_TXS or total + size > MAX_WAITING_BYTES:
                raise Exhausted(
                    Reason.LIMIT_EXCEEDED, f"too many transactions of {operator} wait for a block"
                )
            self._waiting[operator] = number + 1, total + size

    def _verified(self, raw: bytes, time: int | None) -> Asked:
        """Raises what verify_asked raises, at block time `time`; None: of a block to come."""
        last = self.last
        if last is None:
            raise Refused(Reason.WRONG_CHAIN, "this replica has no state yet")
        asked = decode_asked(raw)
        if time is None:
            verify_asked(asked, self._origin, self._operators, last.time, latest=MAX_INT)
        else:
            verify_asked(asked, self._origin, self._operators, time)
        return asked

    def prepare(self, transactions: Sequence[bytes], limit: int, time: int) -> list[bytes]:
        """What a proposal of this validator holds: what is sound, in order, within the limits."""
        chosen: list[bytes] = []
        seen: set[bytes] = set()
        left = min(limit, MAX_PROPOSAL_BYTES)
        for raw in transactions:
            digest = sha256(raw).digest()
            size = len(raw) + 16  # CometBFT counts the field around each transaction
            if digest in seen or size > left or len(chosen) == MAX_BLOCK_TXS:
                continue
            try:
                self._verified(raw, time)
            except LianqiaoError:
                continue
            seen.add(digest)
            chosen.append(raw)
            left -= size
        return chosen

    def process(self, transactions: Sequence[bytes], time: int) -> None:
        """Raises what is wrong with another's proposal: unsound transactions, twice the same, or
        too much. Depends on the state of the last height alone, so all replicas agree."""
        size = sum(len(raw) for raw in transactions)
        if len(transactions) > MAX_BLOCK_TXS or size > MAX_PROPOSAL_BYTES + MAX_TX_BYTES:
            raise Malformed("a proposal is too large", reason=Reason.LIMIT_EXCEEDED)
        if len({sha256(raw).digest() for raw in transactions}) != len(transactions):
            raise Malformed("a proposal holds one transaction twice")
        for raw in transactions:
            self._verified(raw, time)


def nothing_new(tx: Transaction, deliveries: Sequence[Delivery]) -> bool:
    """Whether deliveries can have no effect: every packet is settled that far already, and every
    header is known or below what is known. Reads by key only."""
    return all(
        all(settled(tx, item) for item in delivery.items) and _known(tx, delivery)
        for delivery in deliveries
    )


def settled(tx: Transaction, item: Item) -> bool:
    """Whether one verb has been decided on this node already."""
    packet = item.packet
    if item.step in (Step.RECEIVE, Step.EXPIRE):
        return tx.get(receipt_path(packet.destination_client, packet.sequence)) is not None
    row = tx.load(PacketRow, packet.source_client, Direction.OUT, packet.sequence)
    return row is not None and row.state is not PacketState.SENT


def _known(tx: Transaction, delivery: Delivery) -> bool:
    client = tx.load(ClientRow, delivery.client_id)
    if client is None:
        return False
    if any(_tells_more(client, claim) for claim in delivery.sent):
        return False
    if not delivery.headers:
        return True
    newest = tx.load(ConsensusRow, client.lineage, client.latest_height)
    return newest is not None and newest.header == delivery.headers[-1]


def _tells_more(client: ClientRow, claim: Claim) -> bool:
    """Whether a statement of what was sent (relay.sent) may say more than is known. Unverified."""
    try:
        return decode_sent(claim.value or b"")[0].time > client.complete_time
    except LianqiaoError:
        return True
