"""Where `settlement` keeps what it knows, and the readers that services and the CLI use.

Keys (ids in hex, numbers zero-padded so that byte order is their order):

    account/<ledger>/<account>/<version, 8 digits>   Terms (relay.contracts.accounts)
    spent/<ledger>/<account>/<number, 12 digits>     {day, total}, where the terms set a limit
    paid/<ledger>/<account>/<owner>/<number, 12 digits>   the same for one payee's owner
    rate-policy…, rate…, factor…                     relay.contracts.settlement.rates
    lane/<ledger>/<number, 8 digits>                 {paused, time}
    window/<window>                                  {cut_off, deadline, opened}
    window-id/<window settlement>                    {window}: no instruction has that id
    due/<cut-off, 12 digits>/<window>                {window}: is cut off by itself then
    due-through/<number, 12 digits>                  {after}: up to this key under due/ all are
    member/<window>/<number, 4 digits>               {accepted, digest, ledgers, settlement} and
                                                     {record, shown}: bytes so far
    cut-off/<window>                                 CutOff
    instruction/<settlement>                         {accepted, packets, signed}
    uetr/<uetr>, quote/<maker>/<quote>               {settlement}
    returned/<uetr>/<number, 8 digits>               {settlement}: of what gives it back
    locking/<window settlement>                      {packets, window}: of the net locks
    answer/<settlement>/<ledger>                     LockAnswer
    decision/<settlement>                            SettlementDecision
    done/<settlement>/<ledger>                       DecisionAnswer
    closed/<settlement>                              {time}: every ledger has done it
    retried/<settlement>/<number, 8 digits>          {locks, time}: asked again; `locks`: ledgers
                                                     that were asked to lock
    undelivered… (relay.contracts.undelivered)

A settlement of a netting window has no records of its own from `answer` on: they are its window's,
under `window_settlement`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from relay.contracts.base import Reader, key
from relay.contracts.payloads import (
    CutOff,
    DecisionAnswer,
    LockAnswer,
    SettlementDecision,
    SignedInstruction,
    cut_off_key,
    decision_key,
    fields,
    window_settlement,
)
from relay.contracts.payloads.settling import MAX_LEDGERS
from relay.errors import NotFound, Reason

_PAGE = 100


class SettlementStatus(StrEnum):
    """Where a settlement stands."""

    WINDOW = "WINDOW"
    """Accepted into a netting window that is not cut off yet."""
    LOCKING = "LOCKING"
    COMMITTED = "COMMITTED"
    """Decided; not yet done on every ledger."""
    ABORTED = "ABORTED"
    SETTLED = "SETTLED"
    """Committed, and released on every ledger."""
    RETURNED = "RETURNED"
    """Aborted, and refunded on every ledger that had locked."""


@dataclass(frozen=True, slots=True)
class SettlementView:
    """A settlement and what became of it."""

    signed: SignedInstruction
    accepted: int
    status: SettlementStatus
    under: bytes
    """The id that answers and decision are under: its own, or its window's."""
    answers: tuple[LockAnswer, ...]
    """Of its ledgers (of its window's), ascending by ledger."""
    decision: SettlementDecision | None
    done: tuple[DecisionAnswer, ...]
    closed: int
    """Seconds; 0 while it is open."""


def find_cut_off(state: Reader, window: str) -> CutOff | None:
    """What a netting window held; None while it is open."""
    found = state.get(cut_off_key(window))
    return None if found is None else CutOff.decode(found)


def find_decision(state: Reader, settlement: bytes) -> SettlementDecision | None:
    """The decision under an id; None where there is none yet."""
    found = state.get(decision_key(settlement))
    return None if found is None else SettlementDecision.decode(found)


def retried_locks(state: Reader, settlement: bytes) -> frozenset[str]:
    """The ledgers that were asked to lock again under an id."""
    found: set[str] = set()
    after, prefix = b"", key("retried", settlement, "")
    while page := state.scan(prefix, after=after, limit=_PAGE):
        for _, raw in page:
            note = fields.document(raw)
            if "locks" in note:  # not in those of earlier versions
                found.update(fields.ascending(note, "locks", fields.identifier, MAX_LEDGERS))
        after = page[-1][0]
    return frozenset(found)


def ledgers_of(state: Reader, settlement: bytes, window: str) -> tuple[str, ...]:
    """The ledgers that lock under an id; `window` where the id is a window's."""
    if window:
        cut_off = find_cut_off(state, window)
        return () if cut_off is None else cut_off.ledgers
    return find_instruction(state, settlement)[0].instruction.ledgers


def find_instruction(state: Reader, settlement: bytes) -> tuple[SignedInstruction, int]:
    """(the signed instruction, when it was accepted). Raises NotFound(NOT_FOUND)."""
    found = state.get(key("instruction", settlement))
    if found is None:
        raise NotFound(
            Reason.NOT_FOUND, "no such settlement was accepted here", settlement=settlement.hex()
        )
    return _accepted(found)


@lru_cache(maxsize=1024)
def _accepted(raw: bytes) -> tuple[SignedInstruction, int]:
    """What is written of an instruction: each answer of a ledger asks for it again."""
    body = fields.document(raw)
    return SignedInstruction.from_json(body["signed"]), fields.integer(body, "accepted")


def find_settlement(state: Reader, settlement: bytes) -> SettlementView:
    """A settlement and where it stands. Raises NotFound(NOT_FOUND)."""
    signed, accepted = find_instruction(state, settlement)
    instruction = signed.instruction
    window = instruction.window
    under = window_settlement(instruction.relay, window) if window else settlement
    ledgers = ledgers_of(state, settlement, window)
    answers = tuple(map(LockAnswer.decode, _written(state, "answer", under, ledgers)))
    done = tuple(map(DecisionAnswer.decode, _written(state, "done", under, ledgers)))
    decision = find_decision(state, under)
    raw = state.get(key("closed", under))
    closed = 0 if raw is None else fields.integer(fields.document(raw), "time")
    status = SettlementStatus.LOCKING
    if not ledgers:  # those of a window are known from its cut-off on
        status = SettlementStatus.WINDOW
    elif decision is not None:
        commit = decision.reason is None
        if closed:
            status = SettlementStatus.SETTLED if commit else SettlementStatus.RETURNED
        else:
            status = SettlementStatus.COMMITTED if commit else SettlementStatus.ABORTED
    return SettlementView(signed, accepted, status, under, answers, decision, done, closed)


def _written(state: Reader, what: str, under: bytes, ledgers: tuple[str, ...]) -> Iterator[bytes]:
    for ledger in ledgers:
        raw = state.get(key(what, under, ledger))
        if raw is not None:
            yield raw


def settlement_of(state: Reader, uetr: str) -> bytes:
    """The settlement with that end-to-end reference. Raises NotFound(NOT_FOUND)."""
    found = state.get(key("uetr", uetr))
    if found is None:
        raise NotFound(Reason.NOT_FOUND, "no settlement has that reference here", uetr=uetr)
    return fields.octets(fields.document(found), "settlement")


def paused(state: Reader, ledger: str) -> bool:
    """Whether the lane to a ledger takes nothing new."""
    found = state.last(key("lane", ledger, ""))
    return found is not None and fields.boolean(fields.document(found[1]), "paused")
