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

from relay.canonical import Json
from relay.contracts.payloads import (
    Fee,
    Instruction,
    Leg,
    Money,
    Quote,
    Side,
    SignedInstruction,
)
from relay.money import Residue
from tests.contracts.money_flow import terms
from tests.contracts.money_world import RATE, STRANGER, instruction, quote, signed
from tests.contracts.world import Person

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


WRONG = tuple(Kind)[1:]


def account_terms(account: str) -> dict[str, Json]:
    """The first version of an account's terms."""
    code, owner, person = ACCOUNTS[account]
    return terms(account, code, owner, person)


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
        bill=Money("CNY", bill),
        payable=Money("HKD", amount),
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
    )


def sign(given: Instruction, kind: Kind) -> SignedInstruction:
    """Signed by the owners of its debtors, but for what the kind says."""
    owners = {(ledger, account): ACCOUNTS[account][2] for ledger, account in given.debtors}
    if kind is Kind.UNSIGNED:
        owners = {k: STRANGER if k[1] == "payer" else v for k, v in owners.items()}
    done = signed(given, owners=owners)
    if kind is Kind.ALTERED:
        first, *rest = given.legs
        more = (replace(first, fee=Fee("fees", 9)), *rest)
        done = replace(done, instruction=replace(given, legs=more))
    return done
