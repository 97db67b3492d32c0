"""Accepting an instruction: everything is checked before anything is locked anywhere.

Then, in the same step, one lock is sent to each ledger of it, all of them or none; or it is bound
to its netting window and waits for the cut-off.
"""

from __future__ import annotations

from collections import Counter

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base, quotes
from relay.contracts.accounts import check_open, check_signed, terms_of
from relay.contracts.base import key
from relay.contracts.payloads import (
    Instruction,
    Lock,
    Ruling,
    SignedInstruction,
    fields,
    window_settlement,
)
from relay.contracts.settlement import totals
from relay.contracts.settlement.keys import (
    find_decision,
    find_instruction,
    paused,
    settlement_of,
)
from relay.contracts.settlement.rates import check_rate
from relay.contracts.settlement.sending import send_lock
from relay.contracts.settlement.windows import check_window, join, window_under
from relay.errors import Invalid, NotFound, Reason, Refused


def instruct(body: bytes, state: State, now: int) -> bytes:
    """`instruct`: {signed}. Answers {accepted, packets: [{client, ledger, sequence}], signed}.

    The same instruction again has the same answer and no effect. Raises Malformed, Invalid
    (CHAIN_ID_MISMATCH, REQUEST_ID_REUSED, UNKNOWN_SIGNER, INVALID_SIGNATURE, RATE_INVALID …),
    NotFound (CLIENT_NOT_FOUND, ACCOUNT_NOT_FOUND, RATE_NOT_FOUND …), Refused (QUOTE_EXPIRED,
    QUOTE_USED, QUOTE_FOREIGN, RATE_COLLAR, LIMIT_REACHED, LANE_PAUSED, LEDGER_UNABLE,
    WINDOW_CLOSED …) or
    Denied(COSIGNATURE_MISSING).
    """
    asked = base.read_call(body, "signed")
    signed = SignedInstruction.from_json(asked["signed"])
    instruction = signed.instruction
    if instruction.relay != state.chain_id:
        raise Invalid(Reason.CHAIN_ID_MISMATCH, "signed for another relay", relay=instruction.relay)
    held = state.get(key("instruction", instruction.settlement))
    if held is not None:
        before, _ = find_instruction(state, instruction.settlement)
        if before.instruction != instruction:
            raise Invalid(Reason.REQUEST_ID_REUSED, "another settlement has this id")
        return held
    if window_under(state, instruction.settlement):
        raise Invalid(Reason.REQUEST_ID_REUSED, "a netting window settles under this id")
    check(signed, state, now)
    return _write(signed, state, now)


def check(signed: SignedInstruction, state: State, now: int) -> None:
    """The checks of `instruct`, in their order.

    1. references are fresh  2. window  3. the quote is unexpired, its amounts follow, unused
    4. the rate, or what is returned  5. lanes, and what their ledgers can do  6. accounts, and
    whose they are  7. signatures  8. limits and co-signatures
    """
    instruction = signed.instruction
    if state.get(key("uetr", instruction.uetr)) is not None:
        raise Invalid(Reason.REQUEST_ID_REUSED, "another settlement has this UETR")
    if instruction.window:
        check_window(signed, state, now)
    quote = instruction.quote
    quotes.check_unexpired(instruction, now)
    quotes.check_amounts(instruction)
    if state.get(key("quote", quote.maker, quote.id)) is not None:
        raise Refused(
            Reason.QUOTE_USED, "that quote was used here", maker=quote.maker, quote=quote.id
        )
    if instruction.returns:
        check_return(instruction, state)
    else:
        check_rate(state, quote, now)
    for ledger in instruction.ledgers:
        if paused(state, ledger):
            raise Refused(Reason.LANE_PAUSED, "that ledger's lane is paused", ledger=ledger)
        _check_able(signed, ledger, state)
    for leg in instruction.legs:
        for account in (leg.debtor, leg.creditor):
            check_open(terms_of(state, leg.ledger, account), leg.currency)
        owner = terms_of(state, leg.ledger, quotes.maker_account(instruction, leg)).owner
        quotes.check_maker(instruction, leg, owner)
    for ledger, account in instruction.debtors:
        check_signed(signed, ledger, terms_of(state, ledger, account), now)
    totals.check(signed, totals.totals_of(instruction, state), state, now)


def _check_able(signed: SignedInstruction, ledger: str, state: State) -> None:
    """Checks that a ledger of that kind can do what is asked, before any lock: else the lock would
    be refused there, and all of the settlement given back. Raises Refused(LEDGER_UNABLE)."""
    try:
        able = state.head(state.client_of(ledger)).abilities
    except NotFound:
        return  # no lock can be sent: told when it is tried
    instruction = signed.instruction
    unable = ""
    if instruction.window and not able.nets:
        unable, hint = "settles no windows", "sign it without a window, to be settled by itself"
    elif instruction.itemised is not None and not able.itemises:
        unable = "posts no lines of a bill"
        hint = "sign the total alone: lianqiao settlement prepare --total-only"
    elif able.algorithms and any(
        one.ledger == ledger and one.algorithm not in able.algorithms for one in signed.signatures
    ):
        unable = f"verifies {', '.join(able.algorithms)} alone"
        hint = "sign under such a key of the account: lianqiao keys new --algorithm"
    if unable:
        raise Refused(Reason.LEDGER_UNABLE, f"{ledger} {unable}", hint=hint, ledger=ledger)


def check_return(instruction: Instruction, state: State) -> None:
    """A return gives back what was settled here, once, at the rate of then; all or a part.

    Lines are the original's, or there are none. Raises NotFound(NOT_FOUND),
    Refused(SETTLEMENT_DECIDED) where the original was not committed or was given back,
    Invalid(RATE_INVALID) for another rate, Invalid(AMOUNT_INVALID) for more, in all or to one of
    several who shared a side, or for other lines, Invalid(PARTY_INVALID).
    """
    original, _ = find_instruction(state, settlement_of(state, instruction.returns))
    first = original.instruction
    if _ruling(first, state) is not Ruling.COMMIT:
        raise Refused(Reason.SETTLEMENT_DECIDED, "what was not committed cannot be given back")
    before = state.last(key("returned", instruction.returns, ""))
    if before is not None:
        earlier = fields.octets(fields.document(before[1]), "settlement")
        if _ruling(find_instruction(state, earlier)[0].instruction, state) is not Ruling.ABORT:
            raise Refused(Reason.SETTLEMENT_DECIDED, "that settlement is given back already")
    then, back = first.quote, instruction.quote
    if (then.rate, then.bill.currency, then.payable.currency, then.maker) != (
        back.rate,
        back.bill.currency,
        back.payable.currency,
        back.maker,
    ):
        raise Invalid(Reason.RATE_INVALID, "a return is at the rate and by the maker of then")
    if back.bill.amount > then.bill.amount:
        raise Invalid(Reason.AMOUNT_INVALID, "more than was settled")
    if instruction.itemised not in (None, first.itemised):
        raise Invalid(Reason.AMOUNT_INVALID, "a return has the lines of then, or none")
    if {(leg.ledger, leg.debtor, leg.creditor) for leg in first.legs} != {
        (leg.ledger, leg.creditor, leg.debtor) for leg in instruction.legs
    }:
        raise Invalid(Reason.PARTY_INVALID, "a return goes between the same accounts")
    paid, given = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for leg in first.legs:
        paid[leg.ledger, leg.debtor, leg.creditor] += leg.amount
    for leg in instruction.legs:
        given[leg.ledger, leg.creditor, leg.debtor] += leg.amount
    if any(amount > paid[who] for who, amount in given.items()):
        raise Invalid(Reason.AMOUNT_INVALID, "more than was settled between two of the accounts")


def _ruling(instruction: Instruction, state: State) -> Ruling | None:
    """What was decided on an instruction, by itself or with its window."""
    under = instruction.settlement
    if instruction.window:
        under = window_settlement(instruction.relay, instruction.window)
    decision = find_decision(state, under)
    return None if decision is None else decision.ruling


def _write(signed: SignedInstruction, state: State, now: int) -> bytes:
    """Keeps the instruction and uses up its references; sends its locks or joins its window."""
    instruction = signed.instruction
    packets: list[Json] = []
    if instruction.window:
        join(signed, state, now)
    else:
        for ledger in instruction.ledgers:
            lock = Lock(state.chain_id, ledger, signed).encode()
            packets.append(send_lock(state, ledger, lock, instruction.deadline, now))
    value: Json = {"accepted": now, "packets": packets, "signed": signed.to_json()}
    raw = encode(value)
    settlement = encode({"settlement": instruction.settlement.hex()})
    state.put(key("instruction", instruction.settlement), raw)
    state.put(key("uetr", instruction.uetr), settlement)
    state.put(key("quote", instruction.quote.maker, instruction.quote.id), settlement)
    if instruction.returns:
        before = state.last(key("returned", instruction.returns, ""))
        number = 1 if before is None else int(before[0].rpartition(b"/")[2]) + 1
        state.put(key("returned", instruction.returns, f"{number:08d}"), settlement)
    totals.add(totals.totals_of(instruction, state), 1, state, now)
    return raw
