"""The lines of a bill in both escrows: the same refusals, the same postings, to the unit."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from relay.canonical import encode
from relay.contracts.escrow import find_held, last_line, suspense
from relay.contracts.payloads import (
    BillLines,
    DecisionNotice,
    Fee,
    Instruction,
    Leg,
    Lock,
    Money,
    OfficerRole,
    Ruling,
    Side,
    decision_key,
)
from relay.errors import Reason
from relay.money import MAX_AMOUNT, Rate, convert
from relay.paths import record_path
from tests.adapters.evm.money import HOSPITAL_K, MAKER_K, OFFICER_K, STRANGER_K, signed_here
from tests.adapters.evm.test_escrow import (  # noqa: F401
    LATER,
    OFFICER_TERMS,
    Twins,
    fresh,
    judge_alike,
    scrambled,
    twins,
    world,
)
from tests.contracts.money_flow import PLENTY, terms
from tests.contracts.money_world import (
    BILL,
    HK,
    HUB,
    LINES,
    MAKER,
    RATE,
    SZ,
    decision,
    instruction,
    quote,
)
from tests.contracts.test_itemised import EVEN, OVER, PAIRS
from tests.contracts.world import DAY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SHORT = LINES
PAID = 139_152
"""The bill, and what is payable for it, minor units."""
OWNERS = {(SZ, "payer"): HOSPITAL_K, (HK, "maker-hkd"): MAKER}


def paying(
    name: str = "one",
    lines: BillLines | None = SHORT,
    rate: Rate = RATE,
    codes: tuple[str, str] = ("HKD", "CNY"),
    payer: str = "hospital",
    maker: str = "maker-cny",
    fee: int = 0,
    **changes: Any,
) -> Instruction:
    """A bill that an account of the EVM ledger pays; the maker pays it on the other ledger."""
    bill = BILL if lines is None else sum(lines.lines) - lines.adjustment
    done = convert(bill, *codes, rate)
    offer = replace(
        quote(), id=f"q-{name}", bill=Money(codes[0], bill), payable=Money(codes[1], done.amount),
        rate=rate, residue=done.residue, expires=LATER,
    )  # fmt: skip
    charged = Fee("sz-fees", fee) if fee else None
    legs = (
        Leg(SZ, Side.PAY, codes[1], payer, maker, done.amount, charged),
        Leg(HK, Side.BILL, codes[0], "maker-hkd", "insurer", bill, None),
    )
    return replace(instruction(name, quote=offer), legs=legs, itemised=lines, **changes)


def fund(twins: Twins, account: str, amount: int, code: str = "CNY") -> None:  # noqa: F811
    """Deposits on both."""
    reference = fresh()
    body = {"account": account, "amount": amount, "currency": code, "reference": reference.hex()}
    twins.sz.call("deposit", encode(body))  # type: ignore[arg-type]
    twins.evm.escrow.deposit(account, amount, reference)


def locked(twins: Twins, order: Instruction, **more: Any) -> Any:  # noqa: F811
    return twins.lock(signed_here(order, owners=OWNERS, **more))


def posted(twins: Twins, order: Instruction) -> list[tuple[str, str, str, int]]:  # noqa: F811
    """What a release has posted on the chain: of the same order and names as in Python."""
    evm = twins.evm.escrow
    names = {evm.standing(account).number: account for account in twins.evm.opened}
    moved = [
        (one.kind, *(names.get(n, "suspense") for n in (one.debtor, one.creditor)), one.amount)
        for one in evm.postings()
        if one.settlement == order.settlement and one.kind not in ("lock", "refund")
    ]
    held = find_held(twins.sz, HUB, order.settlement)
    assert held is not None
    due = [(m.entry.value, m.debtor, m.creditor, m.amount) for m in held.movements]
    assert [(kind, amount) for kind, _, _, amount in moved] == [(d[0], d[3]) for d in due]
    return moved


# --- what is posted


@pytest.mark.parametrize("fee", [0, 500])
@pytest.mark.parametrize(
    ("lines", "held", "parts"),
    [
        (SHORT, PAID, [("principal", PAID - 1), ("rounding", 1)]),
        (OVER, PAID + 1, [("principal", PAID + 1), ("rounding_back", 1)]),
        (EVEN, PAID, [("principal", PAID)]),
        (None, PAID, [("principal", PAID)]),
    ],
    ids=["short", "over", "even", "not itemised"],
)
def test_lines_and_difference_are_posted_and_are_the_leg(
    twins: Twins,  # noqa: F811
    lines: BillLines | None,
    held: int,
    parts: list[tuple[str, int]],
    fee: int,
) -> None:
    order, before = paying(lines=lines, fee=fee), twins.evm.balances()
    assert locked(twins, order) == ""
    assert twins.evm.balances()["hospital"] == (PLENTY, held + fee)
    assert twins.end(Ruling.COMMIT, order) == "released"
    whose = {"rounding_back": ("maker-cny", "hospital"), "fee": ("hospital", "sz-fees")}
    due = [*parts, *([("fee", fee)] if fee else [])]
    assert posted(twins, order) == [
        (kind, *whose.get(kind, ("hospital", "maker-cny")), amount) for kind, amount in due
    ]
    after = twins.evm.balances()
    moved = {a: b - before[a][0] for a, (b, _) in after.items() if b != before[a][0]}
    assert moved == {
        "hospital": -PAID - fee, "maker-cny": PAID, **({"sz-fees": fee} if fee else {}),
    }  # fmt: skip
    assert all(held == 0 for _, held in after.values())
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert locked(twins, order) == ""
    assert twins.evm.balances() == after


@pytest.mark.parametrize("lines", [SHORT, OVER])
def test_a_refund_frees_what_was_held(twins: Twins, lines: BillLines) -> None:  # noqa: F811
    order, before = paying(lines=lines, fee=7), twins.evm.balances()
    assert locked(twins, order) == ""
    assert twins.end(Ruling.ABORT, order) == "refunded"
    assert twins.evm.balances() == before


def test_the_ledger_of_the_other_side_posts_its_leg(twins: Twins) -> None:  # noqa: F811
    """Of the bill itself no difference is posted, and lines are checked all the same."""
    order = replace(instruction(quote=quote(id="q-one", expires=LATER)), itemised=SHORT)
    assert locked(twins, replace(order, itemised=BillLines(0, (BILL + 1,)))) == "AMOUNT_INVALID"
    assert locked(twins, order) == ""
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert posted(twins, order) == [("principal", "maker-cny", "hospital", BILL)]


def test_both_sides_on_one_ledger(twins: Twins) -> None:  # noqa: F811
    for name, lines in (("one", SHORT), ("two", OVER)):
        order = paying(name, lines, payer="payer")
        if name == "one":
            twins.open(terms("payer", "CNY", "sz-hospital", HOSPITAL_K))
            fund(twins, "payer", 10 * PAID)
            currency(twins, "HKD")
            for account, owner in (("maker-hkd", "maker-1"), ("clinic", "clinic")):
                twins.open(terms(account, "HKD", owner, MAKER_K))
            fund(twins, "maker-hkd", 10 * BILL, "HKD")
        here = replace(order.legs[1], ledger=SZ, creditor="clinic")
        order = replace(order, legs=(here, order.legs[0]))
        signed = signed_here(order, owners={**OWNERS, (SZ, "maker-hkd"): MAKER_K})
        assert twins.lock(signed) == ""
        assert twins.end(Ruling.COMMIT, order) == "released"
        assert posted(twins, order)[0] == ("principal", "maker-hkd", "clinic", BILL)
        assert len(posted(twins, order)) == 3


def currency(twins: Twins, code: str) -> None:  # noqa: F811
    twins.sz.call("currency.open", encode({"currency": code}))
    twins.evm.escrow.open_currency(code, twins.evm.token, 6)


@pytest.mark.parametrize("lines", [SHORT, OVER])
def test_given_back_line_by_line(twins: Twins, lines: BillLines) -> None:  # noqa: F811
    """In a return the maker pays, and the difference goes the other way."""
    assert locked(twins, paying("there", lines)) == ""
    assert twins.end(Ruling.COMMIT, paying("there", lines)) == "released"
    back = paying("back", lines, payer="maker-cny", maker="hospital")
    there = paying("there", lines)
    back = replace(
        back, returns=there.uetr,
        legs=(back.legs[0], replace(back.legs[1], debtor="insurer", creditor="maker-hkd")),
    )  # fmt: skip
    assert locked(twins, back) == ""
    assert twins.end(Ruling.COMMIT, back) == "released"
    assert [(kind, amount) for kind, _, _, amount in posted(twins, back)] == [
        (kind, amount) for kind, _, _, amount in posted(twins, there)
    ]
    assert twins.evm.balances()["hospital"] == (PLENTY, 0)


@pytest.mark.parametrize("pair", sorted(PAIRS))
def test_currencies_of_other_digits(twins: Twins, pair: tuple[str, str]) -> None:  # noqa: F811
    rng, payer, seen = random.Random(str(pair)), "payer", Counter[int]()
    code = pair[1]
    if code != "CNY":
        currency(twins, code)
    twins.open(terms("payer", code, "sz-hospital", HOSPITAL_K))
    twins.open(terms("maker", code, "maker-1", MAKER_K))
    fund(twins, payer, 10**12, code)
    for turn in range(8):
        lines = [rng.randrange(10 ** rng.randint(1, 6)) for _ in range(rng.randint(1, 40))]
        less = rng.randrange(max(1, sum(lines) // 3))
        bill = BillLines(less, (*lines, 2_000))
        order = paying(f"{turn}", bill, PAIRS[pair], pair, payer, "maker", fee=0)
        assert locked(twins, order) == ""
        assert twins.end(Ruling.COMMIT, order) == "released"
        kinds = {kind for kind, _, _, _ in posted(twins, order)}
        seen[("rounding" in kinds) - ("rounding_back" in kinds)] += 1
    assert len(seen) > 1 or pair == ("CNY", "JPY") or pair[0] == "JPY"


# --- what is held


@pytest.mark.parametrize(("lines", "held"), [(SHORT, PAID), (OVER, PAID + 1), (EVEN, PAID)])
def test_what_is_held_must_be_there(twins: Twins, lines: BillLines, held: int) -> None:  # noqa: F811
    twins.open(terms("payer", "CNY", "sz-hospital", HOSPITAL_K))
    fund(twins, "payer", held - 1 + 5)
    order = paying(lines=lines, payer="payer", fee=5)
    assert locked(twins, order) == "FUNDS_MISSING"
    fund(twins, "payer", 1)
    assert locked(twins, order) == ""
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.evm.balances()["payer"] == (held - PAID, 0)


def test_limits_of_the_day_count_what_is_payable(twins: Twins) -> None:  # noqa: F811
    for version, kind in ((2, "daily"), (3, "counterparty")):
        body = terms("hospital", "CNY", "sz-hospital", HOSPITAL_K, version)
        twins.open({**body, "limits": {**body["limits"], kind: 2 * PAID}})
        for name in ("one", "two"):
            assert locked(twins, paying(f"{kind}-{name}", OVER)) == ""
        small = paying(f"{kind}-three", BillLines(0, (1,)))
        assert locked(twins, small) == "LIMIT_REACHED"
        assert twins.end(Ruling.ABORT, paying(f"{kind}-one", OVER)) == "refunded"
        assert locked(twins, small) == ""
        twins.evm.world.clock.advance(DAY)
        twins.evm.anvil.mine()


@pytest.mark.parametrize("lines", [SHORT, OVER])
def test_a_maker_whose_account_was_closed_meanwhile(twins: Twins, lines: BillLines) -> None:  # noqa: F811
    """The principal goes into suspense, and what goes back for rounding comes from there."""
    twins.open(terms("maker", "CNY", "maker-1", MAKER_K))
    order = paying(lines=lines, maker="maker")
    assert locked(twins, order) == ""
    twins.open(terms("maker", "CNY", "maker-1", MAKER_K, 2, closed=True))
    assert twins.end(Ruling.COMMIT, order) == "released"
    assert twins.evm.escrow.suspense("CNY") == last_line(twins.sz, suspense("CNY")).balance == PAID
    assert {"suspense"} == {name for m in posted(twins, order) for name in m[1:3]} - {"hospital"}
    assert twins.evm.balances()["hospital"] == (PLENTY - PAID, 0)


# --- what is refused


def two_payers(elsewhere: str) -> Callable[[], Instruction]:
    def make() -> Instruction:
        order = paying()
        pay, due = order.legs
        other = replace(pay, ledger=elsewhere, amount=1)
        return replace(order, legs=(replace(pay, amount=pay.amount - 1), other, due))

    return make


REFUSED: dict[str, Callable[[], Instruction]] = {
    "more than the bill": lambda: replace(paying(), itemised=BillLines(0, (BILL + 1,))),
    "less than the bill": lambda: replace(paying(), itemised=BillLines(0, (BILL - 1,))),
    "an adjustment that is none": lambda: replace(paying(), itemised=BillLines(1, (BILL,))),
    "an adjustment above the lines": lambda: replace(paying(), itemised=BillLines(BILL + 1, (1,))),
    "two legs that pay here": two_payers(SZ),
    "one leg that pays here and one elsewhere": two_payers("mo-money"),
    "lines too small": lambda: paying(lines=BillLines(0, (1, 1, 1, 1)), rate=Rate(2, 5)),
    "lines below nothing": lambda: paying(lines=BillLines(2, (1,) * 5), rate=Rate(2, 5)),
    "lines too large": lambda: paying(
        lines=BillLines(0, (1, 1, 1, 2 * (MAX_AMOUNT // 3) - 3)), rate=Rate(3, 2)),
    "a line too large": lambda: paying(lines=BillLines(MAX_AMOUNT, (MAX_AMOUNT, BILL))),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_lines_that_are_not_the_bill(twins: Twins, name: str) -> None:  # noqa: F811
    order, before = REFUSED[name](), twins.evm.balances()
    given = signed_here(order, owners={**OWNERS, ("mo-money", "hospital"): MAKER})
    assert twins.lock(given) == "AMOUNT_INVALID"
    assert twins.evm.balances() == before
    assert locked(twins, paying()) == ""


def test_lines_that_nobody_signed(twins: Twins) -> None:  # noqa: F811
    """Lines that were not signed, others than were, and none in place of signed ones."""
    for asked, changed in ((None, SHORT), (SHORT, OVER), (SHORT, None)):
        good = signed_here(paying(lines=asked), owners=OWNERS)
        forged = replace(good, instruction=paying(lines=changed))
        assert twins.lock(forged) == "INVALID_SIGNATURE"


def test_a_settlement_is_one_bill(twins: Twins) -> None:  # noqa: F811
    assert locked(twins, paying(lines=SHORT)) == ""
    assert locked(twins, paying(lines=OVER)) == "REQUEST_ID_REUSED"
    assert locked(twins, paying(lines=None)) == "REQUEST_ID_REUSED"
    assert twins.end(Ruling.COMMIT, paying(lines=OVER)) is Reason.DECISION_MISMATCH


def test_a_window_is_refused_before_its_lines(twins: Twins) -> None:  # noqa: F811
    order = replace(paying(), itemised=BillLines(0, (1,)))
    assert locked(twins, replace(order, window="w-1")) == "WINDOW_CLOSED"
    assert locked(twins, order) == "AMOUNT_INVALID"


# --- several debtors


def two_debtors(twins: Twins, bill_first: bool = True) -> Instruction:  # noqa: F811
    """Payer and maker are debited on the one ledger, in the order of the legs or against it."""
    order = paying(lines=None, payer="hospital", codes=("CNY", "CNY"), rate=Rate(1, 1))
    here = replace(order.legs[1], ledger=SZ, debtor="maker-cny", creditor="sz-fees")
    legs = (here, order.legs[0]) if bill_first else (order.legs[0], here)
    return replace(order, legs=legs)


@pytest.mark.parametrize("bill_first", [True, False])
def test_debtors_are_judged_in_the_order_of_their_accounts(
    twins: Twins,  # noqa: F811
    bill_first: bool,
) -> None:
    """Whichever leg stands first: that both escrows say the same of two that are wrong."""
    order = two_debtors(twins, bill_first)
    good = signed_here(order)
    hospital, maker = good.signatures
    assert (hospital.account, maker.account) == ("hospital", "maker-cny")
    unknown = replace(maker, key=STRANGER_K.public)
    false = replace(hospital, signature=bytes(64))
    assert twins.lock(replace(good, signatures=(false, unknown))) == "INVALID_SIGNATURE"
    unknown, false = replace(hospital, key=STRANGER_K.public), replace(maker, signature=bytes(64))
    assert twins.lock(replace(good, signatures=(unknown, false))) == "UNKNOWN_SIGNER"
    for version, limits in ((2, ("officer", "daily")), (3, ("daily", "officer"))):
        for account, limit in zip(("hospital", "maker-cny"), limits, strict=True):
            owner, by = (
                ("sz-hospital", HOSPITAL_K) if account == "hospital" else ("maker-1", MAKER_K)
            )
            twins.open(terms(account, "CNY", owner, by, version, limits={limit: 1}))
        reason = "COSIGNATURE_MISSING" if limits[0] == "officer" else "LIMIT_REACHED"
        assert twins.lock(good) == reason


def test_fees_that_make_more_than_can_be(twins: Twins) -> None:  # noqa: F811
    """Leg by leg: a limit that is passed before is said before."""
    order = instruction(quote=quote(id="q-one", expires=LATER))
    pay, due = order.legs
    most = Fee("sz-fees", MAX_AMOUNT - BILL)
    legs = (replace(due, amount=BILL - 1, fee=most), replace(due, amount=1, fee=Fee("sz-fees", 1)))
    assert locked(twins, replace(order, legs=(pay, *legs))) == "AMOUNT_INVALID"
    fits = replace(legs[1], fee=None)
    assert locked(twins, replace(order, legs=(pay, legs[0], fits))) == "FUNDS_MISSING"
    for version, limit, reason in (
        (2, BILL - 2, "LIMIT_REACHED"), (3, MAX_AMOUNT - BILL - 1, "LIMIT_REACHED"),
        (4, MAX_AMOUNT - BILL, "AMOUNT_INVALID"),
    ):  # fmt: skip
        body = terms("maker-cny", "CNY", "maker-1", MAKER_K, version)
        twins.open({**body, "limits": {**body["limits"], "counterparty": limit}})
        assert locked(twins, replace(order, legs=(pay, *legs))) == reason


# --- hostile and large


def test_scrambled_lines_have_one_meaning(twins: Twins) -> None:  # noqa: F811
    rng, told = random.Random(1180), Counter[str]()
    order = paying(lines=SHORT, fee=500)
    lock = Lock(HUB, SZ, signed_here(order, owners=OWNERS)).encode()
    start, end = lock.index(b'"deadline"'), lock.index(b'"legs"')
    made = decision(Ruling.ABORT, order)
    shown = {record_path("settlement", decision_key(order.settlement)): made.encode()}
    assert judge_alike(twins, DecisionNotice(SZ, made).encode(), shown, order) == "ended"
    for _ in range(300):
        part = scrambled(lock[start:end], rng)
        told[judge_alike(twins, lock[:start] + part + lock[end:], shown, order)] += 1
    assert told["MALFORMED"] > 150
    assert told["INVALID_SIGNATURE"] + told["AMOUNT_INVALID"] > 20
    assert "" not in told or lock[start:end] in lock


def test_a_thousand_lines_fit_the_gas_of_an_application(twins: Twins) -> None:  # noqa: F811
    """3 million, beside the most legs, fees and co-signatures that there can be."""
    for account, owner, by in (
        ("hospital", "sz-hospital", HOSPITAL_K), ("maker-cny", "maker-1", MAKER_K)
    ):  # fmt: skip
        limits = {"officer": 1, "counterparty": 10**12, "daily": 10**12}
        body = terms(account, "CNY", owner, by, 2, limits=limits, cosigners=[OFFICER_TERMS])
        twins.open(body)
    many = tuple((OfficerRole.OFFICER, f"n-{i:02}", STRANGER_K) for i in range(3))
    cosigners = (*many, (OfficerRole.OFFICER, "o-1", OFFICER_K))
    long, bill = 7 * 10**12, 1_500_000  # longer ones come to too much
    lines = BillLines(1000 * long - bill, (long,) * 1000)
    order = paying("paid", lines)
    assert locked(twins, order, cosigners=cosigners) == ""
    assert twins.evm.gas - 16 * len(order.encode()) < 1_700_000
    whole = instruction("owed", quote=quote(bill, id="q-owed", expires=LATER))
    pay, due = whole.legs
    parts = [replace(due, amount=bill // 15, fee=Fee("sz-fees", 7)) for _ in range(15)]
    order = replace(whole, legs=(pay, *parts), itemised=lines)
    assert locked(twins, order, cosigners=cosigners) == ""
    assert twins.evm.gas - 16 * len(order.encode()) < 2_800_000, "but for the call itself"
    assert twins.end(Ruling.COMMIT, order) == "released"
