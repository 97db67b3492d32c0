"""What a relay accepts as an instruction, what it refuses and why, and what it does then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import decode, encode
from relay.contracts.payloads import (
    DecisionAnswer,
    Ended,
    Fee,
    Instruction,
    Mode,
    Money,
    OfficerRole,
    Ruling,
    Side,
    SignedInstruction,
)
from relay.contracts.settlement import SettlementStatus, find_settlement, policy_at, settlement_of
from relay.contracts.settlement.decide import read_done
from relay.contracts.settlement.rates import check_rate
from relay.errors import LianqiaoError, Malformed, NotFound, Reason
from relay.money import Rate, convert
from relay.money.rate import ratio
from relay.packet import ERROR_ACKNOWLEDGEMENT
from tests.contracts.money_flow import Flow, check, check_end, policy, terms
from tests.contracts.money_world import (
    BILL,
    EXPIRES,
    HK,
    HOSPITAL,
    HUB,
    INSURER,
    MAKER,
    MO,
    OFFICER,
    RATE,
    REGULATOR,
    STRANGER,
    SZ,
    decision,
    instruction,
    quote,
    shared_bill,
    signed,
    uetr,
)
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refused

ONE = instruction().settlement


def hkd(numerator: int) -> Rate:
    """HKD for 75905 CNY."""
    return ratio(numerator, 75905)


@pytest.fixture
def flow() -> Flow:
    return Flow()


def not_taken(flow: Flow, given: SignedInstruction, reason: Reason) -> LianqiaoError:
    """It is refused for that reason, and nothing is left of it."""
    before = flow.key()
    error = refused(reason, flow.instruct, given)
    assert flow.key() == before
    check(flow)
    return error


def test_both_sides_are_paid_or_neither(flow: Flow) -> None:
    flow.instruct(signed(instruction(fee=500)))
    assert find_settlement(flow.hub, ONE).status is SettlementStatus.LOCKING
    flow.settle()
    view = find_settlement(flow.hub, ONE)
    assert view.status is SettlementStatus.SETTLED
    assert view.decision is not None
    assert view.decision.ruling is Ruling.COMMIT
    assert [(one.ledger, one.reason) for one in view.answers] == [(HK, None), (SZ, None)]
    assert [(one.ledger, one.ended) for one in view.done] == [
        (HK, Ended.RELEASED),
        (SZ, Ended.RELEASED),
    ]
    assert settlement_of(flow.hub, view.signed.instruction.uetr) == ONE
    before = Flow()
    moved = {
        name: flow.balances()[name][0] - amount for name, (amount, _) in before.balances().items()
    }
    assert moved == {
        "insurer": -139_152 - 500,
        "maker-hkd": 139_152,
        "hk-fees": 500,
        "maker-cny": -BILL,
        "hospital": BILL,
    }
    check_end(flow)


def test_a_refused_lock_aborts_and_refunds(flow: Flow) -> None:
    poor = Flow(funds={"maker-cny": BILL - 1})
    before = poor.balances()
    poor.instruct(signed())
    poor.settle()
    view = find_settlement(poor.hub, ONE)
    assert view.status is SettlementStatus.RETURNED
    assert view.decision is not None
    assert view.decision.reason is Reason.FUNDS_MISSING
    assert poor.balances() == before
    check_end(poor)


def test_the_same_instruction_again_is_one_settlement(flow: Flow) -> None:
    first = flow.instruct(signed())
    size = len(flow.hub.sent)
    assert flow.instruct(signed()) == first
    assert len(flow.hub.sent) == size
    flow.settle()
    assert flow.instruct(signed()) == first
    check_end(flow)


def test_another_instruction_under_its_id_or_uetr_is_refused(flow: Flow) -> None:
    flow.instruct(signed())
    other = instruction("two")
    not_taken(flow, signed(replace(other, settlement=ONE)), Reason.REQUEST_ID_REUSED)
    not_taken(flow, signed(replace(other, uetr=uetr("one"))), Reason.REQUEST_ID_REUSED)


def _leg(number: int, **changes: Any) -> Callable[[Instruction], Instruction]:
    def change(given: Instruction) -> Instruction:
        legs = list(given.legs)
        legs[number] = replace(legs[number], **changes)
        return replace(given, legs=tuple(legs))

    return change


def _quote(**changes: Any) -> Callable[[Instruction], Instruction]:
    def change(given: Instruction) -> Instruction:
        offer = replace(given.quote, **changes)
        deadline = offer.expires if not given.window else given.deadline
        return replace(given, quote=offer, deadline=deadline)

    return change


def _rate(rate: Rate) -> Callable[[Instruction], Instruction]:
    """Another rate, from which the amounts follow."""
    due = convert(BILL, "CNY", "HKD", rate)

    def change(given: Instruction) -> Instruction:
        changed = _quote(rate=rate, payable=Money("HKD", due.amount), residue=due.residue)(given)
        return _leg(0, amount=due.amount)(changed)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda i: replace(i, relay="hub-2"), Reason.CHAIN_ID_MISMATCH),
        (lambda i: replace(i, rounding="half-even-1"), Reason.UNSUPPORTED_VERSION),
        (lambda i: replace(i, window="w-1"), Reason.WINDOW_CLOSED),
        (lambda i: replace(i, returns=uetr("none")), Reason.NOT_FOUND),
        (_quote(expires=NOW), Reason.QUOTE_EXPIRED),
        (_quote(expires=NOW - 1), Reason.QUOTE_EXPIRED),
        (_quote(payable=Money("HKD", 139_151)), Reason.RATE_INVALID),
        (_quote(payable=Money("HKD", 139_153)), Reason.RATE_INVALID),
        (_quote(residue=quote(7).residue), Reason.RATE_INVALID),
        (_quote(rate=hkd(89512)), Reason.RATE_INVALID),
        (_quote(bill=Money("CNY", BILL + 1)), Reason.RATE_INVALID),
        (_quote(bill=Money("CNY", BILL), maker="another"), Reason.QUOTE_FOREIGN),
        (_quote(policy="another"), Reason.POLICY_NOT_FOUND),
        (_quote(version=2), Reason.UNSUPPORTED_VERSION),
        (_quote(source="BOC"), Reason.RATE_INVALID),
        (_quote(mode=Mode.FIXING, day="2026-01-30"), Reason.RATE_INVALID),
        (_leg(0, amount=139_153), Reason.AMOUNT_INVALID),
        (_leg(1, amount=BILL - 1), Reason.AMOUNT_INVALID),
        (_leg(1, currency="HKD"), Reason.CURRENCY_MISMATCH),
        (_leg(0, currency="CNY"), Reason.CURRENCY_MISMATCH),
        (_leg(0, debtor="nobody"), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, creditor="nobody"), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, creditor="hk-fees"), Reason.QUOTE_FOREIGN),
        (_leg(1, debtor="hospital", creditor="maker-cny"), Reason.QUOTE_FOREIGN),
        (_leg(0, ledger="elsewhere"), Reason.ACCOUNT_NOT_FOUND),
        (_rate(hkd(90407)), Reason.RATE_COLLAR),
        (_rate(hkd(88614)), Reason.RATE_COLLAR),
    ],
)
def test_bad_instructions(
    flow: Flow, change: Callable[[Instruction], Instruction], reason: Reason
) -> None:
    owners = {
        (HK, "nobody"): STRANGER,
        (SZ, "hospital"): STRANGER,
        ("elsewhere", "insurer"): INSURER,
    }
    not_taken(flow, signed(change(instruction()), owners=owners), reason)


@pytest.mark.parametrize("rate", [hkd(90406), hkd(88616)], ids=["upper", "lower"])
def test_a_rate_within_the_collar_is_taken(flow: Flow, rate: Rate) -> None:
    flow.instruct(signed(_rate(rate)(instruction())))


@pytest.mark.parametrize("amount", [0, -1, 2**53, True, "1", None])
def test_amounts_that_cannot_be_paid(flow: Flow, amount: Any) -> None:
    body = decode(signed().encode())
    assert isinstance(body, dict)
    body["instruction"]["legs"][0]["amount"] = amount  # type: ignore[call-overload, index]
    before = flow.key()
    with pytest.raises(Malformed) as err:
        flow.hub.call("instruct", encode({"signed": body}))
    assert err.value.reason in (Reason.AMOUNT_INVALID, Reason.MALFORMED)
    assert flow.key() == before


def test_the_quote_ends_at_its_second(flow: Flow) -> None:
    flow.at(EXPIRES)
    not_taken(flow, signed(), Reason.QUOTE_EXPIRED)
    flow.at(EXPIRES - 1)
    flow.instruct(signed())


def test_a_quote_is_used_once_whatever_became_of_it(flow: Flow) -> None:
    poor = Flow(funds={"insurer": 1})
    poor.instruct(signed())
    poor.settle()
    again = instruction("two", quote=quote(id="q-one"))
    not_taken(poor, signed(again), Reason.QUOTE_USED)
    poor.instruct(signed(instruction("three", quote=quote(id="q-three"))))


@pytest.mark.parametrize("account", [(HK, "insurer"), (SZ, "maker-cny")])
def test_every_debtor_signs(flow: Flow, account: tuple[str, str]) -> None:
    not_taken(flow, signed(owners={account: STRANGER}), Reason.UNKNOWN_SIGNER)
    good = signed()
    other = signed(instruction("two"))
    swapped = replace(good, signatures=other.signatures)
    not_taken(flow, swapped, Reason.INVALID_SIGNATURE)
    missing = replace(good, signatures=good.signatures[:1])
    not_taken(flow, missing, Reason.MALFORMED)


def test_a_key_that_ended_signs_no_more(flow: Flow) -> None:
    ended = terms("insurer", "HKD", "hk-insurer", INSURER, 2, keys=[INSURER.dated(end=NOW)])
    flow.open(HK, ended)
    not_taken(flow, signed(), Reason.UNKNOWN_SIGNER)


def test_a_closed_account_neither_pays_nor_is_paid(flow: Flow) -> None:
    closed = terms("hospital", "CNY", "sz-hospital", STRANGER, 2, closed=True)
    flow.hub.call("account.register", encode({**closed, "ledger": SZ}))
    not_taken(flow, signed(), Reason.ACCOUNT_CLOSED)


def test_all_locks_are_sent_or_none(flow: Flow) -> None:
    peer = next(p for p in flow.hub.peers.values() if p.chain_id == SZ)
    peer.frozen = True
    not_taken(flow, signed(), Reason.CLIENT_NOT_FOUND)
    assert flow.hub.sent == []


def test_the_locks_time_out_with_the_quote(flow: Flow) -> None:
    flow.instruct(signed())
    assert [p.timeout_timestamp for p in flow.hub.sent] == [EXPIRES, EXPIRES]


def test_a_quote_for_days_still_locks_within_a_day(flow: Flow) -> None:
    flow.instruct(signed(_quote(expires=NOW + 3 * DAY)(instruction())))
    assert [p.timeout_timestamp for p in flow.hub.sent] == [NOW + DAY, NOW + DAY]


# --- what ledgers answer


@pytest.mark.parametrize("answer", [ERROR_ACKNOWLEDGEMENT, b"{}", b"nonsense"])
def test_what_cannot_be_read_as_a_lock_counts_as_refused(flow: Flow, answer: bytes) -> None:
    flow.instruct(signed())
    flow.hub.end(flow.hub.sent[0], answer)
    view = find_settlement(flow.hub, ONE)
    assert view.decision is not None
    assert view.decision.reason is Reason.CONTRACT_REFUSED


def test_an_answer_of_another_ledger_or_settlement_is_no_lock(flow: Flow) -> None:
    flow.instruct(signed())
    flow.instruct(signed(instruction("two")))
    wrong = flow.receive(flow.hub, 1)
    flow.hub.end(flow.hub.sent[0], wrong)
    view = find_settlement(flow.hub, ONE)
    assert view.decision is not None
    assert view.decision.reason is Reason.CONTRACT_REFUSED


def test_a_lock_that_comes_after_an_abort_is_refunded(flow: Flow) -> None:
    """One ledger's lock times out while the other's is on its way: it locks, and is refunded."""
    before = flow.balances()
    flow.instruct(signed())
    flow.receive(flow.hub, 0)
    flow.at(EXPIRES)
    flow.expire(flow.hub, 1)
    assert find_settlement(flow.hub, ONE).status is SettlementStatus.ABORTED
    flow.settle()
    assert flow.balances() == before
    check_end(flow)


def test_a_decision_that_no_client_carries_is_set_aside_and_sent_later(flow: Flow) -> None:
    flow.instruct(signed())
    for index in (0, 1):
        flow.receive(flow.hub, index)
    flow.acknowledge(flow.hub, 0)
    peer = next(p for p in flow.hub.peers.values() if p.chain_id == SZ)
    peer.frozen = True
    flow.acknowledge(flow.hub, 1)
    flow.settle()
    assert find_settlement(flow.hub, ONE).status is SettlementStatus.COMMITTED
    peer.frozen = False
    flow.hub.call("resend", encode({"limit": 10}))
    flow.settle()
    check_end(flow)


def test_a_ledger_that_errs_at_a_decision_gets_it_again(flow: Flow) -> None:
    flow.instruct(signed())
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    flow.hub.end(flow.hub.sent[2], ERROR_ACKNOWLEDGEMENT)
    flow.state[HUB, 2] = ("done", b"")
    flow.settle()
    assert find_settlement(flow.hub, ONE).status is SettlementStatus.COMMITTED
    flow.hub.call("resend", encode({"limit": 10}))
    flow.settle()
    check_end(flow)


def test_an_unknown_call(flow: Flow) -> None:
    for ledger in (flow.hub, flow.money[HK]):
        with pytest.raises(NotFound) as err:
            ledger.call("print.money", b"{}")
        assert err.value.reason is Reason.NOT_FOUND


# --- lanes


def test_a_paused_lane_takes_nothing_new_and_stops_no_decision(flow: Flow) -> None:
    flow.instruct(signed())
    flow.hub.call("lane.pause", encode({"ledger": SZ}))
    not_taken(flow, signed(instruction("two")), Reason.LANE_PAUSED)
    flow.settle()
    assert find_settlement(flow.hub, ONE).status is SettlementStatus.SETTLED
    flow.hub.call("lane.resume", encode({"ledger": SZ}))
    flow.instruct(signed(instruction("two")))
    flow.settle()
    check_end(flow)


# --- limits and co-signatures; the relay and the ledger each hold the same terms

APPROVED = ((OfficerRole.OFFICER, "hk-officer", OFFICER),)
BOTH = (*APPROVED, (OfficerRole.REGULATOR, "hkma", REGULATOR))
COSIGNERS = [
    {"keys": [OFFICER.dated()], "officer": "hk-officer", "role": "officer"},
    {"keys": [REGULATOR.dated()], "officer": "hkma", "role": "regulator"},
]
PAYS = 139_152


def limited(where: str, **limits: int) -> Flow:
    """The insurer's account with limits, at the relay or on the ledger."""
    flow = Flow()
    asked = terms("insurer", "HKD", "hk-insurer", INSURER, 2, cosigners=COSIGNERS, limits=limits)
    if where == "relay":
        flow.hub.call("account.register", encode({**asked, "ledger": HK}))
    else:
        flow.money[HK].call("account.open", encode(asked))
    return flow


def outcome(flow: Flow, given: SignedInstruction) -> Reason | None:
    """Why it did not settle, by whoever refused it; None where it did."""
    try:
        flow.instruct(given)
    except LianqiaoError as err:
        check(flow)
        return err.reason
    flow.settle()
    check_end(flow)
    decision = find_settlement(flow.hub, given.instruction.settlement).decision
    assert decision is not None
    return decision.reason


@pytest.mark.parametrize("where", ["relay", "ledger"])
@pytest.mark.parametrize(
    ("limits", "cosigners", "reasons"),
    [
        ({"daily": 2 * PAYS}, (), (None, None, Reason.LIMIT_REACHED)),
        ({"daily": 2 * PAYS - 1}, (), (None, Reason.LIMIT_REACHED, Reason.LIMIT_REACHED)),
        ({"counterparty": PAYS}, (), (None, Reason.LIMIT_REACHED, Reason.LIMIT_REACHED)),
        ({"officer": 2 * PAYS}, (), (None, None, Reason.COSIGNATURE_MISSING)),
        ({"officer": PAYS}, APPROVED, (None, None, None)),
        ({"regulator": PAYS}, APPROVED, (None, Reason.COSIGNATURE_MISSING)),
        ({"regulator": PAYS, "officer": 1}, BOTH, (None, None)),
        ({"regulator": PAYS, "officer": 1}, BOTH[1:], (Reason.COSIGNATURE_MISSING,)),
    ],
)
def test_limits_of_the_day(
    where: str,
    limits: dict[str, int],
    cosigners: tuple[Any, ...],
    reasons: tuple[Reason | None, ...],
) -> None:
    flow = limited(where, **limits)
    names = ["one", "two", "three"]
    for name, reason in zip(names, reasons, strict=False):
        given = signed(instruction(name), cosigners=cosigners)
        assert outcome(flow, given) is reason, name
    # The next day in Shanghai begins a new count.
    midnight = NOW - (NOW + 8 * 3600) % DAY + DAY
    flow.at(midnight)
    fresh = quote(id="q-next", expires=midnight + 60)
    given = signed(instruction("next", quote=fresh), cosigners=BOTH)
    assert outcome(flow, given) is None


@pytest.mark.parametrize("where", ["relay", "ledger"])
def test_a_fee_counts_for_whose_account_it_goes_to(where: str) -> None:
    """Or all that is above the limit for somebody would be called a fee."""
    for fee, reason in ((PAYS, None), (PAYS + 1, Reason.LIMIT_REACHED)):
        flow = limited(where, counterparty=PAYS)
        assert outcome(flow, signed(instruction("one", fee=fee))) is reason
    flow = limited(where, counterparty=PAYS)
    flow.instruct(signed(instruction("one", fee=PAYS)))
    flow.receive(flow.hub, 0)
    flow.at(EXPIRES)
    flow.expire(flow.hub, 1)
    flow.settle()  # given back, and the fee with it
    later = quote(id="q-two", expires=EXPIRES + 60)
    assert outcome(flow, signed(instruction("two", fee=PAYS, quote=later))) is None


@pytest.mark.parametrize("where", ["relay", "ledger"])
def test_what_came_to_nothing_counts_against_no_limit(where: str) -> None:
    flow = limited(where, daily=PAYS, counterparty=PAYS)
    flow.instruct(signed(instruction("one")))
    flow.receive(flow.hub, 0)
    flow.at(EXPIRES)
    flow.expire(flow.hub, 1)
    flow.settle()
    later = quote(id="q-two", expires=EXPIRES + 60)
    assert outcome(flow, signed(instruction("two", quote=later))) is None
    last = quote(id="q-three", expires=EXPIRES + 60)
    assert outcome(flow, signed(instruction("three", quote=last))) is Reason.LIMIT_REACHED


@pytest.mark.parametrize("where", ["relay", "ledger"])
def test_a_cosignature_counts_if_it_is_somebody_elses_and_right(where: str) -> None:
    flow = limited(where, officer=1)
    for wrong in (
        (OfficerRole.OFFICER, "hk-officer", STRANGER),
        (OfficerRole.OFFICER, "another", OFFICER),
        (OfficerRole.REGULATOR, "hk-officer", OFFICER),
        (OfficerRole.OFFICER, "hk-officer", REGULATOR),
    ):
        given = signed(instruction(f"by {wrong}", quote=quote(id="q")), cosigners=(wrong,))
        if where == "relay":
            not_taken(flow, given, Reason.COSIGNATURE_MISSING)
        else:
            fresh = signed(
                instruction(str(wrong), quote=quote(id=digest(str(wrong)).hex())),
                cosigners=(wrong,),
            )
            assert outcome(flow, fresh) is Reason.COSIGNATURE_MISSING
    good = signed(instruction("good"), cosigners=APPROVED)
    other = signed(instruction("other"), cosigners=APPROVED)
    moved = replace(good, cosignatures=other.cosignatures)
    assert outcome(flow, moved) is Reason.COSIGNATURE_MISSING
    last = signed(instruction("last"), cosigners=APPROVED)
    assert outcome(flow, last) is None


def test_an_owner_does_not_co_sign_for_himself() -> None:
    flow = Flow()
    own = [{"keys": [INSURER.dated()], "officer": "hk-officer", "role": "officer"}]
    asked = terms("insurer", "HKD", "hk-insurer", INSURER, 2, cosigners=own, limits={"officer": 1})
    flow.open(HK, asked)
    mine = ((OfficerRole.OFFICER, "hk-officer", INSURER),)
    not_taken(flow, signed(cosigners=mine), Reason.COSIGNATURE_MISSING)


# --- rates


def load(flow: Flow, day: str, rate: Rate = RATE, name: str = "cny-hkd") -> bytes:
    body = {
        "day": day,
        "policy": name,
        "rate": {"denominator": rate.denominator, "numerator": rate.numerator},
    }
    return flow.hub.call("rates.load", encode(body))


def test_a_firm_quote_is_held_against_the_last_rate(flow: Flow) -> None:
    load(flow, "2026-02-02", hkd(90000))
    flow.instruct(signed(_rate(hkd(90800))(instruction())))
    not_taken(flow, signed(_rate(hkd(89000))(instruction("two"))), Reason.RATE_COLLAR)


def test_a_firm_quote_needs_a_last_rate_that_is_not_old(flow: Flow) -> None:
    load(flow, "2026-01-28")
    flow.instruct(signed())
    flow.at(NOW + DAY)
    fresh = quote(id="q-two", expires=NOW + DAY + 60)
    not_taken(flow, signed(instruction("two", quote=fresh)), Reason.RATE_STALE)


def test_loaded_rates_ascend_within_the_collar(flow: Flow) -> None:
    first = load(flow, "2026-01-29")
    assert load(flow, "2026-01-29") == first
    for day, rate, reason in (
        ("2026-01-28", RATE, Reason.CONFLICT),
        ("2026-01-29", hkd(89512), Reason.CONFLICT),
        ("2026-01-30", hkd(95000), Reason.RATE_COLLAR),
        ("2026-02-03", RATE, Reason.RATE_STALE),
        ("2026-02", RATE, Reason.MALFORMED),
        ("2026-02-30", RATE, Reason.MALFORMED),
    ):
        with pytest.raises(LianqiaoError) as err:
            load(flow, day, rate)
        assert err.value.reason is reason, day
    load(flow, "2026-01-30", hkd(89600))


def fixing(flow: Flow, mode: str = "fixing", days: int = 5) -> None:
    flow.hub.call(
        "rates.policy",
        encode(policy(name="fix", mode=mode, source="PBOC", max_age_days=days)),
    )


def at_fixing(day: str, name: str = "one", mode: Mode = Mode.FIXING, **changes: Any) -> Any:
    offer = quote(id=f"q-{name}", mode=mode, policy="fix", source="PBOC", day=day, **changes)
    return signed(instruction(name, quote=offer))


def test_a_fixing_is_the_rate_of_its_day(flow: Flow) -> None:
    fixing(flow)
    load(flow, "2026-01-28", hkd(89000), "fix")
    load(flow, "2026-01-30", RATE, "fix")
    not_taken(flow, at_fixing("2026-01-28"), Reason.RATE_INVALID)
    not_taken(flow, at_fixing("2026-01-29"), Reason.RATE_NOT_FOUND)
    not_taken(flow, at_fixing("2026-01"), Reason.MALFORMED)
    flow.instruct(at_fixing("2026-01-30"))
    flow.at(NOW + 3 * DAY)
    not_taken(flow, at_fixing("2026-01-30", "two", expires=NOW + 4 * DAY), Reason.RATE_STALE)


def test_a_factor_is_of_its_month(flow: Flow) -> None:
    fixing(flow, "factor", 31)
    load(flow, "2026-01", hkd(89000), "fix")
    load(flow, "2026-02", RATE, "fix")
    assert (len(flow.hub.keys("factor/")), flow.hub.keys("rate/")) == (2, [])
    not_taken(flow, at_fixing("2026-01", mode=Mode.FACTOR), Reason.RATE_INVALID)
    not_taken(flow, at_fixing("2026-02-01", mode=Mode.FACTOR), Reason.MALFORMED)
    flow.instruct(at_fixing("2026-02", mode=Mode.FACTOR))
    flow.at(NOW + 31 * DAY)
    late = at_fixing("2026-02", "two", mode=Mode.FACTOR, expires=NOW + 32 * DAY)
    not_taken(flow, late, Reason.RATE_STALE)


def test_rate_policies_are_versions_in_force_by_date(flow: Flow) -> None:
    flow.hub.call("rates.policy", encode(policy(version=2, effective_from=NOW + 60, collar=0)))
    assert policy_at(flow.hub, "cny-hkd", NOW).version == 1
    assert policy_at(flow.hub, "cny-hkd", NOW + 60).version == 2
    flow.hub.call("rates.policy", encode(policy(name="to-come", effective_from=NOW + 60)))
    for name in ("to-come", "unknown"):
        with pytest.raises(NotFound) as none:
            policy_at(flow.hub, name, NOW + 59)
        assert none.value.reason is Reason.POLICY_NOT_FOUND
    for changes, reason in (
        ({"version": 2, "effective_from": NOW + 60, "collar": 1}, Reason.PATH_WRITTEN),
        ({"version": 4, "effective_from": NOW + 60}, Reason.CONFLICT),
        ({"version": 3, "effective_from": NOW}, Reason.CONFLICT),
        ({"version": 0}, Reason.MALFORMED),
        ({"version": 3, "provenance": ""}, Reason.MALFORMED),
        ({"bill": "CNH"}, Reason.CURRENCY_UNKNOWN),
        ({"mode": "guess"}, Reason.MALFORMED),
    ):
        with pytest.raises(LianqiaoError) as err:
            flow.hub.call("rates.policy", encode(policy(**changes)))
        assert err.value.reason is reason, changes
    flow.instruct(signed())
    flow.at(NOW + 60)
    not_taken(flow, signed(instruction("two")), Reason.UNSUPPORTED_VERSION)


def test_currencies_without_or_with_three_digits() -> None:
    """1 000 JPY bill and KWD: exponents 0 and 3 in one conversion."""
    accounts = {
        HK: {"insurer": ("KWD", "hk-insurer", INSURER), "maker-hkd": ("KWD", "maker-1", MAKER)},
        SZ: {"maker-cny": ("JPY", "maker-1", MAKER), "hospital": ("JPY", "h", STRANGER)},
    }
    flow = Flow(accounts=accounts)
    rate = Rate(1, 490)
    pair = policy(
        bill="JPY", payable="KWD", name="jpy-kwd", reference={"denominator": 490, "numerator": 1}
    )
    flow.hub.call("rates.policy", encode(pair))
    due = convert(1000, "JPY", "KWD", rate)
    assert due.amount == 2041  # 2.040816… KWD
    offer = replace(
        quote(id="q-one"), policy="jpy-kwd", bill=Money("JPY", 1000),
        payable=Money("KWD", due.amount), rate=rate, residue=due.residue,
    )  # fmt: skip
    base = instruction()
    legs = (
        replace(base.legs[0], currency="KWD", amount=due.amount),
        replace(base.legs[1], currency="JPY", amount=1000),
    )
    flow.instruct(signed(replace(base, quote=offer, legs=legs)))
    flow.settle()
    check_end(flow)
    assert find_settlement(flow.hub, ONE).status is SettlementStatus.SETTLED


# --- returns


def returned(name: str = "back", bill: int = BILL, **changes: Any) -> SignedInstruction:
    """The hospital gives back what it got, the maker to the insurer."""
    base = instruction(name, bill=bill)
    pay, due = base.legs
    legs = (
        replace(pay, debtor=pay.creditor, creditor=pay.debtor),
        replace(due, debtor=due.creditor, creditor=due.debtor),
    )
    made = replace(base, legs=legs, returns=uetr("one"), **changes)
    return signed(made, owners={(HK, "maker-hkd"): MAKER})


def test_a_settlement_is_given_back_once_at_the_rate_of_then(flow: Flow) -> None:
    before = flow.balances()
    not_taken(flow, returned(), Reason.NOT_FOUND)
    flow.instruct(signed())
    not_taken(flow, returned(), Reason.SETTLEMENT_DECIDED)
    flow.settle()
    not_taken(flow, returned(bill=BILL + 1), Reason.AMOUNT_INVALID)
    back = returned().instruction
    for changed, reason in (
        (_rate(hkd(89600))(back), Reason.RATE_INVALID),
        (_leg(1, creditor="another")(back), Reason.PARTY_INVALID),
    ):
        not_taken(flow, signed(changed), reason)
    flow.instruct(returned())
    not_taken(flow, returned("again"), Reason.SETTLEMENT_DECIDED)
    flow.settle()
    check_end(flow)
    assert flow.balances() == before
    not_taken(flow, returned("again"), Reason.SETTLEMENT_DECIDED)


def test_nobody_is_given_back_more_than_he_paid() -> None:
    """Of two who shared the bill: what one had too much the other could never get any more."""
    flow = Flow(ledgers=(HK, SZ, MO))
    flow.instruct(signed(shared_bill("one", part=50_000)))
    flow.settle()

    def back(part: int) -> SignedInstruction:
        base = shared_bill("back", part=part, returns=uetr("one"))
        legs = tuple(replace(one, debtor=one.creditor, creditor=one.debtor) for one in base.legs)
        owners = {(HK, "maker-hkd"): MAKER, (MO, "maker-mo"): MAKER, (SZ, "hospital"): HOSPITAL}
        return signed(replace(base, legs=legs), owners=owners)

    for part in (50_001, 49_999):
        not_taken(flow, back(part), Reason.AMOUNT_INVALID)
    flow.instruct(back(50_000))
    flow.settle()
    check_end(flow)


def test_a_return_that_came_to_nothing_may_be_tried_again(flow: Flow) -> None:
    flow.instruct(signed())
    flow.settle()
    flow.instruct(returned())
    flow.at(EXPIRES)
    flow.expire(flow.hub, 4)
    flow.settle()
    assert find_settlement(flow.hub, digest("settlement back")).decision is not None
    late = quote(id="q-again", expires=EXPIRES + 60)
    again = returned("again").instruction
    flow.instruct(signed(replace(again, quote=late, deadline=late.expires)))
    flow.settle()
    check_end(flow)


def test_fees_are_postings_of_their_own_and_legs_may_be_many(flow: Flow) -> None:
    base = instruction(fee=500)
    pay, due = base.legs
    legs = (
        replace(pay, amount=100_000, fee=Fee("hk-fees", 300)),
        replace(pay, amount=pay.amount - 100_000, fee=Fee("hk-fees", 200)),
        due,
    )
    flow.instruct(signed(replace(base, legs=legs)))
    assert len(flow.hub.sent) == 2
    flow.settle()
    assert {leg.side for leg in legs} == set(Side)
    kinds = [
        body["entry"]
        for key in flow.money[HK].keys("line/insurer/")
        if isinstance(body := decode(flow.money[HK].written[key.encode()]), dict)
    ]
    assert kinds == ["deposit", "lock", "principal", "fee", "principal", "fee"]


# --- what a ledger answers to a decision


def test_what_a_ledger_has_done_with_a_decision_is_read_from_its_own_answer() -> None:
    commit, abort = decision(Ruling.COMMIT), decision(Ruling.ABORT)
    good = DecisionAnswer(HK, ONE, Ended.RELEASED, NOW)
    assert read_done(HK, commit, good.encode()) == good
    for told, given in (
        (commit, replace(good, ledger=SZ)),
        (commit, replace(good, settlement=digest("x"))),
        (commit, replace(good, ended=Ended.REFUNDED)),
        (commit, replace(good, ended=Ended.NOTHING)),
        (abort, good),
    ):
        assert read_done(HK, told, given.encode()) is None
    for raw in (ERROR_ACKNOWLEDGEMENT, b"", b"{}"):
        assert read_done(HK, commit, raw) is None


def test_what_is_done_is_done_once(flow: Flow) -> None:
    flow.instruct(signed())
    flow.settle()
    before = dict(flow.hub.written)
    flow.at(NOW + 9)
    for packet in flow.hub.sent[-2:]:  # the two notices of the decision, delivered again
        there = flow.money[flow.hub.peers[packet.source_client].chain_id]
        flow.hub.end(packet, there.receive(packet, flow.hub.entries(packet)))
    assert flow.hub.written == before


def test_a_rate_policy_is_for_one_pair_of_currencies(flow: Flow) -> None:
    for changes in ({"bill": Money("USD", BILL)}, {"payable": Money("MOP", BILL)}):
        with pytest.raises(LianqiaoError) as err:
            check_rate(flow.hub, replace(quote(), **changes), NOW)
        assert err.value.reason is Reason.CURRENCY_MISMATCH
    check_rate(flow.hub, quote(), NOW)
