"""Another lianqiao node over gRPC, as a chain: entry point `lianqiao.chains: lianqiao`.

Everything the node answers is untrusted. It is bounded and typed by `relay.codec` on its way in,
and verified by the light client of whoever it is delivered to; this adapter decides nothing.

Every call has a deadline. What a transport does (refuses, times out, is closed under a call)
becomes Unavailable(CHAIN_UNREACHABLE), what a node of ours refuses keeps its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import ParamSpec, TypeVar, cast

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
MAX_DELIVERIES = 64
"""Deliveries in one call, as PacketService takes them."""
MAX_ADDRESS = 256

_Told = Generator[tuple[int, PacketStep | None], None, None]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class LianqiaoChain:
    """relay.chain.Chain over a connection to a node. Thread-safe; `close()` when done."""

    def __init__(self, node: NodeClient) -> None:
        self._node = node
        self._chain_id = ""

    @property
    def chain_id(self) -> str:
        """What the node says it is; asked once. Raises Unavailable(CHAIN_UNREACHABLE)."""
        if not self._chain_id:
            self._chain_id = self._typed(self._node.status).chain_id
        return self._chain_id

    def latest_height(self) -> int:
        """See relay.chain.Chain."""
        try:
            return self._typed(self._node.head).size
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
        return self._typed(self._node.headers, trusted_height, height, algorithm, witnesses)

    def client(self, client_id: str) -> ClientStatus:
        """See relay.chain.Chain."""
        return client_status(self._typed(self._node.client, client_id))

    def packets(self, client_id: str, after: int, limit: int) -> Sequence[PacketStep]:
        """See relay.chain.Chain. Fewer than `limit` where more would not fit into an answer."""
        limit = min(limit, MAX_BATCH)
        while True:
            try:
                return self._typed(self._node.steps, client_id, after, limit)
            except Exhausted:
                if limit <= 1:
                    raise
                limit //= 8  # large payloads: an answer is bounded in bytes, not in steps
                limit = max(limit, 1)

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """See relay.chain.Chain."""
        return self._typed(self._node.prove, paths, height)

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        """See relay.chain.Chain. As many calls as the limits of one call ask for."""
        results: list[DeliveryResult] = []
        for part in _parts(deliveries):
            results += self._typed(self._node.deliver, part)
        return results

    def sent(self, client_id: str, height: int, before: int) -> Sequence[Claim]:
        """See relay.chain.StatingChain."""
        return self._typed(self._node.sent, client_id, height, before)

    def verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        """See relay.watch.KnowingChain."""
        return self._typed(self._verified_heads, chain_ids)

    def _verified_heads(self, chain_ids: Collection[str]) -> Sequence[VerifiedHead]:
        following = (v for v in self._node.clients() if v.state.chain_id in chain_ids)
        return [
            VerifiedHead(v.client_id, self._node.verified_header(v.client_id), v.frozen)
            for v in islice(following, MAX_HEADS)
        ]

    def accuse(self, client_id: str, evidence: bytes) -> None:
        """See relay.watch.KnowingChain."""
        self._typed(self._node.submit_misbehaviour, client_id, evidence)

    def wait(self, client_id: str, after: int, seconds: float) -> bool:
        """See relay.pace.WaitingChain: by a stream, so that resting costs no calls."""
        return self._typed(self._wait, client_id, after, seconds)

    def _wait(self, client_id: str, after: int, seconds: float) -> bool:
        told = cast(_Told, self._node.watch(client_id, after, seconds))
        with closing(told):
            return any(step is not None for _, step in told)

    def close(self) -> None:
        """Ends the connection and every call on it."""
        self._node.close()

    def _typed(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return call(*args, **kwargs)
        except LianqiaoError:
            raise
        except (TypeError, OverflowError) as err:
            raise Malformed(f"this cannot be asked of a node: {err}") from err
        except ValueError as err:
            if "closed channel" in str(err).lower():
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE,
                    f"the connection to {self._node.address} was closed",
                    address=self._node.address,
                ) from err
            raise Malformed(f"this cannot be asked of a node: {err}") from err


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
    """The node at `settings["address"]`, `HOST:PORT`. Whether it answers shows at the first call.

    Raises Refused(CONFIG_INVALID).
    """
    address = settings.get("address", "")
    host, colon, port = address.rpartition(":")
    valid = bool(colon and host) and port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not valid or len(address) > MAX_ADDRESS or not address.isprintable():
        raise Refused(
            Reason.CONFIG_INVALID,
            f"the address of a node is HOST:PORT, and not {address[:64]!r}",
            hint="for example 127.0.0.1:7101",
        )
    unknown = sorted(set(settings) - {"address"})
    if unknown:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"the adapter lianqiao knows no setting {unknown[0][:64]!r}",
            hint="it takes `address` alone",
        )
    return LianqiaoChain(NodeClient(address, TIMEOUT_SECONDS))
