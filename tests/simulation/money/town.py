"""Who has accounts where, and what they sign.

Every node keeps the same five accounts, in two currencies; the maker has one in each. An
instruction runs over any neighbours of a relay: one or two ledgers pay the maker in HKD, and on
another (or the same) he pays the bill in CNY. Amounts are computed here by fractions of its own,
so that a product that rounds otherwise does not agree with itself only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from fractions import Fraction
from math import floor
from random import Random

from relay.canonical import Json
from relay.contracts.payloads import (
    BillLines,
    Cosignature,
    Fee,
    Instruction,
    Leg,
    OfficerRole,
    Quote,
    Side,
    SignedInstruction,
)
from relay.contracts.payloads import Money as Amount
from relay.money import Residue
from tests.contracts.money_flow import terms
from tests.contracts.money_world import RATE, STRANGER, instruction, quote, signed
from tests.contracts.world import Person
from tests.simulation.money.options import Money

OFFICER = Person("officer")
PAYER, MAKER, PAYEE, BANK = Person("payer"), Person("maker-1"), Person("payee"), Person("bank")
ACCOUNTS = {
    "payer": ("HKD", "payer", PAYER),
    "maker-hkd": ("HKD", "maker-1", MAKER),
    "fees": ("HKD", "bank", BANK),
    "maker-cny": ("CNY", "maker-1", MAKER),
    "payee": ("CNY", "payee", PAYEE),
}
"""Account → currency, owner, who signs."""
FUNDED = ("payer", "maker-hkd", "maker-cny")
CURRENCIES = ("CNY", "HKD")
_OFFER = quote()
"""Made before any bug is planted: nothing of the product computes an amount after that."""


class Kind(StrEnum):
    """What is wrong with an instruction; RIGHT: nothing."""

    RIGHT = "right"
    SHORT = "short"
    """One minor unit less for the maker than the rate gives."""
    LONG = "long"
    UNSIGNED = "unsigned"
    """A stranger signed for the payer."""
    ALTERED = "altered"
    """More than was signed for."""
    LINES = "lines"
    """Signed line by line, and the lines are not the bill."""


WRONG = tuple(Kind)[1:]


def account_terms(account: str, options: Money, version: int = 1) -> dict[str, Json]:
    """A version of an account's terms; payers alone are limited."""
    code, owner, person = ACCOUNTS[account]
    if account != "payer" or not options.limited:
        return terms(account, code, owner, person, version)
    limits = {
        "counterparty": options.counterparty,
        "daily": options.daily,
        "officer": options.officer,
    }
    cosigner: Json = {"keys": [OFFICER.dated()], "officer": "officer", "role": "officer"}
    return terms(account, code, owner, person, version, limits=limits, cosigners=[cosigner])


def half_up(bill: int) -> tuple[int, Residue]:
    """What a bill in fen comes to in HKD cents, and the residue."""
    exact = Fraction(bill * RATE.numerator, RATE.denominator)
    amount = floor(exact + Fraction(1, 2))
    left = exact - amount
    return amount, Residue(left.numerator, left.denominator)


def offer(bill: int, name: str, expires: int, kind: Kind) -> Quote:
    """A firm quote, right or one off."""
    amount, residue = half_up(bill)
    amount += {Kind.SHORT: -1, Kind.LONG: 1}.get(kind, 0)
    return replace(
        _OFFER,
        id=name,
        expires=expires,
        bill=Amount("CNY", bill),
        payable=Amount("HKD", amount),
        residue=residue,
    )


def asked(
    name: str,
    relay: str,
    payers: Sequence[str],
    payee: str,
    quoted: Quote,
    *,
    fee: int = 0,
    window: tuple[str, int] = ("", 0),
    lines: BillLines | None = None,
) -> Instruction:
    """One instruction over the ledgers named; the first pays what is left of an even share."""
    amount = quoted.payable.amount
    shares = [amount // len(payers)] * len(payers)
    shares[0] += amount - sum(shares)
    legs = [
        Leg(
            ledger=ledger,
            side=Side.PAY,
            currency="HKD",
            debtor="payer",
            creditor="maker-hkd",
            amount=share,
            fee=Fee("fees", fee) if fee else None,
        )
        for ledger, share in zip(payers, shares, strict=True)
    ]
    due = Leg(
        ledger=payee,
        side=Side.BILL,
        currency="CNY",
        debtor="maker-cny",
        creditor="payee",
        amount=quoted.bill.amount,
        fee=None,
    )
    return instruction(
        name,
        quote=quoted,
        relay=relay,
        window=window[0],
        deadline=window[1] or quoted.expires,
        legs=(*legs, due),
        itemised=lines,
    )


def lines_of(bill: int, kind: Kind, random: Random) -> BillLines | None:
    """Lines less an adjustment that come to a bill, some of them nothing; or that do not."""
    less = random.choice((0, 0, random.randint(1, 500)))
    left, lines = bill + less, []
    for _ in range(random.randint(1, 8)):
        lines.append(random.randint(0, 2 * left // 3))
        left -= lines[-1]
    given = BillLines(less, (*lines, left))
    if kind is Kind.LINES:
        return replace(given, adjustment=less + 1)
    return given if difference_of(given) is not None else None


def difference_of(given: BillLines) -> tuple[int, int] | None:
    """(what the lines come to, what they fall short of the total), in what is paid; None where
    they come to nothing."""
    total, _ = half_up(sum(given.lines) - given.adjustment)
    summed = sum(half_up(line)[0] for line in given.lines) - half_up(given.adjustment)[0]
    return (summed, total - summed) if summed > 0 else None


def returned(original: Instruction, name: str, quoted: str, expires: int, bill: int) -> Instruction:
    """Gives a settlement back, or `bill` of it where two legs share nothing."""
    given = replace(original, itemised=None if bill else original.itemised)
    whole = original.quote
    due = bill or whole.bill.amount
    back = offer(due, quoted, expires, Kind.RIGHT)
    legs = tuple(
        replace(
            leg,
            debtor=leg.creditor,
            creditor=leg.debtor,
            fee=None,
            amount=leg.amount
            if not bill
            else back.bill.amount
            if leg.side is Side.BILL
            else back.payable.amount,
        )
        for leg in given.legs
    )
    fresh = instruction(name, quote=back)
    return replace(
        fresh,
        relay=original.relay,
        returns=original.uetr,
        legs=legs,
        itemised=given.itemised,
    )


class Cosigned(StrEnum):
    """Who co-signed."""

    NOBODY = "nobody"
    OFFICER = "officer"
    FORGED = "forged"
    """A stranger, under the officer's name and key."""


def sign(given: Instruction, kind: Kind, cosigned: Cosigned = Cosigned.NOBODY) -> SignedInstruction:
    """Signed by the owners of its debtors, but for what the kind says."""
    owners = {(ledger, account): ACCOUNTS[account][2] for ledger, account in given.debtors}
    if kind is Kind.UNSIGNED:
        owners = {k: STRANGER if k[1] == "payer" else v for k, v in owners.items()}
    done = signed(given, owners=owners)
    if cosigned is not Cosigned.NOBODY:
        one = Cosignature(OfficerRole.OFFICER, "officer", OFFICER.algorithm, OFFICER.public, b"")
        person = OFFICER if cosigned is Cosigned.OFFICER else STRANGER
        value = person.raw(one.signing_bytes(given.digest))
        done = replace(done, cosignatures=(replace(one, signature=value),))
    if kind is Kind.ALTERED:
        first, *rest = given.legs
        more = (replace(first, fee=Fee("fees", 9)), *rest)
        done = replace(done, instruction=replace(given, legs=more))
    return done
