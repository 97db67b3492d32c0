"""The escrow in Solidity beside the one in Python: the same payloads, the same answers."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from adapters.evm.escrow import terms_argument
from relay.canonical import Json, decode, encode
from relay.contracts.escrow import last_line
from relay.contracts.payloads import (
    DecisionNotice,
    Fee,
    Instruction,
    Lock,
    Money,
    OfficerRole,
    Ruling,
    SignedInstruction,
    decision_key,
)
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.contracts.undelivered import payload_for
from relay.errors import LianqiaoError, Reason
from relay.light.keys import SECP256K1_N
from relay.money import MAX_AMOUNT, Residue
from relay.packet import Packet
from relay.paths import record_path
from tests.adapters.evm.ledger import install
from tests.adapters.evm.money import (
    ALL_ACCOUNTS,
    MAKER_K,
    OFFICER_K,
    REGULATOR_K,
    STRANGER_K,
    UNIT,
    MoneyLedger,
    signed_here,
)
from tests.contracts.money_flow import Flow, terms
from tests.contracts.money_world import HK, HUB, MAKER, SZ, decision, examples, instruction, quote
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LATER = NOW + 20 * DAY


def fresh() -> bytes:
    """A name of a movement that none had before."""
    return os.urandom(32)


class Twins:
    """Both escrows of `sz-money`, with the same accounts and funds, asked the same."""

    def __init__(self, evm: MoneyLedger) -> None:
        self.evm = evm
        self.flow = Flow(accounts=ALL_ACCOUNTS)
        self.sz = self.flow.money[SZ]
        ((self.client, self.peer),) = self.sz.peers.items()
        self.sequence = 0

    def open(self, body: dict[str, Any]) -> None:
        self.sz.call("account.open", encode(body))
        self.evm.open(body)

    def packet(self, value: bytes, **changes: Any) -> Packet:
        self.sequence += 1
        payload = replace(payload_for("escrow", "settlement", value), **changes)
        timeout = self.evm.world.clock.now + 3600
        return Packet(self.sequence, self.peer.counterparty, self.client, timeout, (payload,))

    def ask(self, value: bytes, entries: dict[bytes, bytes] | None = None, **changes: Any) -> Any:
        """The answer of both, but for the time; or why both refused to answer."""
        packet, shown = self.packet(value, **changes), entries or {}
        self.flow.at(self.evm.world.clock.now)
        try:
            raw = self.sz.receive(packet, shown)
            here: Any = {**decode(raw), "time": 0}
        except LianqiaoError as err:
            here = err.reason
        there: Any = self.evm.receive(packet, list(shown.items()))
        if isinstance(there, bytes):
            body = decode(there)
            assert isinstance(body, dict)
            assert encode(body) == there
            assert abs(int(str(body["time"])) - self.evm.world.clock.now) < 100 * DAY
            there = {**body, "time": 0}
        else:
            there = Reason(there)
            if there is Reason.MALFORMED and here in FORMS:
                here = Reason.MALFORMED
        assert there == here
        self.same()
        return there

    def lock(self, given: SignedInstruction, **changes: Any) -> Any:
        found = self.ask(Lock(HUB, SZ, given).encode(), **changes)
        return found["reason"] if isinstance(found, dict) else found

    def evm_lock(self, order: Instruction) -> str:
        """The Solidity escrow alone: what depends on its token."""
        packet = self.packet(Lock(HUB, SZ, signed_here(order)).encode())
        return self.evm.try_receive(packet)

    def end(self, ruling: Ruling, given: Instruction, **changes: Any) -> Any:
        made = decision(ruling, given)
        entries = {record_path("settlement", decision_key(given.settlement)): made.encode()}
        found = self.ask(DecisionNotice(SZ, made).encode(), entries, **changes)
        return found["ended"] if isinstance(found, dict) else found

    def same(self) -> None:
        """Both books say the same of every account."""
        there = self.evm.balances()
        for account in self.evm.opened:
            if account == "token":
                continue  # the hostile holder's, which the other escrow has not
            line = last_line(self.sz, account)
            assert there[account] == (line.balance, line.held), account
        self.evm.check_books()


FORMS = {
    Reason.MALFORMED, Reason.LIMIT_EXCEEDED, Reason.UNSUPPORTED_VERSION, Reason.CURRENCY_UNKNOWN,
    Reason.AMOUNT_INVALID, Reason.RATE_INVALID, Reason.PARTY_INVALID, Reason.NOT_CANONICAL,
}  # fmt: skip
"""For which the Python payloads do not decode; in Solidity all of them are MALFORMED."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MoneyLedger]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = MoneyLedger(tmp_path_factory.mktemp("evm"), [SETTLEMENT], now=NOW)
        yield made
        made.close()


@pytest.fixture
def twins(world: MoneyLedger) -> Iterator[Twins]:
    """Both as they were made: the chain is put back, and the other is new."""
    kept, now = world.anvil.ask("evm_snapshot"), world.world.clock.now
    opened = list(world.opened)
    yield Twins(world)
    world.opened = opened
    world.anvil.ask("evm_revert", kept)
    world.world.clock.now = now


def given(name: str = "one", **changes: Any) -> Instruction:
    offer = changes.pop("quote", None) or quote(
        changes.pop("bill", 118_000), id=f"q-{name}", expires=changes.pop("expires", LATER)
    )
    return instruction(name, quote=offer, **changes)


def test_locked_and_released(twins: Twins) -> None:
    order = given()
    assert twins.lock(signed_here(order)) == ""
    assert twins.evm.balances()["maker-cny"][1] == 118_000
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.evm.balances()["maker-cny"][1] == 0
    again = twins.evm.balances()
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.lock(signed_here(order)) == ""
    assert twins.evm.balances() == again


def test_locked_and_refunded(twins: Twins) -> None:
    order = given()
    before = twins.evm.balances()
    assert twins.lock(signed_here(order)) == ""
    assert twins.end(Ruling.ABORT, order) == "refunded"
    assert twins.evm.balances() == before
    assert twins.end(Ruling.ABORT, order) == "refunded"
    assert twins.lock(signed_here(order)) == "SETTLEMENT_DECIDED", "given back is not locked"
    assert twins.evm.balances() == before


def test_what_never_was_locked_can_never_be(twins: Twins) -> None:
    order = given()
    assert twins.end(Ruling.ABORT, order) == "nothing"
    assert twins.lock(signed_here(order)) == "SETTLEMENT_DECIDED"
    other = given("two")
    assert twins.end(Ruling.COMMIT, other) is Reason.DECISION_MISMATCH
    assert twins.lock(signed_here(other)) == ""


def test_a_settlement_is_one_instruction(twins: Twins) -> None:
    assert twins.lock(signed_here(given())) == ""
    other = given("two", expires=LATER + 1)
    same_id = replace(other, settlement=given().settlement)
    assert twins.lock(signed_here(same_id)) == "REQUEST_ID_REUSED"
    assert twins.end(Ruling.COMMIT, same_id) is Reason.DECISION_MISMATCH
    assert twins.end(Ruling.ABORT, same_id) is Reason.DECISION_MISMATCH


def legs(order: Instruction, at: int = 1, **changes: Any) -> Instruction:
    """The leg on the EVM ledger is the second."""
    parts = list(order.legs)
    parts[at] = replace(parts[at], **changes)
    return replace(order, legs=tuple(parts))


def offer(order: Instruction, **changes: Any) -> Instruction:
    return replace(order, quote=replace(order.quote, **changes))


Change = Callable[[Instruction], Instruction]
REFUSED: dict[str, tuple[Change, str]] = {
    "another relay": (lambda o: replace(o, relay="other"), "CHAIN_ID_MISMATCH"),
    "no leg here": (lambda o: legs(o, ledger="mo-money"), "CHAIN_ID_MISMATCH"),
    "a window": (lambda o: replace(o, window="w-1"), "WINDOW_CLOSED"),
    "expired": (lambda o: given(expires=NOW), "QUOTE_EXPIRED"),
    "another rounding": (lambda o: replace(o, rounding="half-even-1"), "UNSUPPORTED_VERSION"),
    "a unit more": (
        lambda o: offer(o, payable=Money("HKD", o.quote.payable.amount + 1)), "RATE_INVALID"),
    "a unit less": (
        lambda o: offer(o, payable=Money("HKD", o.quote.payable.amount - 1)), "RATE_INVALID"),
    "another residue": (lambda o: offer(o, residue=Residue(1, 3)), "RATE_INVALID"),
    "no residue": (lambda o: offer(o, residue=Residue(0, 1)), "RATE_INVALID"),
    "another currency is paid": (lambda o: offer(o, payable=Money("USD", 139152)),
                                 "CURRENCY_MISMATCH"),
    "a currency without cents": (lambda o: offer(o, payable=Money("JPY", 139152)), "RATE_INVALID"),
    "a currency of three digits": (lambda o: offer(o, payable=Money("KWD", 139152)),
                                   "RATE_INVALID"),
    "a leg in another currency": (lambda o: legs(o, currency="USD"), "CURRENCY_MISMATCH"),
    "a leg that pays less": (lambda o: legs(o, amount=117_999), "AMOUNT_INVALID"),
    "a leg that takes more": (lambda o: legs(o, amount=118_001), "AMOUNT_INVALID"),
    "the other leg pays more": (lambda o: legs(o, 0, amount=139_153), "AMOUNT_INVALID"),
    "a debtor who has no account": (lambda o: legs(o, debtor="nobody"), "ACCOUNT_NOT_FOUND"),
    "a payee who has no account": (lambda o: legs(o, creditor="nobody"), "ACCOUNT_NOT_FOUND"),
    "a fee to nobody": (lambda o: legs(o, fee=Fee("nobody", 1)), "ACCOUNT_NOT_FOUND"),
    "suspense is nobody's": (lambda o: legs(o, creditor="suspense:CNY"), "ACCOUNT_NOT_FOUND"),
    "another's quote": (lambda o: offer(o, maker="maker-2"), "QUOTE_FOREIGN"),
    "a return in which the payee is no maker": (
        lambda o: replace(o, returns=o.uetr), "QUOTE_FOREIGN"),
    "more than there is": (lambda o: given(bill=10_000_001_00), "FUNDS_MISSING"),
    "no more than there is but for the fee": (
        lambda o: legs(given(bill=10_000_000_0), fee=Fee("sz-fees", 1)), "FUNDS_MISSING"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_signed_and_cannot_be_locked(twins: Twins, name: str) -> None:
    change, reason = REFUSED[name]
    before = twins.evm.balances()
    order = change(given())
    owners = {(SZ, "nobody"): MAKER_K, ("mo-money", "maker-cny"): MAKER_K}
    assert twins.lock(signed_here(order, owners=owners)) == reason
    assert twins.evm.balances() == before
    assert twins.lock(signed_here(given())) == ""


def test_a_quote_serves_once(twins: Twins) -> None:
    assert twins.lock(signed_here(given())) == ""
    again = replace(given("two"), quote=given().quote)
    assert twins.lock(signed_here(again)) == "QUOTE_USED"
    assert twins.end(Ruling.ABORT, given()) == "refunded"
    assert twins.lock(signed_here(again)) == "QUOTE_USED"
    other = offer(again, maker="maker-2")
    assert twins.lock(signed_here(other)) == "QUOTE_FOREIGN"


def test_who_must_have_signed(twins: Twins) -> None:
    order = given()
    good = signed_here(order)
    one, two = good.signatures
    assert (two.ledger, two.account) == (SZ, "maker-cny")

    def why(**changes: Any) -> Any:
        return twins.lock(replace(good, signatures=(one, replace(two, **changes))))

    assert why(signature=one.signature) == "INVALID_SIGNATURE"
    assert why(signature=bytes(64)) == "INVALID_SIGNATURE"
    assert why(signature=two.signature[:-1]) == "INVALID_SIGNATURE"
    assert why(signature=b"") == "INVALID_SIGNATURE"
    assert why(signature=STRANGER_K.raw(order.signing_bytes())) == "INVALID_SIGNATURE"
    r, s = two.signature[:32], int.from_bytes(two.signature[32:], "big")
    high = r + (SECP256K1_N - s).to_bytes(32, "big")
    assert why(signature=high) == "INVALID_SIGNATURE"
    raw = MAKER_K.raw(order.encode())
    assert why(signature=raw) == "INVALID_SIGNATURE", "without the context tag"
    assert why(key=STRANGER_K.public) == "UNKNOWN_SIGNER"
    assert why(algorithm="p256") == "UNKNOWN_SIGNER"
    assert why(key=MAKER.public, algorithm="ed25519") == "UNKNOWN_SIGNER"
    first = replace(one, signature=bytes(64))
    assert twins.lock(replace(good, signatures=(first, two))) == "", "another ledger's to judge"


def test_keys_have_their_time_and_their_version(twins: Twins) -> None:
    now = twins.evm.world.clock.now
    for version, (start, end) in enumerate([(now + 500, now + 900), (0, now)], 2):
        twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, version,
                         keys=[MAKER_K.dated(start, end)]))  # fmt: skip
        assert twins.lock(signed_here(given())) == "UNKNOWN_SIGNER"
    twins.open(terms("maker-cny", "CNY", "maker-1", STRANGER_K, 4))
    assert twins.lock(signed_here(given())) == "UNKNOWN_SIGNER"
    by_stranger = signed_here(given(), owners={(SZ, "maker-cny"): STRANGER_K})
    assert twins.lock(by_stranger) == ""


OFFICER_TERMS: Json = {"keys": [OFFICER_K.dated()], "officer": "o-1", "role": "officer"}
REGULATOR_TERMS: Json = {"keys": [REGULATOR_K.dated()], "officer": "r-1", "role": "regulator"}


def test_above_a_days_threshold_others_co_sign(twins: Twins) -> None:
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 2, limits={"officer": 150_000},
                     cosigners=[OFFICER_TERMS, REGULATOR_TERMS]))  # fmt: skip
    officer = (OfficerRole.OFFICER, "o-1", OFFICER_K)
    regulator = (OfficerRole.REGULATOR, "r-1", REGULATOR_K)
    assert twins.lock(signed_here(given("one", bill=150_000))) == ""
    order = given("two", bill=1)
    assert twins.lock(signed_here(order)) == "COSIGNATURE_MISSING"
    for wrong in (
        (OfficerRole.OFFICER, "o-2", OFFICER_K),
        (OfficerRole.OFFICER, "o-1", STRANGER_K),
        (OfficerRole.REGULATOR, "o-1", OFFICER_K),
        regulator,
    ):
        assert twins.lock(signed_here(order, cosigners=(wrong,))) == "COSIGNATURE_MISSING"
    good = signed_here(order, cosigners=(officer, regulator))
    stolen = signed_here(given("three", bill=1), cosigners=(officer,)).cosignatures
    assert twins.lock(replace(good, cosignatures=stolen)) == "COSIGNATURE_MISSING"
    assert twins.lock(good) == ""
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 3,
                     limits={"officer": 150_000, "regulator": 160_000},
                     cosigners=[OFFICER_TERMS, REGULATOR_TERMS]))  # fmt: skip
    last = given("four", bill=10_000)
    assert twins.lock(signed_here(last, cosigners=(officer,))) == "COSIGNATURE_MISSING"
    assert twins.lock(signed_here(last, cosigners=(officer, regulator))) == ""


def test_the_owner_is_not_his_own_second_officer(twins: Twins) -> None:
    own: Json = {"keys": [MAKER_K.dated()], "officer": "o-1", "role": "officer"}
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 2, limits={"officer": 1},
                     cosigners=[own]))  # fmt: skip
    mine = (OfficerRole.OFFICER, "o-1", MAKER_K)
    assert twins.lock(signed_here(given(), cosigners=(mine,))) == "COSIGNATURE_MISSING"


def test_limits_of_a_day(twins: Twins) -> None:
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 2,
                     limits={"daily": 200_000, "counterparty": 150_000}))  # fmt: skip
    assert twins.lock(signed_here(given("a", bill=150_000))) == ""
    assert twins.lock(signed_here(given("b", bill=1))) == "LIMIT_REACHED"
    fees = legs(given("c", bill=50_000), creditor="sz-fees")
    assert twins.lock(signed_here(fees)) == ""
    assert twins.lock(signed_here(legs(given("d", bill=1), creditor="sz-fees"))) == "LIMIT_REACHED"
    assert twins.end(Ruling.ABORT, given("a", bill=150_000)) == "refunded"
    assert twins.lock(signed_here(given("e", bill=150_000))) == ""
    twins.evm.world.clock.advance(DAY)
    twins.evm.anvil.mine()
    assert twins.lock(signed_here(given("f", bill=150_000))) == ""
    assert twins.end(Ruling.ABORT, given("e", bill=150_000)) == "refunded"
    assert twins.lock(signed_here(given("g", bill=1))) == "LIMIT_REACHED"


def test_a_fee_counts_for_whose_account_it_goes_to(twins: Twins) -> None:
    limits = {"counterparty": 100_000}
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 2, limits=limits))

    def paying(name: str, fee: int, bill: int = 50_000) -> SignedInstruction:
        base = given(name, bill=bill)
        pay, due = base.legs
        beside = replace(due, fee=Fee("sz-fees", fee))
        return signed_here(replace(base, legs=(pay, replace(beside, creditor="sz-fees"))))

    assert twins.lock(paying("a", 50_001)) == "LIMIT_REACHED"
    first = paying("b", 30_000)
    assert twins.lock(first) == ""
    assert twins.lock(paying("c", 1, bill=20_000)) == "LIMIT_REACHED"
    assert twins.end(Ruling.ABORT, first.instruction) == "refunded"
    assert twins.lock(paying("d", 80_000, bill=20_000)) == ""
    assert twins.lock(signed_here(given("e", bill=100_000))) == "", "for another owner"


def test_several_legs_and_fees(twins: Twins) -> None:
    whole = given("parts")
    pay, due = whole.legs
    parts = (
        replace(due, amount=100_000, fee=Fee("sz-fees", 500)),
        replace(due, amount=18_000, creditor="sz-fees"),
    )
    order = replace(whole, legs=(*parts, pay))
    assert twins.lock(signed_here(order)) == ""
    assert twins.evm.balances()["maker-cny"][1] == 118_500
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.evm.balances()["sz-fees"][0] == 100_000_000 + 18_500
    most = given("most", bill=100_000_000 - 118_500 - 1)
    two = (replace(most.legs[1], amount=1), replace(most.legs[1], amount=most.quote.bill.amount))
    assert twins.lock(signed_here(replace(most, legs=(most.legs[0], *two)))) == "AMOUNT_INVALID"


def test_the_largest_lock_and_its_release_fit(twins: Twins) -> None:
    """An application has 3 million gas: a lock that needs more is refused, a release never may."""
    whole = given("largest", bill=1_500_000)
    pay, due = whole.legs
    fee = Fee("sz-fees", 7)
    parts = [replace(due, amount=100_000, fee=fee) for _ in range(14)]
    names = [f"{i:x}".rjust(64, "z") for i in range(2)]
    for name in names:
        twins.open(terms(name, "CNY", "maker-1", MAKER_K))
    last = replace(due, amount=100_000, creditor=names[0], fee=Fee(names[1], 1))
    order = replace(whole, legs=(pay, *parts, last))
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 2,
                     limits={"officer": 1, "counterparty": 1_500_000, "daily": 2_000_000},
                     cosigners=[OFFICER_TERMS]))  # fmt: skip
    many = tuple((OfficerRole.OFFICER, f"n-{i:02}", STRANGER_K) for i in range(3))
    officer = (OfficerRole.OFFICER, "o-1", OFFICER_K)
    assert twins.lock(signed_here(order, cosigners=(*many, officer))) == ""
    assert twins.evm.gas < 2_900_000
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.evm.gas < 1_500_000


def test_a_release_pays_into_suspense_where_the_account_was_closed(twins: Twins) -> None:
    twins.open(terms("empty", "CNY", "sz-hospital", MAKER_K))
    order = legs(given(), creditor="empty")
    assert twins.lock(signed_here(order)) == ""
    twins.open(terms("empty", "CNY", "sz-hospital", MAKER_K, 2, closed=True))
    closed = legs(given("two"), creditor="empty")
    assert twins.lock(signed_here(closed)) == "ACCOUNT_CLOSED"
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.evm.escrow.suspense("CNY") == 118_000
    reference = digest("assigned").hex()
    body = {"account": "hospital", "amount": 118_000, "currency": "CNY", "reference": reference}
    twins.sz.call("assign", encode(body))
    twins.evm.escrow.assign("hospital", 118_000, digest("assigned"))
    twins.same()
    with pytest.raises(LianqiaoError) as err:
        twins.evm.escrow.assign("hospital", 1, fresh())
    assert err.value.reason is Reason.FUNDS_MISSING


def test_a_decision_is_the_record_and_nothing_else(twins: Twins) -> None:
    order = given()
    assert twins.lock(signed_here(order)) == ""
    made = decision(Ruling.COMMIT, order)
    path, notice = record_path("settlement", decision_key(order.settlement)), made.encode()
    value = DecisionNotice(SZ, made).encode()
    other = replace(made, decided=made.decided + 1).encode()
    elsewhere = record_path("registry", decision_key(order.settlement))
    another = record_path("settlement", decision_key(digest("another")))
    assert twins.ask(value) is Reason.ENTRY_MISSING
    assert twins.ask(value, {elsewhere: notice}) is Reason.ENTRY_MISSING
    assert twins.ask(value, {another: notice}) is Reason.ENTRY_MISSING
    assert twins.ask(value, {path: other}) is Reason.DECISION_MISMATCH
    foreign = replace(made, relay="other")
    assert twins.ask(DecisionNotice(SZ, foreign).encode(), {path: foreign.encode()}) is (
        Reason.COUNTERPARTY_MISMATCH
    )
    assert twins.ask(DecisionNotice(HK, made).encode(), {path: notice}) is (
        Reason.CHAIN_ID_MISMATCH
    )
    assert twins.ask(value, {path: notice}, source_port="registry") is (
        Reason.COUNTERPARTY_MISMATCH
    )
    absent = replace(made, answers=made.answers[:1])
    assert twins.ask(DecisionNotice(SZ, absent).encode(), {path: absent.encode()}) is (
        Reason.DECISION_MISMATCH
    ), "a commit without this ledger's answer"
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.end(Ruling.ABORT, order) is Reason.DECISION_MISMATCH
    packet = twins.packet(value)
    more = [(path, notice), (another, notice)]
    assert twins.evm.receive(packet, more) == "ENTRY_MISSING", "nothing beside it but its record"


def test_what_is_sent_to_another(twins: Twins) -> None:
    good = signed_here(given())
    assert twins.ask(Lock(HUB, HK, good).encode()) is Reason.CHAIN_ID_MISMATCH
    assert twins.ask(Lock("other", SZ, good).encode()) is Reason.COUNTERPARTY_MISMATCH
    value = Lock(HUB, SZ, good).encode()
    assert twins.ask(value, source_port="registry") is Reason.COUNTERPARTY_MISMATCH
    assert twins.ask(value, version="escrow-2") is Reason.UNSUPPORTED_VERSION
    assert twins.ask(value, encoding="x") is Reason.UNSUPPORTED_VERSION
    assert twins.lock(good) == ""


def scrambled(value: bytes, rng: random.Random) -> bytes:
    """A text that is wrong in one place, or means something else."""
    at = rng.randrange(len(value))
    letters = b'0123456789abcdefghijklmnopqrstuvwxyzABCDEHIMN{}[]",:.-_ \\\0\xff'
    kind = rng.randrange(5)
    if kind == 0:
        return value[:at] + bytes([rng.choice(letters)]) + value[at + 1 :]
    if kind == 1:
        return value[:at] + value[at + 1 :]
    if kind == 2:
        return value[:at] + bytes([rng.choice(letters)]) + value[at:]
    if kind == 3:
        return value[:at]
    parts = value.split(b",")
    one, two = rng.randrange(len(parts)), rng.randrange(len(parts))
    parts[one], parts[two] = parts[two], parts[one]
    return b",".join(parts)


def judge_alike(twins: Twins, value: bytes, shown: dict[bytes, bytes], order: Instruction) -> str:
    """What Solidity says to a payload made of `order`, without an effect; Python agrees."""
    packet = twins.packet(value)
    kept = dict(twins.sz.written)
    try:
        here = decode(twins.sz.receive(packet, shown))["reason"]  # type: ignore[call-overload,index]
    except (LianqiaoError, KeyError) as err:
        here = err.reason.value if isinstance(err, LianqiaoError) else "ended"
    twins.sz.written = kept
    there = twins.evm.try_receive(packet, list(shown.items()))
    if here in FORMS and order.encode() in value:
        assert there in FORMS, value
    elif here in FORMS:
        # Texts without effect are not judged, but the debtors' signature is over their characters.
        assert there not in ("", "ended"), value
    else:
        assert there == here or (here, there) == ("ENTRY_MISSING", "MALFORMED"), value
    return there


def test_scrambled_payloads_have_one_meaning(twins: Twins) -> None:
    """What Solidity accepts is what Python accepts. Texts without effect (days, references) it does
    not judge; but then the debtors' signature, which is over their characters, is false."""
    rng = random.Random(2026)
    twins.open(terms("maker-cny", "CNY", "maker-1", MAKER_K, 2, limits={"officer": 1},
                     cosigners=[OFFICER_TERMS]))  # fmt: skip
    officer = (OfficerRole.OFFICER, "o-1", OFFICER_K)
    order = legs(given(), fee=Fee("sz-fees", 500))
    lock = Lock(HUB, SZ, signed_here(order, cosigners=(officer,))).encode()
    made = decision(Ruling.ABORT, order)
    notice = DecisionNotice(SZ, made).encode()
    told: Counter[str] = Counter()
    for turn in range(400):
        value = scrambled(lock if turn % 4 else notice, rng)
        record, path = made.encode(), record_path("settlement", decision_key(made.settlement))
        told[judge_alike(twins, value, {path: record}, order)] += 1
    assert told["MALFORMED"] > 200
    assert len(told) > 4


def test_the_published_vector_is_read_alike(world: MoneyLedger) -> None:
    """proto/README.md: the lock, and the digest that everybody signs."""
    from adapters.evm import calls
    from adapters.evm.light.crypto import keccak

    lock = examples()["lock"]
    (reader,) = world.escrow._view("READER")
    data = world.data("Reader", "readLock", lock.encode(), keccak(b"hk-money"))
    raw = world.rpc.call(bytes.fromhex(reader[2:]), data)
    assert not raw.reverted
    kind = calls.type_of(
        next(e for e in calls.artifacts()["Reader"]["abi"] if e.get("name") == "readLock")[
            "outputs"
        ][0]
    )
    from adapters.evm.sdk import Web3

    (order,) = Web3().codec.decode([kind], raw.data)
    assert bytes(order[3]) == lock.signed.instruction.settlement
    assert bytes(order[4]) == lock.signed.instruction.digest
    assert bytes(order[5]) == bytes(32)
    assert [leg[3:5] for leg in order[11]] == [(139152, 500)]


# --- the token


def test_tokens_that_take_a_fee_or_change_balances(twins: Twins) -> None:
    evm = twins.evm
    deposit, withdraw = evm.escrow.deposit, evm.escrow.withdraw
    evm.transact("Token", "set", 1, 100, False, False, False)
    refused(Reason.AMOUNT_INVALID, deposit, "hospital", 100, fresh())
    evm.transact("Token", "set", 0, 100, False, True, False)
    refused(Reason.FUNDS_MISSING, deposit, "hospital", 100, fresh())
    refused(Reason.FUNDS_MISSING, withdraw, "hospital", 100, b"\x11" * 20, fresh())
    evm.transact("Token", "set", 0, 99, False, False, False)
    refused(Reason.FUNDS_MISSING, deposit, "hospital", 100, fresh())
    assert twins.evm_lock(given()) == "FUNDS_MISSING"
    evm.transact("Token", "set", 0, 100, False, False, True)
    assert twins.evm_lock(given()) == "FUNDS_MISSING", "a token that says nothing"
    evm.transact("Token", "set", 0, 100, True, False, False)
    deposit("hospital", 100, fresh())
    withdraw("hospital", 100, b"\x11" * 20, fresh())
    assert evm.tokens(b"\x11" * 20) == 100 * UNIT
    evm.transact("Token", "set", 0, 100, False, False, False)
    assert twins.lock(signed_here(given())) == ""


def test_who_moves_money(twins: Twins) -> None:
    evm, me = twins.evm, twins.evm.me
    refused(Reason.AMOUNT_INVALID, evm.escrow.deposit, "hospital", 0, fresh())
    refused(Reason.AMOUNT_INVALID, evm.escrow.deposit, "hospital", MAX_AMOUNT, fresh())
    refused(Reason.ACCOUNT_NOT_FOUND, evm.escrow.deposit, "nobody", 1, fresh())
    refused(Reason.AMOUNT_INVALID, evm.escrow.withdraw, "hospital", 0, me, fresh())
    refused(Reason.FUNDS_MISSING, evm.escrow.withdraw, "hospital", 100_000_001, me, fresh())
    refused(Reason.AMOUNT_INVALID, evm.escrow.withdraw, "hospital", 1, evm.escrow.address, fresh())
    assert twins.lock(signed_here(given())) == ""
    free = 100_000_000 - 118_000
    refused(Reason.FUNDS_MISSING, evm.escrow.withdraw, "maker-cny", free + 1, me, fresh())
    evm.escrow.withdraw("maker-cny", free, b"\x22" * 20, fresh())
    assert evm.tokens(b"\x22" * 20) == free * UNIT
    evm.check_books()
    stranger = b"\x77" * 20
    for call in (
        ("Escrow", "deposit", "hospital", 1, fresh()),
        ("Escrow", "withdraw", "hospital", 1, "0x" + stranger.hex(), fresh()),
        ("Escrow", "assign", "hospital", 1, fresh()),
        ("Escrow", "openCurrency", b"USD", "0x" + evm.token.hex(), 6),
        ("Escrow", "openAccount", terms_argument(terms("x", "CNY", "y", MAKER_K), stranger)),
        ("Escrow", "onTimeout", (1, "a", "b", 1, "c", "d", "e", "f", b"g")),
        ("Escrow", "onAcknowledge", (1, "a", "b", 1, "c", "d", "e", "f", b"g"), b""),
        ("Escrow", "onReceive", (1, "a", "b", 1, "c", "d", "e", "f", b"g"), []),
    ):
        assert evm.reverts(*call, sender=stranger) == Reason.NOT_PERMITTED, call


def test_terms_and_currencies(twins: Twins) -> None:
    evm = twins.evm
    good = terms("hospital", "CNY", "sz-hospital", MAKER_K, 2)
    refused(Reason.CONFLICT, evm.open, {**good, "version": 1})
    refused(Reason.CONFLICT, evm.open, {**good, "version": 3})
    refused(Reason.PARTY_INVALID, evm.open, {**good, "owner": "another"})
    refused(Reason.ACCOUNT_CLOSED, evm.open, {**good, "closed": True})
    refused(Reason.CURRENCY_MISMATCH, evm.open, {**good, "currency": "HKD"})
    refused(Reason.CURRENCY_MISMATCH, evm.open, terms("new", "HKD", "a", MAKER_K))
    refused(Reason.ALGORITHM_NOT_PINNED, evm.open, {**good, "keys": [MAKER.dated()]})
    evm.open(good)
    token = evm.token
    refused(Reason.PATH_WRITTEN, evm.escrow.open_currency, "CNY", token, 6)
    refused(Reason.CURRENCY_MISMATCH, evm.escrow.open_currency, "KWD", token, 2)
    refused(Reason.CURRENCY_MISMATCH, evm.escrow.open_currency, "USD", b"\x55" * 20, 6)
    evm.escrow.open_currency("JPY", token, 0)
    refused(Reason.CURRENCY_MISMATCH, evm.escrow.open_currency, "USD", token, 37)
    evm.escrow.open_currency("USD", token, 36)
    x = int.from_bytes(MAKER_K.public[1:], "big")
    head, *rest = terms_argument(terms("weak", "CNY", "a", MAKER_K), evm.me)
    rest[5] = [(2, x, 1, 0, 1)]
    assert evm.reverts("Escrow", "openAccount", (head, *rest)) == Reason.WEAK_KEY
    _, *nameless = terms_argument(terms("x", "CNY", "a", MAKER_K), evm.me)
    assert evm.reverts("Escrow", "openAccount", ("", *nameless)) == Reason.MALFORMED
    refused(Reason.AMOUNT_INVALID, evm.escrow.assign, "hospital", 0, fresh())
    evm.open(terms("closed", "CNY", "a", MAKER_K))
    evm.open({**terms("closed", "CNY", "a", MAKER_K, 2), "closed": True})
    refused(Reason.ACCOUNT_CLOSED, evm.escrow.assign, "closed", 1, fresh())


def test_a_payee_whom_the_token_refuses_stops_nobody(twins: Twins) -> None:
    evm = twins.evm
    order = given()
    assert twins.lock(signed_here(order)) == ""
    evm.transact("Token", "block_", "0x" + evm.me.hex(), True)
    evm.transact("Token", "set", 50, 100, False, True, False)
    assert twins.end(Ruling.COMMIT, order) == "released"
    evm.transact("Token", "set", 0, 100, False, False, False)
    refused(Reason.FUNDS_MISSING, evm.escrow.withdraw, "hospital", 118_000, evm.me, fresh())
    evm.escrow.withdraw("hospital", 118_000, b"\x33" * 20, fresh())
    assert evm.tokens(b"\x33" * 20) == 118_000 * UNIT
    evm.check_books()


def test_a_token_that_calls_back(twins: Twins) -> None:
    """In the midst of a deposit or a withdrawal the token is the holder of an account, too."""
    evm = twins.evm
    escrow = "0x" + evm.escrow.address.hex()
    evm.open(terms("token", "CNY", "hostile", MAKER_K), evm.token)
    evm.transact("Token", "mint", "0x" + evm.token.hex(), 10**12)
    evm.transact("Token", "approveOwn", escrow, 2**255)
    inner = evm.data("Escrow", "deposit", "token", 500, fresh())
    evm.transact("Token", "hook", escrow, inner)
    evm.escrow.deposit("hospital", 1000, fresh())
    assert evm.hooked() == (False, Reason.NOT_PERMITTED)
    evm.as_address(evm.token, evm.escrow.address, inner)
    assert evm.escrow.standing("token").balance == 500
    for outer in (
        lambda: evm.escrow.deposit("hospital", 1000, fresh()),
        lambda: evm.escrow.withdraw("hospital", 1000, b"\x44" * 20, fresh()),
    ):
        inner = evm.data("Escrow", "withdraw", "token", 500, "0x" + evm.token.hex(), fresh())
        evm.transact("Token", "hook", escrow, inner)
        outer()
        assert evm.hooked() == (False, Reason.NOT_PERMITTED)
    assert evm.escrow.standing("token").balance == 500
    packet = (1, "a", "b", 1, "c", "d", "e", "f", b"g")
    evm.transact("Token", "hook", escrow, evm.data("Escrow", "onReceive", packet, []))
    evm.escrow.deposit("hospital", 1000, fresh())
    assert evm.hooked() == (False, Reason.NOT_PERMITTED)
    booked, unit, _ = evm.escrow.booked("CNY")
    assert evm.tokens(evm.escrow.address) == booked * unit
