"""Rows 3 and 5: what the relay tells the source ledger.

Row 3 says who was given what: an access notice, and the grant by which the grantee institution may
fetch the parts until it expires. It carries the grantee's public keys as accredited when the
decision was made, since the source ledger does not know the institutions of other ledgers. Row 5
says what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.consent import Purpose
from relay.contracts.payloads.outcome import ItemOutcome

MAX_KEYS = 16


@dataclass(frozen=True, slots=True, order=True)
class PublicKey:
    """A public key and its algorithm."""

    algorithm: str
    key: bytes

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {"algorithm": self.algorithm, "key": self.key.hex()}

    @classmethod
    def from_json(cls, value: Json) -> PublicKey:
        """Raises Malformed."""
        body = fields.members(value, ("algorithm", "key"), "key")
        return cls(
            fields.name(body, "algorithm"), fields.octets(body, "key", 1, fields.MAX_KEY_BYTES)
        )


_NOTICE = fields.names(
    "type relay origin target hops request commitment institution purpose decided consent grant "
    "parts expires keys"
)


@dataclass(frozen=True, slots=True)
class Notice:
    """Row 3: an access notice and its grant."""

    relay: str
    origin: str
    """The requesting ledger."""
    target: str
    """The source ledger, which receives this."""
    hops: int
    request: bytes
    commitment: bytes
    institution: str
    """The grantee."""
    purpose: Purpose
    decided: int
    consent: bytes
    """SHA-256 of the consent's canonical bytes; 32 random bytes in it keep it silent."""
    grant: bytes
    parts: tuple[int, ...]
    """The parts that may be fetched, ascending; part 0 only where the consent says `report`."""
    expires: int
    """Seconds; the grant holds while now < expires."""
    keys: tuple[PublicKey, ...]
    """Keys of the grantee, one of which must sign a fetch."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "commitment": self.commitment.hex(),
            "consent": self.consent.hex(),
            "decided": self.decided,
            "expires": self.expires,
            "grant": self.grant.hex(),
            "hops": self.hops,
            "institution": self.institution,
            "keys": [key.to_json() for key in self.keys],
            "origin": self.origin,
            "parts": list(self.parts),
            "purpose": self.purpose.value,
            "relay": self.relay,
            "request": self.request.hex(),
            "target": self.target,
            "type": "notice",
        }

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> Notice:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Notice:
        """Raises Malformed."""
        body = fields.members(value, _NOTICE, "notice")
        fields.kind(body, "notice")
        return cls(
            relay=fields.identifier(body, "relay"),
            origin=fields.identifier(body, "origin"),
            target=fields.identifier(body, "target"),
            hops=fields.integer(body, "hops", 0, fields.MAX_HOPS),
            request=fields.octets(body, "request"),
            commitment=fields.octets(body, "commitment"),
            institution=fields.identifier(body, "institution"),
            purpose=fields.word(body, "purpose", Purpose),
            decided=fields.integer(body, "decided"),
            consent=fields.octets(body, "consent"),
            grant=fields.octets(body, "grant"),
            parts=fields.ascending(body, "parts", fields.part, low=1),
            expires=fields.integer(body, "expires"),
            keys=fields.sequence(body, "keys", PublicKey.from_json, MAX_KEYS, low=1),
        )


_OUTCOME_NOTICE = fields.names(
    "type relay origin target hops request commitment institution outcome time items"
)


@dataclass(frozen=True, slots=True)
class OutcomeNotice:
    """Row 5: the source ledger learns what became of a request."""

    relay: str
    origin: str
    target: str
    hops: int
    request: bytes
    commitment: bytes
    institution: str
    outcome: bytes
    """Id of the outcome: SHA-256 of row 4's payload."""
    time: int
    items: tuple[ItemOutcome, ...]

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "commitment": self.commitment.hex(),
            "hops": self.hops,
            "institution": self.institution,
            "items": [item.to_json() for item in self.items],
            "origin": self.origin,
            "outcome": self.outcome.hex(),
            "relay": self.relay,
            "request": self.request.hex(),
            "target": self.target,
            "time": self.time,
            "type": "outcome_notice",
        }

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> OutcomeNotice:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> OutcomeNotice:
        """Raises Malformed."""
        body = fields.members(value, _OUTCOME_NOTICE, "outcome notice")
        fields.kind(body, "outcome_notice")
        return cls(
            relay=fields.identifier(body, "relay"),
            origin=fields.identifier(body, "origin"),
            target=fields.identifier(body, "target"),
            hops=fields.integer(body, "hops", 0, fields.MAX_HOPS),
            request=fields.octets(body, "request"),
            commitment=fields.octets(body, "commitment"),
            institution=fields.identifier(body, "institution"),
            outcome=fields.octets(body, "outcome"),
            time=fields.integer(body, "time"),
            items=fields.sequence(body, "items", ItemOutcome.from_json, low=1),
        )
