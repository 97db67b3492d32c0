"""Our own chains as subjects of the conformance suite: a node in this process, a node over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from adapters.memory.chain import MemoryChain, offer
from relay.chain import Chain, Delivery, Item, Step
from relay.demo.ports import free_ports
from relay.keys import SigningKey
from relay.light.checkpoint import CheckpointBody, encode_body, sign_body
from relay.light.checkpoint_client import encode_header
from relay.light.note import Note, encode_note, sort_signatures
from relay.light.types import ClientState, Header, ValidatorSet
from relay.light.validators import set_hash
from relay.local import LocalChain
from relay.registry import connect_chain
from relay.server import start
from tests.echo import ECHO
from tests.world import World, keys_of, set_of

ZJ, HUB = "zj", "hub"


class CheckpointSubject:
    """The ledger `zj`, a lianqiao node with four validators, beside a relay that follows it."""

    def __init__(self, path: Path, adapter: str) -> None:
        self.world = World(path)
        self.world.node(ZJ, "ledger", [ECHO])
        self.world.node(HUB, "relay", [ECHO])
        self.client_id, self._on_hub = self.world.connect(ZJ, HUB)
        self.state = ClientState("checkpoint", "zj/0")
        self._stop: Callable[[], None] = lambda: None
        self.chain = self._memory() if adapter == "memory" else self._over_grpc()
        self.nobody = self._dead if adapter == "memory" else self._unused

    def _memory(self) -> Chain:
        address = f"conformance:{id(self)}"
        offer(address, MemoryChain(LocalChain(self.world.nodes[ZJ])))
        return connect_chain("memory", {"address": address})

    def _over_grpc(self) -> Chain:
        server = start(self.world.nodes[ZJ], clock=self.world.clock)
        self._stop = lambda: server.stop(0)
        return connect_chain("lianqiao", {"address": f"127.0.0.1:{server.port}"})

    def _dead(self) -> Chain:
        chain = MemoryChain(LocalChain(self.world.nodes[ZJ]))
        chain.reachable = False
        return chain

    def _unused(self) -> Chain:
        (port,) = free_ports(1)
        return connect_chain("lianqiao", {"address": f"127.0.0.1:{port}"})

    def now(self) -> int:
        """See Subject."""
        return self.world.clock.now

    def advance(self, seconds: int) -> None:
        """See Subject."""
        self.world.clock.advance(seconds)

    def send(self, values: Sequence[bytes]) -> None:
        """See Subject."""
        _send(self.world, ZJ, self.client_id, values)

    def delivery(self, count: int) -> Delivery:
        """See Subject."""
        values = [b"%d" % i for i in range(count)]
        sequences = _send(self.world, HUB, self._on_hub, values)
        steps = self.world.chain(HUB).packets(self._on_hub, 0, 1000)
        fresh = [s for s in steps if s.step is Step.SEND and s.packet.sequence in sequences]
        return self.world.delivery(HUB, ZJ, [Item(Step.RECEIVE, s.packet) for s in fresh])

    def forge(self, header: Header, *, signers: int = 0, **fields: object) -> bytes:
        """See Subject."""
        ring = keys_of(ZJ)[: signers or len(header.signatures)]
        return _sign(replace(header, **fields), header.validators, ring)  # type: ignore[arg-type]

    def usurp(self, header: Header) -> bytes:
        """See Subject."""
        ring = keys_of("usurper")
        usurpers = set_of(ring, ZJ)
        return _sign(replace(header, set_hash=set_hash(usurpers)), usurpers, ring)

    def stranger(self, header: Header) -> bytes:
        """See Subject."""
        ring = keys_of(ZJ)[: len(header.signatures)]
        return _sign(header, header.validators, [*ring, SigningKey.from_seed(bytes(32))])

    def close(self) -> None:
        """Ends servers and connections."""
        close = getattr(self.chain, "close", None)
        if close is not None:
            close()
        self._stop()
        self.world.close()


def _send(world: World, on: str, client_id: str, values: Sequence[bytes]) -> set[int]:
    head = f"{client_id}\n{world.clock() + 600}\n".encode()
    return {int(world.nodes[on].call("echo", "send", head + value)) for value in values}


def _sign(header: Header, validators: ValidatorSet, ring: Sequence[SigningKey]) -> bytes:
    body = encode_body(
        CheckpointBody(
            origin=header.chain_id,
            size=header.height,
            root=header.root,
            time=header.time,
            set_hash=header.set_hash,
            next_set_hash=header.next_set_hash,
        )
    )
    lines = sort_signatures([sign_body(f"zj-{i}", key, body) for i, key in enumerate(ring)])
    return encode_header(
        encode_note(Note(body, lines)), validators, header.link_height, header.link
    )
