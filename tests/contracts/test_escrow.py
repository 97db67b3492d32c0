"""What a money ledger does for its owners, and what it refuses whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import Json, decode, encode
from relay.contracts.accounts import find_terms
from relay.contracts.escrow import find_held, last_line, nostro, pay_out, suspense
from relay.contracts.payloads import (
    DecisionNotice,
    Fee,
    Instruction,
    Leg,
    Lock,
    LockAnswer,
    Money,
    Ruling,
    SettlementDecision,
    SignedInstruction,
    decision_key,
)
from relay.contracts.settlement import find_decision, find_settlement
from relay.contracts.undelivered import payload_for
from relay.errors import Invalid, LianqiaoError, Reason, Refused
from relay.money import MAX_AMOUNT
from relay.packet import Packet, Payload
from relay.paths import record_path
from tests.contracts.ledger import Ledger
from tests.contracts.money_flow import PLENTY, Flow, audited, check, check_end, terms
from tests.contracts.money_world import (
    BILL,
    EXPIRES,
    HK,
    HOSPITAL,
    HUB,
    INSURER,
    MAKER,
    STRANGER,
    SZ,
    decision,
    instruction,
    quote,
    signed,
    withdrawal,
)
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refused

ONE = instruction().settlement
COSIGNER = {"keys": [STRANGER.dated()], "officer": "sz-officer", "role": "officer"}


@pytest.fixture
def flow() -> Flow:
    return Flow()


def call(ledger: Ledger, method: str, body: Json) -> Any:
    return decode(ledger.call(method, encode(body)))


def not_done(ledger: Ledger, method: str, body: Json, reason: Reason) -> None:
    before = dict(ledger.written)
    refused(reason, ledger.call, method, encode(body))
    assert ledger.written == before


# --- accounts and money on and off the ledger


def deposit(**changes: Any) -> dict[str, Any]:
    base = {"account": "hospital", "amount": 500, "currency": "CNY", "reference": "ab" * 32}
    return {**base, **changes}


def test_a_deposit_is_posted_once(flow: Flow) -> None:
    sz = flow.money[SZ]
    first = call(sz, "deposit", deposit())
    flow.at(NOW + 5)
    assert call(sz, "deposit", deposit()) == first
    assert last_line(sz, "hospital").balance == PLENTY + 500
    assert last_line(sz, nostro("CNY")).balance == -2 * PLENTY - 500
    not_done(sz, "deposit", deposit(amount=501), Reason.REQUEST_ID_REUSED)
    check(flow)


def test_what_another_program_has_paid_out_is_posted_once(flow: Flow) -> None:
    """For books that are kept on an EVM chain: it has checked who asked, and nothing else."""
    sz = flow.money[SZ]
    first = pay_out(encode(deposit()), sz, NOW)
    assert pay_out(encode(deposit()), sz, NOW + 5) == first
    assert last_line(sz, "hospital").balance == PLENTY - 500
    for changes, reason in (
        ({"amount": 501}, Reason.REQUEST_ID_REUSED),
        ({"currency": "HKD", "reference": "cd" * 32}, Reason.CURRENCY_MISMATCH),
        ({"amount": PLENTY, "reference": "cd" * 32}, Reason.FUNDS_MISSING),
        ({"account": "nobody", "reference": "cd" * 32}, Reason.ACCOUNT_NOT_FOUND),
    ):
        refused(reason, pay_out, encode(deposit(**changes)), sz, NOW)
    assert last_line(sz, "hospital").balance == PLENTY - 500
    check(flow)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": 0}, Reason.AMOUNT_INVALID),
        ({"amount": -1}, Reason.AMOUNT_INVALID),
        ({"amount": MAX_AMOUNT - 2 * PLENTY + 1}, Reason.AMOUNT_INVALID),
        ({"account": "nobody"}, Reason.ACCOUNT_NOT_FOUND),
        ({"account": "nostro:CNY"}, Reason.ACCOUNT_NOT_FOUND),
        ({"currency": "HKD"}, Reason.CURRENCY_MISMATCH),
        ({"currency": "CNH"}, Reason.CURRENCY_UNKNOWN),
        ({"reference": "ab"}, Reason.MALFORMED),
    ],
)
def test_bad_deposits(flow: Flow, changes: dict[str, Any], reason: Reason) -> None:
    not_done(flow.money[SZ], "deposit", deposit(**changes), reason)


def test_all_money_there_can_be(flow: Flow) -> None:
    """The last minor unit that fits; then no credit can ever pass the greatest amount."""
    call(flow.money[SZ], "deposit", deposit(amount=MAX_AMOUNT - 2 * PLENTY))
    not_done(
        flow.money[SZ], "deposit", deposit(amount=1, reference="cd" * 32), Reason.AMOUNT_INVALID
    )
    check(flow)


def test_a_withdrawal_is_signed_and_paid_once(flow: Flow) -> None:
    sz = flow.money[SZ]
    body: Json = {"withdrawal": withdrawal().to_json()}
    first = call(sz, "withdraw", body)
    assert call(sz, "withdraw", body) == first
    assert last_line(sz, "hospital").balance == PLENTY - BILL
    other: Json = {"withdrawal": withdrawal(amount=1).to_json()}
    not_done(sz, "withdraw", other, Reason.REQUEST_ID_REUSED)
    check(flow)


@pytest.mark.parametrize(
    ("by", "changes", "reason"),
    [
        (STRANGER, {}, Reason.UNKNOWN_SIGNER),
        (MAKER, {}, Reason.UNKNOWN_SIGNER),
        (HOSPITAL, {"ledger": HK}, Reason.CHAIN_ID_MISMATCH),
        (HOSPITAL, {"account": "nobody"}, Reason.ACCOUNT_NOT_FOUND),
        (HOSPITAL, {"amount": PLENTY + 1}, Reason.FUNDS_MISSING),
        (HOSPITAL, {"amount": 0}, Reason.AMOUNT_INVALID),
        (HOSPITAL, {"currency": "HKD"}, Reason.CURRENCY_MISMATCH),
        (HOSPITAL, {"time": NOW - DAY}, Reason.TIMEOUT_ELAPSED),
        (HOSPITAL, {"time": NOW + 601}, Reason.TIMEOUT_ELAPSED),
    ],
)
def test_bad_withdrawals(flow: Flow, by: Any, changes: dict[str, Any], reason: Reason) -> None:
    body: Json = {"withdrawal": withdrawal(by, **changes).to_json()}
    not_done(flow.money[SZ], "withdraw", body, reason)


def test_an_altered_withdrawal_is_not_signed(flow: Flow) -> None:
    body: Json = {"withdrawal": replace(withdrawal(), amount=1).to_json()}
    not_done(flow.money[SZ], "withdraw", body, Reason.INVALID_SIGNATURE)


def test_what_is_held_cannot_be_withdrawn(flow: Flow) -> None:
    flow.instruct(signed())
    flow.receive(flow.hub, 1)
    all_of_it = withdrawal(MAKER, account="maker-cny", amount=PLENTY)
    not_done(flow.money[SZ], "withdraw", {"withdrawal": all_of_it.to_json()}, Reason.FUNDS_MISSING)
    rest = withdrawal(MAKER, account="maker-cny", amount=PLENTY - BILL)
    call(flow.money[SZ], "withdraw", {"withdrawal": rest.to_json()})
    flow.settle()
    check_end(flow)
    assert flow.balance(SZ, "maker-cny") == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 3}, Reason.CONFLICT),
        ({"version": 2, "owner": "another"}, Reason.PARTY_INVALID),
        ({"version": 2, "currency": "HKD"}, Reason.CURRENCY_MISMATCH),
        ({"version": 1, "closed": True}, Reason.ACCOUNT_CLOSED),
        ({"version": 2, "closed": True}, Reason.ACCOUNT_CLOSED),
        ({"account": "fresh", "currency": "USD"}, Reason.CURRENCY_MISMATCH),
        ({"account": "nostro:CNY"}, Reason.MALFORMED),
        ({"limits": {"daily": -1}}, Reason.MALFORMED),
        ({"keys": [{**HOSPITAL.dated(), "key": "00" * 32}]}, Reason.WEAK_KEY),
        ({"cosigners": [COSIGNER, COSIGNER]}, Reason.MALFORMED),
    ],
)
def test_bad_terms(flow: Flow, changes: dict[str, Any], reason: Reason) -> None:
    given = {"version": 1, **changes}
    account, code = given.pop("account", "hospital"), given.pop("currency", "CNY")
    owner = given.pop("owner", "sz-hospital")
    body = terms(account, code, owner, HOSPITAL, **given)
    not_done(flow.money[SZ], "account.open", body, reason)


def test_an_account_keeps_its_currency(flow: Flow) -> None:
    """Also where the ledger keeps accounts in both; a relay knows nothing of what it keeps."""
    call(flow.money[SZ], "currency.open", {"currency": "HKD"})
    body = terms("hospital", "HKD", "sz-hospital", HOSPITAL, 2)
    not_done(flow.money[SZ], "account.open", body, Reason.CURRENCY_MISMATCH)
    told = {**body, "ledger": SZ}
    not_done(flow.hub, "account.register", told, Reason.CURRENCY_MISMATCH)


@pytest.mark.parametrize(
    ("account", "version", "following", "does"),
    [("hospital", 3, 2, "accounts change"), ("fresh", 2, 1, "accounts open")],
)
def test_a_version_out_of_order_is_told_the_next_one(
    flow: Flow, account: str, version: int, following: int, does: str
) -> None:
    body = terms(account, "CNY", "sz-hospital", HOSPITAL, version)
    said = f"the next version of this account is {following}"
    call_open = flow.money[SZ].call
    error = refused(Reason.CONFLICT, call_open, "account.open", encode(body), said=said)
    assert does in error.hint


def test_a_currency_opens_once(flow: Flow) -> None:
    body = {"currency": "CNY"}
    first = call(flow.money[SZ], "currency.open", body)
    flow.at(NOW + 5)
    assert call(flow.money[SZ], "currency.open", body) == first


def test_the_same_terms_again_are_nothing_new(flow: Flow) -> None:
    sz = flow.money[SZ]
    size = len(sz.written)
    sz.call("account.open", encode(terms("hospital", "CNY", "sz-hospital", HOSPITAL)))
    assert len(sz.written) == size
    sz.call("account.open", encode(terms("hospital", "CNY", "sz-hospital", STRANGER, 2)))
    found = find_terms(sz, "hospital")
    assert found is not None
    assert found.version == 2


# --- locks: everything is checked here again, whatever the relay says


def lock_packet(given: SignedInstruction, relay: str = HUB, ledger: str = HK) -> Payload:
    return payload_for("escrow", "settlement", Lock(relay, ledger, given).encode())


def ask(flow: Flow, payload: Payload, ledger: str = HK, sequence: int = 90) -> bytes:
    """A relay sends whatever it likes."""
    there = flow.money[ledger]
    [(client, peer)] = there.peers.items()
    packet = Packet(sequence, peer.counterparty, client, NOW + 3600, (payload,))
    return there.receive(packet)


def locks(flow: Flow, given: SignedInstruction, ledger: str = HK) -> Reason | None:
    """Why a lock is refused, which then leaves nothing; None where it was made."""
    before = dict(flow.money[ledger].written)
    answer = LockAnswer.decode(ask(flow, lock_packet(given, ledger=ledger), ledger))
    assert answer.settlement == given.instruction.settlement
    if answer.reason is not None:
        assert flow.money[ledger].written == before
    audited(flow.money[ledger])
    return answer.reason


def _leg(number: int, **changes: Any) -> Callable[[Instruction], Instruction]:
    def change(given: Instruction) -> Instruction:
        legs = list(given.legs)
        legs[number] = replace(legs[number], **changes)
        return replace(given, legs=tuple(legs))

    return change


def _quote(**changes: Any) -> Callable[[Instruction], Instruction]:
    def change(given: Instruction) -> Instruction:
        offer = replace(given.quote, **changes)
        return replace(given, quote=offer, deadline=offer.expires)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda i: i, None),
        (lambda i: replace(i, relay="hub-2"), Reason.CHAIN_ID_MISMATCH),
        (lambda i: replace(i, rounding="down-1"), Reason.UNSUPPORTED_VERSION),
        (lambda i: replace(i, window="w-1"), Reason.WINDOW_CLOSED),
        (_quote(expires=NOW), Reason.QUOTE_EXPIRED),
        (_quote(payable=Money("HKD", 139_151)), Reason.RATE_INVALID),
        (_quote(residue=quote(7).residue), Reason.RATE_INVALID),
        (_quote(maker="another"), Reason.QUOTE_FOREIGN),
        (_leg(0, amount=1), Reason.AMOUNT_INVALID),
        (_leg(1, amount=1), Reason.AMOUNT_INVALID),
        (_leg(1, currency="HKD"), Reason.CURRENCY_MISMATCH),
        (_leg(0, debtor="nobody"), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, creditor="nobody"), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, creditor="nostro:HKD"), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, debtor="suspense:HKD"), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, creditor="hk-fees"), Reason.QUOTE_FOREIGN),
        (_leg(0, ledger="elsewhere"), Reason.CHAIN_ID_MISMATCH),
        (_leg(0, fee=Fee("nobody", 5)), Reason.ACCOUNT_NOT_FOUND),
        (_leg(0, fee=Fee("hk-fees", 5)), None),
    ],
)
def test_what_a_relay_may_not_ask_for(
    flow: Flow, change: Callable[[Instruction], Instruction], reason: Reason | None
) -> None:
    strangers = (HK, "nobody"), (HK, "suspense:HKD"), ("elsewhere", "insurer")
    given = signed(change(instruction()), owners=dict.fromkeys(strangers, STRANGER))
    assert locks(flow, given) is reason


def test_nobody_else_debits_an_account(flow: Flow) -> None:
    assert locks(flow, signed(owners={(HK, "insurer"): STRANGER})) is Reason.UNKNOWN_SIGNER
    assert locks(flow, signed(owners={(HK, "insurer"): MAKER})) is Reason.UNKNOWN_SIGNER
    good, other = signed(), signed(instruction("two"))
    moved = replace(good, signatures=other.signatures)
    assert locks(flow, moved) is Reason.INVALID_SIGNATURE
    # The other debtor's signature is the other ledger's to judge.
    assert locks(flow, signed(owners={(SZ, "maker-cny"): STRANGER})) is None


def test_a_closed_account_locks_nothing(flow: Flow) -> None:
    empty = Flow(funds={"maker-hkd": 0})
    closed = terms("maker-hkd", "HKD", "maker-1", MAKER, 2, closed=True)
    empty.money[HK].call("account.open", encode(closed))
    assert locks(empty, signed()) is Reason.ACCOUNT_CLOSED
    not_done(
        empty.money[HK],
        "deposit",
        {"account": "maker-hkd", "amount": 1, "currency": "HKD", "reference": "ab" * 32},
        Reason.ACCOUNT_CLOSED,
    )


def test_principal_and_fee_must_be_free(flow: Flow) -> None:
    due = instruction().legs[0].amount
    assert locks(Flow(funds={"insurer": due + 499}), signed(instruction(fee=500))) is (
        Reason.FUNDS_MISSING
    )
    exact = Flow(funds={"insurer": due + 500})
    assert locks(exact, signed(instruction(fee=500))) is None
    assert last_line(exact.money[HK], "insurer").free == 0


def _shared(first: Leg, second: Leg) -> SignedInstruction:
    """Two accounts pay the bill's price together, or one in two parts."""
    given = instruction()
    return signed(
        replace(given, legs=(first, second, given.legs[1])), owners={(HK, "hk-fees"): INSURER}
    )


def test_what_one_account_lacks_holds_nothing_of_another() -> None:
    """A refused lock is an answer, so nothing undoes what it has written."""
    pay = instruction().legs[0]
    half = pay.amount // 2
    parts = replace(pay, debtor="hk-fees", amount=half), replace(pay, amount=pay.amount - half)
    for funds, reason in (
        ({"insurer": pay.amount - half - 1}, Reason.FUNDS_MISSING),
        ({"hk-fees": half - 1}, Reason.FUNDS_MISSING),
        ({"insurer": pay.amount - half, "hk-fees": half}, None),
    ):
        assert locks(Flow(funds=funds), _shared(*parts)) is reason


def test_more_of_one_account_than_there_is_money(flow: Flow) -> None:
    pay = instruction().legs[0]
    half = pay.amount // 2
    one = replace(pay, amount=half, fee=Fee("hk-fees", MAX_AMOUNT - half))
    assert locks(flow, _shared(one, replace(pay, amount=pay.amount - half))) is (
        Reason.AMOUNT_INVALID
    )


def test_a_quote_serves_once_whichever_relay_asks(flow: Flow) -> None:
    assert locks(flow, signed()) is None
    again = instruction("two", quote=quote(id="q-one"))
    assert locks(flow, signed(again)) is Reason.QUOTE_USED
    other = quote(id="q-one", maker="maker-2")
    assert locks(flow, signed(instruction("three", quote=other))) is Reason.QUOTE_FOREIGN


def test_a_lock_again_is_one_lock_and_another_under_its_id_is_refused(flow: Flow) -> None:
    given = signed()
    assert locks(flow, given) is None
    before = dict(flow.money[HK].written)
    assert locks(flow, given) is None
    assert flow.money[HK].written == before
    other = replace(instruction("two"), settlement=ONE)
    assert locks(flow, signed(other)) is Reason.REQUEST_ID_REUSED


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (lock_packet(signed(), relay="hub-2"), Reason.COUNTERPARTY_MISMATCH),
        (lock_packet(signed(), ledger=SZ), Reason.CHAIN_ID_MISMATCH),
        (replace(lock_packet(signed()), source_port="recognition"), Reason.COUNTERPARTY_MISMATCH),
        (replace(lock_packet(signed()), version="escrow-2"), Reason.UNSUPPORTED_VERSION),
        (replace(lock_packet(signed()), value=b'{"type":"gift"}'), Reason.MALFORMED),
        (replace(lock_packet(signed()), value=b"{"), Reason.MALFORMED),
    ],
)
def test_what_should_not_have_been_sent_is_an_error(
    flow: Flow, payload: Payload, reason: Reason
) -> None:
    before = dict(flow.money[HK].written)
    with pytest.raises(LianqiaoError) as err:
        ask(flow, payload)
    assert err.value.reason is reason
    assert flow.money[HK].written == before


# --- decisions: the record, and nothing but the record


def tell(
    flow: Flow, told: SettlementDecision, shown: SettlementDecision | None, ledger: str = HK
) -> bytes:
    there = flow.money[ledger]
    [(client, peer)] = there.peers.items()
    payload = payload_for("escrow", "settlement", DecisionNotice(ledger, told).encode())
    packet = Packet(91, peer.counterparty, client, NOW + 3600, (payload,))
    path = record_path("settlement", decision_key(told.settlement))
    return there.receive(packet, {} if shown is None else {path: shown.encode()})


def test_a_decision_is_believed_by_its_proven_record_alone(flow: Flow) -> None:
    assert locks(flow, signed()) is None
    commit, abort = decision(Ruling.COMMIT), decision(Ruling.ABORT)
    before = dict(flow.money[HK].written)
    with pytest.raises(Refused) as missing:
        tell(flow, commit, None)
    assert missing.value.reason is Reason.ENTRY_MISSING
    for told, shown in (
        (commit, abort),
        (abort, commit),
        (commit, replace(commit, decided=NOW + 1)),
        (replace(commit, digest=digest("x")), replace(commit, digest=digest("x"))),
    ):
        with pytest.raises(Invalid) as err:
            tell(flow, told, shown)
        assert err.value.reason is Reason.DECISION_MISMATCH
    assert flow.money[HK].written == before
    tell(flow, commit, commit)
    assert flow.balance(HK, "maker-hkd") == PLENTY + instruction().legs[0].amount
    with pytest.raises(Invalid) as second:
        tell(flow, abort, abort)
    assert second.value.reason is Reason.DECISION_MISMATCH
    audited(flow.money[HK])


def test_a_decision_ends_what_its_own_relay_locked_and_no_other() -> None:
    flow = Flow(relays=(HUB, "hub-2"))
    hk = flow.money[HK]
    flow.instruct(signed())
    flow.receive(flow.hub, 0)
    told = decision(Ruling.ABORT)
    path = record_path("settlement", decision_key(ONE))
    locked = dict(hk.written)
    for by, ledger, port, reason in (
        ("hub-2", HK, "settlement", Reason.COUNTERPARTY_MISMATCH),
        (HUB, SZ, "settlement", Reason.CHAIN_ID_MISMATCH),
        (HUB, HK, "recognition", Reason.COUNTERPARTY_MISMATCH),
    ):
        [(client, peer)] = [(c, p) for c, p in hk.peers.items() if p.chain_id == by]
        payload = payload_for("escrow", port, DecisionNotice(ledger, told).encode())
        packet = Packet(91, peer.counterparty, client, NOW + 3600, (payload,))
        with pytest.raises(Invalid) as err:
            hk.receive(packet, {path: told.encode()})
        assert err.value.reason is reason
        assert hk.written == locked


def test_nothing_is_committed_that_was_not_locked_here(flow: Flow) -> None:
    commit = decision(Ruling.COMMIT)
    with pytest.raises(Invalid) as err:
        tell(flow, commit, commit)
    assert err.value.reason is Reason.DECISION_MISMATCH
    assert locks(flow, signed()) is None
    other = replace(commit, answers=commit.answers[1:])
    with pytest.raises(Invalid) as err:
        tell(flow, other, other)
    assert err.value.reason is Reason.DECISION_MISMATCH


def test_after_an_abort_nothing_can_be_locked(flow: Flow) -> None:
    abort = decision(Ruling.ABORT)
    body = decode(tell(flow, abort, abort))
    assert isinstance(body, dict)
    assert body["ended"] == "nothing"
    assert locks(flow, signed()) is Reason.SETTLEMENT_DECIDED


def test_a_lock_is_answered_as_before_until_it_is_given_back(flow: Flow) -> None:
    assert locks(flow, signed()) is None
    abort = decision(Ruling.ABORT)
    tell(flow, abort, abort)
    before = dict(flow.money[HK].written)
    assert locks(flow, signed()) is Reason.SETTLEMENT_DECIDED
    assert flow.money[HK].written == before


def test_locks_never_end_by_time(flow: Flow) -> None:
    flow.instruct(signed())
    flow.receive(flow.hub, 0)
    flow.at(NOW + 400 * DAY)
    flow.money[HK].call("deposit", encode(deposit(account="insurer", currency="HKD")))
    assert last_line(flow.money[HK], "insurer").held == instruction().legs[0].amount
    check(flow)


def test_an_account_closed_meanwhile_is_paid_into_suspense(flow: Flow) -> None:
    flow = Flow(funds={"hospital": 0})
    flow.instruct(signed())
    for index in (0, 1):
        flow.receive(flow.hub, index)
        flow.acknowledge(flow.hub, index)
    sz = flow.money[SZ]
    sz.call(
        "account.open", encode(terms("hospital", "CNY", "sz-hospital", HOSPITAL, 2, closed=True))
    )
    flow.settle()
    assert last_line(sz, suspense("CNY")).balance == BILL
    assert find_settlement(flow.hub, ONE).closed
    check_end(flow)
    # The operator assigns it to another account of whom it is due to.
    sz.call("account.open", encode(terms("hospital-2", "CNY", "sz-hospital", HOSPITAL)))
    not_done(sz, "assign", deposit(amount=BILL), Reason.ACCOUNT_CLOSED)
    flow.accounts = {
        **flow.accounts,
        SZ: {**flow.accounts[SZ], "hospital-2": ("CNY", "h", HOSPITAL)},
    }
    body = deposit(account="hospital-2", amount=BILL)
    not_done(sz, "assign", {**body, "amount": BILL + 1}, Reason.FUNDS_MISSING)
    first = call(sz, "assign", body)
    assert call(sz, "assign", body) == first
    assert last_line(sz, suspense("CNY")).balance == 0
    assert last_line(sz, "hospital-2").balance == BILL
    check(flow)


# --- the audit finds what it should


def test_the_audit_finds_what_was_tampered_with(flow: Flow) -> None:
    flow.instruct(signed(instruction(fee=500)))
    flow.settle()
    hk = flow.money[HK]
    line = next(k for k in hk.written if k.startswith(b"line/maker-hkd/") and b"2" in k[-2:])
    lock = next(k for k in hk.written if k.startswith(b"lock/"))
    end = next(k for k in hk.written if k.startswith(b"ended/"))

    def altered(key: bytes, **changes: Json) -> bytes:
        body = decode(hk.written[key])
        assert isinstance(body, dict)
        return encode({**body, **changes})

    for key, value, wanted in (
        (line, None, "without its twin"),
        (line, altered(line, balance=1), "does not add up"),
        (line, altered(line, amount=1, balance=PLENTY + 1), "without its twin"),
        (line, altered(line, twin=""), "not a posting"),
        (line, altered(line, held=5, hold=5), "holds where it should free"),
        (line, altered(line, reference="ab" * 32), "without its twin"),
        (lock, None, "released by a commit"),
        (lock, altered(lock, movements=[]), "twice or without a lock"),
        (end, None, "locked"),
        (end, altered(end, ended="refunded"), "refunded by a commit"),
        (end, b"{}", "cannot be read"),
    ):
        kept = hk.written[key]
        if value is None:
            del hk.written[key]
        else:
            hk.written[key] = value
        found = "; ".join(hk.contract.audit(hk, HK))  # type: ignore[attr-defined]
        assert wanted in found, (key, found)
        hk.written[key] = kept
    audited(hk)


def test_the_audit_of_a_relay_finds_what_does_not_follow(flow: Flow) -> None:
    flow.instruct(signed())
    flow.settle()
    hub = flow.hub
    made = find_decision(hub, ONE)
    assert made is not None
    key = decision_key(ONE)
    late = replace(made.answers[1], reason=Reason.TIMED_OUT)
    for value, wanted in (
        (replace(made, digest=digest("x")), "what was not accepted"),
        (replace(made, answers=made.answers[:1]), "without every ledger's lock"),
        (replace(made, relay="hub-2"), "another relay"),
        (replace(made, settlement=digest("x"), answers=tuple(
            replace(a, settlement=digest("x")) for a in made.answers)), "another settlement"),
        (replace(made, ruling=Ruling.ABORT, answers=(made.answers[0], late)), "released on"),
    ):  # fmt: skip
        hub.written[key] = value.encode()
        found = "; ".join(hub.contract.audit(hub, HUB))  # type: ignore[attr-defined]
        assert wanted in found, found
    hub.written[key] = made.encode()
    audited(hub)


def test_a_lock_is_to_be_found(flow: Flow) -> None:
    flow.instruct(signed(instruction(fee=500)))
    flow.receive(flow.hub, 0)
    held = find_held(flow.money[HK], HUB, ONE)
    assert held is not None
    assert held.digest == instruction(fee=500).digest
    assert held.uetr == instruction().uetr
    assert [(h.account, h.amount) for h in held.holds] == [("insurer", 139_152 + 500)]
    assert find_held(flow.money[SZ], HUB, ONE) is None
    assert held.time < EXPIRES
