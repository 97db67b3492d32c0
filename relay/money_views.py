"""What services, clients and commands say of accounts, locks, settlements and windows."""

from __future__ import annotations

from dataclasses import dataclass

from relay.contracts.accounts import Terms
from relay.contracts.escrow import End, Held
from relay.contracts.payloads import CutOff
from relay.contracts.settlement import SettlementView


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as it stands; amounts in minor units."""

    account: str
    currency: str
    balance: int
    held: int
    lines: int
    terms: Terms | None
    """None of the ledger's own accounts, nostro and suspense."""

    @property
    def free(self) -> int:
        """What may be locked or withdrawn."""
        return self.balance - self.held


@dataclass(frozen=True, slots=True)
class LockView:
    """What a settlement, or a netting window, has locked on a ledger, and how it ended."""

    relay: str
    settlement: bytes
    held: Held | None
    end: End | None


@dataclass(frozen=True, slots=True)
class LockPacket:
    """The packet that asked a ledger to lock."""

    ledger: str
    client_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A settlement, what became of it, and the packets that carried its locks."""

    view: SettlementView
    packets: tuple[LockPacket, ...]

    @property
    def settlement(self) -> bytes:
        """Its id, 32 bytes."""
        return self.view.signed.instruction.settlement


@dataclass(frozen=True, slots=True)
class WindowView:
    """A netting window; times in seconds."""

    window: str
    opened: int
    deadline: int
    cut_off: CutOff | None
