"""The one instruction that every debtor of a settlement signs, and the quote in it.

A settlement moves money on n legs, each on one ledger. Legs of side `bill` together pay the bill;
legs of side `pay` together pay for it, at the quote's rate. The maker of the quote stands between:
he is paid on the `pay` legs and pays on the `bill` legs (in a return it is the other way round).
Nothing but this instruction, signed under the keys of a debtor's account, lets anyone debit it
(DESIGN §8). Context tags: `lianqiao/instruction/v1`, and `lianqiao/approval/v1` for co-signatures.

Decoding checks the form: amounts that can be paid, known currencies, a rate in lowest terms, two
parties to each leg. What the rate gives for an amount is the contracts' to check.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

from relay.canonical import MAX_INTEGER, Json, encode
from relay.contracts.payloads import fields
from relay.contracts.payloads.fields import Object, refuse
from relay.contracts.payloads.itemised import BillLines
from relay.errors import Invalid, Reason
from relay.money import MAX_AMOUNT, Rate, Residue, check_currency

INSTRUCTION_TAG = b"lianqiao/instruction/v1\n"
MAX_LEGS = 16
_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_DAY = re.compile(r"\d{4}-\d{2}(?:-\d{2})?", re.ASCII)


def currency(value: Object, field: str = "currency") -> str:
    """Reads an ISO 4217 code that can be paid. Raises Malformed(CURRENCY_UNKNOWN)."""
    text = value[field]
    try:
        if type(text) is str:
            return check_currency(text)
    except Invalid:
        pass
    refuse(field, "must be a currency of ISO 4217", reason=Reason.CURRENCY_UNKNOWN)


def amount(value: Object, field: str = "amount") -> int:
    """Reads minor units, 1 to 2^53-1. Raises Malformed(AMOUNT_INVALID)."""
    number = value[field]
    if type(number) is not int or not 1 <= number <= MAX_AMOUNT:
        refuse(field, "must be 1 to 2^53-1 minor units", reason=Reason.AMOUNT_INVALID)
    return number


def rate(value: Object, field: str = "rate") -> Rate:
    """Reads a ratio in lowest terms. Raises Malformed(RATE_INVALID)."""
    body = fields.members(value[field], ("numerator", "denominator"), field)
    try:
        return Rate(fields.integer(body, "numerator"), fields.integer(body, "denominator"))
    except Invalid as err:
        refuse(field, err.detail, reason=Reason.RATE_INVALID)


def residue(value: Object, field: str = "residue") -> Residue:
    """Reads a fraction of one minor unit. Raises Malformed(RATE_INVALID)."""
    body = fields.members(value[field], ("numerator", "denominator"), field)
    most = MAX_INTEGER
    try:
        return Residue(
            fields.integer(body, "numerator", -most, most), fields.integer(body, "denominator", 1)
        )
    except Invalid as err:
        refuse(field, err.detail, reason=Reason.RATE_INVALID)


def ratio_json(ratio: Rate | Residue) -> Json:
    """The members of a rate or a residue."""
    return {"denominator": ratio.denominator, "numerator": ratio.numerator}


def uuid4(value: Object, field: str) -> str:
    """Reads a UUID of version 4 in lower case."""
    text = value[field]
    if type(text) is not str or _UUID4.fullmatch(text) is None:
        refuse(field, "must be a UUID of version 4 in lower case")
    return text


def rate_day(value: Object, field: str = "day") -> str:
    """Reads YYYY-MM-DD, YYYY-MM, or nothing. Whether there is such a day is not checked here."""
    text = value[field]
    if text != "" and (type(text) is not str or _DAY.fullmatch(text) is None):
        refuse(field, "must be YYYY-MM-DD, YYYY-MM or empty")
    return str(text)


class Mode(StrEnum):
    """Where a rate comes from."""

    FIRM = "firm"
    """The maker's own, for a short time; held against the last rate of a reference."""
    FIXING = "fixing"
    """The reference of a day."""
    FACTOR = "factor"
    """The conversion factor of a month."""


class Side(StrEnum):
    """Which side of the conversion a leg is on."""

    BILL = "bill"
    PAY = "pay"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount with its currency."""

    currency: str
    amount: int
    """Minor units."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {"amount": self.amount, "currency": self.currency}

    @classmethod
    def from_json(cls, value: Json) -> Money:
        """Raises Malformed."""
        body = fields.members(value, ("amount", "currency"), "money")
        return cls(currency(body), amount(body))


_QUOTE = fields.names("id maker mode policy version source day bill payable rate residue expires")


@dataclass(frozen=True, slots=True)
class Quote:
    """A maker's offer; (maker, id) is used once, whatever becomes of the settlement."""

    id: str
    maker: str
    """The owner, by his id on both ledgers, of the accounts between the two sides."""
    mode: Mode
    policy: str
    """Name of the relay's rate policy that it was made under."""
    version: int
    """Version of that policy; it must be in force at acceptance."""
    source: str
    """Who publishes the rate; with `firm`, whose last rate it is held against."""
    day: str
    """YYYY-MM-DD of a fixing, YYYY-MM of a factor, empty with `firm`."""
    bill: Money
    payable: Money
    """The bill at the rate, by the rounding rule of the instruction."""
    rate: Rate
    """Units of payable.currency for one unit of bill.currency, in major units."""
    residue: Residue
    """Minor units of payable.currency: exact minus rounded."""
    expires: int
    """Seconds; good while now < expires, by the verified time of whoever accepts it."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "bill": self.bill.to_json(),
            "day": self.day,
            "expires": self.expires,
            "id": self.id,
            "maker": self.maker,
            "mode": self.mode.value,
            "payable": self.payable.to_json(),
            "policy": self.policy,
            "rate": ratio_json(self.rate),
            "residue": ratio_json(self.residue),
            "source": self.source,
            "version": self.version,
        }

    @classmethod
    def from_json(cls, value: Json) -> Quote:
        """Raises Malformed."""
        body = fields.members(value, _QUOTE, "quote")
        found = cls(
            id=fields.identifier(body, "id"),
            maker=fields.identifier(body, "maker"),
            mode=fields.word(body, "mode", Mode),
            policy=fields.name(body, "policy"),
            version=fields.integer(body, "version", 1, 99_999_999),
            source=fields.identifier(body, "source"),
            day=rate_day(body),
            bill=Money.from_json(body["bill"]),
            payable=Money.from_json(body["payable"]),
            rate=rate(body),
            residue=residue(body),
            expires=fields.integer(body, "expires", 1),
        )
        if bool(found.day) != (found.mode is not Mode.FIRM):
            refuse("day", "stands with fixing and factor, and with nothing else")
        return found


@dataclass(frozen=True, slots=True)
class Fee:
    """What a debtor pays beside a leg, to an account of the same ledger and currency."""

    account: str
    amount: int

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {"account": self.account, "amount": self.amount}

    @classmethod
    def from_json(cls, value: Json) -> Fee:
        """Raises Malformed."""
        body = fields.members(value, ("account", "amount"), "fee")
        return cls(fields.identifier(body, "account"), amount(body))


_LEG = fields.names("ledger side currency debtor creditor amount fee")


@dataclass(frozen=True, slots=True)
class Leg:
    """One payment on one ledger."""

    ledger: str
    side: Side
    currency: str
    debtor: str
    """Account that pays; its owner's signature is needed."""
    creditor: str
    amount: int
    fee: Fee | None
    """Posted by itself, so that the rate stays to be seen."""

    @property
    def total(self) -> int:
        """What the debtor pays: principal and fee."""
        return self.amount + (self.fee.amount if self.fee else 0)

    @property
    def paid(self) -> tuple[tuple[str, int], ...]:
        """(account, amount) of everyone who is paid by it: the creditor, and whose fee it is."""
        fees = () if self.fee is None else ((self.fee.account, self.fee.amount),)
        return ((self.creditor, self.amount), *fees)

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {
            "amount": self.amount,
            "creditor": self.creditor,
            "currency": self.currency,
            "debtor": self.debtor,
            "fee": None if self.fee is None else self.fee.to_json(),
            "ledger": self.ledger,
            "side": self.side.value,
        }

    @classmethod
    def from_json(cls, value: Json) -> Leg:
        """Raises Malformed; PARTY_INVALID where someone would pay himself."""
        body = fields.members(value, _LEG, "leg")
        found = cls(
            ledger=fields.identifier(body, "ledger"),
            side=fields.word(body, "side", Side),
            currency=currency(body),
            debtor=fields.identifier(body, "debtor"),
            creditor=fields.identifier(body, "creditor"),
            amount=amount(body),
            fee=None if body["fee"] is None else Fee.from_json(body["fee"]),
        )
        if found.debtor in (found.creditor, found.fee.account if found.fee else ""):
            refuse("debtor", "cannot be the payee as well", reason=Reason.PARTY_INVALID)
        if found.total > MAX_AMOUNT:
            refuse("fee", "makes more than 2^53-1", reason=Reason.AMOUNT_INVALID)
        return found


_INSTRUCTION = fields.names(
    "type relay settlement uetr returns subject window deadline rounding quote legs"
)


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is to be settled: both sides or nothing."""

    relay: str
    settlement: bytes
    """32 random bytes: one decision for ever."""
    uetr: str
    """End-to-end reference (ISO 20022), a UUID of version 4; carried through, unique at the relay.
    """
    returns: str
    """The UETR of the settlement that this one gives back; empty otherwise."""
    subject: bytes
    """Salted commitment of the bill (ClaimResponse), or empty. Never data of a patient."""
    window: str
    """The netting window it is bound to; empty where it settles by itself."""
    deadline: int
    """Seconds; locks time out then. Equals quote.expires where there is no window."""
    rounding: str
    quote: Quote
    legs: tuple[Leg, ...]
    itemised: BillLines | None = None
    """Of an itemised bill whose rounding difference is to be posted by itself."""

    @property
    def ledgers(self) -> tuple[str, ...]:
        """The ledgers that must lock, ascending, each once."""
        return tuple(sorted({leg.ledger for leg in self.legs}))

    @property
    def debtors(self) -> tuple[tuple[str, str], ...]:
        """(ledger, account) of everyone who must sign, ascending."""
        return tuple(sorted({(leg.ledger, leg.debtor) for leg in self.legs}))

    def legs_on(self, ledger: str) -> tuple[Leg, ...]:
        """The legs of one ledger, in order."""
        return tuple(leg for leg in self.legs if leg.ledger == ledger)

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        itemised = {} if self.itemised is None else {"itemised": self.itemised.to_json()}
        return {
            **itemised,
            "deadline": self.deadline,
            "legs": [leg.to_json() for leg in self.legs],
            "quote": self.quote.to_json(),
            "relay": self.relay,
            "returns": self.returns,
            "rounding": self.rounding,
            "settlement": self.settlement.hex(),
            "subject": self.subject.hex(),
            "type": "instruction",
            "uetr": self.uetr,
            "window": self.window,
        }

    def encode(self) -> bytes:
        """The instruction's canonical bytes."""
        return encode(self.to_json())

    def signing_bytes(self) -> bytes:
        """What every debtor signs: the context tag and the whole instruction."""
        return INSTRUCTION_TAG + self.encode()

    @property
    def digest(self) -> bytes:
        """H(instruction): SHA-256 of the canonical bytes."""
        return sha256(self.encode()).digest()

    @classmethod
    def decode(cls, raw: bytes) -> Instruction:
        """Raises Malformed."""
        return cls.from_json(fields.document(raw))

    @classmethod
    def from_json(cls, value: Json) -> Instruction:
        """Raises Malformed."""
        names, itemised = _INSTRUCTION, None
        if type(value) is dict and "itemised" in value:
            names = _INSTRUCTION | {"itemised"}
            itemised = BillLines.from_json(value["itemised"])
        body = fields.members(value, names, "instruction")
        fields.kind(body, "instruction")
        found = cls(
            relay=fields.identifier(body, "relay"),
            settlement=fields.octets(body, "settlement"),
            uetr=uuid4(body, "uetr"),
            returns="" if body["returns"] == "" else uuid4(body, "returns"),
            subject=fields.optional_octets(body, "subject"),
            window="" if body["window"] == "" else fields.name(body, "window"),
            deadline=fields.integer(body, "deadline", 1),
            rounding=fields.name(body, "rounding"),
            quote=Quote.from_json(body["quote"]),
            legs=fields.sequence(body, "legs", Leg.from_json, MAX_LEGS, low=2),
            itemised=itemised,
        )
        if {leg.side for leg in found.legs} != set(Side):
            refuse("legs", "must hold both sides")
        if found.window == "" and found.deadline != found.quote.expires:
            refuse("deadline", "is the quote's expiry where there is no window")
        if found.deadline < found.quote.expires:
            refuse("deadline", "must not lie before the quote's expiry")
        return found
