"""From the answers of the ledgers to the one decision, and from that to the end.

*Commit* where every ledger has answered that it locked, *abort* as soon as one has not: refused,
failed, or proven never to have received the lock. Exactly one becomes true. The decision is written
once and sent to every ledger, also to those whose answer is still to come: what locks after an
abort is refunded by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.canonical import encode
from relay.contract import State
from relay.contracts.base import key
from relay.contracts.civil import day
from relay.contracts.payloads import (
    DecisionAnswer,
    Ended,
    LockAnswer,
    Ruling,
    SettlementDecision,
    decision_key,
)
from relay.contracts.settlement import totals
from relay.contracts.settlement.keys import find_cut_off, find_instruction, ledgers_of
from relay.contracts.settlement.sending import send_decision
from relay.errors import LianqiaoError, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT


@dataclass(frozen=True, slots=True)
class Asked:
    """What a lock packet asked for: which ledger, under which id."""

    ledger: str
    settlement: bytes
    window: str
    """Empty for a settlement by itself."""


def read_answer(asked: Asked, acknowledgement: bytes | None, now: int) -> LockAnswer:
    """What became of a lock; None: it timed out. What cannot be read counts as a refusal."""
    reason = Reason.TIMED_OUT
    if acknowledgement is not None:
        reason = Reason.CONTRACT_REFUSED
        if acknowledgement != ERROR_ACKNOWLEDGEMENT:
            try:
                found = LockAnswer.decode(acknowledgement)
            except LianqiaoError:
                found = None
            if found and (found.ledger, found.settlement) == (asked.ledger, asked.settlement):
                return found
    return LockAnswer(asked.ledger, asked.settlement, reason, now)


def answered(asked: Asked, answer: LockAnswer, state: State, now: int) -> None:
    """Keeps a ledger's answer, and decides where it decides the matter."""
    name = key("answer", asked.settlement, asked.ledger)
    if state.get(name) is not None:
        return
    state.put(name, answer.encode())
    conclude(asked, state, now)


def conclude(asked: Asked, state: State, now: int) -> None:
    """Decides where the answers that are kept decide the matter, and nothing has decided it yet."""
    if state.get(decision_key(asked.settlement)) is not None:
        return
    ledgers = ledgers_of(state, asked.settlement, asked.window)
    answers = tuple(
        LockAnswer.decode(raw)
        for ledger in ledgers
        if (raw := state.get(key("answer", asked.settlement, ledger)))
    )
    if any(not answer.accepted for answer in answers):
        _decide(asked, Ruling.ABORT, answers, ledgers, state, now)
    elif len(answers) == len(ledgers):
        _decide(asked, Ruling.COMMIT, answers, ledgers, state, now)


def _decide(
    asked: Asked,
    ruling: Ruling,
    answers: tuple[LockAnswer, ...],
    ledgers: tuple[str, ...],
    state: State,
    now: int,
) -> None:
    """Writes the decision once, and tells every ledger."""
    decision = SettlementDecision(
        relay=state.chain_id,
        settlement=asked.settlement,
        digest=_digest(asked, state),
        ruling=ruling,
        decided=now,
        answers=answers,
    )
    state.put(decision_key(asked.settlement), decision.encode())
    for ledger in ledgers:
        send_decision(state, ledger, decision, now)
    if ruling is Ruling.ABORT:
        _forget_totals(asked, state, now)


def _digest(asked: Asked, state: State) -> bytes:
    """What the decision is about: H(instruction), or H(cut-off record)."""
    if asked.window:
        cut_off = find_cut_off(state, asked.window)
        assert cut_off is not None, "a net lock is sent at the cut-off"
        return cut_off.digest
    return find_instruction(state, asked.settlement)[0].instruction.digest


def _forget_totals(asked: Asked, state: State, now: int) -> None:
    """What was accepted today and came to nothing counts against no limit of today."""
    members = [asked.settlement]
    if asked.window:
        cut_off = find_cut_off(state, asked.window)
        members = [member.settlement for member in cut_off.members] if cut_off else []
    for settlement in members:
        signed, accepted = find_instruction(state, settlement)
        if day(accepted) == day(now):
            totals.add(totals.totals_of(signed.instruction, state), -1, state, now)


def read_done(
    ledger: str, decision: SettlementDecision, acknowledgement: bytes
) -> DecisionAnswer | None:
    """A ledger's answer to a decision; None where it has not done what was decided."""
    try:  # the error constant is no answer either
        found = DecisionAnswer.decode(acknowledgement)
    except LianqiaoError:
        return None
    if (found.ledger, found.settlement) != (ledger, decision.settlement):
        return None
    committed = decision.ruling is Ruling.COMMIT
    return found if (found.ended is Ended.RELEASED) == committed else None


def done(answer: DecisionAnswer, window: str, state: State, now: int) -> None:
    """Keeps what a ledger has done; closes the settlement with the last one."""
    name = key("done", answer.settlement, answer.ledger)
    if state.get(name) is not None:
        return
    state.put(name, answer.encode())
    ledgers = ledgers_of(state, answer.settlement, window)
    if all(state.get(key("done", answer.settlement, ledger)) for ledger in ledgers):
        state.put(key("closed", answer.settlement), encode({"time": now}))
