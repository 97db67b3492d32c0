"""Knowing that nothing is missing: what a chain states to have sent, and whether all of it is here.

Every rule of relay.sent by its reason, and what it costs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from relay.bundle import verify_bundle
from relay.bundle_writer import BundleWriter
from relay.chain import Delivery, Item, Outcome, Step, Submission
from relay.errors import LianqiaoError, Malformed, Reason
from relay.fsck import fsck
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.sent import MAX_RANGES, decode_sent, encode_sent, read_sent, sent_path
from relay.light.types import Claim, ClientType, Sent, TellsSent
from relay.light.wire import Reader
from relay.node import Node
from relay.packet import MAX_INT
from relay.paths import Kind, host_path, parse_host_path
from relay.query import get_client
from relay.sent import decode_complete, encode_complete
from relay.steps import item_of, proven_paths
from relay.store import ClientRow, Direction
from tests.databases import UrlOf
from tests.echo import ECHO
from tests.refusals import refusing
from tests.world import START, TYPES, World

ZJ, HUB, SH = "zj", "hub", "sh"
MINUTE = 60


@pytest.fixture
def world(tmp_path: Path, urls: UrlOf) -> Iterator[World]:
    made = World(tmp_path, url_of=urls)
    for name in (ZJ, HUB, SH):
        made.node(name, "ledger", [ECHO])
    made.connect(ZJ, HUB)
    made.connect(SH, HUB)
    yield made
    _check(made)
    made.close()


def _check(world: World) -> None:
    for node in world.nodes.values():
        assert fsck(node.store, TYPES, node.origin)[1] == []


def _send(world: World, value: bytes = b"hello", timeout: int = 600) -> Item:
    client_id = world.clients[ZJ, HUB]
    body = f"{client_id}\n{world.clock() + timeout}\n".encode() + value
    world.nodes[ZJ].call("echo", "send", body)
    return item_of(world.chain(ZJ).packets(client_id, -1, 1000)[-1])


def _tick(world: World, on: str = ZJ, seconds: int = MINUTE) -> None:
    world.clock.advance(seconds)
    assert world.nodes[on].tick()


def _claims(world: World, before: int = MAX_INT, height: int | None = None) -> tuple[Claim, ...]:
    chain = world.chain(ZJ)
    at = chain.latest_height() if height is None else height
    return tuple(chain.sent(world.clients[ZJ, HUB], at, before))


def _delivery(world: World, claims: tuple[Claim, ...], items: tuple[Item, ...] = ()) -> Delivery:
    """What anybody may bring: the newest head, these claims of a statement, and items."""
    made = world.delivery(ZJ, HUB, items)
    paths = list(dict.fromkeys(c.path for c in claims))
    proof = world.chain(ZJ).prove([*paths, *proven_paths(items)], made.height)
    return replace(made, proof=proof, sent=claims)


def _give(world: World, claims: tuple[Claim, ...], items: tuple[Item, ...] = ()) -> Submission:
    (result,) = world.nodes[HUB].deliver([_delivery(world, claims, items)])
    assert result.headers.outcome is not Outcome.REFUSED
    return result.sent


def _complete(world: World) -> tuple[int, int]:
    with world.nodes[HUB].store.reading() as tx:
        row = tx.load(ClientRow, world.clients[HUB, ZJ])
    assert row is not None
    return row.complete_time, row.complete_sequence


def _stated(node: Node) -> list[tuple[str, Sent, int]]:
    """Every statement of a journal: (client, what it says, lowest open sequence)."""
    with node.store.read() as connection:
        rows = connection.execute(text('select path, value from entry order by "index"'))
        found = [(parse_host_path(bytes(p)), bytes(v)) for p, v in rows]
    return [(host[1], *decode_sent(v)) for host, v in found if host and host[0] is Kind.SENT]


# --- the form


def test_the_path_is_one_of_the_hosts() -> None:
    assert sent_path("checkpoint-0", 9) == host_path(Kind.SENT, "checkpoint-0", bytes(7) + b"\x09")


@pytest.mark.parametrize(
    "given",
    [(5, 1, 1, ()), (0, 9, 3, ((3, 4), (5, 9))), (MAX_INT, MAX_INT, 1, ((1, MAX_INT),))],
)
def test_a_statement_comes_back_from_its_bytes(
    given: tuple[int, int, int, tuple[tuple[int, int], ...]],
) -> None:
    time, following, open_, skipped = given
    closed = ((1, open_),) if open_ > 1 else ()
    raw = encode_sent(*given)
    assert decode_sent(raw) == (Sent(time, following, closed, skipped), open_)
    for cut in range(len(raw)):
        with refusing(Reason.MALFORMED):
            decode_sent(raw[:cut])


@pytest.mark.parametrize(
    "given",
    [
        (1, 0, 0),
        (1, 5, 0),
        (1, 5, 6),
        (MAX_INT + 1, 5, 1),
        (1, MAX_INT + 1, 1),
        (1, 9, 1, ((3, 3),)),
        (1, 9, 1, ((0, 3),)),
        (1, 9, 1, ((3, 10),)),
        (1, 9, 1, ((5, 6), (3, 4))),
        (1, 9, 1, ((3, 5), (5, 6))),
    ],
)
def test_a_statement_of_a_wrong_form_is_malformed(given: tuple[object, ...]) -> None:
    with refusing(Reason.MALFORMED):
        decode_sent(encode_sent(*given))  # type: ignore[arg-type]


def test_too_many_ranges_are_malformed() -> None:
    ranges = tuple((2 * i, 2 * i + 1) for i in range(1, MAX_RANGES + 2))
    with refusing(Reason.MALFORMED):
        encode_sent(1, 2000, 1, ranges)


def test_any_bytes_are_one_statement_or_malformed() -> None:
    draw, taken = random.Random(7), 0
    for _ in range(2000):
        raw = bytearray(encode_sent(9, 20, 4, ((5, 7), (9, 20))))
        raw[draw.randrange(len(raw))] = draw.choice((0, 1, 255, draw.randrange(256)))
        try:
            sent, open_ = decode_sent(bytes(raw))
        except Malformed:
            continue
        taken += 1
        assert encode_sent(sent.time, sent.next_sequence, open_, sent.skipped) == bytes(raw)
    assert taken > 100


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ((), Reason.MALFORMED),
        ((Claim(sent_path("a-0", 1), None),), Reason.MALFORMED),
        ((Claim(sent_path("a-0", 1), encode_sent(1, 1, 1)),) * 2, Reason.MALFORMED),
        ((Claim(sent_path("a-1", 1), encode_sent(1, 1, 1)),), Reason.COUNTERPARTY_MISMATCH),
        ((Claim(sent_path("a-0", 1) + b"0", encode_sent(1, 1, 1)),), Reason.COUNTERPARTY_MISMATCH),
        ((Claim(host_path(Kind.RECORD, "a-0", bytes(8)), encode_sent(1, 1, 1)),),
         Reason.COUNTERPARTY_MISMATCH),
    ],
)  # fmt: skip
def test_a_claim_that_is_no_statement_of_that_client(
    claims: tuple[Claim, ...], reason: Reason
) -> None:
    with pytest.raises(LianqiaoError) as err:
        read_sent("a-0", claims)
    assert err.value.reason is reason


def test_the_checkpoint_type_tells_what_was_sent() -> None:
    assert isinstance(CHECKPOINT, TellsSent)


# --- as a sender


def test_a_client_states_as_soon_as_it_has_a_counterparty(world: World) -> None:
    assert _stated(world.nodes[ZJ]) == [("checkpoint-0", Sent(START, 1), 1)]
    assert [client for client, _, _ in _stated(world.nodes[HUB])] == [
        "checkpoint-0",
        "checkpoint-1",
    ]


def test_an_idle_node_states_with_its_ticks(world: World) -> None:
    for _ in range(3):
        world.clock.advance(MINUTE - 1)
        assert not world.nodes[ZJ].tick()
        _tick(world, seconds=1)
    assert [sent.time for _, sent, _ in _stated(world.nodes[ZJ])] == [
        START + MINUTE * i for i in range(4)
    ]


@pytest.mark.slow
def test_a_busy_node_states_once_in_a_tick_whatever_it_does(world: World) -> None:
    before = world.nodes[ZJ].head.size
    for _ in range(2 * MINUTE + 1):
        world.clock.advance(1)
        _send(world)
        assert not world.nodes[ZJ].tick()
    stated = _stated(world.nodes[ZJ])[1:]
    assert [(s.time - START, s.next_sequence) for _, s, _ in stated] == [(60, 61), (120, 121)]
    assert world.nodes[ZJ].head.size - before == 2 * MINUTE + 1 + len(stated)


def test_a_busy_node_whose_head_is_young_ticks_for_its_statement(world: World) -> None:
    world.clock.advance(MINUTE - 1)
    _send(world)
    _tick(world, seconds=1)
    assert _stated(world.nodes[ZJ])[-1][1].time == world.clock()


def test_a_restarted_node_states_no_sooner(world: World) -> None:
    world.clock.advance(MINUTE - 1)
    world.nodes[ZJ].close()
    world.node(ZJ, "ledger", [ECHO])
    _send(world)
    assert len(_stated(world.nodes[ZJ])) == 1
    world.clock.advance(1)
    _send(world)
    assert len(_stated(world.nodes[ZJ])) == 2


def test_it_says_what_is_open_and_what_was_skipped(world: World) -> None:
    first, second = _send(world), _send(world)
    world.deliver(ZJ, HUB, [first])
    world.relay_once(HUB, ZJ)
    world.nodes[ZJ].skip_sequences(world.clients[ZJ, HUB], 6)
    _send(world)
    world.nodes[ZJ].skip_sequences(world.clients[ZJ, HUB], 9)
    _tick(world)
    sent = Sent(world.clock(), 9, ((1, 2),), ((3, 6), (7, 9)))
    assert _stated(world.nodes[ZJ])[-1] == ("checkpoint-0", sent, second.packet.sequence)


def test_what_is_closed_in_the_same_batch_is_not_open(world: World) -> None:
    world.deliver(ZJ, HUB, [_send(world)])
    world.clock.advance(MINUTE)
    world.relay_once(HUB, ZJ)
    assert _stated(world.nodes[ZJ])[-1][1:] == (Sent(world.clock(), 2, ((1, 2),)), 2)


def test_a_client_that_cannot_send_states_nothing(world: World) -> None:
    world.clock.advance(91 * 86_400)
    assert world.nodes[ZJ].tick()
    assert len(_stated(world.nodes[ZJ])) == 1
    assert not world.nodes[ZJ].tick()


# --- as a receiver


def test_what_is_all_here_is_complete_as_of_then(world: World) -> None:
    items = (_send(world), _send(world))
    _tick(world)
    assert _complete(world) == (0, 0)
    assert _give(world, _claims(world), items) == Submission(Outcome.DONE)
    assert _complete(world) == (world.clock(), 3)
    view = get_client(world.nodes[HUB].store, world.clients[HUB, ZJ])
    assert view.complete_time == world.clock()
    assert view.complete_time == world.chain(HUB).client(view.client_id).complete_time


def test_it_is_taken_alone_too_and_then_once(world: World) -> None:
    _tick(world)
    assert _give(world, _claims(world)).outcome is Outcome.DONE
    size = world.nodes[HUB].head.size
    assert _give(world, _claims(world)) == Submission(Outcome.NOOP)
    assert world.nodes[HUB].head.size == size


def test_an_older_statement_is_a_no_op(world: World) -> None:
    old = _claims(world)
    _tick(world)
    _give(world, _claims(world))
    before = _complete(world)
    assert _give(world, old) == Submission(Outcome.NOOP)
    assert _complete(world) == before


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_packet_that_is_missing_keeps_it_open(world: World, missing: int) -> None:
    items = [_send(world) for _ in range(3)]
    gone = items.pop(missing)
    _tick(world)
    answer = _give(world, _claims(world), tuple(items))
    assert answer.reason == Reason.PACKETS_MISSING
    assert _complete(world) == (0, 0)
    assert _give(world, _claims(world), (gone,)).outcome is Outcome.DONE


def test_only_what_came_since_is_looked_at_but_all_of_it(world: World) -> None:
    world.deliver(ZJ, HUB, [_send(world)])
    _tick(world)
    assert _give(world, _claims(world)).outcome is Outcome.DONE
    _send(world)
    world.deliver(ZJ, HUB, [_send(world)])
    _tick(world)
    assert _give(world, _claims(world)).reason == Reason.PACKETS_MISSING


def test_a_packet_in_another_delivery_of_the_same_batch_counts(world: World) -> None:
    item = _send(world)
    _tick(world)
    first = world.delivery(ZJ, HUB, [item])
    second = replace(_delivery(world, _claims(world)), headers=())
    results = world.nodes[HUB].deliver([first, second])
    assert results[1].sent.outcome is Outcome.DONE


def test_an_expired_packet_counts_once_its_sender_has_closed_it(world: World) -> None:
    first, late = _send(world), _send(world, timeout=5)
    world.deliver(ZJ, HUB, [first])
    _tick(world)
    world.deliver(ZJ, HUB, [replace(late, step=Step.EXPIRE)])
    assert _give(world, _claims(world)).reason == Reason.PACKETS_MISSING
    world.relay_once(HUB, ZJ)
    _tick(world)
    assert _give(world, _claims(world)).outcome is Outcome.DONE


def test_skipped_sequences_are_not_waited_for(world: World) -> None:
    item = _send(world)
    world.nodes[ZJ].skip_sequences(world.clients[ZJ, HUB], 5)
    later = _send(world)
    _tick(world)
    assert _give(world, _claims(world), (item,)).reason == Reason.PACKETS_MISSING
    assert _give(world, _claims(world), (later,)).outcome is Outcome.DONE
    assert _complete(world)[1] == 6


def test_the_statement_of_another_client(world: World) -> None:
    """The relay's own ledger follows two: neither speaks for the other."""
    world.clock.advance(MINUTE)
    world.nodes[HUB].tick()
    chain, client_id = world.chain(HUB), world.clients[ZJ, HUB]
    height = chain.latest_height()
    claims = tuple(chain.sent(world.clients[HUB, SH], height, MAX_INT))
    headers = tuple(chain.headers(world.chain(ZJ).client(client_id).latest_height, height))
    proof = chain.prove([c.path for c in claims], height)
    (result,) = world.nodes[ZJ].deliver([Delivery(client_id, headers, height, proof, (), claims)])
    assert result.sent.reason == Reason.COUNTERPARTY_MISMATCH


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"time": MINUTE - 1}, Reason.INVALID_PROOF),
        ({"next_sequence": 1}, Reason.INVALID_PROOF),
        ({"time": MINUTE + 1}, Reason.TIME_NOT_MONOTONIC),
    ],
)
def test_a_changed_statement_is_refused(
    world: World, change: dict[str, int], reason: Reason
) -> None:
    _send(world)
    _tick(world)
    (claim,) = _claims(world)
    told = {"time": MINUTE, "next_sequence": 2, **change}
    changed = Claim(claim.path, encode_sent(START + told["time"], told["next_sequence"], 1))
    assert _give(world, (changed,)).reason == reason
    assert _complete(world) == (0, 0)


def test_a_statement_needs_a_verified_head_above_it(world: World) -> None:
    _tick(world)
    delivery = _delivery(world, _claims(world))
    (result,) = world.nodes[HUB].deliver([replace(delivery, headers=())])
    assert result.sent.reason == Reason.HEIGHT_NOT_TRUSTED


def test_a_chain_that_says_it_has_sent_less_contradicts_itself(world: World) -> None:
    items = (_send(world), _send(world))
    _tick(world)
    _give(world, _claims(world), items)
    lie = sent_path(world.clients[ZJ, HUB], world.nodes[ZJ].head.size + 1)
    _dishonest(world, lie, encode_sent(world.clock() + MINUTE, 2, 1))
    assert _give(world, (Claim(lie, encode_sent(world.clock(), 2, 1)),)).reason == (
        Reason.SEQUENCE_USED
    )
    world.nodes.pop(ZJ).close()  # its journal holds what no node of ours writes


def _dishonest(world: World, path: bytes, value: bytes) -> None:
    """The ledger's operators have a program of their own."""

    class Lie:
        def apply(self, channel: object, tx: object, now: int) -> None:
            tx.append(path, value)  # type: ignore[attr-defined]

    world.clock.advance(MINUTE)
    world.nodes[ZJ]._due = MAX_INT
    world.nodes[ZJ].run(Lie())


class _Mute:
    """A type of chain that does not state what it has sent."""

    def __getattr__(self, name: str) -> object:
        if name == "read_sent":
            raise AttributeError(name)
        return getattr(CHECKPOINT, name)


def test_types_that_cannot_state_are_never_complete(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {"checkpoint": _Mute()}
    monkeypatch.setattr(world.nodes[HUB].clients, "_types", types)
    _tick(world)
    assert _give(world, _claims(world)).reason == Reason.UNSUPPORTED_VERSION


def test_a_foreign_chain_may_need_several_claims_but_not_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain of state: its next sequence as of the head itself, and proof of what is closed."""

    def read(_: ClientType, consensus: object, client_id: str, claims: tuple[Claim, ...]) -> Sent:
        del client_id
        numbers = [Reader(c.value or b"", "number").u64() for c in claims[:1]]
        return Sent(consensus.time, numbers[0], ((2, 3),))  # type: ignore[attr-defined]

    monkeypatch.setattr("relay.light.checkpoint_client.CheckpointClient.read_sent", read)
    item, late = _send(world), _send(world, timeout=5)
    world.nodes[ZJ].call("echo", "put", b"next\n\n" + (3).to_bytes(8, "big"))
    world.nodes[ZJ].call("echo", "put", b"more\n\n" + b"x")
    world.clock.advance(10)
    world.nodes[ZJ].call("echo", "put", b"time\n\npasses")
    world.deliver(ZJ, HUB, [item, replace(late, step=Step.EXPIRE)])
    claims = (
        Claim(host_path(Kind.RECORD, "echo", b"next"), (3).to_bytes(8, "big")),
        Claim(host_path(Kind.RECORD, "echo", b"more"), b"x"),
    )
    assert _give(world, claims * 33).reason == Reason.LIMIT_EXCEEDED
    assert _give(world, claims).outcome is Outcome.DONE
    assert _complete(world) == (world.clock(), 3)
    _check(world)
    monkeypatch.undo()
    world.nodes.pop(HUB).close()  # its journal holds what only that kind of chain states


# --- kept, checked again, forgotten by a recovery


def test_fsck_finds_completeness_that_nothing_proves(world: World) -> None:
    _tick(world)
    _give(world, _claims(world))
    hub = world.nodes[HUB]
    for change, where in (
        ("complete_time = complete_time + {}", "client checkpoint-0"),
        ("complete_sequence = complete_sequence + {}", "client checkpoint-0"),
        ("stated = stated + {}", "client checkpoint-0"),
    ):
        _change(hub, f"update client set {change.format(1)}")
        assert where in [f.where for f in fsck(hub.store, TYPES, hub.origin)[1]]
        _change(hub, f"update client set {change.format(-1)}")
    assert fsck(hub.store, TYPES, hub.origin)[1] == []
    _change(hub, "delete from delivery")
    findings = fsck(hub.store, TYPES, hub.origin)[1]
    assert any("no proof says it is complete" in f.detail for f in findings)
    world.nodes.pop(HUB).close()


def _change(node: Node, statement: str) -> None:
    node.store.run(lambda tx: tx.connection.execute(text(statement)))


def test_a_bundle_of_a_delivery_with_a_statement_verifies(world: World) -> None:
    item = _send(world)
    _tick(world)
    _give(world, _claims(world), (item,))
    writer = BundleWriter(world.nodes[HUB])
    raw = writer.bundle([(world.clients[HUB, ZJ], 1, Direction.IN)])
    report = verify_bundle(raw, writer.trust(), world.clock(), TYPES)
    assert {hop.chain for hop in report.hops} == {"zj/0", "hub/0"}


def test_a_recovered_client_knows_nothing_of_the_new_history(world: World) -> None:
    _tick(world)
    _give(world, _claims(world))
    assert _complete(world)[0] == world.clock()
    world.clock.advance(91 * 86_400)
    for node in world.nodes.values():
        node.tick()
    chain = world.chain(ZJ)
    view = get_client(world.nodes[HUB].store, world.clients[HUB, ZJ])
    header = chain.headers(0, chain.latest_height())[-1]
    world.nodes[HUB].propose_recovery(view.client_id, view.state, header, 86_400)
    world.clock.advance(86_400)
    world.nodes[HUB].tick()
    assert _complete(world) == (0, 0)


# --- the relayer


def test_the_statement_says_nothing_of_what_waits(world: World) -> None:
    """Of two packets the second waits: the statement of before it is taken."""
    world.deliver(ZJ, HUB, [_send(world)])
    _tick(world)
    then = world.clock()
    _send(world)
    _tick(world)
    assert _claims(world) == _claims(world, before=3)
    (older,) = _claims(world, before=2)
    assert decode_sent(older.value or b"")[0] == Sent(then, 2)
    assert _claims(world, before=0) == ()
    assert (
        decode_sent(_claims(world, height=2)[0].value or b"")[0].time == START
        if (_claims(world, height=2))
        else True
    )


def test_a_lane_brings_packets_then_the_statement(world: World) -> None:
    for _ in range(3):
        _send(world)
    _tick(world)
    (lane, _) = world.relayer(HUB).lanes
    assert lane.bring_complete(world.clock())
    assert _complete(world) == (world.clock(), 4)
    size = world.nodes[HUB].head.size
    assert lane.bring_complete(world.clock())
    assert world.nodes[HUB].head.size == size


@pytest.mark.slow
def test_a_statement_is_brought_for_those_who_need_it_and_never_else(world: World) -> None:
    world.settle(HUB)
    for _ in range(30):
        world.clock.advance(MINUTE)
        for node in world.nodes.values():
            node.tick()
        _send(world)
        world.settle(HUB)
    assert _complete(world) == (0, 0)
    assert world.networks[ZJ].calls["sent"] == 0


def test_completeness_comes_back_from_its_bytes() -> None:
    assert decode_complete(encode_complete(5, 6)) == (5, 6)
    with refusing(Reason.MALFORMED):
        decode_complete(encode_complete(5, 6) + b"x")
