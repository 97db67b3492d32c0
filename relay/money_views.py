"""What services, clients and commands say of accounts, locks, settlements and windows."""

from __future__ import annotations

from dataclasses import dataclass

from relay.contracts.accounts import Terms
from relay.contracts.escrow import End, Held, Netted
from relay.contracts.payloads import CutOff
from relay.contracts.settlement import SettlementView
from relay.money import Rate


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
    netted: tuple[Netted, ...] = ()
    """Of a netting window: what it is made of on the account that was asked for."""


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
    due: int
    """When it is cut off by itself; at the deadline nothing settles any more."""
    cut_off: CutOff | None


@dataclass(frozen=True, slots=True)
class InstructionResult:
    """What became of one of several instructions: accepted, or refused with a reason."""

    shown: Shown | None
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Retried:
    """What was asked again: packets that ask for locks, and how many ledgers were told."""

    packets: tuple[LockPacket, ...]
    told: int


@dataclass(frozen=True, slots=True)
class PublishedRate:
    """A rate that a policy's source published."""

    day: str
    """YYYY-MM-DD of a fixing, YYYY-MM of a monthly factor."""
    rate: Rate
    loaded: int
