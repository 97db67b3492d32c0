"""Accounts, locks and their one way to end; runs on a money ledger (see contract.py)."""

from relay.contracts.escrow.books import Entry, Line, last_line, nostro, read_line, suspense
from relay.contracts.escrow.calls import pay_out
from relay.contracts.escrow.contract import CONTRACT, QUIET, Escrow
from relay.contracts.escrow.keys import (
    End,
    Held,
    Hold,
    Movement,
    Netted,
    find_end,
    find_held,
    find_netted,
)
from relay.contracts.escrow.postings import movements, obligations

__all__ = [
    "CONTRACT",
    "QUIET",
    "End",
    "Entry",
    "Escrow",
    "Held",
    "Hold",
    "Line",
    "Movement",
    "Netted",
    "find_end",
    "find_held",
    "find_netted",
    "last_line",
    "movements",
    "nostro",
    "obligations",
    "pay_out",
    "read_line",
    "suspense",
]
