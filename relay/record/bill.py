"""An adjudicated bill at the door: a signed FHIR R4 ClaimResponse, reduced to what is payable.

Read strictly, like every record: exact bytes, no duplicate keys, amounts as their decimal texts.
Taken is what can be cleared: an active claim response of use `claim`, adjudicated completely, with
one payment in one currency, whose sums tie:

    payment.amount = total[benefit] - payment.adjustment
    total[benefit] = sum of the lines' benefit     where lines are adjudicated (item, addItem)

The insurer's signature is over a context tag, who signs, and SHA-256 of the exact bytes. On ledgers
only the salted commitment of the bytes is named (relay.record.parts), never a word of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from relay.canonical import Json, encode
from relay.contracts.payloads import fields
from relay.errors import Invalid, LianqiaoError, Reason
from relay.light.keys import verify
from relay.money import format_amount, parse_amount
from relay.record import strict
from relay.record.attest import Signer
from relay.record.parts import Opened, commit
from relay.record.structure import check_structure

BILL_TAG = b"lianqiao/bill/v1\n"
MAX_BILL_BYTES = 4 * 1024 * 1024
MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class BillSignature:
    """Detached: who adjudicated these bytes."""

    insurer: str
    digest: bytes
    """SHA-256 of the ClaimResponse as received."""
    algorithm: str
    key: bytes
    signature: bytes

    def _unsigned(self) -> dict[str, Json]:
        return {
            "algorithm": self.algorithm,
            "digest": self.digest.hex(),
            "insurer": self.insurer,
            "key": self.key.hex(),
            "type": "bill_signature",
        }

    def signing_bytes(self) -> bytes:
        """The context tag and the document without `signature`."""
        return BILL_TAG + encode(self._unsigned())

    def encode(self) -> bytes:
        """The canonical bytes, as a file."""
        return encode({**self._unsigned(), "signature": self.signature.hex()})

    @classmethod
    def decode(cls, raw: bytes) -> BillSignature:
        """Raises Malformed."""
        names = fields.names("type insurer digest algorithm key signature")
        body = fields.members(fields.document(raw), names, "bill signature")
        fields.kind(body, "bill_signature")
        return cls(
            fields.identifier(body, "insurer"),
            fields.octets(body, "digest"),
            *fields.signature(body),
        )


@dataclass(frozen=True, slots=True)
class Bill:
    """What is payable, and the lines that it is made of; amounts in minor units."""

    currency: str
    amount: int
    lines: tuple[int, ...]
    """Benefit of each line, in order; empty where no line was adjudicated."""
    adjustment: int
    digest: bytes
    """SHA-256 of the bytes."""


def sign_bill(raw: bytes, insurer: str, signer: Signer) -> BillSignature:
    """The signature of an insurer over a bill; whether it can be cleared is not looked at."""
    bare = BillSignature(insurer, sha256(raw).digest(), signer.algorithm, signer.public, b"")
    return replace(bare, signature=signer.sign(bare.signing_bytes()))


def subject(raw: bytes, salt: bytes) -> bytes:
    """The salted commitment of a bill, 32 bytes; `salt` is 32 fresh random bytes, kept with it."""
    return commit((Opened(salt, raw),))


def take_signed(raw: bytes, signature: BillSignature, key: bytes, where: str = "bill") -> Bill:
    """The bill, signed under the insurer's registered `key`.

    Raises Invalid(UNKNOWN_SIGNER) for another key, Invalid(RECORD_MISMATCH) for other bytes,
    Invalid(INVALID_SIGNATURE), and as `take_bill`.
    """
    if signature.key != key:
        raise Invalid(Reason.UNKNOWN_SIGNER, "not signed under the insurer's registered key")
    if signature.digest != sha256(raw).digest():
        raise Invalid(Reason.RECORD_MISMATCH, "the signature is over other bytes than the bill's")
    verify(signature.algorithm, signature.key, signature.signing_bytes(), signature.signature)
    return take_bill(raw, where)


def take_bill(raw: bytes, where: str = "bill") -> Bill:
    """The bill in a ClaimResponse. Raises Malformed, Invalid(RECORD_INVALID) where it is no valid
    FHIR, and Invalid(BILL_INVALID) naming the element; never with a value of it."""
    if len(raw) > MAX_BILL_BYTES:
        raise _refuse(where, "larger than 4 MiB")
    resource = strict.read(raw, where)
    if not isinstance(resource, dict) or resource.get("resourceType") != "ClaimResponse":
        raise _refuse(where, "not a ClaimResponse")
    check_structure(resource, raw, where)
    for name, wanted in (("status", "active"), ("use", "claim"), ("outcome", "complete")):
        if resource.get(name) != wanted:
            raise _refuse(f"{where}: {name}", f"must be {wanted}")
    payment = resource.get("payment")
    if not isinstance(payment, dict):
        raise _refuse(f"{where}: payment", "is missing")
    reader = _Amounts(where)
    payable = reader.read(payment.get("amount"), "payment.amount")
    adjustment = 0
    if "adjustment" in payment:
        adjustment = reader.read(payment["adjustment"], "payment.adjustment")
    benefit = reader.total(resource.get("total") or [])
    if payable != benefit - adjustment:
        raise _refuse(
            f"{where}: payment.amount", "is not the total benefit less the payment's adjustment"
        )
    if payable == 0:
        raise _refuse(f"{where}: payment.amount", "is nothing to pay")
    lines = reader.lines([*(resource.get("item") or ()), *(resource.get("addItem") or ())])
    if lines and sum(lines) != benefit:
        raise _refuse(f"{where}: item", "the lines' benefit does not add up to the total")
    return Bill(reader.currency, payable, lines, adjustment, sha256(raw).digest())


def _refuse(where: str, rule: str) -> Invalid:
    return Invalid(Reason.BILL_INVALID, f"a bill that cannot be cleared: {rule}", hint=where)


def _categories(value: Any) -> set[str]:
    codings = value.get("coding") if isinstance(value, dict) else None
    return {c.get("code", "") for c in codings or () if isinstance(c, dict)}


class _Amounts:
    """Reads FHIR Money by its decimal text, all in the currency of the first."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.currency = ""

    def read(self, money: Any, field: str) -> int:
        """Minor units. Raises Invalid(BILL_INVALID)."""
        place = f"{self.where}: {field}"
        value = money.get("value") if isinstance(money, dict) else None
        code = money.get("currency") if isinstance(money, dict) else None
        if not isinstance(value, strict.Number) or not isinstance(code, str):
            raise _refuse(place, "needs value and currency")
        if self.currency not in ("", code):
            raise _refuse(place, "is in another currency than the payment")
        self.currency = code
        try:
            return parse_amount(value.text, code)
        except LianqiaoError as error:
            failure = _refuse(place, f"{error.reason}, whole minor units of ISO 4217 are cleared")
        raise failure

    def total(self, totals: list[Any]) -> int:
        """The one total of category benefit."""
        found = [t for t in totals if "benefit" in _categories(t.get("category"))]
        if len(found) != 1:
            raise _refuse(f"{self.where}: total", "must have category benefit exactly once")
        return self.read(found[0].get("amount"), "total[benefit].amount")

    def lines(self, items: list[Any]) -> tuple[int, ...]:
        """Benefit of each line; a line without one counts nothing."""
        if len(items) > MAX_LINES:
            raise _refuse(f"{self.where}: item", f"more than {MAX_LINES} lines")
        found = []
        for number, item in enumerate(items):
            parts = [
                self.read(one.get("amount"), f"item[{number}].adjudication")
                for one in item.get("adjudication") or ()
                if "benefit" in _categories(one.get("category"))
            ]
            found.append(sum(parts))
        return tuple(found)


def describe(bill: Bill) -> str:
    """One line for people: amount and currency."""
    return f"{format_amount(bill.amount, bill.currency)} {bill.currency}"
