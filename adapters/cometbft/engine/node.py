"""A replica of a chain as a node: it is asked as any other, and asks its chain.

Reads are of the local database. What changes something is signed by this institution's operator,
spread by the local CometBFT and answered when the block that holds it is committed here, with the
result of this very transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from adapters.cometbft.engine.application import Application, nothing_new
from adapters.cometbft.engine.asked import Key, encode_asked
from adapters.cometbft.engine.execution import Result
from adapters.cometbft.engine.headers import BlockEvidence
from adapters.cometbft.engine.local_rpc import LocalRpc
from relay.actions import Action, AnnounceSet, CreateBound, CreateClient, Tick
from relay.chain import Delivery, DeliveryResult
from relay.channel import Channel
from relay.clients import Clients
from relay.contract import Contract
from relay.deciding import ChangeOperators, operators_of, quorum_of
from relay.errors import Conflict, LianqiaoError, Reason, Refused, Unavailable
from relay.light.types import ClientType, ValidatorSet
from relay.powers import ChangePowers, Power
from relay.store import BlockRow, ClientRow, Store
from relay.store.blocks import BlockHeads
from relay.tiles import TileCache
from relay.ways import Ways

EXPIRY_SECONDS = 120
"""By this machine's clock, or the last block's; what is in no block by then never will be."""
WAIT_SECONDS = 60.0
WAKE_SECONDS = 2
"""Of rest, after which a block is made first."""
MAX_WAITING = 10_000
NONCE_BYTES = 16


@dataclass(frozen=True, slots=True)
class Operator:
    """By whom this replica asks its chain."""

    name: str
    key: Key


@dataclass(slots=True)
class _Waiting:
    done: threading.Event = field(default_factory=threading.Event)
    result: Result | None = None


class ReplicatedNode(Ways):
    """What relay.node.Node is to a journal of one process. Thread-safe; `close()` when done."""

    def __init__(
        self,
        *,
        chain_id: str,
        role: str,
        store: Store,
        operator: Operator,
        rpc: LocalRpc,
        client_types: Mapping[str, ClientType],
        contracts: Mapping[str, Contract],
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        epoch: int = 0,
    ) -> None:
        """Opens a replica on a migrated database, empty or not. Raises WRONG_CHAIN, WRONG_SCHEMA.

        `random` gives so many unpredictable bytes.
        """
        self.chain_id = chain_id
        self.origin = f"{chain_id}/{epoch}"
        self.role = role
        self.store = store
        self.contracts = contracts
        self.client_types = client_types
        self.tiles = TileCache()
        self.shown = BlockHeads(self.origin)
        self.clients = Clients(client_types)
        self.channel = Channel(chain_id, self.clients, contracts)
        self._operator = operator
        self._rpc = rpc
        self._clock = clock
        self._random = random
        self._changed = threading.Condition()
        self._waiting: dict[bytes, _Waiting] = {}
        self._waking = threading.Lock()
        self._heard = 0
        """When the newest block was committed here, by this machine's clock."""
        store.check(chain_id)
        store.heads = self.shown
        self.application = Application(
            store, self.channel, origin=self.origin, role=role, told=self._committed
        )

    # --- relay.ways

    def run(self, action: Action) -> Any:
        """See relay.ways.

        Raises Unavailable(CHAIN_UNREACHABLE) where it is not in a block in time: it may still be
        within EXPIRY_SECONDS.
        """
        if isinstance(action, CreateClient | CreateBound):
            # The nonce keeps it from being done twice; other operators must ask for the same.
            action = replace(action, request_id="")
        self._wake()
        result = self._ask(self._signed(action))
        if result.error is not None:
            raise result.error
        return result.answer

    def _signed(self, action: Action) -> bytes:
        return encode_asked(
            self.origin,
            self._operator.name,
            self._operator.key,
            self.now() + EXPIRY_SECONDS,
            self._random(NONCE_BYTES),
            action,
        )

    def _wake(self) -> None:
        """Has a chain that rested make a block before the one that holds what is asked.

        A block's time is that of the votes for the block before: after a rest the first one is
        late by all of it, and would take young headers for headers from the future, and an expired
        quote for a good one. What wakes the chain is refused by it and leaves nothing.
        """
        if self._clock() - self._heard <= WAKE_SECONDS or self.application.last is None:
            return
        with self._waking:
            if self._clock() - self._heard > WAKE_SECONDS:
                self._ask(self._signed(Tick()))

    def register_counterparty(self, client_id: str, counterparty_client_id: str) -> None:
        """See relay.ways. What is named so already is answered without a transaction: nobody has
        to agree on it again."""
        with self.store.reading() as tx:
            row = tx.load(ClientRow, client_id)
        if row is None or row.counterparty != counterparty_client_id:
            super().register_counterparty(client_id, counterparty_client_id)

    def change_powers(self, powers: Sequence[Power]) -> None:
        """See relay.ways. Raises what relay.powers raises, Refused(APPROVAL_PENDING)."""
        self.run(ChangePowers(tuple(powers)))

    def operators(self) -> tuple[ValidatorSet, int]:
        """See relay.ways. Raises Unavailable(CHAIN_UNREACHABLE) before the genesis."""
        if self.application.last is None:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, "this replica has no state yet")
        with self.store.reading() as tx:
            return operators_of(tx, self.chain_id), quorum_of(tx, self.chain_id)

    def change_operators(self, operators: ValidatorSet, quorum: int = 0) -> None:
        """See relay.ways. Raises Refused(APPROVAL_PENDING), LIMIT_EXCEEDED, WEAK_KEY."""
        self.run(ChangeOperators(operators, quorum) if quorum else AnnounceSet(operators))

    def now(self) -> int:
        """See relay.ways."""
        return max(self._clock(), self._chain_time())

    def deliver(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
        """See relay.ways. What is settled already is answered without a transaction, so that
        several relayers cost each other little."""
        known = self._known(deliveries)
        if known is not None:
            return known
        try:
            return super().deliver(deliveries)
        except Conflict:  # another relayer's delivery came into a block first
            known = self._known(deliveries)
            if known is None:
                raise
            return known

    def _known(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult] | None:
        with self.store.reading() as tx:
            if not nothing_new(tx, deliveries):
                return None
            now = self.now()
            return [self.channel.deliver(tx, delivery, now) for delivery in deliveries]

    def _chain_time(self) -> int:
        last = self.application.last
        return self._clock() if last is None else last.time

    # --- asking the chain

    def _ask(self, raw: bytes) -> Result:
        digest = sha256(raw).digest()
        waiting = _Waiting()
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise Unavailable(Reason.LIMIT_EXCEEDED, "too many calls wait; try again later")
            self._waiting[digest] = waiting
        try:
            code, log = self._rpc.spread(raw)
            if code and not waiting.done.is_set():
                raise _refusal(log)
            if not waiting.done.wait(WAIT_SECONDS):
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE,
                    f"this is in no block after {WAIT_SECONDS:.0f} seconds",
                    hint="more than 2/3 of the validators must be up; it may still be done within "
                    f"{EXPIRY_SECONDS} seconds, and never after",
                )
        finally:
            with self._changed:
                del self._waiting[digest]
        assert waiting.result is not None
        return waiting.result

    def _committed(self, block: BlockRow, results: Mapping[bytes, Result]) -> None:
        self._heard = self._clock()
        with self._changed:
            for digest, result in results.items():
                waiting = self._waiting.get(digest)
                if waiting is not None:
                    waiting.result = result
                    waiting.done.set()
            self._changed.notify_all()

    # --- what others ask of it

    def evidence(self) -> BlockEvidence:
        """What this replica proves of the journal."""
        return BlockEvidence(self.store, self.tiles, self.shown, self._rpc)

    @property
    def shown_size(self) -> int:
        """Height of the newest header that others are shown."""
        last = self.application.last
        return last.height if last else 0

    def wait_shown(self, size: int, timeout: float) -> bool:
        """Waits until a header above that height is committed; whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: self.shown_size > size, timeout)

    def tick(self) -> bool:
        """Ends a CometBFT that has to begin anew (service); False. Else nothing: headers keep an
        idle chain young, and blocks complete what is due."""
        if self.application.last is not None and not self.application.met:
            with suppress(LianqiaoError):  # where it is gone already, it is on its way
                self._rpc.spread(self._signed(Tick()))
        return False

    def close(self) -> None:
        """Releases the database."""
        self.store.close()


def _refusal(log: str) -> LianqiaoError:
    """CheckTx on the local replica refused it: the log is a reason."""
    try:
        reason = Reason(log)
    except ValueError:
        reason = Reason.INTERNAL
    if reason is Reason.CONFLICT:
        return Conflict(reason, "this was done before")
    if reason is Reason.LIMIT_EXCEEDED:
        return Unavailable(reason, "too much of this operator waits for a block; try again later")
    return Refused(reason, "the chain does not take this; is this operator's key in its set?")
