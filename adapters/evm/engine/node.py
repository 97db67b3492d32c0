"""One institution's node before an EVM ledger: asked as any other, it posts to the chain.

A call is tried on the tables as they are: what the contract refuses costs nothing. What it would
send or write is posted, and answered when it is mined and read back. Calls that arrive together are
posted together. Nothing of the tables is lost with them: they are made again from the chain.
"""

from __future__ import annotations

import threading
import time as clock
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapters.evm import calls
from adapters.evm.books.proven import parts
from adapters.evm.books.steps import BookStep, named_by
from adapters.evm.chain import EvmChain
from adapters.evm.engine.logs import Block, Logs, Place, sequences_of
from adapters.evm.engine.mirror import READ_PORT, Mirror, Plan, last_read
from adapters.evm.engine.money import EscrowDesk, clipped, withdrawn
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from adapters.evm.step_log import Span
from relay import actions
from relay.actions import MAX_BODY_BYTES, Action, Tick
from relay.batch import Groups
from relay.books import StepsProven
from relay.canonical import Json, encode
from relay.channel import Channel
from relay.contract import Contract
from relay.contracts.payloads import ESCROW_PORT, Withdrawal, fields
from relay.errors import (
    Conflict,
    Denied,
    LianqiaoError,
    Malformed,
    Reason,
    Refused,
    Unavailable,
)
from relay.host import HostState
from relay.node import Node
from relay.packet import Payload
from relay.query import list_records
from relay.store import Transaction

MAX_POSTED = 40
"""Values in one call of the registry."""
MAX_POSTED_BYTES = 64 * 1024
"""Of the values of one call: what is posted is data of the chain for ever."""
READ_SECONDS = 20.0
"""Until a node of the chain must show what it says was mined."""
_KEPT_BLOCKS = 5_000
"""Blocks without anything, after which it is written down that they were read."""
_LISTS = ("attestations", "entries")


@dataclass(frozen=True, slots=True)
class _Fold:
    """What was read of the chain, as an action of the journal."""

    blocks: tuple[Block, ...]
    place: Place

    def apply(self, channel: Channel, tx: Transaction, now: int) -> None:
        """See Mirror.fold."""
        assert isinstance(channel, Mirror)
        channel.fold(tx, self.blocks, self.place)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One method and the bodies of its calls; each alone stands or fails by itself."""

    method: str
    bodies: tuple[bytes, ...]


@dataclass(slots=True)
class _Tried:
    """What the calls would do."""

    answers: list[list[bytes | LianqiaoError]]
    sent: list[tuple[Payload, int]]
    recorded: list[bytes]


class LedgerNode(Node):
    """relay.node.Node, whose ledger is an EVM chain. Thread-safe; `close()` when done."""

    def __init__(
        self,
        *,
        rpc: Rpc,
        endpoint: bytes,
        registry: bytes,
        relay: str,
        sender: Sender | None,
        from_block: int,
        contracts: Mapping[str, Contract],
        escrow: bytes | None = None,
        chain: EvmChain | None = None,
        **how: Any,
    ) -> None:
        """`relay`: origin of the relay that the endpoint follows; `escrow`: where the ledger keeps
        money; `chain` proves its books; `how`: as for Node. Raises what Node raises."""
        super().__init__(contracts=contracts, **how)
        self.mirror = Mirror(self.chain_id, relay, contracts, endpoint)
        self.channel = self.mirror
        self._rpc = rpc
        self._registry = registry
        self._sender = sender
        self._escrow, self._chain = escrow, chain
        self._desk = None if escrow is None else EscrowDesk(rpc, sender, escrow)
        self._logs = Logs(rpc, endpoint, registry, escrow)
        self._reading = threading.RLock()
        self._span = Span()
        self._asking: Groups[_Asked] = Groups(self._ask_together)
        with self.store.reading() as tx:
            place = last_read(tx, self.mirror)
        self._place = replace(place, block=max(place.block, from_block - 1))
        self._kept_to = self._place.block

    # --- what changes something

    def run(self, action: Action) -> Any:
        """See relay.ways: the chain is asked through its contract, and not otherwise."""
        if isinstance(action, (_Fold, Tick)):
            return super().run(action)
        raise Denied(
            Reason.NOT_PERMITTED,
            "this node stands before an EVM ledger, whose own endpoint has clients and packets",
            hint="relays are joined to the ledger by lianqiao connect --chain FILE",
        )

    def call(self, port: str, method: str, body: bytes, request_id: str = "") -> bytes:
        """See relay.ways; answered when it is mined. Raises Unavailable as well."""
        (answer,) = self.call_each(port, method, [body])
        if isinstance(answer, LianqiaoError):
            raise answer
        return answer

    def call_each(
        self, port: str, method: str, bodies: Sequence[bytes]
    ) -> list[bytes | LianqiaoError]:
        """See relay.ways; answered when it is mined. Raises Unavailable as well."""
        actions.contract_on(self.channel, port)
        if any(len(body) > MAX_BODY_BYTES for body in bodies):
            raise Malformed("the body is too long", reason=Reason.LIMIT_EXCEEDED)
        if port == ESCROW_PORT and self._desk is not None:
            return [self._ask_escrow(self._desk, method, body) for body in bodies]
        found: list[bytes | LianqiaoError] = self._asking.submit(_Asked(method, tuple(bodies)))
        return found

    def tick(self) -> bool:
        """Reads on, then as Node does. Raises Unavailable where the chain is not reached."""
        self.read()
        return super().tick()

    def _ask_together(self, asked: Sequence[_Asked]) -> list[list[bytes | LianqiaoError]]:
        with self._reading:
            self.read()
            tried = self._try(asked, Plan())
            posts = _posts(tried.sent)
            records = list(_groups(tried.recorded, len))
            if not posts and not records:
                return tried.answers
            data = [calls.encode("post", list(post), "Registry") for post in posts]
            data += [calls.encode("record", [values], "Registry") for values in records]
            receipts = self._post(data)
            order = [at for post in _order(tried.sent) for at in post]
            given = sequences_of(receipts)
            if len(given) != len(order):
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE, "the chain's receipts do not show what was posted"
                )
            places = dict(zip(order, given, strict=True))
            plan = Plan(deque(places[at] for at in range(len(given))))
            answers = self._try(asked, plan).answers
            self.read(max(int(receipt["blockNumber"], 16) for receipt in receipts))
            return answers

    def _try(self, asked: Sequence[_Asked], plan: Plan) -> _Tried:
        """The calls on the tables as they are; nothing of it stays."""
        now, tried = self.now(), _Tried([], plan.sent, [])
        with self.store.reading() as tx, self.mirror.planned(tx, plan):
            for one in asked:
                tried.answers.append(
                    [self._try_one(tx, one.method, b, plan, tried, now) for b in one.bodies]
                )
        return tried

    def _try_one(
        self, tx: Transaction, method: str, body: bytes, plan: Plan, tried: _Tried, now: int
    ) -> bytes | LianqiaoError:
        mark, sent, written = tx.mark(), len(plan.sent), len(tx.entries)
        try:
            answer = self.mirror.call(tx, method, body, now)
        except LianqiaoError as err:
            tx.rollback(mark)
            del plan.sent[sent:]
            if isinstance(err, Conflict):
                raise
            return err
        if plan.given is None and len(plan.sent) == sent and len(tx.entries) > written:
            tried.recorded += _recorded(method, fields.document(body, MAX_BODY_BYTES))
        return answer

    def _post(self, data: Sequence[bytes]) -> list[dict[str, Any]]:
        """Receipts of calls of the registry. Raises Refused with the contract's reason."""
        if self._sender is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                "this node has no key to post with",
                hint="give the engine the setting `key`: a file with a private key in hex",
            )
        for one in data:
            tried = self._rpc.call(self._registry, one, sender=self._sender.address)
            if tried.reverted:
                reason = Reason(calls.reason_of(tried.data))
                raise Refused(
                    reason, "the ledger's registry refuses it", hint=_HINTS.get(reason, "")
                )
        receipts = self._sender.send_all(self._rpc, [(self._registry, one) for one in data])
        if any(receipt.get("status") != "0x1" for receipt in receipts):
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE, "the call was mined and reverted: try again"
            )
        return receipts

    # --- money

    def _ask_escrow(self, desk: EscrowDesk, method: str, body: bytes) -> bytes | LianqiaoError:
        """One call of the escrow: tried on the tables, posted, and answered out of them."""
        asked: dict[str, Json] = dict(fields.document(body, MAX_BODY_BYTES))
        try:
            with self._reading:
                self.read()
                holder = b""
                if method == "account.open":
                    asked.pop("relays", None)
                    holder = desk.holder_of(asked)
                    clipped(asked)
                answer = self._done(method, asked)
                if answer is None:
                    self.read(desk.post(method, asked, holder))
                    answer = self._done(method, asked)
        except LianqiaoError as err:
            return err
        if answer is None:
            return Unavailable(Reason.CHAIN_UNREACHABLE, "the chain does not show what was posted")
        return answer

    def _done(self, method: str, asked: fields.Object) -> bytes | None:
        """The answer where the tables have it already; None where the call would change them.

        Raises what the contract raises."""
        body = encode(dict(asked))
        with self.store.reading() as tx:
            state = HostState(self.mirror, tx, ESCROW_PORT, self.now())
            if method == "withdraw":
                found = withdrawn(state, Withdrawal.from_json(asked.get("withdrawal")))
                if found is not None:
                    return found
            written = len(tx.entries)
            answer = self.mirror.call(tx, method, body, self.now(), ESCROW_PORT)
            return None if len(tx.entries) > written else answer

    def steps(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """See relay.books.KeptElsewhere."""
        found = list_records(
            self.store, READ_PORT, b"step/", b"step/%016d" % after if after else b"", limit
        )
        return [(int(name.rpartition(b"/")[2]), value) for name, value in found]

    def prove_steps(self, trusted_height: int) -> StepsProven:
        """See relay.books.KeptElsewhere. Raises Refused(CONFIG_INVALID) where the node is not told
        how the chain is sealed, NotFound(PORT_NOT_FOUND), Unavailable."""
        if self._escrow is None or self._chain is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                "this node cannot prove what the escrow on its chain was told",
                hint="give the engine the settings escrow, variant, validators: evm deploy",
            )
        with self._reading:
            self.read()
            height, done = self._place.block, self._all_steps()
        slots = named_by(done).slots()
        headers: tuple[bytes, ...] = ()
        if trusted_height < height:
            headers = tuple(self._chain.headers(trusted_height, height))
        proofs = tuple(
            (len(part), self._chain.prove_storage(self._escrow, part, height))
            for part in parts(slots)
        )
        return StepsProven(height, headers, len(done), proofs)

    def _all_steps(self) -> list[BookStep]:
        found: list[BookStep] = []
        while page := self.steps(len(found), 1000):
            found += [BookStep.decode(raw) for _, raw in page]
        return found

    # --- what was told

    def read(self, until: int = 0) -> None:
        """Reads on to the newest block, and to `until` at least. Raises Unavailable, Malformed."""
        end = clock.monotonic() + READ_SECONDS
        with self._reading:
            while True:
                head = self._logs.head()
                while self._place.block < head:
                    self._read_some(self._span.end(self._place.block + 1, head))
                if self._place.block >= until:
                    return
                if clock.monotonic() > end:
                    raise Unavailable(
                        Reason.CHAIN_UNREACHABLE, "the chain does not show what was mined yet"
                    )
                clock.sleep(0.1)

    def _read_some(self, last: int) -> None:
        try:
            blocks, place = self._logs.read(max(self._place.block + 1, 0), last, self._place)
        except Malformed as error:  # too much for one answer, maybe
            self._span.shrink(error)
            return
        self._span.grow()
        if blocks or last - self._kept_to >= _KEPT_BLOCKS:
            self.run(_Fold(tuple(blocks), place))
            self._kept_to = last
        self._place = place


_HINTS = {
    Reason.NOT_PERMITTED: "the ledger's operator admits the account: lianqiao evm admit",
}


def _recorded(method: str, body: fields.Object) -> list[bytes]:
    """A call that sends nothing, as records that each fit the chain."""
    for name in _LISTS:
        listed = body.get(name)
        if isinstance(listed, list):
            parts = _groups([encode(one) for one in listed], len, MAX_POSTED_BYTES // 4)
            at, bodies = 0, []
            for part in parts:
                bodies.append({**body, name: listed[at : at + len(part)]})
                at += len(part)
            return [encode({"body": part, "method": method}) for part in bodies]
    whole: Json = {"body": body, "method": method}
    return [encode(whole)]


def _order(sent: Sequence[tuple[Payload, int]]) -> list[list[int]]:
    """Places in `sent` of what each call of the registry carries."""
    kinds: dict[tuple[str, int, bool], list[int]] = {}
    for at, (payload, timeout) in enumerate(sent):
        asked = fields.document(payload.value).get("type") == "request"
        kinds.setdefault((payload.version, timeout, asked), []).append(at)
    return [
        group
        for places in kinds.values()
        for group in _groups(places, lambda at: len(sent[at][0].value))
    ]


def _posts(
    sent: Sequence[tuple[Payload, int]],
) -> list[tuple[list[bytes], str, int, bool]]:
    """Arguments of `post`: what must not be sent again by itself apart from what must."""
    posts = []
    for places in _order(sent):
        payload, timeout = sent[places[0]]
        asked = fields.document(payload.value).get("type") == "request"
        posts.append(([sent[at][0].value for at in places], payload.version, timeout, asked))
    return posts


def _groups(
    items: Sequence[Any], size: Callable[[Any], int], most: int = MAX_POSTED_BYTES
) -> Iterator[list[Any]]:
    """Consecutive items, few enough and small enough for one call."""
    group: list[Any] = []
    total = 0
    for item in items:
        if group and (len(group) == MAX_POSTED or total + size(item) > most):
            yield group
            group, total = [], 0
        group.append(item)
        total += size(item)
    if group:
        yield group
