"""A small world for tests: nodes in this process, their databases, one clock, one relayer each.

    world = World(tmp_path)
    zj, relay = world.node("zj"), world.node("relay", "relay")
    world.connect("zj", "relay")
    send(zj, world.client("zj", "relay"), b"hello")
    world.settle()

Keys are deterministic, time stands still until it is advanced, every node signs its heads with
four real Ed25519 keys. Lanes go through `MemoryChain`, so that each test can plan faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from adapters.lianqiao.light import CLIENT
from adapters.memory.chain import MemoryChain
from relay.contract import Contract, Deferred, HeadNeed, State
from relay.errors import Reason, Refused
from relay.keys import SigningKey
from relay.light.types import ClientState, Validator, ValidatorSet
from relay.local import LocalChain
from relay.node import Node, create
from relay.packet import Packet, Payload
from relay.relayer import LaneReport, Relayer
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store
from relay.store.migrate import migrate

START = 1_750_000_000
PORT = "echo"
TYPES = {CLIENT.name: CLIENT}
MAX_TICKS = 200


class Clock:
    """Integer seconds that stand still until they are advanced."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        """Lets time pass."""
        self.now += seconds


class Echo:
    """Answers what it is sent; a few values make it do something else.

    `fail` raises, `defer` is acknowledged later by `call("acknowledge")`, `young CHAIN SECONDS`
    wants a head of CHAIN that is not older than SECONDS. Everything it learns is written.
    """

    port = PORT

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        """Writes `received/<client>/<sequence>` and echoes."""
        state.put(_key("received", packet.destination_client, packet.sequence), payload.value)
        if payload.value == b"fail":
            raise Refused(Reason.CONTRACT_REFUSED, "asked to fail")
        if payload.value == b"defer":
            return Deferred()
        for need in self.heads_needed(packet, payload, state, now):
            if state.head(need.client_id).time < need.time:
                return b"stale"
        return b"echo " + payload.value

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """Writes `acknowledged/<client>/<sequence>`."""
        state.put(_key("acknowledged", packet.source_client, packet.sequence), acknowledgement)

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """Writes `timed_out/<client>/<sequence>`."""
        state.put(_key("timed_out", packet.source_client, packet.sequence), payload.value)

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """`send`: client NUL seconds until timeout NUL value; `acknowledge`: client NUL sequence
        NUL answer; `write`: key NUL value."""
        if method == "send":
            client_id, seconds, value = body.split(b"\0", 2)
            payload = Payload(PORT, PORT, "echo-1", "bytes", value)
            return b"%d" % state.send(client_id.decode(), payload, now + int(seconds))
        if method == "acknowledge":
            client_id, sequence, answer = body.split(b"\0", 2)
            state.acknowledge(client_id.decode(), int(sequence), answer)
            return b""
        key, value = body.split(b"\0", 1)
        state.put(key, value)
        return b""

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """The one that `young` names."""
        if not payload.value.startswith(b"young "):
            return ()
        _, chain_id, seconds = payload.value.decode().split()
        return [HeadNeed(state.client_of(chain_id), now - int(seconds))]


def _key(what: str, client_id: str, sequence: int) -> bytes:
    return f"{what}/{client_id}/{sequence}".encode()


def keys_of(chain_id: str, count: int = 4, algorithm: str = "ed25519") -> list[SigningKey]:
    """The deterministic keys of a chain's validators."""
    seeds = [sha256(f"{chain_id} {algorithm} {i}".encode()).digest() for i in range(count)]
    return [SigningKey.from_seed(seed, algorithm) for seed in seeds]


def set_of(chain_id: str, count: int = 4, algorithms: Sequence[str] = ("ed25519",)) -> ValidatorSet:
    """The validator set of a chain, each validator with power 1."""
    rings = {a: keys_of(chain_id, count, a) for a in sorted(algorithms)}
    return ValidatorSet(
        tuple(
            Validator(f"{chain_id}-{i}", 1, tuple((a, ring[i].public) for a, ring in rings.items()))
            for i in range(count)
        )
    )


def signer_of(
    chain_id: str, mark: Path, count: int = 4, algorithms: Sequence[str] = ("ed25519",)
) -> CheckpointSigner:
    """All keys of a chain in one hand."""
    signers = [
        (f"{chain_id}-{i}", key)
        for algorithm in algorithms
        for i, key in enumerate(keys_of(chain_id, count, algorithm))
    ]
    return CheckpointSigner(signers, HighWaterMark(mark))


class World:
    """Nodes by name, and what connects them."""

    def __init__(self, path: Path, start: int = START) -> None:
        self.path = path
        self.clock = Clock(start)
        self.nodes: dict[str, Node] = {}
        self.chains: dict[str, MemoryChain] = {}
        """Each node as the relayers see it: set `plan` or `reachable` to disturb it."""
        self._clients: dict[tuple[str, str], str] = {}
        self._relayers: dict[str, Relayer] = {}

    def node(
        self,
        name: str,
        role: str = "ledger",
        contracts: Mapping[str, Contract] | None = None,
        signers: int = 4,
        algorithms: Sequence[str] = ("ed25519",),
    ) -> Node:
        """Creates and opens a node; contracts default to `Echo` alone."""
        store = Store.at(self.path / f"{name}.db")
        migrate(store.engine)
        validators = set_of(name, signers, algorithms)
        create(store, name, role, validators, epoch=0, now=self.clock.now)
        return self._open(name, role, store, contracts, signers, algorithms)

    def _open(
        self,
        name: str,
        role: str,
        store: Store,
        contracts: Mapping[str, Contract] | None,
        signers: int,
        algorithms: Sequence[str],
    ) -> Node:
        node = Node(
            chain_id=name,
            role=role,
            store=store,
            signer=signer_of(name, self.path / f"{name}.mark", signers, algorithms),
            client_types=TYPES,
            contracts={PORT: Echo()} if contracts is None else contracts,
            clock=self.clock,
        )
        self.nodes[name] = node
        self.chains[name] = MemoryChain(LocalChain(node))
        return node

    def create_client(self, on: str, of: str, **pinned: object) -> str:
        """A client on one node that follows another, anchored at its newest head."""
        source = self.nodes[of]
        state = ClientState(CLIENT.name, source.origin)
        state = replace(state, **pinned)  # type: ignore[arg-type]
        chain = LocalChain(source)
        anchor = chain.headers(0, chain.latest_height(), state.algorithm)[-1]
        return self.nodes[on].create_client(state, anchor)

    def connect(self, a: str, b: str, **pinned: object) -> tuple[str, str]:
        """Clients on both sides that name each other, and a lane where one side is a relay.

        Returns (client on a, client on b).
        """
        on_a, on_b = self.create_client(a, b, **pinned), self.create_client(b, a, **pinned)
        self.nodes[a].register_counterparty(on_a, on_b)
        self.nodes[b].register_counterparty(on_b, on_a)
        self._clients |= {(a, b): on_a, (b, a): on_b}
        for local, remote in ((a, b), (b, a)):
            if self.nodes[local].role == "relay":
                self.relayer_of(local).add_lane(self._clients[local, remote], self.chains[remote])
        return on_a, on_b

    def client(self, on: str, of: str) -> str:
        """The id of the client that `connect` made."""
        return self._clients[on, of]

    def relayer_of(self, name: str) -> Relayer:
        """The relayer of one node."""
        if name not in self._relayers:
            self._relayers[name] = self.new_relayer(name)
        return self._relayers[name]

    def new_relayer(self, name: str) -> Relayer:
        """Another relayer of that node, as after a restart: it shares the store and no more."""
        node = self.nodes[name]
        lanes = [
            (client_id, self.chains[of])
            for (on, of), client_id in self._clients.items()
            if on == name
        ]
        return Relayer(
            node.store,
            self.chains[name],
            lanes,
            heads_needed=node.heads_needed,
            submit_misbehaviour=node.submit_misbehaviour,
        )

    @property
    def relayer(self) -> Relayer:
        """The relayer of the only relay, made anew where there was none yet."""
        return self.relayer_of(next(n for n, node in self.nodes.items() if node.role == "relay"))

    def restart_relayer(self) -> Relayer:
        """Forgets all that a relayer holds in memory."""
        name = next(n for n, node in self.nodes.items() if node.role == "relay")
        self._relayers[name] = self.new_relayer(name)
        return self._relayers[name]

    def tick(self) -> list[LaneReport]:
        """One turn of every lane of every relayer."""
        return [r for relayer in self._relayers.values() for r in relayer.tick(self.clock.now)]

    def settle(self, seconds: int = 0) -> int:
        """Ticks until a whole turn does nothing; how many turns it took. `seconds` pass between
        two turns, for what waits."""
        for turn in range(MAX_TICKS):
            if all(report.idle and not report.more for report in self.tick()):
                return turn
            self.clock.advance(seconds)
        raise AssertionError(f"the lanes did not rest in {MAX_TICKS} turns")

    def sizes(self) -> dict[str, int]:
        """Entries in each journal."""
        return {name: node.head.size for name, node in self.nodes.items()}

    def close(self) -> None:
        """Releases every database."""
        for node in self.nodes.values():
            node.close()


def send(node: Node, client_id: str, value: bytes, seconds: int = 600) -> int:
    """Sends one packet through `Echo`; its sequence."""
    return int(node.call(PORT, "send", b"%s\0%d\0%s" % (client_id.encode(), seconds, value)))
