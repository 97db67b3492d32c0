"""Row 9: what a money ledger tells relays of its accounts, and what a relay answers.

The ledger's own word about its own accounts, proven as every packet is: no operator of the relay
need be trusted with whose an account is and which keys debit it. The relay keeps the terms beside
those its operators registered by hand (relay.contracts.accounts), and judges by the last version.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.canonical import Json, encode
from relay.contracts.accounts import Terms, read_terms
from relay.contracts.payloads import fields
from relay.errors import Reason


@dataclass(frozen=True, slots=True)
class TermsNotice:
    """One version of an account's terms, from the ledger that keeps it."""

    ledger: str
    relay: str
    terms: Terms

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "ledger": self.ledger,
            "relay": self.relay,
            "terms": self.terms.to_json(),
            "type": "terms_notice",
        }

    def encode(self) -> bytes:
        """The payload's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> TermsNotice:
        """Raises Malformed or Invalid(WEAK_KEY)."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> TermsNotice:
        """Raises Malformed or Invalid(WEAK_KEY)."""
        body = fields.members(value, fields.names("type ledger relay terms"), "terms notice")
        fields.kind(body, "terms_notice")
        return cls(
            fields.identifier(body, "ledger"),
            fields.identifier(body, "relay"),
            read_terms(body["terms"]),
        )


@dataclass(frozen=True, slots=True)
class TermsAnswer:
    """The acknowledgement of row 9. The same notice again has the same answer, or a later one's."""

    relay: str
    account: str
    version: int
    reason: Reason | None
    """Why it was not taken: CONFLICT, PARTY_INVALID, CURRENCY_MISMATCH; None: it counts here."""

    def to_json(self) -> dict[str, Json]:
        """The members of the acknowledgement."""
        return {
            "accepted": self.reason is None,
            "account": self.account,
            "reason": "" if self.reason is None else self.reason.value,
            "relay": self.relay,
            "type": "terms_answer",
            "version": self.version,
        }

    def encode(self) -> bytes:
        """The acknowledgement's canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> TermsAnswer:
        """Raises Malformed."""
        names = fields.names("type accepted account reason relay version")
        body = fields.members(fields.document(raw), names, "terms answer")
        fields.kind(body, "terms_answer")
        reason = None if body["reason"] == "" else fields.word(body, "reason", Reason)
        if fields.boolean(body, "accepted") is not (reason is None):
            fields.refuse("accepted", "is true where there is no reason, and false where there is")
        return cls(
            fields.identifier(body, "relay"),
            fields.identifier(body, "account"),
            fields.integer(body, "version", 1),
            reason,
        )
