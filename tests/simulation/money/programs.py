"""Relays that run another program than ours, with keys and heads in order.

    insistent   asks again for what was locked, and tells each decision twice
    two-faced   writes one decision, and tells the last ledger the other one
    lax         checks nothing of an instruction, and lets its locks time out late

A ledger can rely on none of this: what such a relay does may delay a settlement, and may not move
money that its owner did not sign away, nor on one side only. Everything else is the product's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from relay.canonical import Json
from relay.contract import Contract, State
from relay.contracts import base
from relay.contracts.escrow import Escrow
from relay.contracts.payloads import Ruling, SettlementDecision, SignedInstruction
from relay.contracts.settlement import Settlement, accept, decide
from relay.contracts.settlement import sending as real
from relay.contracts.settlement.windows import check_window
from relay.errors import LianqiaoError, Reason
from relay.packet import Packet, Payload
from tests.simulation.money.options import INSISTENT, LAX, TWO_FACED, Money

LATE = 1200
"""Seconds until a lock of a lax relay times out: longer than any quote lives."""


def contracts_of(name: str, money: Money) -> list[Contract]:
    """What a node runs: every node keeps money, and settles for its neighbours."""
    own = Settlement()
    if money.programmed == name:
        own = {INSISTENT: Insistent, TWO_FACED: TwoFaced, LAX: Lax}[money.program]()
    return [Escrow(), own]


@contextmanager
def _instead(holder: Any, **others: Callable[..., Any]) -> Iterator[None]:
    before = {name: getattr(holder, name) for name in others}
    for name, other in others.items():
        setattr(holder, name, other)
    try:
        yield
    finally:
        for name, one in before.items():
            setattr(holder, name, one)


class Insistent(Settlement):
    """See the module docstring."""

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """See Contract."""
        with _instead(decide, send_decision=_twice):
            super().acknowledge(packet, payload, acknowledgement, state, now)
        if b'"accepted":true' in acknowledgement and not _asked_again(packet, state):
            with suppress(LianqiaoError):
                number = state.send(packet.source_client, payload, now + 300)
                state.put(base.key("again", packet.source_client, str(number)), b"1")

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """See Contract. What it asked for again is not answered by a timeout."""
        if not _asked_again(packet, state):
            with _instead(decide, send_decision=_twice):
                super().timeout(packet, payload, state, now)


def _asked_again(packet: Packet, state: State) -> bool:
    return state.get(base.key("again", packet.source_client, str(packet.sequence))) is not None


def _twice(state: State, ledger: str, decision: SettlementDecision, now: int) -> None:
    real.send_decision(state, ledger, decision, now)
    real.send_decision(state, ledger, decision, now)


class TwoFaced(Settlement):
    """See the module docstring. Whoever was told wrongly refuses; `resend` tells what is true."""

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """See Contract."""
        with _instead(decide, send_decision=_otherwise):
            super().acknowledge(packet, payload, acknowledgement, state, now)

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """See Contract."""
        if b'"type":"decision_notice"' in payload.value:
            super().timeout(packet, payload, state, now)
            return
        with _instead(decide, send_decision=_otherwise):
            super().timeout(packet, payload, state, now)


def _otherwise(state: State, ledger: str, decision: SettlementDecision, now: int) -> None:
    if ledger == decision.answers[-1].ledger and decision.ruling is Ruling.COMMIT:
        *others, last = decision.answers
        answers = (*others, replace(last, reason=Reason.TIMED_OUT))
        decision = replace(decision, ruling=Ruling.ABORT, answers=answers)
    real.send_decision(state, ledger, decision, now)


class Lax(Settlement):
    """See the module docstring."""

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """See Contract."""
        with _instead(accept, check=_window_only, send_lock=_late):
            return super().call(method, body, state, now)


def _window_only(signed: SignedInstruction, state: State, now: int) -> None:
    if signed.instruction.window:
        check_window(signed, state, now)


def _late(state: State, ledger: str, lock: bytes, deadline: int, now: int) -> Json:
    return real.send_lock(state, ledger, lock, now + LATE, now)
