"""Entries that travel with a packet: proven beside it, needed before it is taken, kept with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from relay.bundle import ClaimKind, verify_bundle
from relay.bundle_writer import BundleWriter
from relay.chain import MAX_ENTRIES, MAX_ENTRY_BYTES, Delivery, Item, Outcome, Step, Submission
from relay.codec import packets as codec
from relay.entries import check_entries
from relay.errors import LianqiaoError, Malformed, Reason
from relay.fsck import fsck
from relay.light.types import Claim
from relay.outbox import Outbox
from relay.packet import Packet, Payload, receipt_path
from relay.packet_bytes import decode_claims
from relay.paths import Kind, host_path, record_path
from relay.query import get_delivery, get_packet, get_record
from relay.relayer import IN
from relay.steps import MAX_DELIVERY_BYTES, fitting, item_bytes, item_of, proven_paths
from relay.store import Direction, PacketRow
from relay.travelling import travelling
from tests.databases import sqlite_url
from tests.echo import ECHO
from tests.refusals import refusing
from tests.world import TYPES, World

KEY, OTHER = b"decision", b"another"
VALUE = b"commit"
PATH = record_path("echo", KEY)
CONTRACTS = {"echo": ECHO}
PACKET = Packet(1, "a-0", "b-0", 9, (Payload("p", "p", "1", "e", b"v"),))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, url_of=sqlite_url)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    made.connect("zj", "hub")
    made.nodes["zj"].call("echo", "put", b"%s\n\n%s" % (KEY, VALUE))
    made.nodes["zj"].call("echo", "put", b"%s\n\nelse" % OTHER)
    yield made
    made.close()


def _send(world: World, value: bytes, timeout: int = 600) -> Item:
    """What its chain lists of a packet sent now, as an item."""
    client_id = world.clients[("zj", "hub")]
    body = f"{client_id}\n{world.clock() + timeout}\n".encode() + value
    world.nodes["zj"].call("echo", "send", body)
    return item_of(world.chain("zj").packets(client_id, -1, 1000)[-1])


def _answer(world: World, item: Item) -> Submission:
    return world.deliver("zj", "hub", [item])[0]


def _received(world: World, item: Item) -> bytes:
    """What the receiver's contract answered."""
    key = world.clients[("hub", "zj")], item.packet.sequence, Direction.IN
    return get_packet(world.nodes["hub"].store, *key).acknowledgements[0]


def _left_no_trace(world: World, item: Item) -> bool:
    row = PacketRow, world.clients[("hub", "zj")], Direction.IN, item.packet.sequence
    with world.nodes["hub"].store.reading() as tx:
        receipt = tx.get(receipt_path(world.clients[("hub", "zj")], item.packet.sequence))
        return receipt is None and tx.load(*row) is None


def test_the_paths_of_records_are_those_that_a_contract_writes(world: World) -> None:
    assert PATH == b"\x00\x09\x04echodecision" == host_path(Kind.RECORD, "echo", KEY)
    assert get_record(world.nodes["zj"].store, "echo", KEY) == VALUE
    with refusing(Reason.MALFORMED):
        record_path("echo", b"")


def test_what_the_sender_names_travels_and_is_seen_by_the_receiver(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    assert item.entries == (Claim(PATH, VALUE),)
    assert proven_paths([item, item])[1:] == [PATH]
    assert _answer(world, item) == Submission(Outcome.DONE)
    assert _received(world, item) == b"proven:" + VALUE
    assert _send(world, b"plain").entries == ()


def test_a_packet_without_what_it_needs_is_refused_and_can_come_again(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    bare = replace(item, entries=())
    assert _answer(world, bare).reason == Reason.ENTRY_MISSING
    assert _left_no_trace(world, item)
    assert _answer(world, item).outcome is Outcome.DONE
    assert _answer(world, bare) == Submission(Outcome.NOOP)
    assert _answer(world, item) == Submission(Outcome.NOOP)


def test_another_value_is_proven_by_nothing(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    false = replace(item, entries=(Claim(PATH, b"abort"),))
    assert _answer(world, false).reason == Reason.INVALID_PROOF
    assert _left_no_trace(world, item)


def test_another_path_is_not_the_one_that_is_needed(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    other = replace(item, entries=(Claim(record_path("echo", OTHER), b"else"),))
    assert _answer(world, other).reason == Reason.ENTRY_MISSING
    assert _left_no_trace(world, item)


def test_an_entry_speaks_for_its_own_packet_alone(world: World) -> None:
    first, second = _send(world, b"with:" + KEY), _send(world, b"with:" + KEY)
    answers = world.deliver("zj", "hub", [first, replace(second, entries=())])
    assert [a.reason for a in answers] == ["", Reason.ENTRY_MISSING]
    assert _left_no_trace(world, second)
    plain = _send(world, b"lone:" + KEY)
    answers = world.deliver("zj", "hub", [second, plain])
    assert [a.reason for a in answers] == ["", Reason.ENTRY_MISSING]


def test_packets_that_share_an_entry_share_its_leaf(world: World) -> None:
    items = [_send(world, b"with:" + KEY) for _ in range(3)]
    assert {a.outcome for a in world.deliver("zj", "hub", items)} == {Outcome.DONE}
    kept = decode_claims(get_delivery(world.nodes["hub"].store, 1).claims)
    assert [c.path == PATH for c in kept] == [False, True] * 3
    for name in ("zj", "hub"):
        node = world.nodes[name]
        assert fsck(node.store, TYPES, node.origin, contracts=CONTRACTS)[1] == []


def test_an_entry_that_came_with_another_delivery_does_not_count(world: World) -> None:
    _answer(world, _send(world, b"with:" + KEY))
    assert _answer(world, _send(world, b"lone:" + OTHER)).reason == Reason.ENTRY_MISSING


def test_a_packet_that_lacks_an_entry_still_expires_and_times_out(world: World) -> None:
    item = _send(world, b"lone:" + KEY, timeout=5)
    assert _answer(world, item).reason == Reason.ENTRY_MISSING
    world.clock.advance(10)
    assert _answer(world, replace(item, step=Step.EXPIRE)).outcome is Outcome.DONE
    world.relay_once("hub", "zj")
    assert get_record(world.nodes["zj"].store, "echo", b"timed-out/checkpoint-0/1") is not None


FORMS = {
    "absent": (Claim(PATH, None),),
    "at a packet's path": (Claim(b"checkpoint-0\x01" + bytes(8), b"x"),),
    "at no path": (Claim(b"", b"x"),),
    "at a long path": (Claim(bytes(771), b"x"),),
    "twice": (Claim(PATH, VALUE), Claim(PATH, VALUE)),
    "too many": tuple(Claim(record_path("echo", bytes([i])), b"") for i in range(MAX_ENTRIES + 1)),
    "too much": (Claim(PATH, bytes(MAX_ENTRY_BYTES + 1)),),
}


@pytest.mark.parametrize("form", FORMS)
def test_entries_of_a_wrong_form_are_refused(world: World, form: str) -> None:
    with pytest.raises(Malformed) as err:
        check_entries(FORMS[form])
    item = _send(world, b"with:" + KEY)
    delivery = world.delivery("zj", "hub", [item])
    bad = replace(delivery, items=(replace(item, entries=FORMS[form]),))
    (answer,) = world.nodes["hub"].deliver([bad])[0].items
    assert answer.reason == err.value.reason
    assert _left_no_trace(world, item)


def test_entries_pass_the_wire_and_its_limits(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    assert codec.item_from_pb(codec.item_to_pb(item)) == item
    (step,) = world.chain("zj").packets(world.clients[("zj", "hub")], -1, 10)
    assert codec.step_from_pb(codec.step_to_pb(step)) == step
    for form in ("too many", "too much", "at no path", "at a long path"):
        with refusing(Reason.MALFORMED if form == "at no path" else Reason.LIMIT_EXCEEDED):
            codec.item_from_pb(codec.item_to_pb(replace(item, entries=FORMS[form])))


def test_the_entries_of_a_delivery_fit_into_one_proof() -> None:
    entries = FORMS["too many"][:MAX_ENTRIES]
    world_item = Item(Step.RECEIVE, PACKET, (), entries)
    assert MAX_DELIVERY_BYTES // item_bytes(world_item) * (1 + MAX_ENTRIES) <= 2000
    mixed = Item(Step.RECEIVE, PACKET)
    left = MAX_DELIVERY_BYTES - 999 * item_bytes(mixed)
    assert 1000 + left // ((item_bytes(world_item) - item_bytes(mixed)) // MAX_ENTRIES) <= 2000
    assert fitting([]) == 0


def test_only_what_is_written_by_then_travels(world: World) -> None:
    item = _send(world, b"with:late")
    assert item.entries == ()
    assert _answer(world, item).reason == Reason.ENTRY_MISSING
    world.nodes["zj"].call("echo", "put", b"late\n\nnow")
    steps = world.chain("zj").packets(world.clients[("zj", "hub")], -1, 10)
    assert steps[-1].entries == ()
    node = world.nodes["zj"]
    now = travelling(node, item.packet, node.head.size)
    assert _answer(world, replace(item, entries=now)).outcome is Outcome.DONE


def test_a_relayer_carries_them_and_keeps_them_with_what_waits(world: World) -> None:
    world.settle("hub")
    lane = world.clients[("hub", "zj")]
    lone = _send(world, b"lone:" + KEY)
    item = _send(world, b"with:" + KEY)
    world.tick("hub")
    assert _received(world, item) == b"proven:" + VALUE
    store = world.nodes["hub"].store
    (waiting,) = [letter.waiting for letter in Outbox(store).letters()]
    assert waiting.item.packet == lone.packet
    assert waiting.reason.startswith(Reason.ENTRY_MISSING)
    kept = replace(waiting, item=replace(waiting.item, entries=item.entries), not_before=0)
    Outbox(store).save(lane, IN, waiting=[kept])
    assert Outbox(store).letters()[0].waiting == kept
    world.restart("hub")
    world.tick("hub")
    assert _received(world, lone) == b"proven:" + VALUE


# --- what is kept


def _bundle(world: World, name: str, item: Item) -> tuple[bytes, BundleWriter]:
    writer = BundleWriter(world.nodes[name])
    other = "hub" if name == "zj" else "zj"
    direction = Direction.OUT if name == "zj" else Direction.IN
    key = world.clients[(name, other)], item.packet.sequence, direction
    return writer.bundle([key]), writer


@pytest.mark.parametrize("name", ["zj", "hub"])
def test_a_bundle_shows_the_entries_of_its_packet_and_no_others(world: World, name: str) -> None:
    items = [_send(world, v) for v in (b"plain", b"with:" + KEY, b"with:" + OTHER)]
    world.relay_once("zj", "hub")
    world.relay_once("hub", "zj")
    raw, writer = _bundle(world, name, items[1])
    report = verify_bundle(raw, writer.trust(), world.clock(), TYPES)
    shown = [
        (hop.chain, c.path, c.value)
        for hop in report.hops
        for c in hop.claims
        if c.kind is ClaimKind.ENTRY
    ]
    assert shown == [("zj/0", PATH, VALUE)]
    raw, writer = _bundle(world, name, items[0])
    report = verify_bundle(raw, writer.trust(), world.clock(), TYPES)
    assert not [c for hop in report.hops for c in hop.claims if c.kind is ClaimKind.ENTRY]


def test_a_bundle_of_packets_that_share_an_entry_shows_it_once(world: World) -> None:
    for _ in range(2):
        _send(world, b"with:" + KEY)
        world.relay_once("zj", "hub")
    writer = BundleWriter(world.nodes["hub"])
    client_id = world.clients[("hub", "zj")]
    raw = writer.bundle([(client_id, 1, Direction.IN), (client_id, 2, Direction.IN)])
    report = verify_bundle(raw, writer.trust(), world.clock(), TYPES)
    assert len([c for hop in report.hops for c in hop.claims if c.kind is ClaimKind.ENTRY]) == 1
    assert len([hop for hop in report.hops if hop.chain == "zj/0"]) == 2


def test_no_byte_of_such_a_bundle_can_be_changed(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    world.relay_once("zj", "hub")
    raw, writer = _bundle(world, "hub", item)
    trust, at = writer.trust(), raw.index(b'"kind":"entry"')
    for index in {*range(at - 20, at + 160), *range(0, len(raw), 11)}:
        changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        with pytest.raises(LianqiaoError):
            verify_bundle(changed, trust, world.clock(), TYPES)


def test_fsck_misses_an_entry_that_was_needed_and_a_changed_one(world: World) -> None:
    _answer(world, _send(world, b"with:" + KEY))
    hub = world.nodes["hub"]
    assert fsck(hub.store, TYPES, hub.origin, contracts=CONTRACTS)[1] == []

    class Greedy(type(ECHO)):  # type: ignore[misc]
        def entries_needed(self, packet: object, payload: object) -> list[bytes]:
            return [record_path("echo", OTHER)]

    (finding,) = fsck(hub.store, TYPES, hub.origin, contracts={"echo": Greedy()})[1]
    assert "an entry that it needs" in finding.detail
    with hub.store.engine.connect() as connection:
        found = connection.execute(text("select claims from delivery")).scalar_one()
    changed = bytes(found).replace(VALUE, b"abortt")
    hub.store.run(
        lambda tx: tx.connection.execute(text("update delivery set claims = :c"), {"c": changed})
    )
    assert any("delivery" in f.where for f in fsck(hub.store, TYPES, hub.origin)[1])


def test_a_replay_costs_no_look_at_what_came_with_it(world: World) -> None:
    item = _send(world, b"with:" + KEY)
    _answer(world, item)
    junk = Delivery(
        world.clients[("hub", "zj")], (), 0, b"junk", (replace(item, entries=FORMS["twice"]),)
    )
    assert world.nodes["hub"].deliver([junk])[0].items == (Submission(Outcome.NOOP),)
