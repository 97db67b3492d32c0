"""Rows 6 and 8: what a relay and the money ledgers say to each other about a settlement.

Row 6 asks a ledger to lock everything that an instruction takes from it; row 7
(relay.contracts.payloads.netting) does so for a whole window. Row 8 tells the decision. It travels
with the proof that this very decision is written at the relay, and a ledger believes the record,
not the packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import Object, refuse
from relay.contracts.payloads.signatures import SignedInstruction
from relay.errors import Reason

MAX_LEDGERS = 64


def decision_key(settlement: bytes) -> bytes:
    """Where port `settlement` of a relay writes the one decision."""
    return b"decision/" + settlement.hex().encode()


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
