"""Sending locks, which may time out, and decisions, which must arrive."""

from __future__ import annotations

from relay.canonical import Json
from relay.contract import State
from relay.contracts import undelivered
from relay.contracts.payloads import (
    ESCROW_PORT,
    SETTLEMENT_PORT,
    DecisionNotice,
    SettlementDecision,
)
from relay.packet import MAX_TIMEOUT_AHEAD


def send_lock(state: State, ledger: str, lock: bytes, deadline: int, now: int) -> Json:
    """Sends row 6 or 7. It times out at the deadline, by the ledger's own verified time.

    Raises what the verb *send* raises: then nothing of the settlement is written.
    """
    client = state.client_of(ledger)
    payload = undelivered.payload_for(ESCROW_PORT, SETTLEMENT_PORT, lock)
    sequence = state.send(client, payload, min(deadline, now + MAX_TIMEOUT_AHEAD))
    return {"client": client, "ledger": ledger, "sequence": sequence}


def send_decision(state: State, ledger: str, decision: SettlementDecision, now: int) -> None:
    """Sends row 8, or sets it aside where there is no active client; `resend` takes it up."""
    notice = DecisionNotice(ledger, decision).encode()
    undelivered.post(
        state, ledger, undelivered.payload_for(ESCROW_PORT, SETTLEMENT_PORT, notice), now
    )
