"""Netting windows: many instructions, one net set that anyone can compute, one decision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.chain import MAX_ENTRY_BYTES
from relay.contracts.escrow import (
    Entry,
    Held,
    Hold,
    Movement,
    find_held,
    find_netted,
    last_line,
    obligations,
)
from relay.contracts.escrow.keys import Paid
from relay.contracts.payloads import (
    CutOff,
    Fee,
    Instruction,
    LockAnswer,
    Member,
    NetLock,
    SignedInstruction,
    cut_off_key,
    window_settlement,
)
from relay.contracts.payloads.netting import MAX_CUT_OFF_BYTES
from relay.contracts.settlement import (
    SettlementStatus,
    find_cut_off,
    find_settlement,
    net_set,
    windows,
)
from relay.contracts.undelivered import payload_for
from relay.errors import LianqiaoError, Reason
from relay.money import Obligation
from relay.packet import MAX_PAYLOAD_BYTES, Packet
from relay.paths import record_path
from tests.contracts.money_flow import Flow, check, check_end, explore, replay, terms
from tests.contracts.money_world import (
    EXPIRES,
    HK,
    HUB,
    INSURER,
    MO,
    SZ,
    instruction,
    quote,
    shared_bill,
    signed,
    uetr,
    withdrawal,
)
from tests.contracts.world import DAY, NOW
from tests.refusals import refused, refusing

DEADLINE = NOW + DAY // 2
NET = window_settlement(HUB, "w-1")


def bound(name: str, bill: int = 100_000, **changes: Any) -> Instruction:
    given = instruction(name, bill=bill)
    return replace(given, window="w-1", deadline=DEADLINE, **changes)


def back(name: str, bill: int) -> Instruction:
    """Money the other way between the same accounts: a return of what was settled before."""
    base = bound(name, bill, returns=uetr("first"))
    pay, due = base.legs
    legs = (
        replace(pay, debtor=pay.creditor, creditor=pay.debtor),
        replace(due, debtor=due.creditor, creditor=due.debtor),
    )
    return replace(base, legs=legs)


def opened(**kinds: Any) -> Flow:
    flow = Flow(**kinds)
    flow.hub.call("window.open", encode({"deadline": DEADLINE, "window": "w-1"}))
    return flow


def cut_off(flow: Flow) -> bytes:
    return flow.hub.call("window.cut_off", encode({"window": "w-1"}))


def not_taken(flow: Flow, given: SignedInstruction, reason: Reason) -> None:
    before = flow.key()
    refused(reason, flow.instruct, given)
    assert flow.key() == before


def both_ways() -> Flow:
    """Three to the hospital, one given back, in one window."""
    flow = opened()
    flow.instruct(signed(instruction("first", bill=50_000)))
    flow.settle()
    for name, bill in (("one", 100_000), ("two", 70_000), ("three", 30_000)):
        flow.instruct(signed(bound(name, bill)))
    flow.instruct(signed(back("four", 50_000)))
    return flow


def test_a_window_settles_net_by_one_decision() -> None:
    flow = both_ways()
    before = flow.balances()
    assert len(flow.hub.sent) == 4, "nothing is locked before the cut-off"
    view = find_settlement(flow.hub, bound("one").settlement)
    assert view.status is SettlementStatus.WINDOW
    flow.at(NOW + 3600)  # the quotes have expired; they were good when they were accepted
    record = CutOff.decode(cut_off(flow))
    assert [m.settlement for m in record.members] == [
        bound(name).settlement for name in ("one", "two", "three", "four")
    ]
    assert len(windows.instructions_on(flow.hub, record, SZ)) == 4
    assert windows.instructions_on(flow.hub, record, "mo-money") == ()
    [net_cny] = net_set(flow.hub, record, SZ)
    assert (net_cny.debtor, net_cny.creditor, net_cny.amount) == ("maker-cny", "hospital", 150_000)
    flow.settle()
    check_end(flow)
    held = find_held(flow.money[SZ], HUB, NET)
    assert held is not None
    assert [(h.account, h.amount, h.gross) for h in held.holds] == [
        ("hospital", 0, 50_000),
        ("maker-cny", 150_000, 200_000),
    ]
    after = flow.balances()
    assert after["hospital"][0] - before["hospital"][0] == 150_000
    assert after["maker-cny"][0] - before["maker-cny"][0] == -150_000
    for name in ("one", "two", "three", "four"):
        view = find_settlement(flow.hub, bound(name).settlement)
        assert view.status is SettlementStatus.SETTLED
        assert view.under == NET


def test_the_net_moves_each_account_as_the_gross_would() -> None:
    flow = both_ways()
    gross: dict[str, int] = dict.fromkeys(flow.balances(), 0)
    given = [bound(n, b) for n, b in (("one", 100_000), ("two", 70_000), ("three", 30_000))]
    for one in (*given, back("four", 50_000)):
        for leg in one.legs:
            gross[leg.debtor] -= leg.total
            gross[leg.creditor] += leg.amount
    before = flow.balances()
    cut_off(flow)
    flow.settle()
    moved = {name: now[0] - before[name][0] for name, now in flow.balances().items()}
    assert moved == gross


def test_one_failed_lock_aborts_the_whole_window() -> None:
    flow = opened(funds={"maker-cny": 150_000})
    before = flow.balances()
    for name, bill in (("one", 100_000), ("two", 100_000)):
        flow.instruct(signed(bound(name, bill)))
    cut_off(flow)
    flow.settle()
    check_end(flow)
    assert flow.balances() == before
    for name in ("one", "two"):
        view = find_settlement(flow.hub, bound(name).settlement)
        assert view.status is SettlementStatus.RETURNED
        assert view.decision is not None
        assert view.decision.reason is Reason.FUNDS_MISSING


def test_netting_frees_what_gross_would_have_locked() -> None:
    """The net debit fits though the gross does not."""
    flow = both_ways()
    due = sum(
        leg.amount
        for n, b in (("one", 100_000), ("two", 70_000), ("three", 30_000))
        for leg in bound(n, b).legs
        if leg.debtor == "insurer"
    )
    returned = back("four", 50_000).legs[0].amount
    flow.money[HK].call(
        "withdraw",
        encode({"withdrawal": _all_but(flow, due - returned)}),
    )
    cut_off(flow)
    flow.settle()
    check_end(flow)
    assert flow.balance(HK, "insurer") == 0


def _all_but(flow: Flow, rest: int) -> Any:
    amount = flow.balance(HK, "insurer") - rest
    return withdrawal(
        INSURER, ledger=HK, account="insurer", currency="HKD", amount=amount
    ).to_json()


def test_a_window_in_every_order() -> None:
    flow = opened()
    for name, bill in (("one", 100_000), ("two", 70_000)):
        flow.instruct(signed(bound(name, bill)))
    cut_off(flow)
    assert explore(flow, until=DEADLINE, resends=0, each=replay) > 50


def test_the_cut_off_is_written_once() -> None:
    flow = both_ways()
    first = cut_off(flow)
    size = len(flow.hub.sent)
    assert cut_off(flow) == first
    assert len(flow.hub.sent) == size
    assert find_cut_off(flow.hub, "w-1") == CutOff.decode(first)
    not_taken(flow, signed(bound("late")), Reason.WINDOW_CLOSED)


def test_a_window_past_its_deadline_comes_to_nothing() -> None:
    flow = opened()
    before = flow.balances()
    flow.instruct(signed(bound("one")))
    flow.at(DEADLINE)
    for peer in flow.hub.peers.values():
        peer.frozen = True
    cut_off(flow)
    view = find_settlement(flow.hub, bound("one").settlement)
    assert view.status is SettlementStatus.ABORTED
    assert view.decision is not None
    assert view.decision.reason is Reason.TIMED_OUT
    for peer in flow.hub.peers.values():
        peer.frozen = False
    flow.hub.call("resend", encode({"limit": 10}))
    flow.settle()
    check_end(flow)
    assert flow.balances() == before
    view = find_settlement(flow.hub, bound("one").settlement)
    assert view.status is SettlementStatus.RETURNED


def test_an_empty_window_settles_nothing() -> None:
    flow = opened()
    cut_off(flow)
    assert flow.hub.sent == []


def test_what_binds_an_instruction_to_a_window() -> None:
    flow = opened()
    not_taken(flow, signed(replace(bound("one"), window="w-2")), Reason.WINDOW_CLOSED)
    not_taken(flow, signed(replace(bound("one"), deadline=DEADLINE + 1)), Reason.WINDOW_CLOSED)
    flow.at(NOW + 120)
    not_taken(flow, signed(bound("one")), Reason.QUOTE_EXPIRED)
    for method, body, reason in (
        ("window.open", {"deadline": NOW, "window": "w-3"}, Reason.TIMEOUT_ELAPSED),
        ("window.open", {"deadline": DEADLINE + 1, "window": "w-1"}, Reason.CONFLICT),
        (
            "window.open",
            {"cut_off": DEADLINE - 1, "deadline": DEADLINE, "window": "w-1"},
            Reason.CONFLICT,
        ),
        (
            "window.open",
            {"cut_off": NOW + 120, "deadline": DEADLINE, "window": "w-4"},
            Reason.TIMEOUT_ELAPSED,
        ),
        (
            "window.open",
            {"cut_off": DEADLINE + 1, "deadline": DEADLINE, "window": "w-4"},
            Reason.TIMEOUT_ELAPSED,
        ),
        ("window.cut_off", {"window": "w-9"}, Reason.NOT_FOUND),
    ):
        with pytest.raises(LianqiaoError) as err:
            flow.hub.call(method, encode(body))
        assert err.value.reason is reason


@pytest.mark.parametrize(
    ("bound_of", "limit"),
    [
        ("MAX_SHOWN_BYTES", 3 * len(signed(bound("one")).encode()) + 3),
        ("MAX_CUT_OFF_BYTES", 3 * 240),
        ("MAX_MEMBERS", 3),
    ],
)
def test_a_full_window_takes_no_more(
    monkeypatch: pytest.MonkeyPatch, bound_of: str, limit: int
) -> None:
    flow = opened()
    monkeypatch.setattr(windows, bound_of, limit)
    for name in ("one", "two", "six"):
        flow.instruct(signed(bound(name)))
    not_taken(flow, signed(bound("ten")), Reason.WINDOW_FULL)
    flow.instruct(signed(instruction("ten")))  # by itself it settles


def test_a_window_has_as_many_ledgers_as_a_decision_can_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow = opened()
    monkeypatch.setattr(windows, "MAX_LEDGERS", 1)
    not_taken(flow, signed(bound("one")), Reason.WINDOW_FULL)


def test_the_largest_cut_off_travels_beside_a_lock() -> None:
    """As many members as are ever taken, under ids as long as they may be."""
    member = Member(bytes(32), bytes(32), ("x" * 64,), 2**53 - 1)
    most = MAX_CUT_OFF_BYTES // (len(encode(member.to_json())) + 1)
    record = CutOff("x" * 64, "w" * 32, bytes(32), 2**53 - 1, 2**53 - 1, (member,) * most)
    assert len(record.encode()) <= MAX_ENTRY_BYTES


# --- by the clock


def due_now(flow: Flow) -> list[str]:
    """Runs what is due, as relay.due does; the windows that were cut off."""
    found = flow.hub.contract.due(flow.hub, flow.hub.now)
    for method, body in found:
        flow.hub.call(method, body)
    return [str(decode(body)["window"]) for _, body in found]  # type: ignore[call-overload]


def test_a_window_is_cut_off_by_itself_at_its_time() -> None:
    flow = Flow()
    opening = {"cut_off": DEADLINE - 1800, "deadline": DEADLINE, "window": "w-1"}
    flow.hub.call("window.open", encode(opening))
    assert flow.hub.call("window.open", encode(opening)) == flow.hub.get(b"window/w-1")
    flow.instruct(signed(bound("one")))
    flow.at(DEADLINE - 1801)
    assert due_now(flow) == []
    late = bound("late", quote=quote(1_000, id="q-late", expires=DEADLINE))
    flow.at(DEADLINE - 1800)
    not_taken(flow, signed(late), Reason.WINDOW_CLOSED)
    assert due_now(flow) == ["w-1"]
    assert due_now(flow) == []
    flow.settle()
    check_end(flow)
    view = find_settlement(flow.hub, bound("one").settlement)
    assert view.status is SettlementStatus.SETTLED


def test_without_a_time_it_is_given_up_at_its_deadline() -> None:
    flow = opened()
    flow.instruct(signed(bound("one")))
    flow.at(DEADLINE)
    assert due_now(flow) == ["w-1"]
    view = find_settlement(flow.hub, bound("one").settlement)
    assert view.decision is not None
    assert view.decision.reason is Reason.TIMED_OUT


def test_what_was_cut_off_early_hides_nothing_that_is_opened_later() -> None:
    flow = Flow()
    for name, hours in (("w-1", 8), ("w-2", 6)):
        body: Any = {"cut_off": NOW + hours * 3600, "deadline": DEADLINE, "window": name}
        flow.hub.call("window.open", encode(body))
    for name in ("w-1", "w-2"):
        flow.hub.call("window.cut_off", encode({"window": name}))
    body = {"cut_off": NOW + 3600, "deadline": DEADLINE, "window": "w-3"}
    flow.hub.call("window.open", encode(body))
    flow.at(NOW + 3600)
    assert due_now(flow) == ["w-3"]
    flow.at(NOW + 9 * 3600)
    assert due_now(flow) == []


def test_one_that_cannot_be_sent_is_tried_again_and_holds_up_no_other() -> None:
    """Its ledgers cannot be asked: the call fails and stays due; the next one is cut off."""
    flow = Flow()
    for name in ("w-1", "w-2"):
        body: Any = {"cut_off": NOW + 60, "deadline": DEADLINE, "window": name}
        flow.hub.call("window.open", encode(body))
    flow.instruct(signed(bound("one")))
    flow.at(NOW + 60)
    for peer in flow.hub.peers.values():
        peer.frozen = True
    first, second = flow.hub.contract.due(flow.hub, flow.hub.now)
    with refusing(Reason.CLIENT_NOT_FOUND):
        flow.hub.call(*first)
    flow.hub.call(*second)
    assert find_cut_off(flow.hub, "w-2") is not None
    for peer in flow.hub.peers.values():
        peer.frozen = False
    assert due_now(flow) == ["w-1"]


def test_a_ledger_is_shown_those_of_a_window_that_concern_it() -> None:
    flow = opened(ledgers=(HK, SZ, MO))
    flow.instruct(signed(shared_bill("one", window="w-1", deadline=DEADLINE)))
    flow.instruct(signed(bound("two")))
    record = CutOff.decode(cut_off(flow))
    counts = {name: len(windows.instructions_on(flow.hub, record, name)) for name in flow.money}
    assert counts == {HK: 2, SZ: 2, MO: 1}
    flow.settle()
    check_end(flow)
    for given in (shared_bill("one"), bound("two")):
        view = find_settlement(flow.hub, given.settlement)
        assert view.status is SettlementStatus.SETTLED


# --- what a statement tells of it


def test_a_ledger_keeps_what_the_net_of_an_account_is_made_of() -> None:
    flow = both_ways()
    record = CutOff.decode(cut_off(flow))
    flow.settle()
    parts = find_netted(flow.money[SZ], HUB, record.settlement, "hospital")
    assert [(p.uetr, p.amount) for p in parts] == [
        (bound("one").uetr, 100_000),
        (bound("two").uetr, 70_000),
        (bound("three").uetr, 30_000),
        (bound("four").uetr, -50_000),
    ]
    assert find_netted(flow.money[SZ], HUB, record.settlement, "maker-hkd") == ()


def test_an_audit_finds_a_net_that_is_not_what_was_netted() -> None:
    flow = both_ways()
    cut_off(flow)
    flow.settle()
    ledger = flow.money[SZ]
    [name] = [n for n in ledger.keys("netted/") if n.endswith("/hospital")]
    raw = ledger.written[name.encode()]
    ledger.written[name.encode()] = raw.replace(b'"amount":70000', b'"amount":70001')
    assert list(ledger.contract.audit(ledger, SZ)) == [  # type: ignore[attr-defined]
        f"lock/{HUB}/{NET.hex()}: hospital is -1 off what was netted"
    ]


def test_limits_count_what_was_signed_not_what_was_netted() -> None:
    flow = opened()
    limit = bound("one").legs[0].amount
    asked = terms("insurer", "HKD", "hk-insurer", INSURER, 2, limits={"daily": 2 * limit - 1})
    flow.money[HK].call("account.open", encode(asked))
    for name in ("one", "two"):
        flow.instruct(signed(bound(name)))
    cut_off(flow)
    flow.settle()
    view = find_settlement(flow.hub, bound("one").settlement)
    assert view.decision is not None
    assert view.decision.reason is Reason.LIMIT_REACHED
    assert last_line(flow.money[HK], "insurer").held == 0
    check(flow)


# --- what a relay may show


def shown(
    flow: Flow, record: CutOff, instructions: tuple[SignedInstruction, ...], ledger: str = SZ
) -> bytes:
    there = flow.money[ledger]
    [(client, peer)] = there.peers.items()
    lock = NetLock(HUB, ledger, "w-1", instructions)
    payload = payload_for("escrow", "settlement", lock.encode())
    packet = Packet(90, peer.counterparty, client, DEADLINE, (payload,))
    path = record_path("settlement", cut_off_key("w-1"))
    return there.receive(packet, {path: record.encode()})


def test_a_ledger_computes_the_net_from_what_was_cut_off_and_from_nothing_else() -> None:
    flow = both_ways()
    record = CutOff.decode(cut_off(flow))
    packet = flow.hub.sent[-1]
    given = NetLock.decode(packet.payloads[0].value).instructions
    first, *rest = record.members
    extra = signed(bound("hidden"))
    late = replace(first, accepted=NOW + 120)

    def another(relay: str, window: str) -> CutOff:
        due = window_settlement(relay, window)
        return replace(record, relay=relay, window=window, settlement=due)

    for changed, instructions, reason in (
        (record, given[1:], Reason.DECISION_MISMATCH),
        (record, (*given, extra), Reason.DECISION_MISMATCH),
        (record, given[::-1], Reason.DECISION_MISMATCH),
        (record, (extra, *given[1:]), Reason.DECISION_MISMATCH),
        (replace(record, relay="hub-2"), given, Reason.DECISION_MISMATCH),
        (replace(record, window="w-2"), given, Reason.DECISION_MISMATCH),
        (replace(record, settlement=bytes(32)), given, Reason.DECISION_MISMATCH),
        (replace(record, members=(first, *rest[:-1])), given, Reason.DECISION_MISMATCH),
        (another("hub-2", "w-1"), given, Reason.DECISION_MISMATCH),
        (another(HUB, "w-2"), given, Reason.DECISION_MISMATCH),
    ):
        with pytest.raises(LianqiaoError) as err:
            shown(flow, changed, instructions)
        assert err.value.reason is reason
    for changed, reason in (
        (replace(record, members=(late, *rest)), Reason.QUOTE_EXPIRED),
        (replace(record, deadline=DEADLINE + 1), Reason.WINDOW_CLOSED),
        (record, None),
    ):
        answer = LockAnswer.decode(shown(flow, changed, given))
        assert answer.reason is reason
    body = decode(record.encode())
    assert isinstance(body, dict)
    with pytest.raises(LianqiaoError) as err:
        flow.money[SZ].receive(packet, {})
    assert err.value.reason is Reason.ENTRY_MISSING


def test_a_net_lock_is_of_the_relay_that_sent_it_and_for_this_ledger() -> None:
    flow = both_ways()
    record = CutOff.decode(cut_off(flow))
    given = NetLock.decode(flow.hub.sent[-1].payloads[0].value)
    there = flow.money[SZ]
    [(client, peer)] = there.peers.items()
    path = record_path("settlement", cut_off_key("w-1"))
    [payload] = flow.hub.sent[-1].payloads
    assert there.contract.entries_needed(flow.hub.sent[-1], payload) == (path,)
    for asked, reason in (
        (replace(given, relay="hub-2"), Reason.COUNTERPARTY_MISMATCH),
        (replace(given, ledger=HK), Reason.CHAIN_ID_MISMATCH),
    ):
        payload = payload_for("escrow", "settlement", asked.encode())
        packet = Packet(90, peer.counterparty, client, DEADLINE, (payload,))
        with pytest.raises(LianqiaoError) as err:
            there.receive(packet, {path: record.encode()})
        assert err.value.reason is reason


def test_a_net_lock_that_comes_at_the_deadline_is_refused() -> None:
    flow = both_ways()
    record = CutOff.decode(cut_off(flow))
    given = NetLock.decode(flow.hub.sent[-1].payloads[0].value).instructions
    for time, reason in ((DEADLINE, Reason.TIMEOUT_ELAPSED), (DEADLINE - 1, None)):
        flow.at(time)
        assert LockAnswer.decode(shown(flow, record, given)).reason is reason


def test_what_settled_in_a_window_is_given_back_by_itself() -> None:
    flow = opened()
    flow.instruct(signed(bound("one", 50_000)))
    given = replace(back("two", 50_000), window="", deadline=EXPIRES, returns=uetr("one"))
    not_taken(flow, signed(given), Reason.SETTLEMENT_DECIDED)
    cut_off(flow)
    not_taken(flow, signed(given), Reason.SETTLEMENT_DECIDED)
    flow.settle()
    flow.instruct(signed(given))
    flow.settle()
    assert find_settlement(flow.hub, given.settlement).status is SettlementStatus.SETTLED
    check_end(flow)


def test_what_a_window_came_to_nothing_with_counts_against_no_limit() -> None:
    flow = opened()
    limit = bound("one").legs[0].amount
    asked = terms("insurer", "HKD", "hk-insurer", INSURER, 2, limits={"daily": limit})
    flow.hub.call("account.register", encode({**asked, "ledger": HK}))
    flow.instruct(signed(bound("one")))
    not_taken(flow, signed(bound("two")), Reason.LIMIT_REACHED)
    flow.at(DEADLINE)
    cut_off(flow)
    assert find_settlement(flow.hub, bound("one").settlement).status is SettlementStatus.ABORTED
    fresh = quote(100_000, id="q-later", expires=DEADLINE + 60)
    flow.instruct(signed(instruction("later", bill=100_000, quote=fresh)))


def test_windows_that_are_cut_off_are_not_looked_at_again() -> None:
    hub = (flow := Flow()).hub
    for window, time in (("w-1", NOW + 60), ("w-2", NOW + 120)):
        body = {"cut_off": time, "deadline": DEADLINE, "window": window}
        hub.call("window.open", encode(body))
    assert windows.due(hub, NOW + 120) == ["w-1", "w-2"]
    flow.at(NOW + 60)
    for window in ("w-1", "w-2"):  # the second before its time
        hub.call("window.cut_off", encode({"window": window}))
        assert len(hub.keys("due-through/")) == 1
        assert decode(hub.written[hub.keys("due-through/")[0].encode()]) == {
            "after": f"due/{NOW + 60:012d}/w-1".encode().hex()
        }
    assert windows.due(hub, NOW + 120) == []


def test_one_window_that_cannot_be_cut_off_hides_none_behind_it() -> None:
    """However many were cut off after it: they are still looked at, since it may be first."""
    hub = Flow().hub
    for number in range(windows.MAX_DUE + 1):
        body = {"cut_off": NOW + 1 + number, "deadline": DEADLINE, "window": f"w-{number}"}
        hub.call("window.open", encode(body))
    assert windows.due(hub, DEADLINE) == [f"w-{n}" for n in range(windows.MAX_DUE)]
    for number in range(1, windows.MAX_DUE):
        hub.call("window.cut_off", encode({"window": f"w-{number}"}))
    assert windows.due(hub, DEADLINE) == ["w-0", f"w-{windows.MAX_DUE}"]
    assert windows.due(hub, NOW + 1) == ["w-0"]


def test_fees_are_owed_too() -> None:
    given = instruction(fee=500)
    due = given.legs[0].amount
    assert list(obligations(given, HK)) == [
        Obligation("insurer", "maker-hkd", "HKD", due),
        Obligation("insurer", "hk-fees", "HKD", 500),
    ]
    assert [one.creditor for one in obligations(given, SZ)] == ["hospital"]


def test_a_quote_serves_once_in_a_window_too() -> None:
    flow = opened()
    flow.instruct(signed(bound("one")))
    twice = bound("two", quote=quote(100_000, id="q-one"))
    not_taken(flow, signed(twice), Reason.QUOTE_USED)
    record = CutOff.decode(cut_off(flow))
    [one] = record.members
    second = replace(one, settlement=twice.settlement, digest=twice.digest)
    both = replace(record, members=(one, second))
    answer = LockAnswer.decode(shown(flow, both, (signed(bound("one")), signed(twice))))
    assert answer.reason is Reason.QUOTE_USED


# --- the id of a window is nobody else's


def imitation() -> Instruction:
    """Anyone can compute under which id a window will settle, once its name is known."""
    return instruction("imitation", settlement=NET)


def test_no_settlement_takes_the_id_of_an_open_window() -> None:
    """Its answers and its decision would stand where the window's must, and lock it for ever."""
    flow = opened()
    flow.instruct(signed(bound("one")))
    not_taken(flow, signed(imitation()), Reason.REQUEST_ID_REUSED)
    cut_off(flow)
    not_taken(flow, signed(imitation()), Reason.REQUEST_ID_REUSED)
    flow.settle()
    check_end(flow)
    assert find_settlement(flow.hub, bound("one").settlement).status is SettlementStatus.SETTLED


def test_no_window_opens_under_the_id_of_a_settlement() -> None:
    flow = Flow()
    flow.instruct(signed(imitation()))
    before = flow.key()
    body = encode({"deadline": DEADLINE, "window": "w-1"})
    refused(Reason.CONFLICT, flow.hub.call, "window.open", body)
    assert flow.key() == before
    flow.hub.call("window.open", encode({"deadline": DEADLINE, "window": "w-2"}))


# --- the fullest window


def test_the_lock_of_the_fullest_window_can_be_read_again() -> None:
    """Or nothing would ever end it. All that a packet can show, under the longest names: one payer
    with a limit for each payee's owner, who pays a fee beside every leg."""
    base = bound("one")
    pay, due = base.legs
    long = {
        who: [f"{who}{n:04d}".ljust(64, "x") for n in range(15 * 42)] for who in ("c", "f", "o")
    }
    payer, one = "d".ljust(64, "x"), replace(due, amount=1, fee=Fee("f".ljust(64, "x"), 1))
    legs = tuple(replace(one, debtor=payer, creditor=name) for name in long["c"][:15])
    given = replace(base, legs=(pay, *legs))
    owners = {(HK, "insurer"): INSURER, (SZ, payer): INSURER}
    assert 42 * len(signed(given, owners=owners).encode()) < windows.MAX_SHOWN_BYTES
    most = 2**53 - 1
    record = Held(
        digest=bytes(32),
        uetr="",
        window="w-1",
        holds=(Hold(payer, most, most),),
        movements=tuple(Movement(Entry.NET, payer, n, most) for n in (*long["c"], *long["f"])),
        paid=tuple(Paid(payer, owner, most) for owner in long["o"]),
        time=NOW,
    )
    assert len(record.encode()) > MAX_PAYLOAD_BYTES
    assert Held.decode(record.encode()) == record
