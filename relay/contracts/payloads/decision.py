"""The acknowledgements: the decision on a request, and the short answer to everything else.

A refusal is a successful acknowledgement that holds its reasons; the error constant of the protocol
is for what should not happen. A decision is written once by the relay, so later questions about
the same request gets the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from relay.canonical import Json, encode
from relay.contracts.codes import Finding, Verdict, finding
from relay.contracts.payloads import fields
from relay.contracts.payloads.consent import REPORT, Consent
from relay.contracts.payloads.fields import refuse

GRANT_TAG = b"lianqiao/grant/v1\n"
MAX_FINDINGS = 32
MAX_VERSIONS = 256


def grant_id(relay: str, origin: str, request: bytes) -> bytes:
    """The id of the grant that a recognised request gives, 32 bytes; there is at most one."""
    name: Json = {"origin": origin, "relay": relay, "request": request.hex()}
    return sha256(GRANT_TAG + encode(name)).digest()


def _read_finding(value: Json) -> Finding:
    if type(value) is not str:
        refuse("reasons", "must be codes")
    return finding(value)


_ITEM = fields.names("part item verdict reasons flags")


@dataclass(frozen=True, slots=True)
class ItemDecision:
    """What was decided on one item."""

    part: int
    item: str
    """Id of the catalogue item; empty where it is not in the catalogue."""
    verdict: Verdict
    reasons: tuple[Finding, ...]
    """Why it is not eligible, in order of the checks; empty where it was recognised."""
    flags: tuple[Finding, ...]

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "flags": [str(flag) for flag in self.flags],
            "item": self.item,
            "part": self.part,
            "reasons": [str(reason) for reason in self.reasons],
            "verdict": self.verdict.value,
        }

    @classmethod
    def from_json(cls, value: Json) -> ItemDecision:
        """Raises Malformed."""
        item = fields.members(value, _ITEM, "item")
        found = cls(
            part=fields.part(item, "part"),
            item=fields.optional_identifier(item, "item"),
            verdict=fields.word(item, "verdict", Verdict),
            reasons=fields.sequence(item, "reasons", _read_finding, MAX_FINDINGS),
            flags=fields.sequence(item, "flags", _read_finding, MAX_FINDINGS),
        )
        if bool(found.reasons) != (found.verdict is Verdict.NOT_ELIGIBLE):
            refuse("reasons", "stand with NOT_ELIGIBLE and with nothing else")
        if found.verdict is Verdict.RECOGNISED and found.flags:
            refuse("flags", "do not stand with RECOGNISED")
        return found


def _version(value: Json) -> str:
    if type(value) is not str or not 1 <= len(value) <= 96 or not value.isascii():
        refuse("policy", "must be kind/name@version")
    return value


_DECISION = fields.names(
    "type request relay origin target commitment institution decided reason items policy "
    "head_height head_time grant expires"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a request."""

    request: bytes
    relay: str
    origin: str
    target: str
    commitment: bytes
    institution: str
    decided: int
    """Seconds, time of the relay's batch."""
    reason: Finding | None
    """Where the request as a whole was refused; then every item carries it too."""
    items: tuple[ItemDecision, ...]
    policy: tuple[str, ...]
    """`kind/name@version` of every document in force, ascending."""
    head_height: int
    """Height of the source head by which "not revised, not retracted" is known."""
    head_time: int
    """Seconds, by the source's own clock: everything that it had sent before then was known."""
    grant: bytes
    """Id of the grant; empty where nothing was recognised."""
    expires: int
    """Seconds, when the grant ends; 0 without one."""

    @property
    def recognised(self) -> tuple[ItemDecision, ...]:
        """The items that were recognised, with or without flags."""
        return tuple(i for i in self.items if i.verdict is not Verdict.NOT_ELIGIBLE)

    def granted_parts(self, consent: Consent) -> tuple[int, ...]:
        """What may be fetched where anything is granted: the recognised parts, and the report where
        the consent says so."""
        parts = {item.part for item in self.recognised}
        return tuple(sorted(parts | {0} if REPORT in consent.scope else parts))

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "commitment": self.commitment.hex(),
            "decided": self.decided,
            "expires": self.expires,
            "grant": self.grant.hex(),
            "head_height": self.head_height,
            "head_time": self.head_time,
            "institution": self.institution,
            "items": [item.to_json() for item in self.items],
            "origin": self.origin,
            "policy": list(self.policy),
            "reason": "" if self.reason is None else str(self.reason),
            "relay": self.relay,
            "request": self.request.hex(),
            "target": self.target,
            "type": "decision",
        }

    def encode(self) -> bytes:
        """The acknowledgement's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> Decision:
        """Raises Malformed."""
        body = fields.members(fields.document(raw), _DECISION, "decision")
        fields.kind(body, "decision")
        found = cls(
            request=fields.octets(body, "request"),
            relay=fields.identifier(body, "relay"),
            origin=fields.identifier(body, "origin"),
            target=fields.identifier(body, "target"),
            commitment=fields.octets(body, "commitment"),
            institution=fields.identifier(body, "institution"),
            decided=fields.integer(body, "decided"),
            reason=None if body["reason"] == "" else _read_finding(body["reason"]),
            items=fields.sequence(body, "items", ItemDecision.from_json, low=1),
            policy=fields.sequence(body, "policy", _version, MAX_VERSIONS),
            head_height=fields.integer(body, "head_height"),
            head_time=fields.integer(body, "head_time"),
            grant=fields.optional_octets(body, "grant"),
            expires=fields.integer(body, "expires"),
        )
        if bool(found.grant) != bool(found.recognised):
            refuse("grant", "stands with a recognised item and with nothing else")
        return found


_ANSWER = fields.names("type subject accepted reason")


@dataclass(frozen=True, slots=True)
class Answer:
    """The acknowledgement of an attestation, a notice, an outcome or an outcome notice."""

    subject: bytes
    """32 bytes: the commitment attested, the grant, or the id of the outcome."""
    reason: Finding | None = None
    """Why it was refused; None where it was accepted."""

    @property
    def accepted(self) -> bool:
        """Whether it was taken."""
        return self.reason is None

    def encode(self) -> bytes:
        """The acknowledgement's canonical bytes."""
        return encode(
            {
                "accepted": self.accepted,
                "reason": "" if self.reason is None else str(self.reason),
                "subject": self.subject.hex(),
                "type": "answer",
            }
        )

    @classmethod
    def decode(cls, raw: bytes) -> Answer:
        """Raises Malformed."""
        body = fields.members(fields.document(raw), _ANSWER, "answer")
        fields.kind(body, "answer")
        found = cls(
            subject=fields.octets(body, "subject"),
            reason=None if body["reason"] == "" else _read_finding(body["reason"]),
        )
        if fields.boolean(body, "accepted") != found.accepted:
            refuse("accepted", "must agree with reason")
        return found
