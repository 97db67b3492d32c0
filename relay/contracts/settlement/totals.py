"""What was instructed on a day, for accounts whose terms limit it (relay.contracts.accounts)."""

from __future__ import annotations

from relay.canonical import encode
from relay.contract import State
from relay.contracts.accounts import check_counterparty, check_day, find_terms, terms_of
from relay.contracts.base import Reader, key
from relay.contracts.civil import day
from relay.contracts.payloads import Instruction, SignedInstruction, fields
from relay.money import MAX_AMOUNT

Totals = dict[tuple[str, ...], int]
"""Amounts by key: (`spent`, ledger, account) or (`paid`, ledger, account, payee's owner)."""


def totals_of(instruction: Instruction, state: Reader) -> Totals:
    """What an instruction counts for, where the terms of its debtors limit anything."""
    found: Totals = {}
    for leg in instruction.legs:
        terms = terms_of(state, leg.ledger, leg.debtor)
        if terms.limits.any:
            name: tuple[str, ...] = ("spent", leg.ledger, leg.debtor)
            found[name] = found.get(name, 0) + leg.total
        for account, amount in leg.paid if terms.limits.counterparty else ():
            payee = find_terms(state, leg.ledger, account)
            if payee is not None:  # a fee's account need not be known here: its ledger counts it
                name = ("paid", leg.ledger, leg.debtor, payee.owner)
                found[name] = found.get(name, 0) + amount
    return found


def total_on(state: Reader, name: tuple[str, ...], today: int) -> int:
    """The total of a day under a key."""
    found = state.last(key(*name, ""))
    if found is None:
        return 0
    body = fields.document(found[1])
    return fields.integer(body, "total") if body["day"] == today else 0


def check(signed: SignedInstruction, totals: Totals, state: State, now: int) -> None:
    """Checks limits and co-signatures for the day, this instruction included.

    Raises Refused(LIMIT_REACHED) or Denied(COSIGNATURE_MISSING).
    """
    for name, amount in sorted(totals.items()):
        terms = terms_of(state, name[1], name[2])
        total = total_on(state, name, day(now)) + amount
        if name[0] == "spent":
            check_day(signed, terms, total, now)
        else:
            check_counterparty(terms, total)


def add(totals: Totals, sign: int, state: State, now: int) -> None:
    """Counts it, or where `sign` is -1 counts it no more."""
    for name, amount in sorted(totals.items()):
        found = state.last(key(*name, ""))
        number = 1 if found is None else int(found[0].rpartition(b"/")[2]) + 1
        total = total_on(state, name, day(now)) + sign * amount
        value = encode({"day": day(now), "total": min(max(total, 0), MAX_AMOUNT)})
        state.put(key(*name, f"{number:012d}"), value)
