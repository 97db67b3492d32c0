"""Bugs planted into settlement: the simulation must find each, in seeds with money.

As tests.simulation.planted, whose README tells how limits are measured. Some are defences that a
relay of ours never needs: they show under the relays of tests.simulation.money.programs.
"""

from __future__ import annotations

from typing import Any

import relay.contracts.accounts
import relay.money.rate
from relay.contract import State
from relay.contracts import base, quotes, undelivered
from relay.contracts.escrow import Escrow, endings, locks
from relay.contracts.escrow.books import Books
from relay.contracts.escrow.keys import End, Held
from relay.contracts.payloads import Ended, Ruling
from relay.contracts.settlement import Settlement, accept, decide, windows
from relay.packet import Packet, Payload
from tests.simulation.harm import Swap
from tests.simulation.money.planted_terms import TERMS_BUGS
from tests.simulation.planting import Bug, Edit

_receive = Escrow.receive
PATIENCE = 20
"""Seconds after which a spoiled ledger gives locked money back."""


def _open_locks(state: State, now: int) -> list[tuple[str, bytes, Held]]:
    found = []
    for name, value in state.scan(b"lock/"):
        _, relay, settlement = name.decode().split("/")
        held = Held.decode(value)
        ended = state.get(b"ended/" + name.removeprefix(b"lock/"))
        if ended is None and held.time + PATIENCE < now:
            found.append((relay, bytes.fromhex(settlement), held))
    return found


def _give_back(self: Escrow, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
    """Frees what has been held for long, and says nothing."""
    for relay_id, settlement, held in _open_locks(state, now):
        books = Books(state, now, settlement, relay_id)
        for hold in held.holds:
            if books.last(hold.account).held >= hold.amount:
                books.refund(hold.account, hold.amount, hold.gross, held.time)
    return _receive(self, packet, payload, state, now)


def _end_by_time(self: Escrow, packet: Packet, payload: Payload, state: State, now: int) -> bytes:
    """Ends a lock as an abort would, by the clock alone."""
    for relay_id, settlement, held in _open_locks(state, now):
        books = Books(state, now, settlement, relay_id)
        for hold in held.holds:
            books.refund(hold.account, hold.amount, hold.gross, held.time)
        end = End(bytes(32), Ruling.ABORT, Ended.REFUNDED, now)
        state.put(base.key("ended", relay_id, settlement), end.encode())
    return _receive(self, packet, payload, state, now)


def _nothing(*_: Any) -> None:
    """Checks nothing, does nothing."""


_RECORD = 'if state.proven(record_path("settlement", decision_key(decision.settlement))) != raw:'

_CARRIED_OUT = """        if decision.ruling is Ruling.COMMIT:
            ended = Ended.RELEASED
            _release(held, books, state)
        else:
            ended = Ended.REFUNDED
            _refund(held, books, state, now)
    record = End(sha256(raw).digest(), decision.ruling, ended, now)
"""
_FIRST_ALONE = _CARRIED_OUT.replace(
    "COMMIT:", "COMMIT and state.chain_id == decision.answers[0].ledger:"
).replace(
    "decision.ruling, ended", "Ruling.COMMIT if ended is Ended.RELEASED else Ruling.ABORT, ended"
)

MONEY_BUGS = (
    # --- both legs or neither
    Bug(
        "released on one leg only",
        ("ended",),
        15,
        (
            Edit(
                endings,
                "_release",
                "for one in held.movements:",
                'for one in [m for m in held.movements if m.debtor != "maker-cny"]:',
            ),
        ),
    ),
    Bug(
        "committed as soon as one ledger has locked",
        ("decision", "users"),
        15,
        (Edit(decide, "conclude", "elif len(answers) == len(ledgers):", "else:"),),
    ),
    Bug(
        "a lock that timed out counts as locked",
        ("decision",),
        10,
        (Edit(decide, "read_answer", "reason = Reason.TIMED_OUT", "reason = None"),),
    ),
    Bug(
        "a decision shown differently to two ledgers is believed",
        ("legs", "decision"),
        35,
        (
            Edit(
                endings,
                "end",
                _RECORD,
                "if False:",
            ),
        ),
    ),
    Bug(
        "one ledger is asked for no lock",
        ("liveness",),
        25,
        (
            Edit(
                accept,
                "_write",
                "for ledger in instruction.ledgers:",
                "for ledger in instruction.ledgers[:1]:",
            ),
        ),
    ),
    Bug(
        "of the ledgers of a commit the first alone releases",
        ("legs",),
        15,
        (Edit(endings, "end", _CARRIED_OUT, _FIRST_ALONE),),
    ),
    Bug(
        "a relay keeps another time of an end than it was told",
        ("reconcile",),
        10,
        (
            Edit(
                decide,
                "done",
                "state.put(name, answer.encode())",
                "told = DecisionAnswer(answer.ledger, answer.settlement, answer.ended, now)\n"
                "    state.put(name, told.encode())",
            ),
        ),
    ),
    # --- once
    Bug(
        "a decision is carried out again: the journal's write-once path stops it",
        ("liveness", "ended"),
        25,
        (Edit(endings, "end", "if before is not None:", "if False:"),),
    ),
    Bug(
        "released twice, and nothing stops it",
        ("ended", "conservation", "below zero", "reconcile"),
        20,
        (
            Edit(endings, "end", "if before is not None:", "if False:"),
            Edit(
                endings,
                "_release",
                "held=free",
                "held=min(free, books.last(debtor).held)",
            ),
            Edit(End, "encode", '"time": self.time', '"time": 1'),
        ),
    ),
    Bug(
        "a lock that ends by time, without a trace",
        ("locks", "limits", "liveness"),
        15,
        (Swap(Escrow, "receive", _give_back),),
    ),
    Bug(
        "a lock that ends by time, as if it were aborted",
        ("decision", "legs", "liveness"),
        15,
        (Swap(Escrow, "receive", _end_by_time),),
    ),
    Bug(
        "an abort gives nothing back",
        ("locks",),
        25,
        (Edit(endings, "_refund", "for hold in held.holds:", "for hold in ():"),),
    ),
    Bug(
        "the same instruction again is another one",
        ("users",),
        45,
        (Edit(accept, "instruct", "if held is not None:", "if False:"),),
    ),
    # --- terms
    Bug(
        "rounded in the payer's favour",
        ("users",),
        10,
        (
            Edit(
                relay.money.rate,
                "round_half_up",
                "(2 * numerator + denominator) // (2 * denominator)",
                "numerator // denominator",
            ),
        ),
    ),
    Bug(
        "one minor unit for the payer is looked over",
        ("terms",),
        15,
        (Swap(quotes, "check_conversion", _nothing),),
    ),
    Bug(
        "an expired quote is accepted into a window",
        ("terms",),
        35,
        (Edit(accept, "check", "quotes.check_unexpired(instruction, now)", "pass"),),
    ),
    Bug(
        "an expired quote is locked, where its relay does not look",
        ("terms", "decision"),
        25,
        (Edit(locks, "lock", "quotes.check_unexpired(instruction, now)", "pass"),),
    ),
    Bug(
        "a signature is not verified",
        ("terms",),
        20,
        (
            Edit(
                relay.contracts.accounts,
                "check_signed",
                "verify(one.algorithm, one.key, signed.instruction.signing_bytes(), one.signature)",
                "pass",
            ),
        ),
    ),
    # --- quotes
    Bug(
        "a quote is used twice at one relay: the journal's write-once path stops it",
        ("users",),
        25,
        (
            Edit(
                accept,
                "check",
                'if state.get(key("quote", quote.maker, quote.id)) is not None:',
                "if False:",
            ),
        ),
    ),
    Bug(
        "one quote through two relays: the journal's write-once path stops it",
        ("reasons",),
        40,
        (
            Edit(
                locks,
                "_use_quote",
                "if name in plan.quotes or plan.state.get(name) is not None:",
                "if name in plan.quotes:",
            ),
        ),
    ),
    Bug(
        "one quote through two relays, and nothing stops it",
        ("quote",),
        40,
        (Swap(locks, "_use_quote", _nothing),),
    ),
    # --- what is free
    Bug(
        "an account is paid out below zero",
        ("below zero",),
        10,
        (
            Edit(
                Books,
                "_write",
                "if line.held < 0 or (line.free < 0 and not own):",
                "if line.held < 0:",
            ),
        ),
    ),
    Bug(
        "what is held can be withdrawn",
        ("below zero",),
        35,
        (
            Edit(
                Books,
                "_write",
                "if line.held < 0 or (line.free < 0 and not own):",
                "if line.held < 0 or (line.balance < 0 and not own) or 0 < hold > before.free:",
            ),
        ),
    ),
    Bug(
        "a lock forgets the fee",
        ("locks",),
        10,
        (
            Edit(
                locks,
                "lock",
                "return _write(plan, held(plan.movements),",
                "return _write(plan, {m.debtor: m.amount for m in plan.movements[:1]},",
            ),
        ),
    ),
    Bug(
        "money comes on one side of a posting only",
        ("conservation",),
        10,
        (Edit(Books, "post", "self._write(debtor, entry, -amount, -held, creditor)", "pass"),),
    ),
    # --- what must arrive
    Bug(
        "a decision that timed out is not sent again",
        ("liveness",),
        45,
        (
            Edit(
                Settlement,
                "timeout",
                "send_decision(state, told.ledger, told.decision, now)",
                "pass",
            ),
        ),
    ),
    Bug(
        "a decision that could not be sent is forgotten",
        ("liveness",),
        80,
        (Edit(undelivered, "post", "_put(_UNSENT, state, chain, payload, now)", "pass"),),
    ),
    Bug(
        "what could not be sent is never taken up",
        ("liveness",),
        80,
        (Swap(undelivered.Posts, "tick", _nothing),),
    ),
    Bug(
        "a cut-off leaves out the last instruction",
        ("liveness",),
        40,
        (
            Edit(
                windows,
                "cut_off",
                "members = tuple(_member(value) for _, value in found)",
                "members = tuple(_member(value) for _, value in found)[:-1]",
            ),
        ),
    ),
    *TERMS_BUGS,
)
