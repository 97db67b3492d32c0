"""A network whose relay is witnessed by its ledgers, and a relay that signs two histories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relay.evidence import Evidence
from relay.keys import SigningKey
from relay.light.types import Witness as PinnedWitness
from relay.node import Node
from relay.store import CheckpointRow
from relay.store.identity import load_set
from relay.views import Cosigned
from relay.witness import Witness
from tests.echo import ECHO
from tests.world import Clock, World, keys_of

ZJ, SH, HUB = "zj", "sh", "hub"


def witness_key(name: str, algorithm: str = "ed25519") -> SigningKey:
    """Always the same for the same name."""
    return keys_of(f"{name}/witness", 1, algorithm)[0]


def witness_of(world: World, name: str) -> Witness:
    """The node `name` of a world as a witness, as after a start."""
    return Witness(world.nodes[name], name, [witness_key(name)], world.path / f"{name}.witness")


def pinned(*names: str) -> tuple[PinnedWitness, ...]:
    """The same witnesses as clients pin them."""
    return tuple(PinnedWitness(n, "ed25519", witness_key(n).public) for n in sorted(names))


def hub_world(path: Path, clock: Clock | None = None) -> World:
    """Two ledgers and a relay; each ledger has a client of the relay."""
    path.mkdir(exist_ok=True)
    world = World(path, clock or Clock())
    for name in (ZJ, SH):
        world.node(name, "ledger", [ECHO])
    world.node(HUB, "relay", [ECHO])
    for key in "xyz":
        put(world.nodes[HUB], key)
    for name in (ZJ, SH):
        world._follow(name, HUB, {})
    return world


def put(node: Node, key: str) -> CheckpointRow:
    """One more entry; the head that covers it."""
    node.call("echo", "put", f"{key}\n\nx".encode())
    return node.head


def validators_of(node: Node, row: CheckpointRow) -> bytes:
    """Preimage of the set that signed a head."""
    with node.store.read() as connection:
        encoded = load_set(connection, row.set_hash)
    assert encoded is not None
    return encoded


def ask(
    witness: Witness,
    of: Node,
    now: int,
    *,
    old: int | None = None,
    row: CheckpointRow | None = None,
    proof: Sequence[bytes] | None = None,
) -> Cosigned:
    """Shows a head of a node (its newest) to a witness, with the true proof from `old`."""
    row = row or of.head
    old = row.size if old is None else old
    if proof is None:
        evidence = Evidence(of.store, of.tiles)
        proof = evidence.consistency(old, row.size) if 0 < old < row.size else []
    return witness.add_checkpoint(old, proof, row.note.encode(), validators_of(of, row), now)
