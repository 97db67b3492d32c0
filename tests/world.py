"""Small networks of real nodes in one process: real databases, keys and proofs, a clock we hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from adapters.cometbft.light.client import COMETBFT
from adapters.memory.chain import MemoryChain
from relay.chain import Delivery, Item, Outcome, Step, Submission
from relay.contract import Contract
from relay.keys import SigningKey
from relay.lane_report import LaneReport
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ClientState, ClientType, Validator, ValidatorSet
from relay.light.validators import validator_set
from relay.local import LocalChain
from relay.node import Node, create
from relay.packet import Packet
from relay.relayer import Relayer
from relay.signing import CheckpointSigner, HighWaterMark
from relay.steps import item_of, proven_paths
from tests.databases import everyday_url, new_store, open_store

START = 1_790_000_000
MAX_TURNS = 200
TYPES: Mapping[str, ClientType] = {"checkpoint": CHECKPOINT, "cometbft": COMETBFT}


@dataclass
class Clock:
    """Seconds, advanced by the test."""

    now: int = START

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        self.now += seconds


def keys_of(name: str, count: int = 4, algorithm: str = "ed25519") -> list[SigningKey]:
    """The same keys for the same name, always."""
    seeds = (sha256(f"{name}/{algorithm}/{i}".encode()).digest() for i in range(count))
    return [SigningKey.from_seed(seed, algorithm) for seed in seeds]


def set_of(keys: Sequence[SigningKey], name: str) -> ValidatorSet:
    """A set of equal powers."""
    return validator_set(
        [Validator(f"{name}-{i}", 1, ((k.algorithm, k.public),)) for i, k in enumerate(keys)]
    )


@dataclass
class World:
    """Nodes by name, and who follows whom."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    nodes: dict[str, Node] = field(default_factory=dict)
    clients: dict[tuple[str, str], str] = field(default_factory=dict)
    """(on node, of node) -> client id."""
    signers: dict[str, list[SigningKey]] = field(default_factory=dict)
    networks: dict[str, MemoryChain] = field(default_factory=dict)
    """Each node as relayers reach it: set `plan` or `reachable` to disturb the way there."""
    relayers: dict[str, Relayer] = field(default_factory=dict)
    evidence: list[tuple[str, bytes]] = field(default_factory=list)
    """(chain id, evidence) that relayers have kept."""

    url_of: Callable[[Path], str] = everyday_url
    """The database of a node whose file it would be; another kind in tests that ask for it."""

    def node(self, name: str, role: str = "ledger", contracts: Sequence[Contract] = ()) -> Node:
        """Makes a node, or opens it again where it was made before."""
        path = self.path / name
        keys = self.signers.setdefault(name, keys_of(name))
        url = self.url_of(path.with_suffix(".db"))
        fresh = not path.with_suffix(".mark").exists()
        store = new_store(url) if fresh else open_store(url)
        if fresh:
            create(store, name, role, set_of(keys, name), epoch=0, now=self.clock())
        signer = CheckpointSigner(
            [(f"{name}-{i}", key) for i, key in enumerate(keys)],
            HighWaterMark(path.with_suffix(".mark")),
        )
        self.nodes[name] = Node(
            chain_id=name,
            role=role,
            store=store,
            signer=signer,
            client_types=TYPES,
            contracts={contract.port: contract for contract in contracts},
            clock=self.clock,
        )
        if name in self.networks:
            self.networks[name].inner = LocalChain(self.nodes[name])
        else:
            self.networks[name] = MemoryChain(LocalChain(self.nodes[name]))
        return self.nodes[name]

    def chain(self, name: str) -> LocalChain:
        """The node as a relayer sees it."""
        return LocalChain(self.nodes[name])

    def connect(self, a: str, b: str, **pinned: object) -> tuple[str, str]:
        """Clients on both sides that name each other; (client on a, client on b)."""
        on_a, on_b = self._follow(a, b, pinned), self._follow(b, a, pinned)
        self.nodes[a].register_counterparty(on_a, on_b)
        self.nodes[b].register_counterparty(on_b, on_a)
        return on_a, on_b

    def _follow(self, on: str, of: str, pinned: dict[str, object]) -> str:
        chain = self.chain(of)
        header = chain.headers(0, chain.latest_height())[-1]
        state = ClientState("checkpoint", self.nodes[of].origin, **pinned)  # type: ignore[arg-type]
        client_id = self.nodes[on].create_client(state, header)
        self.clients[(on, of)] = client_id
        return client_id

    def delivery(self, of: str, to: str, items: Sequence[Item]) -> Delivery:
        """What an honest relayer would submit on `to` for items that are true on `of`."""
        source, client_id = self.chain(of), self.clients[(to, of)]
        status = self.chain(to).client(client_id)
        height = source.latest_height()
        headers = (
            source.headers(status.latest_height, height) if height > status.latest_height else ()
        )
        paths = proven_paths(items)
        proof = source.prove(paths, height) if paths else b""
        return Delivery(client_id, tuple(headers), height, proof, tuple(items))

    def deliver(self, of: str, to: str, items: Sequence[Item]) -> tuple[Submission, ...]:
        """Delivers and requires that the headers were good."""
        result = self.nodes[to].deliver([self.delivery(of, to, items)])[0]
        assert result.headers.outcome is not Outcome.REFUSED, result.headers
        return result.items

    def relay_once(self, of: str, to: str) -> list[tuple[Step, Packet, Submission]]:
        """Carries every open step of `of` to `to`, as a relayer without memory would."""
        steps = self.chain(of).packets(self.clients[(of, to)], -1, 1000)
        items = [item_of(step) for step in steps]
        if not items:
            return []
        answers = self.deliver(of, to, items)
        return [(i.step, i.packet, a) for i, a in zip(items, answers, strict=True)]

    # --- relayers

    def relayer(self, name: str) -> Relayer:
        """The relayer of a node, with a lane for each client that `connect` made there."""
        if name not in self.relayers:
            self.relayers[name] = self.new_relayer(name)
        return self.relayers[name]

    def new_relayer(self, name: str) -> Relayer:
        """Another relayer of that node, as after a restart: it shares the store and no more."""
        node = self.nodes[name]
        lanes = [(c, self.networks[of]) for (on, of), c in self.clients.items() if on == name]
        return Relayer(
            node.store,
            self.networks[name],
            lanes,
            heads_needed=node.heads_needed,
            submit_misbehaviour=node.submit_misbehaviour,
            client_types=node.client_types,
            keep_evidence=lambda chain_id, raw: self.evidence.append((chain_id, raw)),
        )

    def restart(self, name: str) -> Relayer:
        """Forgets all that a relayer holds in memory."""
        self.relayers[name] = self.new_relayer(name)
        return self.relayers[name]

    def tick(self, name: str) -> list[LaneReport]:
        """One turn of every lane of a node's relayer."""
        return self.relayer(name).tick(self.clock.now)

    def settle(self, name: str, seconds: int = 0) -> int:
        """Turns until one does nothing; how many did. `seconds` pass between two turns."""
        for turn in range(MAX_TURNS):
            if all(report.idle and not report.more for report in self.tick(name)):
                return turn
            self.clock.advance(seconds)
        raise AssertionError(f"the lanes of {name} do not rest")

    def sizes(self) -> dict[str, int]:
        """Entries in each journal."""
        return {name: node.head.size for name, node in self.nodes.items()}

    def close(self) -> None:
        """Closes every node."""
        for node in self.nodes.values():
            node.close()
