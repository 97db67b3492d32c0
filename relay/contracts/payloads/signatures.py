"""Signatures and co-signatures under an instruction, and what an owner signs to withdraw.

A debtor signs `lianqiao/instruction/v1`, a line feed and the instruction's canonical bytes. A
co-signature (a second officer, a regulator) is over `lianqiao/approval/v1`, a line feed and the
canonical JSON of the instruction's digest, the role and the officer, so that none can be passed off
as another. None of them is verified here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import refuse
from relay.contracts.payloads.instruction import Instruction, amount, currency

APPROVAL_TAG = b"lianqiao/approval/v1\n"
WITHDRAWAL_TAG = b"lianqiao/withdrawal/v1\n"
MAX_SIGNATURES = 16
MAX_COSIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """Of the owner of one debtor account."""

    ledger: str
    account: str
    algorithm: str
    key: bytes
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "account": self.account,
            "algorithm": self.algorithm,
            "key": self.key.hex(),
            "ledger": self.ledger,
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: Json) -> Signature:
        """Raises Malformed."""
        names = fields.names("ledger account algorithm key signature")
        body = fields.members(value, names, "signature")
        return cls(
            fields.identifier(body, "ledger"),
            fields.identifier(body, "account"),
            *fields.signature(body),
        )


class OfficerRole(StrEnum):
    """Who co-signs."""

    OFFICER = "officer"
    """A second officer of the account's owner."""
    REGULATOR = "regulator"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A second pair of eyes, above a threshold of the day."""

    role: OfficerRole
    officer: str
    """Id under which the key is registered."""
    algorithm: str
    key: bytes
    signature: bytes

    def signing_bytes(self, instruction: bytes) -> bytes:
        """What is signed; `instruction` is the digest."""
        said: Json = {
            "instruction": instruction.hex(),
            "officer": self.officer,
            "role": self.role.value,
        }
        return APPROVAL_TAG + encode(said)

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "algorithm": self.algorithm,
            "key": self.key.hex(),
            "officer": self.officer,
            "role": self.role.value,
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: Json) -> Cosignature:
        """Raises Malformed."""
        names = fields.names("role officer algorithm key signature")
        body = fields.members(value, names, "cosignature")
        return cls(
            fields.word(body, "role", OfficerRole),
            fields.identifier(body, "officer"),
            *fields.signature(body),
        )


@dataclass(frozen=True, slots=True)
class SignedInstruction:
    """An instruction with everything that is signed under it."""

    instruction: Instruction
    signatures: tuple[Signature, ...]
    """One of every debtor account and of nobody else, ascending by ledger and account."""
    cosignatures: tuple[Cosignature, ...] = ()
    """Ascending by role and officer; none where no threshold asks for one."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "cosignatures": [one.to_json() for one in self.cosignatures],
            "instruction": self.instruction.to_json(),
            "signatures": [one.to_json() for one in self.signatures],
        }

    def encode(self) -> bytes:
        """The canonical bytes, as a file or in a call."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> SignedInstruction:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> SignedInstruction:
        """Raises Malformed."""
        names = fields.names("instruction signatures cosignatures")
        body = fields.members(value, names, "signed instruction")
        found = cls(
            Instruction.from_json(body["instruction"]),
            fields.sequence(body, "signatures", Signature.from_json, MAX_SIGNATURES),
            fields.sequence(body, "cosignatures", Cosignature.from_json, MAX_COSIGNATURES),
        )
        if tuple((one.ledger, one.account) for one in found.signatures) != (
            found.instruction.debtors
        ):
            refuse("signatures", "must be one of every debtor, ascending by ledger and account")
        order = [(one.role, one.officer) for one in found.cosignatures]
        if any(not a < b for a, b in pairwise(order)):
            refuse("cosignatures", "must ascend by role and officer, each once")
        return found


_WITHDRAWAL = fields.names(
    "type ledger account withdrawal currency amount time algorithm key signature"
)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """An owner takes money off a ledger; its operator pays it out through the bank behind it."""

    ledger: str
    account: str
    withdrawal: bytes
    """32 random bytes: paid once."""
    currency: str
    amount: int
    time: int
    algorithm: str
    key: bytes
    signature: bytes

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {**self._unsigned(), "signature": self.signature.hex()}

    def _unsigned(self) -> dict[str, Json]:
        return {
            "account": self.account,
            "algorithm": self.algorithm,
            "amount": self.amount,
            "currency": self.currency,
            "key": self.key.hex(),
            "ledger": self.ledger,
            "time": self.time,
            "type": "withdrawal",
            "withdrawal": self.withdrawal.hex(),
        }

    def signing_bytes(self) -> bytes:
        """What is signed: the context tag and the payload without `signature`."""
        return WITHDRAWAL_TAG + encode(self._unsigned())

    def encode(self) -> bytes:
        """The canonical bytes."""
        return encode(self.to_json())

    @classmethod
    def decode(cls, raw: bytes) -> Withdrawal:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Withdrawal:
        """Raises Malformed."""
        body = fields.members(value, _WITHDRAWAL, "withdrawal")
        fields.kind(body, "withdrawal")
        algorithm, key, signature = fields.signature(body)
        return cls(
            ledger=fields.identifier(body, "ledger"),
            account=fields.identifier(body, "account"),
            withdrawal=fields.octets(body, "withdrawal"),
            currency=currency(body),
            amount=amount(body),
            time=fields.integer(body, "time"),
            algorithm=algorithm,
            key=key,
            signature=signature,
        )
