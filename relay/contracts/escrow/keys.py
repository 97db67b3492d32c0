"""Where `escrow` keeps what it knows, and the readers that services and the CLI use.

Keys (ids in hex, numbers zero-padded so that byte order is their order):

    currency/<code>                                {currency, exponent, opened, table}
    account/<account>/<version, 8 digits>          Terms (relay.contracts.accounts)
    line/<account>/<number, 12 digits>             Line (relay.contracts.escrow.books)
    paid/<account>/<owner>/<number, 12 digits>     {day, total}: locked for one payee's owner, kept
                                                   where the terms set a limit for one
    moved/<deposit, withdrawal or assignment>      what the ledger did alone, by its reference
    lock/<relay>/<settlement>                      Held
    netted/<relay>/<window settlement>/<account>   [{amount, rounding, uetr}]: what is netted on an
                                                   account; rounding only where there is any
    ended/<relay>/<settlement>                     End
    quote/<maker>/<quote>                          {relay, settlement}
    told/…  terms-answer/…                         who hears of accounts (…escrow.telling)

Readers take anything with `get`, `scan` and `last` (relay.contracts.base.Reader).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.canonical import Json, encode
from relay.contracts.base import Reader, key
from relay.contracts.escrow.books import Entry
from relay.contracts.payloads import Ended, Ruling, fields
from relay.contracts.payloads.instruction import amount as read_amount
from relay.contracts.payloads.instruction import uuid4
from relay.contracts.payloads.netting import MAX_MEMBERS
from relay.money import MAX_AMOUNT

MAX_TRANSFERS = 4096
MAX_HELD_BYTES = 2 * 1024 * 1024
"""Of a lock's record, as of any record. It can be longer than the packet that asked for it: names
stand in each of its movements, and owners are in no packet."""


@dataclass(frozen=True, slots=True)
class Movement:
    """One posting that a release will make."""

    entry: Entry
    debtor: str
    creditor: str
    amount: int

    def to_json(self) -> dict[str, Json]:
        """The members of the record."""
        return {
            "amount": self.amount,
            "creditor": self.creditor,
            "debtor": self.debtor,
            "entry": self.entry.value,
        }

    @classmethod
    def from_json(cls, value: Json) -> Movement:
        """Raises Malformed."""
        body = fields.members(value, ("amount", "creditor", "debtor", "entry"), "movement")
        return cls(
            fields.word(body, "entry", Entry),
            fields.identifier(body, "debtor"),
            fields.identifier(body, "creditor"),
            read_amount(body),
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """What is held of one account, and what it signed for."""

    account: str
    amount: int
    """Held; 0 where netting left nothing to pay."""
    gross: int
    """Signed for, fees included; counts against limits of the day."""

    def to_json(self) -> dict[str, Json]:
        """The members of the record."""
        return {"account": self.account, "amount": self.amount, "gross": self.gross}

    @classmethod
    def from_json(cls, value: Json) -> Hold:
        """Raises Malformed."""
        body = fields.members(value, ("account", "amount", "gross"), "hold")
        return cls(
            fields.identifier(body, "account"),
            fields.integer(body, "amount", 0, MAX_AMOUNT),
            fields.integer(body, "gross", 0, MAX_AMOUNT),
        )


@dataclass(frozen=True, slots=True)
class Paid:
    """What an account locked for one payee's owner, where its terms limit that."""

    account: str
    owner: str
    amount: int

    def to_json(self) -> dict[str, Json]:
        """The members of the record."""
        return {"account": self.account, "amount": self.amount, "owner": self.owner}

    @classmethod
    def from_json(cls, value: Json) -> Paid:
        """Raises Malformed."""
        body = fields.members(value, ("account", "amount", "owner"), "paid")
        return cls(
            fields.identifier(body, "account"),
            fields.identifier(body, "owner"),
            fields.integer(body, "amount", 1, MAX_AMOUNT),
        )


@dataclass(frozen=True, slots=True)
class Held:
    """What a settlement has locked on this ledger, all of it or no record."""

    digest: bytes
    """H(instruction), or H(cut-off record): what the decision must be about."""
    uetr: str
    """Of the instruction; empty for a netting window."""
    window: str
    holds: tuple[Hold, ...]
    movements: tuple[Movement, ...]
    """What a release posts."""
    paid: tuple[Paid, ...]
    time: int

    def encode(self) -> bytes:
        """The record's canonical bytes."""
        return encode(
            {
                "digest": self.digest.hex(),
                "holds": [hold.to_json() for hold in self.holds],
                "movements": [movement.to_json() for movement in self.movements],
                "paid": [one.to_json() for one in self.paid],
                "time": self.time,
                "uetr": self.uetr,
                "window": self.window,
            }
        )

    @classmethod
    def decode(cls, raw: bytes) -> Held:
        """Raises Malformed."""
        names = fields.names("digest holds movements paid time uetr window")
        body = fields.members(fields.document(raw, MAX_HELD_BYTES), names, "lock")
        return cls(
            fields.octets(body, "digest"),
            fields.optional_code(body, "uetr"),
            "" if body["window"] == "" else fields.name(body, "window"),
            fields.sequence(body, "holds", Hold.from_json, MAX_TRANSFERS),
            fields.sequence(body, "movements", Movement.from_json, MAX_TRANSFERS),
            fields.sequence(body, "paid", Paid.from_json, MAX_TRANSFERS),
            fields.integer(body, "time"),
        )


@dataclass(frozen=True, slots=True)
class Netted:
    """What one instruction of a netting window is to one account."""

    uetr: str
    amount: int
    """Minor units; negative where the account owes it. 0: it takes what it gives."""
    rounding: int = 0
    """How much of it is the rounding difference of an itemised bill, with its sign."""


def encode_netted(members: Sequence[Netted]) -> bytes:
    """The canonical bytes of the record under `netted/`."""
    found: list[Json] = []
    for one in members:
        rounding: dict[str, Json] = {"rounding": one.rounding} if one.rounding else {}
        found.append({"amount": one.amount, **rounding, "uetr": one.uetr})
    return encode({"members": found})


def decode_netted(raw: bytes) -> tuple[Netted, ...]:
    """Raises Malformed."""
    body = fields.members(fields.document(raw), ("members",), "netted")
    return fields.sequence(body, "members", _netted, MAX_MEMBERS)


def _netted(value: Json) -> Netted:
    rounds = type(value) is dict and "rounding" in value
    names = ("amount", "rounding", "uetr") if rounds else ("amount", "uetr")
    body = fields.members(value, names, "netted")
    amount, rounding = (
        fields.integer(body, name, -MAX_AMOUNT, MAX_AMOUNT) if name in body else 0
        for name in ("amount", "rounding")
    )
    if rounds and not rounding:
        fields.refuse("rounding", "is left out where there is none")
    return Netted(uuid4(body, "uetr"), amount, rounding)


@dataclass(frozen=True, slots=True)
class End:
    """What a decision did here."""

    decision: bytes
    """SHA-256 of the relay's record."""
    ruling: Ruling
    ended: Ended
    time: int

    def encode(self) -> bytes:
        """The record's canonical bytes."""
        return encode(
            {
                "decision": self.decision.hex(),
                "ended": self.ended.value,
                "ruling": self.ruling.value,
                "time": self.time,
            }
        )

    @classmethod
    def decode(cls, raw: bytes) -> End:
        """Raises Malformed."""
        names = fields.names("decision ended ruling time")
        body = fields.members(fields.document(raw), names, "end")
        return cls(
            fields.octets(body, "decision"),
            fields.word(body, "ruling", Ruling),
            fields.word(body, "ended", Ended),
            fields.integer(body, "time"),
        )


def find_held(state: Reader, relay: str, settlement: bytes) -> Held | None:
    """What that settlement has locked here, whether it has ended or not."""
    found = state.get(key("lock", relay, settlement))
    return None if found is None else Held.decode(found)


def find_netted(state: Reader, relay: str, settlement: bytes, account: str) -> tuple[Netted, ...]:
    """What a netting window's settlement is made of on one account; nothing for any other."""
    found = state.get(key("netted", relay, settlement, account))
    return () if found is None else decode_netted(found)


def find_end(state: Reader, relay: str, settlement: bytes) -> End | None:
    """How that settlement ended here; None while it has not."""
    found = state.get(key("ended", relay, settlement))
    return None if found is None else End.decode(found)
