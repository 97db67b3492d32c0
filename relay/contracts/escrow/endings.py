"""Ending a lock: release or refund, by the relay's one decision and by nothing else.

The decision is believed because the record itself is proven beside the packet (DESIGN §8), byte for
byte what the packet says. It ends a lock once; the same decision again has the same answer. For
what never was locked it is written down too, so that a lock which comes after it is refused.
"""

from __future__ import annotations

from hashlib import sha256

from relay.contract import State
from relay.contracts.accounts import terms_of
from relay.contracts.base import key
from relay.contracts.civil import day
from relay.contracts.escrow.books import Books, Entry, suspense
from relay.contracts.escrow.keys import End, Held, find_end, find_held
from relay.contracts.escrow.locks import add_paid
from relay.contracts.payloads import (
    DecisionAnswer,
    DecisionNotice,
    Ended,
    Ruling,
    SettlementDecision,
    decision_key,
)
from relay.errors import Invalid, Reason
from relay.paths import record_path


def end(notice: DecisionNotice, state: State, now: int) -> DecisionAnswer:
    """Row 8. Raises Invalid(DECISION_MISMATCH); the host asks for the record beside the notice."""
    decision = notice.decision
    raw = decision.encode()
    if state.proven(record_path("settlement", decision_key(decision.settlement))) != raw:
        raise Invalid(Reason.DECISION_MISMATCH, "not the decision that is written at the relay")
    before = find_end(state, decision.relay, decision.settlement)
    if before is not None:
        if before.decision != sha256(raw).digest():
            raise Invalid(Reason.DECISION_MISMATCH, "another decision ended that settlement")
        return DecisionAnswer(state.chain_id, decision.settlement, before.ended, before.time)
    held = find_held(state, decision.relay, decision.settlement)
    _check(decision, held, state.chain_id)
    ended = Ended.NOTHING
    if held is not None:
        books = Books(state, now, decision.settlement, decision.relay)
        if decision.ruling is Ruling.COMMIT:
            ended = Ended.RELEASED
            _release(held, books, state)
        else:
            ended = Ended.REFUNDED
            _refund(held, books, state, now)
    record = End(sha256(raw).digest(), decision.ruling, ended, now)
    state.put(key("ended", decision.relay, decision.settlement), record.encode())
    return DecisionAnswer(state.chain_id, decision.settlement, ended, now)


def _check(decision: SettlementDecision, held: Held | None, ledger: str) -> None:
    """Checks that it is about what was locked here, and commits nothing that was not.

    Raises Invalid(DECISION_MISMATCH).
    """
    if held is not None and held.digest != decision.digest:
        raise Invalid(Reason.DECISION_MISMATCH, "decided on another instruction than locked here")
    if decision.ruling is Ruling.COMMIT and (
        held is None or ledger not in {answer.ledger for answer in decision.answers}
    ):
        raise Invalid(Reason.DECISION_MISMATCH, "a commit of what this ledger did not lock")


def _release(held: Held, books: Books, state: State) -> None:
    """Pays what was locked. An account that was closed since is paid into suspense.

    What goes back to the payer for rounding comes from wherever the principal went just before.
    """
    for one in held.movements:
        debtor, free = one.debtor, one.amount
        if one.entry is Entry.ROUNDING_BACK:
            debtor, free = _paid(one.debtor, state), 0
        books.post(one.entry, debtor, _paid(one.creditor, state), one.amount, held=free)


def _paid(account: str, state: State) -> str:
    """Where money for an account goes."""
    terms = terms_of(state, account)
    return suspense(terms.currency) if terms.closed else account


def _refund(held: Held, books: Books, state: State, now: int) -> None:
    """Ends the holds; what was locked today counts against no limit any more."""
    for hold in held.holds:
        books.refund(hold.account, hold.amount, hold.gross, held.time)
    if day(held.time) == day(now):
        for one in held.paid:
            add_paid(state, one.account, one.owner, -one.amount, day(now))
