"""Books that are fetched, kept in a file, verified offline and reconciled; ways to lie in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.books import Books, Proven, decode_books, encode_books, verify_books
from relay.canonical import decode, encode
from relay.client.books import fetch_books
from relay.contracts.base import key
from relay.contracts.escrow import last_line
from relay.contracts.payloads import Instruction, window_settlement
from relay.contracts.settlement.audit import audit
from relay.errors import LianqiaoError, Reason
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.client import anchor
from relay.light.types import ClientState
from relay.reconcile import Kind, Reconciled, Side, reconcile
from relay.trust import Trust, TrustedChain
from tests.contracts.money_flow import PLENTY, Flow
from tests.contracts.money_world import HK, HUB, SZ, instruction, signed, withdrawal
from tests.contracts.world import NOW
from tests.refusals import refusing
from tests.service.clearing import Clearing
from tests.service.nodes import Running

GOOD = instruction("good", fee=500)
POOR = instruction("poor", bill=PLENTY * 3)


def trusted(of: Running) -> TrustedChain:
    state = ClientState("checkpoint", f"{of.node.chain_id}/0")
    (raw,) = of.client.headers(0, of.client.head().size)
    return TrustedChain(state, anchor(CHECKPOINT, state, raw, NOW)[0])


def client_types(name: str) -> object:
    assert name == "checkpoint"
    return CHECKPOINT


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clearing, Trust]]:
    clearing = Clearing(tmp_path_factory.mktemp("books"))
    nodes = (clearing.hub, clearing[HK], clearing[SZ])
    trust = Trust(tuple(trusted(node) for node in nodes))
    for given in (GOOD, POOR):
        clearing.hub.client.instruct(signed(given))
    clearing.settle()
    yield clearing, trust
    clearing.stop()


@pytest.fixture(scope="module")
def books(world: tuple[Clearing, Trust]) -> tuple[Books, ...]:
    clearing, trust = world
    found = [fetch_books(clearing.hub.client, "settlement", trust)]
    found += [fetch_books(clearing[name].client, "escrow", trust) for name in (HK, SZ)]
    assert decode_books(encode_books(found)) == tuple(found)
    return tuple(found)


@pytest.fixture(scope="module")
def proven(books: tuple[Books, ...], world: tuple[Clearing, Trust]) -> tuple[Proven, ...]:
    return tuple(verify_books(one, world[1], client_types, NOW) for one in books)  # type: ignore[arg-type]


def judge(*sides: Proven) -> Reconciled:
    return reconcile(*_sides(*sides))


def _sides(relay: Proven, *ledgers: Proven) -> tuple[Side, list[Side]]:
    return Side(relay.chain_id, relay), [Side(one.chain_id, one) for one in ledgers]


def without(side: Proven, *keys: bytes) -> Proven:
    left = {k: v for k, v in side._records.items() if k not in keys}
    assert len(left) == len(side) - len(keys)
    return Proven(side.chain_id, side.port, side.height, side.time, left)


def test_books_that_agree(proven: tuple[Proven, ...]) -> None:
    found = judge(*proven)
    assert found.breaks == ()
    assert (found.settlements, found.committed, found.aborted) == (2, 1, 1)


def test_a_changed_value_is_not_proven(
    books: tuple[Books, ...], world: tuple[Clearing, Trust]
) -> None:
    hk = books[1]
    place = next(i for i, (k, _) in enumerate(hk.records) if k.startswith(b"line/insurer"))
    name, value = hk.records[place]
    records = [*hk.records]
    records[place] = (name, value.replace(b'"held":0', b'"held":1'))
    assert records[place] != hk.records[place]
    cases = [
        (replace(hk, records=tuple(records)), Reason.INVALID_PROOF),
        (replace(hk, proofs=()), Reason.BUNDLE_INCOMPLETE),
        (replace(hk, records=(*hk.records, (b"zz", b"zz"))), Reason.BUNDLE_INCOMPLETE),
        (replace(hk, records=hk.records[::-1]), Reason.NOT_CANONICAL),
        (replace(hk, headers=()), Reason.BUNDLE_INCOMPLETE),
        (replace(hk, chain_id="other/0"), Reason.TRUST_MISSING),
        (replace(hk, headers=books[2].headers), Reason.CHAIN_ID_MISMATCH),
    ]
    for given, reason in cases:
        with pytest.raises(LianqiaoError) as err:
            verify_books(given, world[1], client_types, NOW)  # type: ignore[arg-type]
        assert err.value.reason is reason


@pytest.mark.parametrize(
    ("side", "gone", "kind"),
    [
        (0, lambda s: key("closed", s), Kind.OPEN),
        (1, lambda s: key("ended", HUB, s), Kind.OPEN),
        (2, lambda s: key("lock", HUB, s), Kind.MISSING),
        (2, lambda s: b"line/hospital/000000000002", Kind.MISSING),
        (0, lambda s: key("decision", s), Kind.MISMATCH),
    ],
)
def test_what_is_kept_back_is_a_break(
    proven: tuple[Proven, ...], side: int, gone: Callable[[bytes], bytes], kind: Kind
) -> None:
    sides = [*proven]
    sides[side] = without(sides[side], gone(GOOD.settlement))
    found = judge(*sides)
    assert not found.agrees
    assert kind in {b.kind for b in found.breaks}


def test_a_lock_that_the_relay_knows_nothing_of_is_a_break(proven: tuple[Proven, ...]) -> None:
    hub = proven[0]
    hidden = [k for k in hub._records if GOOD.settlement.hex().encode() in k]
    found = judge(without(hub, *hidden), *proven[1:])
    assert Kind.MISSING in {b.kind for b in found.breaks}


def test_a_ledger_whose_books_were_not_given_is_a_break(proven: tuple[Proven, ...]) -> None:
    found = judge(*proven[:2])
    assert {(b.chain, b.kind) for b in found.breaks} == {(SZ, Kind.MISSING)}


class Busy:
    """A node's client between whose pages of records a whole settlement is written."""

    def __init__(self, clearing: Clearing, given: Instruction) -> None:
        self._clearing, self._given = clearing, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clearing.hub.client, name)

    def settlement_entries(self) -> Iterator[tuple[bytes, bytes]]:
        first = list(self._clearing.hub.client.settlement_entries())
        page, after = first[: len(first) // 2], first[len(first) // 2 - 1][0]
        yield from page
        self._clearing.hub.client.instruct(signed(self._given))
        self._clearing.settle()
        yield from (e for e in self._clearing.hub.client.settlement_entries() if e[0] > after)


def test_books_are_of_one_moment_while_the_node_goes_on(tmp_path: Path) -> None:
    """Or an auditor would find a decision without the answers that it follows from."""
    clearing = Clearing(tmp_path / "busy")
    try:
        trust = Trust((trusted(clearing.hub),))
        clearing.hub.client.instruct(signed(GOOD))
        clearing.settle()
        written = dict(clearing.hub.client.settlement_entries())
        found = fetch_books(Busy(clearing, instruction("late")), "settlement", trust)  # type: ignore[arg-type]
        proven = verify_books(found, trust, client_types, NOW)  # type: ignore[arg-type]
        assert proven._records == written
        assert list(audit(proven, HUB)) == []
    finally:
        clearing.stop()


def rewritten(side: Proven, name: bytes, value: bytes) -> Proven:
    records = {**side._records, name: value}
    return Proven(side.chain_id, side.port, side.height, side.time, records)


UNREADABLE = [
    (0, lambda s: key("answer", s, HK), b"{}"),
    (0, lambda s: key("instruction", s), b"{}"),
    (0, lambda s: b"instruction/\xff\x1b[2J", b"{}"),
    (1, lambda s: b"line/insurer/000000000001", b"nonsense"),
    (1, lambda s: b"line/insurer", b"{}"),
    (1, lambda s: b"line/\xff/000000000001", b"{}"),
    (1, lambda s: key("lock", HUB, s), b"{}"),
    (1, lambda s: b"lock/\xff", b"{}"),
    (1, lambda s: b"lock/hub/zz", b"{}"),
    (1, lambda s: key("ended", HUB, s), b"[]"),
    (1, lambda s: b"account/insurer/00000002", b"{}"),
]


@pytest.mark.parametrize(("side", "where", "value"), UNREADABLE)
def test_a_record_that_cannot_be_read_is_a_break_and_hides_no_other(
    proven: tuple[Proven, ...], side: int, where: Callable[[bytes], bytes], value: bytes
) -> None:
    """A dishonest ledger can have anything proven: that must not keep the auditor from the rest."""
    sides = [*proven]
    sides[side] = rewritten(sides[side], where(GOOD.settlement), value)
    sides[2] = without(sides[2], b"line/hospital/000000000002")
    found = judge(*sides)
    chain = sides[side].chain_id
    said = [b for b in found.breaks if b.chain == chain and b.kind is Kind.BOOKS]
    assert any("cannot be read" in b.detail for b in said), said
    assert all((b.subject + b.detail).isprintable() for b in found.breaks)
    assert SZ in {b.chain for b in found.breaks if b.kind is Kind.BOOKS}


def test_a_net_lock_whose_cut_off_cannot_be_read_is_a_break() -> None:
    flow = Flow()
    flow.hub.call("window.open", encode({"deadline": NOW + 3600, "window": "w-1"}))
    flow.instruct(signed(instruction(window="w-1", deadline=NOW + 3600)))
    flow.hub.call("window.cut_off", encode({"window": "w-1"}))
    flow.settle()
    assert in_memory(flow).agrees
    flow.hub.written[b"cut-off/w-1"] = b"{}"
    found = in_memory(flow).breaks
    net = window_settlement(HUB, "w-1").hex()
    [said] = [b for b in found if (b.chain, b.subject) == (HUB, net)]
    assert said.kind is Kind.BOOKS
    assert "cannot be read" in said.detail


def in_memory(flow: Flow) -> Reconciled:
    return reconcile(Side(HUB, flow.hub), [Side(n, flow.money[n]) for n in (HK, SZ)])


def test_a_lock_that_was_asked_again_after_it_was_given_back_is_no_break() -> None:
    """The ledger refuses it then, and that answer may be the first to arrive."""
    flow = Flow(funds={"maker-cny": 0})
    mine = instruction("mine")
    flow.instruct(signed(mine))
    for index in (0, 1):
        flow.receive(flow.hub, index)
    flow.hub.call("retry", encode({"settlement": mine.settlement.hex()}))
    flow.acknowledge(flow.hub, 1)
    flow.receive(flow.hub, 4)
    flow.receive(flow.hub, 2)
    flow.acknowledge(flow.hub, 2)
    flow.settle()
    assert in_memory(flow).agrees
    name = key("answer", mine.settlement, HK)
    # A relay that lost what it had written before asks by a new lock, and not by `retry`.
    del flow.hub.written[key("retried", mine.settlement, "00000001")]
    for told, kinds in ((b"SETTLEMENT_DECIDED", set()), (b"FUNDS_MISSING", {Kind.MISMATCH})):
        flow.hub.written[name] = flow.hub.written[name].replace(b"SETTLEMENT_DECIDED", told)
        assert {b.kind for b in in_memory(flow).breaks if b.chain == HK} == kinds


@pytest.mark.parametrize("first", [0, 2])
def test_a_ledger_that_is_asked_twice_may_refuse_once_and_lock_once(first: int) -> None:
    """Which of the two came when it had the money; the refusal is what the relay hears first."""
    flow = Flow(funds={"insurer": 0})
    mine = instruction("mine")
    flow.instruct(signed(mine))
    flow.hub.call("retry", encode({"settlement": mine.settlement.hex()}))
    flow.receive(flow.hub, first)
    flow.deposit(flow.money[HK], "insurer", "HKD", 10_000_000)
    flow.receive(flow.hub, 2 - first)
    flow.acknowledge(flow.hub, first)
    kinds = {b.kind for b in in_memory(flow).breaks if b.chain == HK}
    assert kinds == {Kind.OPEN}, "the decision is on its way"
    flow.settle()
    assert in_memory(flow).agrees
    del flow.hub.written[key("retried", mine.settlement, "00000001")]
    (found,) = in_memory(flow).breaks
    assert (found.kind, found.detail) == (
        Kind.MISMATCH,
        "locked, and the relay was told it is not",
    )


def _deny(flow: Flow, given: Instruction) -> None:
    """Makes the relay hear that HK, which has locked, had refused."""
    name = key("answer", given.settlement, HK)
    accepted, refused = (
        b'"accepted":%s,"ledger":"%s","reason":"%s"' % (how, HK.encode(), why)
        for how, why in ((b"true", b""), (b"false", b"FUNDS_MISSING"))
    )
    assert accepted in flow.hub.written[name]
    flow.hub.written[name] = flow.hub.written[name].replace(accepted, refused)


def test_asking_again_excuses_the_ledger_that_was_asked_to_lock_alone() -> None:
    """It locked and said that it had not: that the decision was told again explains nothing."""
    flow = Flow(funds={"maker-cny": 0})
    mine = instruction("mine")
    flow.instruct(signed(mine))
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    retry = encode({"settlement": mine.settlement.hex()})
    assert decode(flow.hub.call("retry", retry)) == {"packets": [], "told": 2}
    flow.settle()
    assert in_memory(flow).agrees
    _deny(flow, mine)
    assert Kind.MISMATCH in {b.kind for b in in_memory(flow).breaks if b.chain == HK}


def test_an_asking_that_cannot_be_read_is_a_break_of_the_relay() -> None:
    flow = Flow()
    mine = instruction("mine")
    flow.instruct(signed(mine))
    flow.hub.call("retry", encode({"settlement": mine.settlement.hex()}))
    flow.settle()
    flow.hub.written[key("retried", mine.settlement, "00000001")] = b'{"locks":[1],"time":1}'
    found = [b for b in in_memory(flow).breaks if "cannot be read" in b.detail]
    assert {b.chain for b in found} == {HUB}


def test_what_was_released_after_a_refusal_is_a_break_however_often_it_was_asked() -> None:
    flow = Flow()
    mine = instruction("mine")
    flow.instruct(signed(mine))
    flow.hub.call("retry", encode({"settlement": mine.settlement.hex()}))
    flow.settle()
    assert in_memory(flow).agrees
    _deny(flow, mine)
    assert Kind.MISMATCH in {b.kind for b in in_memory(flow).breaks if b.chain == HK}


def test_nobody_makes_a_break_by_the_reference_that_he_chooses() -> None:
    """A withdrawal, or a settlement through another relay, under the id of somebody's settlement:
    what was posted for that one alone counts."""
    flow = Flow(relays=(HUB, "other"))
    mine = instruction("mine")
    flow.instruct(signed(mine))
    theirs = instruction("theirs", relay="other", bill=700, settlement=mine.settlement)
    flow.instruct(signed(theirs), flow.relays[1])
    flow.settle()
    asked = withdrawal(amount=100, withdrawal=mine.settlement)
    flow.money[SZ].call("withdraw", encode({"withdrawal": asked.to_json()}))
    assert in_memory(flow).breaks == ()


def test_nobody_hides_what_was_not_moved_by_the_reference_that_he_chooses() -> None:
    flow = Flow()
    mine = instruction("mine")
    flow.instruct(signed(mine))
    flow.settle()
    hospital = last_line(flow.money[SZ], "hospital")
    asked = withdrawal(amount=hospital.amount, withdrawal=mine.settlement)
    flow.money[SZ].call("withdraw", encode({"withdrawal": asked.to_json()}))
    del flow.money[SZ].written[key("line", "hospital", f"{hospital.number:012d}")]
    kinds = {b.kind for b in in_memory(flow).breaks if b.subject == mine.settlement.hex()}
    assert kinds == {Kind.MISSING}


def test_files_that_are_no_books() -> None:
    for raw in (b"", b"{}", b'{"books":[{}],"version":1}'):
        with refusing(Reason.MALFORMED):
            decode_books(raw)
    with refusing(Reason.UNSUPPORTED_VERSION):
        decode_books(b'{"books":[],"version":2}')
