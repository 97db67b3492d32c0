"""Another lianqiao node over gRPC, as a chain: entry point `lianqiao.chains: lianqiao`.

Everything the node answers is untrusted. It is bounded and typed by `relay.codec` on its way in,
and verified by the light client of whoever it is delivered to; this adapter decides nothing.

Every call has a deadline. What a transport does (refuses, times out, is closed under a call)
becomes Unavailable(CHAIN_UNREACHABLE), what a node of ours refuses keeps its reason.

A chain may be answered for by several: the replicas of an engine, or processes on one database.
One is asked as long as it answers, then the next. What was asked of one can be asked of another:
cursors are places in the journal that they share, and deliveries are idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import TypeVar, cast

from relay.chain import MAX_BATCH, Chain, ClientStatus, Delivery, DeliveryResult, PacketStep
from relay.client import NodeClient
from relay.errors import (
    Exhausted,
    LianqiaoError,
    Malformed,
    NotFound,
    Reason,
    Refused,
    Unavailable,
)
from relay.light.types import Claim, Witness
from relay.local import client_status
from relay.watch import MAX_HEADS, VerifiedHead

TIMEOUT_SECONDS = 20.0
"""Deadline of each call."""
LISTING_SECONDS = 20.0
"""For all pages of a listing together: a node's pages may have no end, and the lane that asks is
often another chain's."""
MAX_DELIVERIES = 64
"""Deliveries in one call, as PacketService takes them."""
MAX_ADDRESS = 256
MAX_REPLICAS = 16

_Told = Generator[tuple[int, PacketStep | None], None, None]
_T = TypeVar("_T")


class LianqiaoChain:
    """relay.chain.Chain over connections to nodes that answer for one chain. Thread-safe;
    `close()` when done."""

    def __init__(self, nodes: Sequence[NodeClient]) -> None:
        self._nodes = tuple(nodes)
        self._at = 0
        self._known: set[int] = set()
        self._chain_id = ""

    @property
    def chain_id(self) -> str:
        """What the first node that answers says; asked once. Raises Unavailable."""
        if not self._chain_id:
            self._chain_id = self._ask(lambda node: node.status().chain_id)
        return self._chain_id

    def latest_height(self) -> int:
        """See relay.chain.Chain."""
        try:
            return self._ask(lambda node: node.head().size)
        except NotFound:
            return 0

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[Witness] = (),
    ) -> Sequence[bytes]:
        """See relay.chain.Chain."""
        return self._ask(lambda node: node.headers(trusted_height, height, algorithm, witnesses))

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        return client_status(self._ask(lambda node: node.client(client_id)))

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain. Fewer than `limit` where more would not fit into an answer."""
        limit = min(limit, MAX_BATCH)
        while True:
            try:
                return self._ask(
                    partial(NodeClient.steps, client_id=client_id, after=after, limit=limit)
                )
            except Exhausted:
                if limit <= 1:
                    raise
                limit //= 8  # large payloads: an answer is bounded in bytes, not in steps
                limit = max(limit, 1)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain."""
        return self._ask(lambda node: node.prove(paths, height))

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain. As many calls as the limits of one call ask for."""
        results: list[DeliveryResult] = []
        for part in _parts(deliveries):
            results += self._ask(partial(NodeClient.deliver, deliveries=part))
        return results

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain."""
        return self._ask(lambda node: node.sent(client_id, height, before))

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """See relay.watch.KnowingChain."""
        return self._ask(lambda node: _verified_heads(node, chain_ids))

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """See relay.watch.KnowingChain."""
        self._ask(lambda node: node.submit_misbehaviour(client_id, evidence))

    def wait(self, client_id: str, after: int, seconds: float) -> bool:
        """See relay.pace.WaitingChain: by a stream, so that resting costs no calls."""
        return self._ask(lambda node: _wait(node, client_id, after, seconds))

    def close(self) -> None:
        """Ends the connections and every call on them."""
        for node in self._nodes:
            node.close()

    def _ask(self, call: Callable[[NodeClient], _T]) -> _T:
        """Of the node that answered last, else of the next that does: one that is full, or whose
        disk is, leaves it to the others."""
        first = self._at
        failed: Unavailable | Exhausted | None = None
        for step in range(len(self._nodes)):
            at = (first + step) % len(self._nodes)
            try:
                self._check(at)
                answer = _typed(call, self._nodes[at])
            except (Unavailable, Exhausted) as err:
                # An answer that is too long is asked for in parts, whoever else is away.
                failed = failed if isinstance(failed, Exhausted) else err
            else:
                self._at = at
                return answer
        assert failed is not None, "a chain has a node at least"
        raise failed

    def _check(self, at: int) -> None:
        """Raises Unavailable where a node that was not asked before is of another chain."""
        if len(self._nodes) == 1 or at in self._known:
            return
        node = self._nodes[at]
        said = _typed(NodeClient.status, node).chain_id
        self._chain_id = self._chain_id or said
        if said != self._chain_id:
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE,
                f"{node.address} answers for {said[:64]}, and not for {self._chain_id}",
                hint="correct the addresses of the lane: lianqiao connect",
                address=node.address,
            )
        self._known.add(at)


def _typed(call: Callable[[NodeClient], _T], node: NodeClient) -> _T:
    try:
        return call(node)
    except LianqiaoError:
        raise
    except (TypeError, OverflowError) as err:
        raise Malformed(f"this cannot be asked of a node: {err}") from err
    except ValueError as err:
        if "closed channel" in str(err).lower():
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE,
                f"the connection to {node.address} was closed",
                address=node.address,
            ) from err
        raise Malformed(f"this cannot be asked of a node: {err}") from err


def _verified_heads(node: NodeClient, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
    clients = node.clients(LISTING_SECONDS)
    following = (v for v in clients if v.state.chain_id in chain_ids)
    heads = []
    for view in islice(following, MAX_HEADS):
        header, cosigned = node.shown_headers(view.client_id)
        heads.append(VerifiedHead(view.client_id, header, view.frozen))
        if cosigned:
            heads.append(VerifiedHead(view.client_id, cosigned, view.frozen, cosigned=True))
    return heads


def _wait(node: NodeClient, client_id: str, after: int, seconds: float) -> bool:
    told = cast(_Told, node.watch(client_id, after, seconds))
    with closing(told):
        return any(step is not None for _, step in told)


def _parts(deliveries: Sequence[Delivery]) -> list[list[Delivery]]:
    """Deliveries in calls of at most MAX_DELIVERIES and, where that can be, MAX_BATCH items."""
    parts: list[list[Delivery]] = []
    items = 0
    for delivery in deliveries:
        items += len(delivery.items)
        if not parts or len(parts[-1]) == MAX_DELIVERIES or items > MAX_BATCH:
            parts.append([])
            items = len(delivery.items)
        parts[-1].append(delivery)
    return parts


def connect(settings: Mapping[str, str]) -> Chain:
    """The node at `settings["address"]`, `HOST:PORT`, and those of `replicas`, by commas, that
    answer for the same chain. Whether any does shows at the first call.

    Raises Refused(CONFIG_INVALID).
    """
    others = filter(None, settings.get("replicas", "").split(","))
    addresses = list(dict.fromkeys(one.strip() for one in (settings.get("address", ""), *others)))
    for address in addresses:
        _check_address(address)
    if len(addresses) > MAX_REPLICAS:
        raise Refused(Reason.CONFIG_INVALID, f"a lane has at most {MAX_REPLICAS} addresses")
    unknown = sorted(set(settings) - {"address", "replicas"})
    if unknown:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"the adapter lianqiao knows no setting {unknown[0][:64]!r}",
            hint="it takes `address`, and `replicas`: further addresses, by commas",
        )
    return LianqiaoChain([NodeClient(address, TIMEOUT_SECONDS) for address in addresses])


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    valid = bool(colon and host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not valid or len(address) > MAX_ADDRESS or not address.isprintable():
        raise Refused(
            Reason.CONFIG_INVALID,
            f"the address of a node is HOST:PORT, and not {address[:64]!r}",
            hint="for example 127.0.0.1:7101",
        )
