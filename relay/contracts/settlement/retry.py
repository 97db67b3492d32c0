"""Asking again: for a settlement that waits for an answer which no packet will bring any more.

Locks and decisions are answered, or proven never to have been received; either moves a settlement
on. It stands still only where an answer came and could not be taken: by a fault of this program,
or by a ledger that answered what it had not done. Asking again is safe at any time: a ledger
answers a lock that it made and a decision that it carried out as it did, and locks nothing whose
quote or window is over. What it refused it may lock when it is asked again: the answer that comes
first decides, and what is locked after an abort is given back.
"""

from __future__ import annotations

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base
from relay.contracts.base import key
from relay.contracts.payloads import Lock, NetLock, fields
from relay.contracts.settlement.decide import Asked, conclude
from relay.contracts.settlement.keys import (
    SettlementStatus,
    SettlementView,
    find_cut_off,
    find_decision,
    find_settlement,
    ledgers_of,
)
from relay.contracts.settlement.sending import send_decision, send_lock
from relay.contracts.settlement.windows import instructions_on
from relay.contracts.undelivered import ROW_TIMEOUT
from relay.errors import Reason, Refused

RETRY_SECONDS = 30
"""Between two askings for one settlement: each sends packets, and any caller may ask."""


def retry(body: bytes, state: State, now: int) -> bytes:
    """`retry`: {settlement}: its own id; one that a window nets stands for its window.

    While it is undecided, every ledger whose answer is missing is asked to lock again; once it is
    decided, every ledger that is not proven to have done it is told again. Answers {packets:
    [{client, ledger, sequence}]} of the locks, and how many were `told`.

    Raises NotFound(NOT_FOUND), Refused: SETTLEMENT_DECIDED where nothing is missing, WINDOW_CLOSED
    where it waits for its window's cut-off, LIMIT_EXCEEDED where it was asked again within
    RETRY_SECONDS, and what *send* raises: then nothing is sent.
    """
    asked = base.read_call(body, "settlement")
    view = find_settlement(state, fields.octets(asked, "settlement"))
    if view.closed:
        raise Refused(Reason.SETTLEMENT_DECIDED, "it is closed: nothing is missing")
    if view.status is SettlementStatus.WINDOW:
        raise Refused(
            Reason.WINDOW_CLOSED,
            "it waits for its window, and nothing has been asked yet",
            hint="lianqiao settlement window cut-off",
            window=view.signed.instruction.window,
        )
    window = view.signed.instruction.window
    number = _next(view.under, state, now)
    conclude(Asked("", view.under, window), state, now)
    packets: list[Json] = []
    locks: list[str] = []
    told = 0
    decision = find_decision(state, view.under)
    for ledger in ledgers_of(state, view.under, window):
        if decision is None and state.get(key("answer", view.under, ledger)) is None:
            # Later than the deadline it is a question only: nothing is locked any more by then.
            lock = _lock(view, ledger, state)
            packets.append(send_lock(state, ledger, lock, now + ROW_TIMEOUT, now))
            locks.append(ledger)
        elif decision is not None and state.get(key("done", view.under, ledger)) is None:
            send_decision(state, ledger, decision, now)
            told += 1
    note = encode({"locks": [*sorted(locks)], "time": now})
    state.put(key("retried", view.under, f"{number:08d}"), note)
    return encode({"packets": packets, "told": told})


def _next(under: bytes, state: State, now: int) -> int:
    """The number of this asking, from 1. Raises Refused(LIMIT_EXCEEDED)."""
    before = state.last(key("retried", under, ""))
    if (
        before is not None
        and now < fields.integer(fields.document(before[1]), "time") + RETRY_SECONDS
    ):
        raise Refused(
            Reason.LIMIT_EXCEEDED,
            "it was asked again just now",
            hint=f"wait {RETRY_SECONDS} seconds for the answers",
        )
    return 1 if before is None else 1 + int(before[0].rpartition(b"/")[2])


def _lock(view: SettlementView, ledger: str, state: State) -> bytes:
    """Row 6 or 7 as it was sent before."""
    window = view.signed.instruction.window
    if not window:
        return Lock(state.chain_id, ledger, view.signed).encode()
    record = find_cut_off(state, window)
    assert record is not None, "a window that is not cut off was refused"
    return NetLock(state.chain_id, ledger, window, instructions_on(state, record, ledger)).encode()
