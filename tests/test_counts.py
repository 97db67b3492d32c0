"""What a batch costs, counted: signatures, hashes, commits, checkpoints, rows, statements, lines.

Clocks tell of the machine, counts of the program (ROADMAP, "What things cost"): a rate that falls
has a count that rose. Everything here is exact, or a bound close above what was found; whoever
changes a number says why. The whole flow is that of tests.bench.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.chain import Item, Outcome, Step
from relay.contracts.policy import loaded
from relay.light import merkle
from relay.light.membership import entry_hash
from relay.tiles import Edge, extend
from tests.bench.count import Counts, counting
from tests.bench.flow import ASKING, NODES, RELAY, SOURCE
from tests.bench.passes import STAGES, Options, counted
from tests.conflicts import counts_attempts
from tests.echo import ECHO
from tests.world import START, World, keys_of

FEW, MANY = 12, 36
VALIDATORS = 4
QUORUM = 3
CONTRACT_READS = (
    "SELECT entry.value FROM entry WHERE entry.path = ",
    "SELECT entry.path, entry.value FROM entry WHERE entry.path >= ",
)
"""What only a contract asks one by one; the host asks for all items of a delivery at once."""
TILE_READ = "SELECT tile.hashes"
pytestmark = counts_attempts


# --- a delivery between two nodes


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


def joined(world: World, validators: int = VALIDATORS) -> None:
    """Two nodes that run the echo contract, of so many validators each."""
    for name in ("a", "b"):
        world.signers[name] = keys_of(name, validators)
        world.node(name, contracts=[ECHO])
    world.connect("a", "b")


def send(world: World, count: int) -> list[Item]:
    """So many packets from a to b in one batch."""
    body = f"{world.clients[('a', 'b')]}\n{START + 600}\nhello".encode()
    assert all(
        isinstance(a, bytes) for a in world.nodes["a"].call_each("echo", "send", [body] * count)
    )
    steps = world.chain("a").packets(world.clients[("a", "b")], -1, 1000)
    return [Item(Step.RECEIVE, step.packet) for step in steps if step.step is Step.SEND]


def count_of(world: World, items: list[Item]) -> Counts:
    """What b does for one delivery of these items."""
    delivery = world.delivery("a", "b", items)
    with counting({"b": world.nodes["b"].store.engine}) as counts:
        result = world.nodes["b"].deliver([delivery])[0]
    assert result.headers.outcome is not Outcome.REFUSED
    return counts


@pytest.mark.parametrize("validators", [1, 4, 7])
def test_a_header_costs_exactly_its_quorum(world: World, validators: int) -> None:
    joined(world, validators)
    counts = count_of(world, send(world, 5))
    assert counts.verified.total() == 2 * validators // 3 + 1
    assert counts.signed.total() == validators


def test_a_replay_costs_no_signature_no_proof_and_writes_nothing(world: World) -> None:
    joined(world)
    items = send(world, 5)
    count_of(world, items)
    again = count_of(world, items)
    assert again.verified.total() == again.signed.total() == again.synced == 0
    assert again.rows["b"] == Counter()
    assert again.hashes.total() <= 5 * HASHES_A_COMMITMENT  # is it the packet of the receipt?


@pytest.mark.parametrize("items", [1, 30])
def test_a_batch_is_two_commits_and_one_checkpoint_however_large(world: World, items: int) -> None:
    joined(world)
    counts = count_of(world, send(world, items))
    assert len(counts.commits["b"]) == 2  # the body with its entries; its signatures
    assert counts.synced == 2  # the high-water mark and its directory
    assert counts.signed.total() == VALIDATORS
    assert counts.rows["b"]["checkpoint"] == 1
    assert counts.rows["b"]["delivery"] == counts.rows["b"]["consensus"] == 1
    assert counts.rows["b"]["packet"] == items
    assert counts.rows["b"]["entry"] == 3 * items + 1  # receipt, contract's, answer; the header
    assert counts.lines == []


def test_statements_of_the_host_do_not_grow_with_a_delivery(world: World) -> None:
    joined(world)
    few = count_of(world, send(world, FEW))
    world.clock.advance(1)
    many = count_of(world, send(world, MANY)[FEW:])
    assert hosts(many, "b") == hosts(few, "b")
    assert sum(hosts(few, "b").values()) <= 20
    grown = many.matching("b", CONTRACT_READS[0]) - few.matching("b", CONTRACT_READS[0])
    assert grown == MANY - FEW  # the echo contract's own key


def test_sending_a_batch_is_one_transaction_and_asks_for_nothing_twice(world: World) -> None:
    joined(world)
    body = f"{world.clients[('a', 'b')]}\n{START + 600}\nhello".encode()
    with counting({"a": world.nodes["a"].store.engine}) as counts:
        world.nodes["a"].call_each("echo", "send", [body] * 50)
    assert len(counts.commits["a"]) == 2
    assert counts.rows["a"]["entry"] == counts.rows["a"]["packet"] == 50
    assert counts.total("a") <= 20
    assert counts.verified.total() == 0


# --- the tree


@pytest.mark.parametrize(("size", "leaves"), [(0, 1), (0, 1000), (255, 2), (1000, 513)])
def test_appending_costs_two_hashes_a_leaf_beside_the_tiles(
    monkeypatch: pytest.MonkeyPatch, size: int, leaves: int
) -> None:
    """One for the node above it in the running tree, at most one in its tile's pyramid."""
    hashes = [entry_hash(b"path", bytes([i % 251])) for i in range(size + leaves)]
    edge, _ = extend(Edge(), hashes[:size])
    made = 0
    real = merkle.node_hash

    def node_hash(left: bytes, right: bytes) -> bytes:
        nonlocal made
        made += 1
        return real(left, right)

    monkeypatch.setattr("relay.tiles.node_hash", node_hash)
    extend(edge, hashes[size:])
    assert made <= leaves + 256 * math.ceil((size % 256 + leaves) / 256)


def test_a_delivery_costs_few_hashes_an_item(world: World) -> None:
    joined(world)
    few = count_of(world, send(world, FEW))
    many = count_of(world, send(world, MANY)[FEW:])
    each = (many.hashes.total() - few.hashes.total()) / (MANY - FEW)
    assert each <= HASHES_A_DELIVERED_PACKET


HASHES_A_COMMITMENT = 10
"""Of a packet with one payload (DESIGN §3): six for the payload's hash, four above it."""
HASHES_A_DELIVERED_PACKET = 45
"""Commitments of packet and answer, claims, leaves and their share of proof and tree."""


# --- the whole flow


@dataclass(frozen=True, slots=True)
class Flows:
    """Counts by stage for two sizes of one batch."""

    few: Mapping[str, Counts]
    many: Mapping[str, Counts]


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Flows:
    loaded._MEMO.clear()

    def run(records: int) -> dict[str, Counts]:
        folder = tmp_path_factory.mktemp("flow")
        return counted(Options(records, 1000, 0.0, 1, 1, "local", folder))

    run(1)  # so that both find the memo of policy documents filled
    return Flows(run(FEW), run(MANY))


def each(flows: Flows, stage: str, of: object) -> float:
    """How much a count grows for one more record."""
    few, many = of(flows.few[stage]), of(flows.many[stage])  # type: ignore[operator]
    return (many - few) / (MANY - FEW)


@pytest.mark.parametrize(
    ("stage", "signed", "verified", "batches"),
    [
        ("deposit", 1, 0, 0),  # the institution's attestation
        ("attest", 0, 1, 1),  # the source ledger verifies it
        ("relay", 0, 1, 2),  # and the relay
        ("sign", 2, 0, 0),  # consent, request
        ("request", 0, 1, 1),  # the requesting ledger verifies the request
        ("decide", 0, 2, 4),  # the relay: request and consent
    ],
)
def test_signatures_of_a_record_and_of_its_batches(
    flows: Flows, stage: str, signed: int, verified: int, batches: int
) -> None:
    assert each(flows, stage, lambda c: c.signed.total()) == signed
    assert each(flows, stage, lambda c: c.verified.total()) == verified
    many = flows.many[stage]
    assert many.signed.total() - signed * MANY == VALIDATORS * batches
    headers = sum(rows["consensus"] for rows in many.rows.values())
    assert many.verified.total() - verified * MANY == QUORUM * headers
    assert sum(rows["checkpoint"] for rows in many.rows.values()) == batches


ENTRIES = {
    # Attested, sent; announced, closed; grant, receipt, answer.
    SOURCE: 2 + 2 + 3,
    # Receipt, attestation, answer; receipt, request, decision, notice sent, answer; delivered,
    # closed.
    RELAY: 3 + 5 + 2,
    # Request, attempt, sent; decision, closed.
    ASKING: 3 + 2,
}


@pytest.mark.parametrize("node", NODES)
def test_entries_and_rows_of_a_record_at_each_node(flows: Flows, node: str) -> None:
    def rows(found: Mapping[str, Counts], table: str) -> int:
        return sum(counts.rows[node][table] for counts in found.values() if node in counts.rows)

    def grown(table: str) -> float:
        return (rows(flows.many, table) - rows(flows.few, table)) / (MANY - FEW)

    assert grown("entry") == ENTRIES[node]
    assert grown("packet") == {SOURCE: 2, RELAY: 3, ASKING: 1}[node]
    for table in ("checkpoint", "consensus", "delivery", "lane", "outbox", "request"):
        assert grown(table) == 0


def test_commits_and_flushes_do_not_grow_with_a_batch(flows: Flows) -> None:
    for stage in STAGES:
        few, many = flows.few[stage], flows.many[stage]
        assert {n: len(c) for n, c in few.commits.items()} == {
            n: len(c) for n, c in many.commits.items()
        }
        if stage == "deposit":
            # A file for each record, a line in a list of patients, and their directories.
            assert each(flows, stage, lambda c: c.synced) <= 3
        else:
            assert few.synced == many.synced
    delivered = sum(len(c) for c in flows.many["relay"].commits.values())
    assert delivered == 2 + 2 + 2  # two batches of body and note, two cursors


def test_log_lines_do_not_grow_with_a_batch(flows: Flows) -> None:
    for stage in STAGES:
        assert len(flows.few[stage].lines) == len(flows.many[stage].lines)
    lines = [line for counts in flows.many.values() for line in counts.lines]
    assert len(lines) == 4  # one for each turn of a lane that did something
    assert {line["event"] for line in lines} == {"lane"}


READS = {
    ("attest", SOURCE): 1,
    ("relay", SOURCE): 1,
    ("relay", RELAY): 1,
    ("request", ASKING): 5,
    ("decide", SOURCE): 2,
    ("decide", RELAY): 6,
    ("decide", ASKING): 1,
}
"""Keys that the contracts look up one by one for each record, each a statement."""


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("node", NODES)
def test_statements_grow_only_by_what_contracts_look_up(
    flows: Flows, stage: str, node: str
) -> None:
    few, many = flows.few[stage], flows.many[stage]
    assert hosts(many, node) == hosts(few, node)
    tiles = many.matching(node, TILE_READ) - few.matching(node, TILE_READ)
    assert 0 <= tiles <= 1  # one for 256 leaves, where a proof needs them
    reads = sum(many.matching(node, start) - few.matching(node, start) for start in CONTRACT_READS)
    assert reads == READS.get((stage, node), 0) * (MANY - FEW)


HASHES_A_RECORD = {
    "deposit": 60, "attest": 20, "relay": 85, "sign": 0, "request": 24, "decide": 225,
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_hashes_of_a_record(flows: Flows, stage: str) -> None:
    assert each(flows, stage, lambda c: c.hashes.total()) <= HASHES_A_RECORD[stage]


def hosts(counts: Counts, node: str) -> Counter[str]:
    """Statements of a node but its contracts' reads and those of tiles, whatever the number of
    their parameters."""
    found: Counter[str] = Counter()
    for text, times in counts.statements.get(node, Counter()).items():
        words = " ".join(text.split())
        if not words.startswith((*CONTRACT_READS, TILE_READ)):
            found[words.partition(" IN (")[0]] += times
    return found
