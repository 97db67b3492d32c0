"""Rows 6 to 8: what a relay and the money ledgers say to each other about a settlement.

Row 6 asks a ledger to lock everything that an instruction takes from it; row 7 does so for a whole
netting window. Row 8 tells the decision. It travels with the proof that this very decision is
written at the relay, and a ledger believes the record, not the packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import pairwise

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import Object, refuse
from relay.contracts.payloads.signatures import SignedInstruction
from relay.errors import Reason

WINDOW_TAG = b"lianqiao/window/v1\n"
MAX_LEDGERS = 64
MAX_MEMBERS = 256
"""Instructions in one netting window."""


def window_settlement(relay: str, window: str) -> bytes:
    """The id under which a netting window settles, 32 bytes."""
    named: Json = {"relay": relay, "window": window}
    return sha256(WINDOW_TAG + encode(named)).digest()


def decision_key(settlement: bytes) -> bytes:
    """Where port `settlement` of a relay writes the one decision."""
    return b"decision/" + settlement.hex().encode()


def cut_off_key(window: str) -> bytes:
    """Where port `settlement` of a relay writes what a netting window holds."""
    return b"cut-off/" + window.encode()


def _reason(body: Object) -> Reason | None:
    return None if body["reason"] == "" else fields.word(body, "reason", Reason)


@dataclass(frozen=True, slots=True)
class Lock:
    """Row 6: lock what one signed instruction takes from accounts of `ledger`, all or nothing."""

    relay: str
    ledger: str
    signed: SignedInstruction

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "ledger": self.ledger,
            "relay": self.relay,
            "signed": self.signed.to_json(),
            "type": "lock",
        }

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> Lock:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Lock:
        """Raises Malformed."""
        body = fields.members(value, fields.names("type relay ledger signed"), "lock")
        fields.kind(body, "lock")
        return cls(
            fields.identifier(body, "relay"),
            fields.identifier(body, "ledger"),
            SignedInstruction.from_json(body["signed"]),
        )


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


_LOCK_ANSWER = fields.names("type ledger settlement accepted reason time")


@dataclass(frozen=True, slots=True)
class LockAnswer:
    """The acknowledgement of rows 6 and 7; in a decision, what became of one ledger's lock."""

    ledger: str
    settlement: bytes
    reason: Reason | None
    """Why nothing was locked; None where everything was."""
    time: int
    """Seconds, by the ledger; of a lock that never arrived, by the relay."""

    @property
    def accepted(self) -> bool:
        """Whether everything is locked."""
        return self.reason is None

    def to_json(self) -> dict[str, Json]:
        """The members of the acknowledgement."""
        return {
            "accepted": self.accepted,
            "ledger": self.ledger,
            "reason": "" if self.reason is None else self.reason.value,
            "settlement": self.settlement.hex(),
            "time": self.time,
            "type": "lock_answer",
        }

    def encode(self) -> bytes:
        """The acknowledgement's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> LockAnswer:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> LockAnswer:
        """Raises Malformed."""
        body = fields.members(value, _LOCK_ANSWER, "lock answer")
        fields.kind(body, "lock_answer")
        found = cls(
            fields.identifier(body, "ledger"),
            fields.octets(body, "settlement"),
            _reason(body),
            fields.integer(body, "time"),
        )
        if fields.boolean(body, "accepted") != found.accepted:
            refuse("accepted", "must agree with reason")
        return found


class Ruling(StrEnum):
    """What was decided on a settlement."""

    COMMIT = "commit"
    ABORT = "abort"


_DECISION = fields.names("type relay settlement digest ruling decided answers")


@dataclass(frozen=True, slots=True)
class SettlementDecision:
    """The one decision on a settlement, written once at the relay (`decision_key`).

    *Commit* where every ledger has locked, *abort* where at least one has not: exactly one becomes
    true, so the relay chooses nothing.
    """

    relay: str
    settlement: bytes
    digest: bytes
    """H(instruction), or H(cut-off record) of a netting window."""
    ruling: Ruling
    decided: int
    answers: tuple[LockAnswer, ...]
    """Those that it follows from, ascending by ledger; all of them in a commit."""

    @property
    def reason(self) -> Reason | None:
        """Why it was aborted: of the first ledger that did not lock."""
        return next((answer.reason for answer in self.answers if answer.reason), None)

    def to_json(self) -> dict[str, Json]:
        """The members of the record."""
        return {
            "answers": [answer.to_json() for answer in self.answers],
            "decided": self.decided,
            "digest": self.digest.hex(),
            "relay": self.relay,
            "ruling": self.ruling.value,
            "settlement": self.settlement.hex(),
            "type": "settlement_decision",
        }

    def encode(self) -> bytes:
        """The record's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> SettlementDecision:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> SettlementDecision:
        """Raises Malformed."""
        body = fields.members(value, _DECISION, "settlement decision")
        fields.kind(body, "settlement_decision")
        found = cls(
            relay=fields.identifier(body, "relay"),
            settlement=fields.octets(body, "settlement"),
            digest=fields.octets(body, "digest"),
            ruling=fields.word(body, "ruling", Ruling),
            decided=fields.integer(body, "decided"),
            answers=fields.sequence(body, "answers", LockAnswer.from_json, MAX_LEDGERS, low=1),
        )
        if any(not a.ledger < b.ledger for a, b in pairwise(found.answers)):
            refuse("answers", "must ascend by ledger, each once")
        if any(answer.settlement != found.settlement for answer in found.answers):
            refuse("answers", "must be about this settlement")
        if all(a.accepted for a in found.answers) != (found.ruling is Ruling.COMMIT):
            refuse("ruling", "is commit where every lock was accepted, and only then")
        return found


@dataclass(frozen=True, slots=True)
class DecisionNotice:
    """Row 8: the decision, for one ledger that was asked to lock."""

    ledger: str
    decision: SettlementDecision

    @property
    def relay(self) -> str:
        """Who decided, and sends this."""
        return self.decision.relay

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "decision": self.decision.to_json(),
            "ledger": self.ledger,
            "relay": self.relay,
            "type": "decision_notice",
        }

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> DecisionNotice:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> DecisionNotice:
        """Raises Malformed."""
        names = fields.names("type relay ledger decision")
        body = fields.members(value, names, "decision notice")
        fields.kind(body, "decision_notice")
        found = cls(
            fields.identifier(body, "ledger"), SettlementDecision.from_json(body["decision"])
        )
        if fields.identifier(body, "relay") != found.relay:
            refuse("relay", "must be who decided")
        return found


class Ended(StrEnum):
    """What a decision did on one ledger."""

    RELEASED = "released"
    REFUNDED = "refunded"
    NOTHING = "nothing"
    """Nothing was locked there, and nothing can be any more."""


@dataclass(frozen=True, slots=True)
class DecisionAnswer:
    """The acknowledgement of row 8. The same decision again has the same answer."""

    ledger: str
    settlement: bytes
    ended: Ended
    time: int
    """Seconds, when it was done."""

    def to_json(self) -> dict[str, Json]:
        """The members of the acknowledgement."""
        return {
            "ended": self.ended.value,
            "ledger": self.ledger,
            "settlement": self.settlement.hex(),
            "time": self.time,
            "type": "decision_answer",
        }

    def encode(self) -> bytes:
        """The acknowledgement's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> DecisionAnswer:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> DecisionAnswer:
        """Raises Malformed."""
        names = fields.names("type ledger settlement ended time")
        body = fields.members(value, names, "decision answer")
        fields.kind(body, "decision_answer")
        return cls(
            fields.identifier(body, "ledger"),
            fields.octets(body, "settlement"),
            fields.word(body, "ended", Ended),
            fields.integer(body, "time"),
        )
