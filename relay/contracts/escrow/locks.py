"""Locking what a settlement takes from accounts of this ledger: all of it, or nothing.

Everything is checked here again, whoever checked it before: a relay can ask for nothing that the
owners of the debited accounts did not sign, and a quote serves once whatever relay it comes by.
What is locked covers all that a release posts, and its payees are valid, so that it cannot fail.
A lock never ends by time: only by the decision (relay.contracts.escrow.endings).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.canonical import encode
from relay.contract import State
from relay.contracts import quotes
from relay.contracts.accounts import (
    Terms,
    check_counterparty,
    check_day,
    check_open,
    check_signed,
    terms_of,
)
from relay.contracts.base import key
from relay.contracts.civil import day
from relay.contracts.escrow.books import Books, Entry
from relay.contracts.escrow.keys import (
    Held,
    Hold,
    Movement,
    Netted,
    Paid,
    encode_netted,
    find_end,
    find_held,
)
from relay.contracts.escrow.postings import held, movements, obligations
from relay.contracts.payloads import (
    CutOff,
    Ended,
    Instruction,
    Leg,
    Lock,
    LockAnswer,
    NetLock,
    SignedInstruction,
    cut_off_key,
    fields,
    window_settlement,
)
from relay.errors import Invalid, Malformed, Reason, Refused
from relay.money import MAX_AMOUNT, net
from relay.paths import record_path


@dataclass(slots=True)
class Plan:
    """What one step will write, gathered while it is checked."""

    state: State
    relay: str
    settlement: bytes
    now: int
    quotes: dict[bytes, bytes] = field(default_factory=dict)
    """Key of each quote, and its settlement's id."""
    gross: dict[str, int] = field(default_factory=dict)
    """By debtor account: principal and fees."""
    paid: dict[tuple[str, str], int] = field(default_factory=dict)
    """By debtor account and payee's owner; where the terms set a limit for one."""
    movements: list[Movement] = field(default_factory=list)
    netted: dict[str, list[Netted]] = field(default_factory=dict)
    """By account: what each instruction of a window would move on it."""
    terms: dict[str, Terms] = field(default_factory=dict)

    def account(self, name: str) -> Terms:
        """The terms of an account. Raises NotFound(ACCOUNT_NOT_FOUND)."""
        if name not in self.terms:
            self.terms[name] = terms_of(self.state, name)
        return self.terms[name]


def lock(asked: Lock, state: State, now: int) -> LockAnswer:
    """Row 6. Raises what `_check` raises; the contract makes an answer of it."""
    instruction = asked.signed.instruction
    known = _known(state, asked.relay, instruction.settlement, instruction.digest)
    if known is not None:
        return known
    if instruction.window:
        raise Refused(Reason.WINDOW_CLOSED, "it settles with its window, not by itself")
    quotes.check_unexpired(instruction, now)
    plan = Plan(state, asked.relay, instruction.settlement, now)
    _check(asked.signed, plan)
    plan.movements.extend(movements(instruction, state.chain_id))
    return _write(plan, held(plan.movements), instruction.digest, instruction.uetr, "")


def net_lock(asked: NetLock, state: State, now: int) -> LockAnswer:
    """Row 7: recomputes the net set of the window from the signed instructions it is shown."""
    cut_off = _cut_off(asked, state)
    settlement = cut_off.settlement
    known = _known(state, asked.relay, settlement, cut_off.digest)
    if known is not None:
        return known
    _check_shown(asked, cut_off, state.chain_id)
    if now >= cut_off.deadline:
        raise Refused(Reason.TIMEOUT_ELAPSED, "the window's deadline has passed", now=now)
    plan = Plan(state, asked.relay, settlement, now)
    for signed in asked.instructions:
        _check(signed, plan)
        _note_netted(signed.instruction, plan)
    owed = (one for s in asked.instructions for one in obligations(s.instruction, state.chain_id))
    for transfer in net(owed):
        plan.movements.append(
            Movement(Entry.NET, transfer.debtor, transfer.creditor, transfer.amount)
        )
    holds = {**dict.fromkeys(plan.gross, 0), **held(plan.movements)}
    return _write(plan, holds, cut_off.digest, "", asked.window)


def _note_netted(instruction: Instruction, plan: Plan) -> None:
    """Keeps what a netted instruction is to each account, for its statements."""
    moved: dict[str, int] = {}
    rounding: dict[str, int] = {}
    for one in movements(instruction, plan.state.chain_id):
        both = (one.debtor, -one.amount), (one.creditor, one.amount)
        for account, amount in both:
            moved[account] = moved.get(account, 0) + amount
            if one.entry in (Entry.ROUNDING, Entry.ROUNDING_BACK):
                rounding[account] = rounding.get(account, 0) + amount
    for account, amount in moved.items():
        part = Netted(instruction.uetr, amount, rounding.get(account, 0))
        plan.netted.setdefault(account, []).append(part)


def _known(state: State, relay: str, settlement: bytes, digest: bytes) -> LockAnswer | None:
    """The answer to a lock that was made before, and not given back. Raises
    Refused(SETTLEMENT_DECIDED) where none can be made any more, and Refused(REQUEST_ID_REUSED)
    where it was for something else.

    A relay that has lost its decision asks again: what was given back is no lock to commit on.
    """
    before, end = find_held(state, relay, settlement), find_end(state, relay, settlement)
    if before is not None:
        if before.digest != digest:
            raise Refused(Reason.REQUEST_ID_REUSED, "that settlement locked something else")
        if end is not None and end.ended is Ended.REFUNDED:
            raise Refused(Reason.SETTLEMENT_DECIDED, "that settlement was given back")
        return LockAnswer(state.chain_id, settlement, None, before.time)
    if end is not None:
        raise Refused(Reason.SETTLEMENT_DECIDED, "that settlement was decided before it came")
    return None


def _check(signed: SignedInstruction, plan: Plan) -> None:
    """Checks one instruction as far as it concerns this ledger, and adds it to the plan.

    1. it is for this relay and this ledger  2. amounts and rate  3. the quote is unused
    4. accounts: there, open, in the currency  5. the maker's  6. signatures  7. co-signatures and
    limits. Funds are checked last, where all holds of an account are known.
    """
    instruction, ledger = signed.instruction, plan.state.chain_id
    legs = instruction.legs_on(ledger)
    if instruction.relay != plan.relay:
        raise Invalid(Reason.CHAIN_ID_MISMATCH, "signed for another relay", relay=plan.relay)
    if not legs:
        raise Invalid(Reason.CHAIN_ID_MISMATCH, "has no leg on this ledger", ledger=ledger)
    quotes.check_amounts(instruction)
    _use_quote(instruction, plan)
    for leg in legs:
        for account in (leg.debtor, leg.creditor, *((leg.fee.account,) if leg.fee else ())):
            check_open(plan.account(account), leg.currency)
        owner = plan.account(quotes.maker_account(instruction, leg)).owner
        quotes.check_maker(instruction, leg, owner)
    for account in sorted({leg.debtor for leg in legs}):
        check_signed(signed, ledger, plan.account(account), plan.now)
    for leg in legs:
        _add(leg, plan)
    for account in sorted({leg.debtor for leg in legs}):
        terms = plan.account(account)
        if terms.limits.any:
            books = Books(plan.state, plan.now, plan.settlement)
            before = books.last(account).spent_on(day(plan.now))
            check_day(signed, terms, before + plan.gross[account], plan.now)


def _use_quote(instruction: Instruction, plan: Plan) -> None:
    """Raises Refused(QUOTE_USED), by whichever relay and settlement it was."""
    name = key("quote", instruction.quote.maker, instruction.quote.id)
    if name in plan.quotes or plan.state.get(name) is not None:
        raise Refused(
            Reason.QUOTE_USED,
            "that quote of this maker was used",
            maker=instruction.quote.maker,
            quote=instruction.quote.id,
        )
    plan.quotes[name] = instruction.settlement


def _add(leg: Leg, plan: Plan) -> None:
    """Counts a leg against its debtor. Raises Refused(LIMIT_REACHED) or Invalid(AMOUNT_INVALID)."""
    gross = plan.gross.get(leg.debtor, 0) + leg.total
    if gross > MAX_AMOUNT:
        raise Invalid(Reason.AMOUNT_INVALID, "more than 2^53-1 of one account")
    plan.gross[leg.debtor] = gross
    terms = plan.account(leg.debtor)
    for account, amount in leg.paid if terms.limits.counterparty else ():
        payee = (leg.debtor, plan.account(account).owner)
        plan.paid[payee] = plan.paid.get(payee, 0) + amount
        before = paid_on(plan.state, *payee, day(plan.now))
        check_counterparty(terms, before + plan.paid[payee])


def paid_on(state: State, account: str, owner: str, today: int) -> int:
    """What an account locked for one payee's owner on a day, where that is kept."""
    found = state.last(key("paid", account, owner, ""))
    if found is None:
        return 0
    body = fields.document(found[1])
    return fields.integer(body, "total") if body["day"] == today else 0


def add_paid(state: State, account: str, owner: str, amount: int, today: int) -> None:
    """Adds to what an account locked for one payee's owner today; negative at a refund."""
    found = state.last(key("paid", account, owner, ""))
    number = 1 if found is None else int(found[0].rpartition(b"/")[2]) + 1
    total = max(0, paid_on(state, account, owner, today) + amount)
    value = encode({"day": today, "total": min(total, MAX_AMOUNT)})
    state.put(key("paid", account, owner, f"{number:012d}"), value)


def _write(plan: Plan, due: dict[str, int], digest: bytes, uetr: str, window: str) -> LockAnswer:
    """Holds the money and writes what a decision will need. Raises Refused(FUNDS_MISSING)."""
    state, now = plan.state, plan.now
    books = Books(state, now, plan.settlement, plan.relay)
    for account, amount in sorted(due.items()):
        if books.last(account).free < amount:
            raise Refused(Reason.FUNDS_MISSING, "less is free than that", account=account)
    holds = tuple(
        Hold(account, amount, plan.gross.get(account, 0)) for account, amount in sorted(due.items())
    )
    for hold in holds:
        books.hold(hold.account, hold.amount, hold.gross)
    paid = tuple(Paid(*payee, amount) for payee, amount in sorted(plan.paid.items()))
    for one in paid:
        add_paid(state, one.account, one.owner, one.amount, day(now))
    for name, settlement in plan.quotes.items():
        state.put(name, encode({"relay": plan.relay, "settlement": settlement.hex()}))
    for account, members in plan.netted.items():
        name = key("netted", plan.relay, plan.settlement, account)
        state.put(name, encode_netted(members))
    record = Held(digest, uetr, window, holds, tuple(plan.movements), paid, now)
    state.put(key("lock", plan.relay, plan.settlement), record.encode())
    return LockAnswer(state.chain_id, plan.settlement, None, now)


def _cut_off(asked: NetLock, state: State) -> CutOff:
    """The window's record, as it was proven beside the packet, for which the host asks.

    Raises Invalid(DECISION_MISMATCH)."""
    shown = state.proven(record_path("settlement", cut_off_key(asked.window)))
    try:
        found = CutOff.decode(shown or b"")
    except Malformed as err:
        raise Invalid(Reason.DECISION_MISMATCH, "the cut-off cannot be read") from err
    due = window_settlement(asked.relay, asked.window)
    if (found.relay, found.window, found.settlement) != (asked.relay, asked.window, due):
        raise Invalid(Reason.DECISION_MISMATCH, "the cut-off is of another window")
    return found


def _check_shown(asked: NetLock, cut_off: CutOff, ledger: str) -> None:
    """Checks that exactly the instructions of the window that concern this ledger are shown.

    A relay can so neither hide one from a ledger nor show two ledgers different sets.
    Raises Invalid(DECISION_MISMATCH) or Refused(QUOTE_EXPIRED), WINDOW_CLOSED.
    """
    due = [member for member in cut_off.members if ledger in member.ledgers]
    shown = [one.instruction for one in asked.instructions]
    if [(m.settlement, m.digest, m.ledgers) for m in due] != [
        (one.settlement, one.digest, one.ledgers) for one in shown
    ]:
        raise Invalid(Reason.DECISION_MISMATCH, "not the instructions of the cut-off")
    for member, one in zip(due, shown, strict=True):
        quotes.check_unexpired(one, member.accepted)
        if (one.window, one.deadline) != (cut_off.window, cut_off.deadline):
            raise Refused(
                Reason.WINDOW_CLOSED, "signed for another window or deadline", window=one.window
            )
