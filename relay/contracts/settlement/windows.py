"""Netting windows: accepted instructions wait, and settle together by one decision.

A window is opened with its deadline, binds the instructions that name it, and is cut off, by hand
or by itself at the time it was opened with, by a journaled record that says what it holds. The net
set follows from that record and the signed instructions alone: for each ledger, everything that its
accounts owe each other, netted (relay.money.net). Anyone who reads the journal computes the same,
and each escrow does. One lock that fails aborts all of it; nothing in a window settles by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.canonical import MAX_INTEGER, Json, encode
from relay.contract import State
from relay.contracts import base
from relay.contracts.base import Reader, key
from relay.contracts.escrow.postings import obligations
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
from relay.contracts.payloads.netting import MAX_CUT_OFF_BYTES, MAX_MEMBERS
from relay.contracts.payloads.settling import MAX_LEDGERS
from relay.contracts.settlement.decide import Asked, answered
from relay.contracts.settlement.keys import find_instruction
from relay.contracts.settlement.sending import send_lock
from relay.errors import NotFound, Reason, Refused
from relay.money import Transfer, net
from relay.packet import MAX_PAYLOAD_BYTES

MAX_SHOWN_BYTES = MAX_PAYLOAD_BYTES - 1024
"""Of the signed instructions that concern one ledger: one packet shows it all of them. With two
legs and two signatures an instruction has about 2.3 kB, so that this is a window's bound."""
MAX_DUE = 100
"""Windows that are cut off by themselves in one step; the others follow with the next."""
MAX_LOOKED = 5000
_OPEN = "deadline window"


def open_window(body: bytes, state: State, now: int) -> bytes:
    """`window.open`: {deadline, window} and {cut_off}, when it is cut off by itself; without it at
    its deadline, which settles nothing any more but leaves nothing waiting.

    Raises Refused: TIMEOUT_ELAPSED for a deadline or a cut-off that has passed, or a cut-off past
    the deadline; CONFLICT for a name that was used with others, or whose id (window_settlement) a
    settlement took."""
    asked = base.read_call(body, _OPEN, "cut_off")
    window, deadline = fields.name(asked, "window"), fields.integer(asked, "deadline", 1)
    cut = fields.integer(asked, "cut_off", 1) if "cut_off" in asked else deadline
    held = state.get(key("window", window))
    if held is not None:
        if _times(held) != (cut, deadline):
            raise Refused(Reason.CONFLICT, "that window has another deadline", window=window)
        return held
    if not now < cut <= deadline:
        raise Refused(
            Reason.TIMEOUT_ELAPSED, "now, its cut-off and its deadline follow each other", now=now
        )
    settlement = window_settlement(state.chain_id, window)
    if state.get(key("instruction", settlement)) is not None:
        raise Refused(
            Reason.CONFLICT,
            "a settlement has the id of that window",
            hint="give the window another name",
            window=window,
        )
    value: Json = {"cut_off": cut, "deadline": deadline, "opened": now}
    raw = encode(value)
    state.put(key("window", window), raw)
    state.put(key("window-id", settlement), encode({"window": window}))
    state.put(key("due", f"{cut:012d}", window), encode({"window": window}))
    return raw


def window_under(state: Reader, settlement: bytes) -> bool:
    """Whether a window settles under an id. Whoever signs may choose any 32 bytes, and a window's
    follow from its name: answers and decision of both would stand in one place."""
    return state.get(key("window-id", settlement)) is not None


def _times(held: bytes) -> tuple[int, int]:
    """(when it is cut off by itself, deadline) of what `window.open` wrote."""
    body = fields.document(held)
    return fields.integer(body, "cut_off"), fields.integer(body, "deadline")


def due(state: Reader, now: int) -> list[str]:
    """Windows whose time has come and that are not cut off, the first due first; MAX_DUE at most.

    Two look-ups where there are none, however many windows there were. Behind one that cannot be
    cut off (a client of it is frozen) MAX_LOOKED are looked at.
    """
    found: list[str] = []
    for name, _ in base.paged(state, b"due/", _through(state), MAX_DUE, MAX_LOOKED):
        _, moment, window = name.decode().split("/")
        if int(moment) > now or len(found) == MAX_DUE:
            break
        if state.get(cut_off_key(window)) is None:
            found.append(window)
    return found


def _through(state: Reader) -> bytes:
    """Up to which key under `due/` every window is cut off; a window that is opened later is due
    after it."""
    found = state.last(b"due-through/")
    return b"" if found is None else fields.octets(fields.document(found[1]), "after", 1, 512)


def _pass_over(state: State, now: int) -> None:
    """Moves `due-through` past what is cut off and was due by now, and no further: what is opened
    next may be due before a window that was cut off early."""
    before = after = _through(state)
    for name, _ in state.scan(b"due/", after=before, limit=MAX_DUE):
        _, moment, window = name.decode().split("/")
        if int(moment) > now or state.get(cut_off_key(window)) is None:
            break
        after = name
    if after != before:
        last = state.last(b"due-through/")
        number = 1 if last is None else int(last[0].rpartition(b"/")[2]) + 1
        state.put(key("due-through", f"{number:012d}"), encode({"after": after.hex()}))


def check_window(signed: SignedInstruction, state: State, now: int) -> None:
    """Checks that the window takes this instruction.

    Raises Refused: WINDOW_CLOSED where it is not open or has another deadline, WINDOW_FULL.
    """
    instruction = signed.instruction
    window = instruction.window
    held = state.get(key("window", window))
    if held is None or state.get(cut_off_key(window)) is not None or now >= _times(held)[0]:
        raise Refused(
            Reason.WINDOW_CLOSED, "no such window is open", hint="window.open", window=window
        )
    if instruction.deadline != _times(held)[1]:
        raise Refused(Reason.WINDOW_CLOSED, "signed for another deadline than the window's")
    size = _size(state, window).with_one(signed)
    full = size.shown_most > MAX_SHOWN_BYTES or size.record > MAX_CUT_OFF_BYTES
    if full or size.members > MAX_MEMBERS or len(size.shown) > MAX_LEDGERS:
        raise Refused(
            Reason.WINDOW_FULL,
            f"the window holds {size.members - 1} instructions, and this one does not fit",
            hint="cut it off and open another, or settle this one by itself",
            window=window,
        )


@dataclass(frozen=True, slots=True)
class _Size:
    """What a window holds, in bytes of what its cut-off will write and send."""

    members: int
    record: int
    """Of the members in the cut-off record."""
    shown: Mapping[str, int]
    """By ledger: of the signed instructions that are shown to it."""

    @property
    def shown_most(self) -> int:
        """Of the ledger that is shown most."""
        return max(self.shown.values(), default=0)

    def with_one(self, signed: SignedInstruction) -> _Size:
        """With one more, commas counted."""
        one, size = signed.instruction, len(signed.encode()) + 1
        member = Member(one.settlement, one.digest, one.ledgers, MAX_INTEGER)
        shown = {**self.shown, **{n: self.shown.get(n, 0) + size for n in one.ledgers}}
        return _Size(self.members + 1, self.record + len(encode(member.to_json())) + 1, shown)


def _size(state: Reader, window: str) -> _Size:
    """What a window holds so far."""
    found = state.last(key("member", window, ""))
    if found is None:
        return _Size(0, 0, {})
    body = fields.document(found[1])
    shown = body["shown"]
    assert isinstance(shown, dict)
    number = int(found[0].rpartition(b"/")[2])
    return _Size(number, fields.integer(body, "record"), {n: int(str(v)) for n, v in shown.items()})


def join(signed: SignedInstruction, state: State, now: int) -> None:
    """Binds an accepted instruction to its window, as the next member."""
    instruction = signed.instruction
    size = _size(state, instruction.window).with_one(signed)
    member = Member(instruction.settlement, instruction.digest, instruction.ledgers, now)
    value: Json = {**member.to_json(), "record": size.record, "shown": dict(size.shown)}
    state.put(key("member", instruction.window, f"{size.members:04d}"), encode(value))


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
    _, deadline = _times(held)
    found = base.everything(state, key("member", window, ""), MAX_MEMBERS)
    members = tuple(_member(value) for _, value in found)
    settlement = window_settlement(state.chain_id, window)
    record = CutOff(state.chain_id, window, settlement, deadline, now, members)
    raw = record.encode()
    state.put(cut_off_key(window), raw)
    _pass_over(state, now)
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
    del body["record"], body["shown"]
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
