"""Netting windows: accepted instructions wait, and settle together by one decision.

A window is opened with its deadline, binds the instructions that name it, and is cut off by a
journaled record that says what it holds. The net set follows from that record and the signed
instructions alone: for each ledger, everything that its accounts owe each other, netted
(relay.money.net). Anyone who reads the journal computes the same, and each escrow does. One lock
that fails aborts all of it; nothing in a window settles by itself.
"""

from __future__ import annotations

from relay.canonical import Json, encode
from relay.contract import State
from relay.contracts import base
from relay.contracts.base import Reader, key
from relay.contracts.escrow.locks import obligations
from relay.contracts.payloads import (
    CutOff,
    LockAnswer,
    Member,
    NetLock,
    SignedInstruction,
    cut_off_key,
    fields,
    window_settlement,
)
from relay.contracts.payloads.netting import MAX_MEMBERS
from relay.contracts.settlement.decide import Asked, answered
from relay.contracts.settlement.keys import find_instruction
from relay.contracts.settlement.sending import send_lock
from relay.errors import NotFound, Reason, Refused
from relay.money import Transfer, net

MAX_WINDOW_BYTES = 240 * 1024
"""Of signed instructions: one packet shows a ledger all that concern it."""


def open_window(body: bytes, state: State, now: int) -> bytes:
    """`window.open`: {deadline, window}. Raises Refused: TIMEOUT_ELAPSED for a deadline that has
    passed, CONFLICT for a name that was used with another."""
    asked = base.read_call(body, "deadline window")
    window, deadline = fields.name(asked, "window"), fields.integer(asked, "deadline", 1)
    held = state.get(key("window", window))
    if held is not None:
        if fields.document(held)["deadline"] != deadline:
            raise Refused(Reason.CONFLICT, "that window has another deadline", window=window)
        return held
    if deadline <= now:
        raise Refused(Reason.TIMEOUT_ELAPSED, "the deadline lies in the past", now=now)
    value: Json = {"deadline": deadline, "opened": now}
    raw = encode(value)
    state.put(key("window", window), raw)
    return raw


def _deadline(state: Reader, window: str) -> int:
    """The deadline of an open window. Raises Refused(WINDOW_CLOSED)."""
    held = state.get(key("window", window))
    if held is None or state.get(cut_off_key(window)) is not None:
        raise Refused(
            Reason.WINDOW_CLOSED, "no such window is open", hint="window.open", window=window
        )
    return fields.integer(fields.document(held), "deadline")


def _size(state: Reader, window: str) -> tuple[int, int]:
    """(members, bytes) of a window so far."""
    found = state.last(key("member", window, ""))
    if found is None:
        return 0, 0
    body = fields.document(found[1])
    return int(found[0].rpartition(b"/")[2]), fields.integer(body, "bytes")


def check_window(signed: SignedInstruction, state: State) -> None:
    """Checks that the window takes this instruction. Raises Refused(WINDOW_CLOSED)."""
    instruction = signed.instruction
    if instruction.deadline != _deadline(state, instruction.window):
        raise Refused(Reason.WINDOW_CLOSED, "signed for another deadline than the window's")
    members, size = _size(state, instruction.window)
    if members >= MAX_MEMBERS or size + len(signed.encode()) > MAX_WINDOW_BYTES:
        raise Refused(Reason.WINDOW_CLOSED, "the window is full", hint="cut it off; open another")


def join(signed: SignedInstruction, state: State, now: int) -> None:
    """Binds an accepted instruction to its window, as the next member."""
    instruction = signed.instruction
    members, size = _size(state, instruction.window)
    member = Member(instruction.settlement, instruction.digest, instruction.ledgers, now)
    value: Json = {**member.to_json(), "bytes": size + len(signed.encode())}
    state.put(key("member", instruction.window, f"{members + 1:04d}"), encode(value))


def cut_off(body: bytes, state: State, now: int) -> bytes:
    """`window.cut_off`: {window}. Writes what the window holds and sends the net locks.

    Answers the CutOff record; the same again is a no-op. Raises NotFound(NOT_FOUND) where the
    window was never opened, and what *send* raises: then nothing is written.
    """
    window = fields.name(base.read_call(body, "window"), "window")
    done = state.get(cut_off_key(window))
    if done is not None:
        return done
    held = state.get(key("window", window))
    if held is None:
        raise NotFound(Reason.NOT_FOUND, "no such window was opened", window=window)
    deadline = fields.integer(fields.document(held), "deadline")
    found = base.everything(state, key("member", window, ""), MAX_MEMBERS)
    members = tuple(_member(value) for _, value in found)
    settlement = window_settlement(state.chain_id, window)
    record = CutOff(state.chain_id, window, settlement, deadline, now, members)
    raw = record.encode()
    state.put(cut_off_key(window), raw)
    packets: list[Json] = []
    for ledger in record.ledgers if now < deadline else ():
        lock = NetLock(state.chain_id, ledger, window, instructions_on(state, record, ledger))
        packets.append(send_lock(state, ledger, lock.encode(), deadline, now))
    state.put(key("locking", settlement), encode({"packets": packets, "window": window}))
    # Past the deadline nothing is asked of anyone, so that nothing can be locked: aborted at once,
    # whether its ledgers can be reached or not.
    for ledger in record.ledgers if now >= deadline else ():
        missed = LockAnswer(ledger, settlement, Reason.TIMED_OUT, now)
        answered(Asked(ledger, settlement, window), missed, state, now)
    return raw


def _member(value: bytes) -> Member:
    body = dict(fields.document(value))
    body.pop("bytes")
    return Member.from_json(body)


def instructions_on(state: Reader, record: CutOff, ledger: str) -> tuple[SignedInstruction, ...]:
    """The signed instructions of a window that concern one ledger, in order."""
    return tuple(
        find_instruction(state, member.settlement)[0]
        for member in record.members
        if ledger in member.ledgers
    )


def net_set(state: Reader, record: CutOff, ledger: str) -> tuple[Transfer, ...]:
    """What a window moves on one ledger, computed from the journal alone. Any reader may."""
    signed = instructions_on(state, record, ledger)
    return net(one for s in signed for one in obligations(s.instruction, ledger))
