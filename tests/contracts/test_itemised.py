"""The rounding difference of an itemised bill: signed by its lines, posted by itself, both signs.

What is right is computed here by fractions, and by nothing of the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.canonical import decode, encode
from relay.contracts.escrow import find_held, find_netted, last_line, movements, suspense
from relay.contracts.payloads import (
    BillLines,
    CutOff,
    Instruction,
    Lock,
    LockAnswer,
    Money,
    SignedInstruction,
)
from relay.contracts.settlement import SettlementStatus, find_settlement
from relay.contracts.undelivered import payload_for
from relay.errors import LianqiaoError, Reason
from relay.money import MAX_AMOUNT, Rate, convert
from relay.packet import Packet
from relay.reconcile import Kind, Side, reconcile
from relay.settling import make_return
from tests.contracts.ledger import Ledger
from tests.contracts.money_flow import PLENTY, Flow, audited, check_end, terms
from tests.contracts.money_world import (
    BILL,
    HK,
    HUB,
    INSURER,
    LINES,
    MAKER,
    RATE,
    SZ,
    instruction,
    quote,
    shared_bill,
    signed,
)
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refusing

ONE = instruction().settlement
SHORT = LINES
"""One cent less than is payable."""
OVER = BillLines(0, (23_300, 26_000, 68_700))
"""One cent more."""
EVEN = BillLines(0, (118_000, 0))


def itemised(lines: BillLines = SHORT, name: str = "one", **changes: Any) -> Instruction:
    return replace(instruction(name, **changes), itemised=lines)


def entries(flow: Flow, account: str, ledger: str = HK) -> list[tuple[str, int]]:
    """(entry, amount) of every line of an account that moved money for a settlement."""
    there = flow.money[ledger]
    found = [decode(there.written[k.encode()]) for k in there.keys(f"line/{account}/")]
    return [
        (str(b["entry"]), int(str(b["amount"])))
        for b in found
        if isinstance(b, dict) and b["amount"] and b["entry"] != "deposit"
    ]


def settled(given: Instruction, **kinds: Any) -> Flow:
    flow = Flow(**kinds)
    flow.instruct(signed(given, owners={(HK, "maker-hkd"): MAKER}))
    flow.settle()
    check_end(flow)
    assert find_settlement(flow.hub, given.settlement).status is SettlementStatus.SETTLED
    return flow


def sides(flow: Flow) -> tuple[Side, list[Side]]:
    return Side(HUB, flow.hub), [Side(name, ledger) for name, ledger in flow.money.items()]


# --- what is posted


@pytest.mark.parametrize(
    ("lines", "payer"),
    [
        (SHORT, [("principal", -139_151), ("rounding", -1)]),
        (OVER, [("principal", -139_153), ("rounding_back", 1)]),
        (EVEN, [("principal", -139_152)]),
        (None, [("principal", -139_152)]),
    ],
    ids=["short", "over", "even", "not itemised"],
)
def test_lines_and_difference_are_posted_and_are_the_leg(
    lines: BillLines | None, payer: list[tuple[str, int]]
) -> None:
    flow = settled(replace(instruction(), itemised=lines))
    assert entries(flow, "insurer") == payer
    assert entries(flow, "maker-hkd") == [(entry, -amount) for entry, amount in payer]
    assert flow.balance(HK, "insurer") == PLENTY - 139_152
    assert entries(flow, "hospital", SZ) == [("principal", BILL)]
    found = reconcile(*sides(flow))
    assert found.agrees, found.breaks


def test_a_fee_stands_beside_it() -> None:
    flow = settled(itemised(OVER, fee=500))
    assert entries(flow, "insurer") == [
        ("principal", -139_153),
        ("rounding_back", 1),
        ("fee", -500),
    ]
    assert entries(flow, "hk-fees") == [("fee", 500)]


def half_up(exact: Fraction) -> int:
    return floor(exact + Fraction(1, 2))


PAIRS = {
    ("JPY", "KWD"): Rate(1, 490),
    ("KWD", "JPY"): Rate(490, 1),
    ("CNY", "HKD"): RATE,
    ("CNY", "JPY"): Rate(21, 1),
}
"""(bill, payable) → rate."""
SCALE = {"JPY": 1, "CNY": 100, "HKD": 100, "KWD": 1000}


@settings(max_examples=60, deadline=None)
@given(
    pair=st.sampled_from(sorted(PAIRS)),
    lines=st.lists(st.integers(0, 99_999), min_size=1, max_size=9),
    less=st.integers(0, 50_000),
)
def test_the_postings_are_what_half_up_gives_of_every_line(
    pair: tuple[str, str], lines: list[int], less: int
) -> None:
    bill, paid = pair
    rate = PAIRS[pair]
    worth = Fraction(rate.numerator * SCALE[paid], rate.denominator * SCALE[bill])
    due = sum(lines) - less
    if due < 1 or half_up(due * worth) < 1:
        return
    total = half_up(due * worth)
    summed = sum(half_up(line * worth) for line in lines) - half_up(less * worth)
    base = instruction()
    done = convert(due, bill, paid, rate)
    offer = replace(
        base.quote, bill=Money(bill, due), payable=Money(paid, done.amount), rate=rate,
        residue=done.residue,
    )  # fmt: skip
    pay, owed = base.legs
    legs = (replace(pay, currency=paid, amount=total), replace(owed, currency=bill, amount=due))
    asked = replace(base, quote=offer, legs=legs, itemised=BillLines(less, tuple(lines)))
    answer = lock_alone(asked, paid)
    if summed < 1:
        assert answer is Reason.AMOUNT_INVALID
        return
    assert answer is None
    moved = [(m.entry.value, m.debtor, m.amount) for m in movements(asked, HK)]
    wanted = [("principal", "insurer", summed)]
    if total > summed:
        wanted.append(("rounding", "insurer", total - summed))
    elif total < summed:
        wanted.append(("rounding_back", "maker-hkd", summed - total))
    assert moved == wanted


def lock_alone(asked: Instruction, code: str) -> Reason | None:
    """What the payer's ledger says to a lock, in a currency."""
    accounts = {
        HK: {"insurer": (code, "hk-insurer", INSURER), "maker-hkd": (code, "maker-1", MAKER)}
    }
    flow = Flow(ledgers=(HK,), accounts=accounts, funds={"insurer": 10**12})
    return locks(flow, signed(asked))


def locks(flow: Flow, given: SignedInstruction) -> Reason | None:
    there = flow.money[HK]
    [(client, peer)] = there.peers.items()
    payload = payload_for("escrow", "settlement", Lock(HUB, HK, given).encode())
    packet = Packet(90, peer.counterparty, client, NOW + 60, (payload,))
    answer = LockAnswer.decode(there.receive(packet, {}))
    return answer.reason


# --- what is held


@pytest.mark.parametrize(("lines", "held"), [(SHORT, 139_152), (OVER, 139_153), (EVEN, 139_152)])
def test_what_is_held_covers_every_posting(lines: BillLines, held: int) -> None:
    """More than is payable where the lines exceed it: it comes back with the release."""
    for funds, refused in ((held, None), (held - 1, Reason.FUNDS_MISSING)):
        flow = Flow(funds={"insurer": funds, "maker-hkd": 0})
        flow.instruct(signed(itemised(lines)))
        flow.settle()
        check_end(flow)
        decision = find_settlement(flow.hub, ONE).decision
        assert decision is not None
        assert decision.reason is refused
    flow = Flow(funds={"insurer": held, "maker-hkd": 0})
    flow.instruct(signed(itemised(lines)))
    flow.receive(flow.hub, 0)
    assert last_line(flow.money[HK], "insurer").held == held
    assert last_line(flow.money[HK], "insurer").spent == 139_152, "limits count what is payable"
    flow.settle()
    assert flow.balance(HK, "insurer") == held - 139_152


def test_a_refund_frees_what_was_held() -> None:
    flow = Flow(funds={"maker-cny": 0})
    flow.instruct(signed(itemised(OVER)))
    flow.settle()
    check_end(flow)
    assert flow.balances()["insurer"] == (PLENTY, 0)


def test_limits_of_the_day_count_what_is_payable() -> None:
    for limit, refused in ((139_152, None), (139_151, Reason.LIMIT_REACHED)):
        for kind in ("daily", "counterparty"):
            flow = Flow()
            asked = terms("insurer", "HKD", "hk-insurer", INSURER, 2, limits={kind: limit})
            flow.money[HK].call("account.open", encode(asked))
            assert locks(flow, signed(itemised(OVER))) is refused, kind


def test_a_maker_whose_account_was_closed_meanwhile() -> None:
    """The principal goes into suspense, and what goes back for rounding comes from there."""
    flow = Flow(funds={"maker-hkd": 0})
    flow.instruct(signed(itemised(OVER)))
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    hk = flow.money[HK]
    hk.call("account.open", encode(terms("maker-hkd", "HKD", "maker-1", MAKER, 2, closed=True)))
    flow.settle()
    check_end(flow)
    assert last_line(hk, suspense("HKD")).balance == 139_152
    assert entries(flow, "insurer") == [("principal", -139_153), ("rounding_back", 1)]
    assert reconcile(*sides(flow)).agrees


# --- what is refused, by the relay and by the ledger alike


def _lines(*lines: int, less: int = 0) -> Callable[[], Instruction]:
    return lambda: itemised(BillLines(less, lines))


def _two_payers() -> Instruction:
    return replace(shared_bill(), itemised=SHORT)


def _two_legs_of_one() -> Instruction:
    base = itemised()
    pay, due = base.legs
    legs = (replace(pay, amount=1), replace(pay, amount=pay.amount - 1), due)
    return replace(base, legs=legs)


def _at(rate: Rate, lines: tuple[int, ...], less: int = 0) -> Instruction:
    due = sum(lines) - less
    done = convert(due, "CNY", "HKD", rate)
    paid = Money("HKD", done.amount)
    offer = quote(due, id="q-one", rate=rate, payable=paid, residue=done.residue)
    return itemised(BillLines(less, lines), quote=offer)


def _too_small() -> Instruction:
    """Four lines of a fen at 0.4 come to nothing apart, and to two cents together."""
    return _at(Rate(2, 5), (1, 1, 1, 1))


def _too_large() -> Instruction:
    """At 1.5 four odd lines, each half a unit up, come to one more than there can be."""
    return _at(Rate(3, 2), (1, 1, 1, 2 * (MAX_AMOUNT // 3) - 3))


def _line_too_large() -> Instruction:
    """A line that comes to more than there can be, though what is due does not."""
    return _at(RATE, (MAX_AMOUNT, BILL), MAX_AMOUNT)


@pytest.mark.parametrize(
    "make",
    [
        _lines(118_001),
        _lines(117_999),
        _lines(118_000, less=1),
        _lines(1, less=118_001),
        _two_payers,
        _two_legs_of_one,
        _too_small,
        _too_large,
        _line_too_large,
    ],
)
def test_lines_that_are_not_the_bill(make: Callable[[], Instruction]) -> None:
    given = make()
    flow = Flow(ledgers=(*given.ledgers,), funds={"insurer": PLENTY})
    before = flow.key()
    with pytest.raises(LianqiaoError) as err:
        flow.instruct(signed(given))
    assert err.value.reason is Reason.AMOUNT_INVALID
    assert flow.key() == before
    assert locks(flow, signed(given)) is Reason.AMOUNT_INVALID
    assert flow.money[HK].keys("lock/") == []


def test_a_relay_invents_no_lines() -> None:
    """Lines that were not signed, others than were, and none in place of signed ones."""
    for asked, changed in (
        (instruction(), SHORT),
        (itemised(SHORT), OVER),
        (itemised(SHORT), None),
    ):
        flow = Flow()
        forged = replace(signed(asked), instruction=replace(asked, itemised=changed))
        with pytest.raises(LianqiaoError) as err:
            flow.instruct(forged)
        assert err.value.reason is Reason.INVALID_SIGNATURE
        assert locks(flow, forged) is Reason.INVALID_SIGNATURE


# --- in a window, and given back


def test_a_window_keeps_what_of_its_net_is_rounding() -> None:
    flow = Flow()
    times = {"cut_off": NOW + DAY // 4, "deadline": NOW + DAY // 2, "window": "w-1"}
    flow.hub.call("window.open", encode(times))
    for name, lines in (("one", SHORT), ("two", OVER), ("three", EVEN)):
        bound = itemised(lines, name, window="w-1", deadline=NOW + DAY // 2)
        flow.instruct(signed(bound))
    record = CutOff.decode(flow.hub.call("window.cut_off", encode({"window": "w-1"})))
    flow.settle()
    check_end(flow)
    assert entries(flow, "insurer") == [("net", -3 * 139_152)]
    for account, sign in (("insurer", -1), ("maker-hkd", 1)):
        parts = find_netted(flow.money[HK], HUB, record.settlement, account)
        assert [(p.amount, p.rounding) for p in parts] == [
            (sign * 139_152, sign),
            (sign * 139_152, -sign),
            (sign * 139_152, 0),
        ]
    assert reconcile(*sides(flow)).agrees
    raw = flow.money[HK].written[f"netted/{HUB}/{record.settlement.hex()}/insurer".encode()]
    assert raw.count(b"rounding") == 2, "what there is none of is not written"


def test_netted_records_say_nothing_of_a_rounding_of_nothing() -> None:
    from relay.contracts.escrow.keys import Netted, decode_netted, encode_netted

    one = Netted(instruction().uetr, 5)
    assert decode_netted(encode_netted((one,))) == (one,)
    raw = encode_netted((replace(one, rounding=-1),))
    assert decode_netted(raw) == (replace(one, rounding=-1),)
    with refusing(Reason.MALFORMED):
        decode_netted(raw.replace(b"-1", b"0"))
    with refusing(Reason.MALFORMED):
        decode_netted(b'{"members":[5]}')


@pytest.mark.parametrize("lines", [SHORT, OVER])
def test_what_is_given_back_whole_is_given_back_line_by_line(lines: BillLines) -> None:
    flow = settled(itemised(lines))
    asked: dict[str, Any] = {
        "settlement": digest("back"), "uetr": instruction("back").uetr, "expires": NOW + 60,
    }  # fmt: skip
    back = make_return(itemised(lines), id="q-back", **asked)
    assert back.itemised == lines
    part = make_return(itemised(lines), id="q-back", bill=BILL // 2, **asked)
    assert part.itemised is None
    owners = {(HK, "maker-hkd"): MAKER}
    other = replace(back, itemised=EVEN)
    with pytest.raises(LianqiaoError) as err:
        flow.instruct(signed(other, owners=owners))
    assert err.value.reason is Reason.AMOUNT_INVALID
    flow.instruct(signed(back, owners=owners))
    flow.settle()
    check_end(flow)
    assert flow.balances()["insurer"] == (PLENTY, 0)
    kinds = Counter[str]()
    for entry, amount in entries(flow, "insurer"):
        kinds[entry] += amount
    assert set(kinds.values()) == {0}, "each kind of entry comes back to nothing"


def test_a_whole_return_may_be_of_the_total_alone() -> None:
    flow = settled(itemised(SHORT))
    back = make_return(
        itemised(SHORT), id="q-back", settlement=digest("back"), uetr=instruction("back").uetr,
        expires=NOW + 60,
    )  # fmt: skip
    flow.instruct(signed(replace(back, itemised=None), owners={(HK, "maker-hkd"): MAKER}))
    flow.settle()
    check_end(flow)


# --- what finds it where it is not right


def _alter(ledger: Ledger, prefix: str, change: Callable[[dict[str, Any]], None]) -> None:
    for key in ledger.keys(prefix):
        body = decode(ledger.written[key.encode()])
        assert isinstance(body, dict)
        change(body)
        ledger.written[key.encode()] = encode(body)


def _without(entry: str) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        body["movements"] = [m for m in body["movements"] if m["entry"] != entry]

    return change


@pytest.mark.parametrize(
    ("lines", "entry", "account"),
    [(SHORT, "rounding", "insurer"), (OVER, "rounding_back", "insurer")],
)
def test_the_audit_finds_a_rounding_that_no_lock_names(
    lines: BillLines, entry: str, account: str
) -> None:
    flow = settled(itemised(lines))
    hk = flow.money[HK]
    audited(hk)
    _alter(hk, "lock/", _without(entry))
    found = "; ".join(hk.contract.audit(hk, HK))  # type: ignore[attr-defined]
    assert f"{entry} of {account} twice or without a lock" in found


def _merge(body: dict[str, Any]) -> None:
    """One posting of the leg's amount, as if no line had been signed."""
    body["movements"] = [{**body["movements"][0], "amount": 139_152}]


@pytest.mark.parametrize("lines", [SHORT, OVER])
def test_reconciling_finds_a_difference_that_is_not_what_was_signed(lines: BillLines) -> None:
    flow = settled(itemised(lines))
    relay, ledgers = sides(flow)
    _alter(flow.money[HK], "lock/", _merge)
    found = [b for b in reconcile(relay, ledgers).breaks if b.kind is Kind.MISMATCH]
    assert [(b.chain, b.detail) for b in found] == [
        (HK, "would post something else than was signed")
    ]


def test_a_window_is_reconciled_with_the_net_of_what_was_signed() -> None:
    flow = Flow()
    times = {"cut_off": NOW + DAY // 4, "deadline": NOW + DAY // 2, "window": "w-1"}
    flow.hub.call("window.open", encode(times))
    flow.instruct(signed(instruction(window="w-1", deadline=NOW + DAY // 2, fee=7)))
    flow.hub.call("window.cut_off", encode({"window": "w-1"}))
    flow.settle()
    assert reconcile(*sides(flow)).agrees
    _alter(flow.money[SZ], "lock/", lambda body: body["movements"][0].update(amount=1))
    details = [b.detail for b in reconcile(*sides(flow)).breaks if b.chain == SZ]
    assert "would post something else than was signed" in details


def test_a_lock_keeps_what_it_will_post() -> None:
    flow = Flow()
    flow.instruct(signed(itemised(OVER)))
    flow.receive(flow.hub, 0)
    held = find_held(flow.money[HK], HUB, ONE)
    assert held is not None
    assert [(m.entry.value, m.debtor, m.creditor, m.amount) for m in held.movements] == [
        ("principal", "insurer", "maker-hkd", 139_153),
        ("rounding_back", "maker-hkd", "insurer", 1),
    ]


def test_several_payers_share_a_bill_that_is_not_itemised() -> None:
    given = shared_bill()
    assert given.itemised is None
    flow = Flow(ledgers=given.ledgers)
    flow.instruct(signed(given))
    flow.settle()
    check_end(flow)
