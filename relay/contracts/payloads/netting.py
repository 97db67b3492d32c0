"""Row 7: a netting window asks a ledger to lock, and shows it what the net follows from.

At its cut-off a window is one settlement under an id of its own. The cut-off record is written once
at the relay and travels, proven, beside each net lock: so every ledger sees the same set.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.settling import MAX_LEDGERS
from relay.contracts.payloads.signatures import SignedInstruction

WINDOW_TAG = b"lianqiao/window/v1\n"
MAX_MEMBERS = 256
"""Instructions in one netting window."""
MAX_CUT_OFF_BYTES = 63 * 1024
"""Of the members in a cut-off record: it travels beside each net lock as one entry
(relay.chain.MAX_ENTRY_BYTES)."""


def window_settlement(relay: str, window: str) -> bytes:
    """The id under which a netting window settles, 32 bytes."""
    named: Json = {"relay": relay, "window": window}
    return sha256(WINDOW_TAG + encode(named)).digest()


def cut_off_key(window: str) -> bytes:
    """Where port `settlement` of a relay writes what a netting window holds."""
    return b"cut-off/" + window.encode()


@dataclass(frozen=True, slots=True)
class NetLock:
    """Row 7: lock what a netting window takes from accounts of `ledger`, net.

    It travels with the window's cut-off record, which names every instruction of the window.
    """

    relay: str
    ledger: str
    window: str
    instructions: tuple[SignedInstruction, ...]
    """Those of the window with a leg on `ledger`, in the order of the cut-off."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "instructions": [one.to_json() for one in self.instructions],
            "ledger": self.ledger,
            "relay": self.relay,
            "type": "net_lock",
            "window": self.window,
        }

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> NetLock:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> NetLock:
        """Raises Malformed."""
        names = fields.names("type relay ledger window instructions")
        body = fields.members(value, names, "net lock")
        fields.kind(body, "net_lock")
        return cls(
            fields.identifier(body, "relay"),
            fields.identifier(body, "ledger"),
            fields.name(body, "window"),
            fields.sequence(body, "instructions", SignedInstruction.from_json, MAX_MEMBERS, low=1),
        )


@dataclass(frozen=True, slots=True)
class Member:
    """One instruction of a netting window."""

    settlement: bytes
    digest: bytes
    ledgers: tuple[str, ...]
    accepted: int
    """Seconds, by the relay; its quote was good then."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "accepted": self.accepted,
            "digest": self.digest.hex(),
            "ledgers": list(self.ledgers),
            "settlement": self.settlement.hex(),
        }

    @classmethod
    def from_json(cls, value: Json) -> Member:
        """Raises Malformed."""
        body = fields.members(value, fields.names("settlement digest ledgers accepted"), "member")
        return cls(
            fields.octets(body, "settlement"),
            fields.octets(body, "digest"),
            fields.ascending(body, "ledgers", fields.identifier, MAX_LEDGERS, low=1),
            fields.integer(body, "accepted"),
        )


_CUT_OFF = fields.names("type relay window settlement deadline time members")


@dataclass(frozen=True, slots=True)
class CutOff:
    """What a netting window holds, written once at the relay; the net set follows from it."""

    relay: str
    window: str
    settlement: bytes
    """`window_settlement(relay, window)`."""
    deadline: int
    time: int
    """Seconds, of the cut-off."""
    members: tuple[Member, ...]
    """In the order in which they were accepted."""

    @property
    def ledgers(self) -> tuple[str, ...]:
        """Every ledger of the window, ascending."""
        return tuple(sorted({ledger for member in self.members for ledger in member.ledgers}))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the record."""
        return sha256(self.encode()).digest()

    def to_json(self) -> dict[str, Json]:
        """The members of the record."""
        return {
            "deadline": self.deadline,
            "members": [member.to_json() for member in self.members],
            "relay": self.relay,
            "settlement": self.settlement.hex(),
            "time": self.time,
            "type": "cut_off",
            "window": self.window,
        }

    def encode(self) -> bytes:
        """The record's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> CutOff:
        """Raises Malformed."""
        body = fields.members(fields.document(raw), _CUT_OFF, "cut-off")
        fields.kind(body, "cut_off")
        return cls(
            relay=fields.identifier(body, "relay"),
            window=fields.name(body, "window"),
            settlement=fields.octets(body, "settlement"),
            deadline=fields.integer(body, "deadline", 1),
            time=fields.integer(body, "time"),
            members=fields.sequence(body, "members", Member.from_json, MAX_MEMBERS),
        )
