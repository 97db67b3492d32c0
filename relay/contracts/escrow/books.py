"""The books of a money ledger: accounts as chains of lines, and double entry between them.

A line is written once and holds what the account comes to with it, so that the last line is the
account and finding it is one look-up. Money moves between two accounts only, by two lines that
name each other (`twin`); a hold takes money from what is free, not from the balance. Per currency
the balances of all accounts, the nostro among them, are zero together. The nostro stands for the
bank behind the ledger and is the only one below zero: by what was deposited and not withdrawn.

    line/<account>/<number, 12 digits>      Line
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from relay.canonical import encode
from relay.contract import State
from relay.contracts.base import Reader, key
from relay.contracts.civil import day
from relay.contracts.payloads import fields
from relay.errors import Reason, Refused
from relay.money import MAX_AMOUNT

NO_REFERENCE = bytes(32)


class Entry(StrEnum):
    """What a line is about."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    PRINCIPAL = "principal"
    FEE = "fee"
    ROUNDING = "rounding"
    """What the lines of an itemised bill fall short of what is payable."""
    ROUNDING_BACK = "rounding_back"
    """What they exceed it by, back to the payer (relay.contracts.escrow.postings)."""
    NET = "net"
    """A transfer of a netting window."""
    ASSIGNED = "assigned"
    """Out of suspense, to an account."""
    LOCK = "lock"
    REFUND = "refund"


POSTINGS = frozenset(Entry) - {Entry.LOCK, Entry.REFUND}
"""Lines that move money, and so have a twin."""


def nostro(currency: str) -> str:
    """The account that stands for the bank behind the ledger."""
    return f"nostro:{currency}"


def suspense(currency: str) -> str:
    """Where money goes whose account was closed before it came."""
    return f"suspense:{currency}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an account, and the account after it. Minor units throughout."""

    account: str
    number: int
    """From 1, without a gap; 0: an account without lines."""
    entry: Entry
    amount: int
    """What it adds to the balance; negative where it takes."""
    hold: int
    """What it adds to what is held."""
    balance: int
    held: int
    twin: str
    """The other account of a posting; empty for a hold."""
    reference: bytes
    """The settlement, the deposit or the withdrawal, 32 bytes."""
    relay: str
    """Of whose settlement; empty for what the ledger does alone."""
    day: int
    """Civil day in Shanghai that `spent` is of."""
    spent: int
    """Gross amount locked that day and not refunded on it."""
    time: int

    @property
    def free(self) -> int:
        """What may be locked or withdrawn."""
        return self.balance - self.held

    def spent_on(self, today: int) -> int:
        """What was spent on a day, if it is the last one with a lock; else nothing."""
        return self.spent if self.day == today else 0

    def encode(self) -> bytes:
        """The record's canonical bytes."""
        return encode(
            {
                "amount": self.amount,
                "balance": self.balance,
                "day": self.day,
                "entry": self.entry.value,
                "held": self.held,
                "hold": self.hold,
                "reference": self.reference.hex(),
                "relay": self.relay,
                "spent": self.spent,
                "time": self.time,
                "twin": self.twin,
            }
        )


_LINE = fields.names("amount balance day entry held hold reference relay spent time twin")
_DIGITS = 12


def read_line(name: bytes, value: bytes) -> Line:
    """The line written at a key. Raises Malformed."""
    _, account, number = name.decode().split("/")
    body = fields.members(fields.document(value), _LINE, "line")
    signed = -MAX_AMOUNT
    return Line(
        account=account,
        number=int(number),
        entry=fields.word(body, "entry", Entry),
        amount=fields.integer(body, "amount", signed),
        hold=fields.integer(body, "hold", signed),
        balance=fields.integer(body, "balance", signed),
        held=fields.integer(body, "held"),
        twin=fields.optional_identifier(body, "twin"),
        reference=fields.octets(body, "reference"),
        relay=fields.optional_identifier(body, "relay"),
        day=fields.integer(body, "day"),
        spent=fields.integer(body, "spent"),
        time=fields.integer(body, "time"),
    )


def last_line(state: Reader, account: str) -> Line:
    """The last line of an account, or one of zeros with number 0."""
    found = state.last(key("line", account, ""))
    if found is None:
        return Line(account, 0, Entry.DEPOSIT, 0, 0, 0, 0, "", NO_REFERENCE, "", 0, 0, 0)
    return read_line(*found)


class Books:
    """Writes lines in one step of the contract.

    No account but the nostro goes below zero: Refused(FUNDS_MISSING), before anything of a posting
    or a hold is written. All other checks are its callers', before they write.
    """

    def __init__(self, state: State, now: int, reference: bytes, relay: str = "") -> None:
        self._state = state
        self._now = now
        self._reference = reference
        self._relay = relay
        self._last: dict[str, Line] = {}

    def last(self, account: str) -> Line:
        """The last line of an account, what this step wrote included."""
        if account not in self._last:
            self._last[account] = last_line(self._state, account)
        return self._last[account]

    def post(self, entry: Entry, debtor: str, creditor: str, amount: int, held: int = 0) -> None:
        """Moves `amount` from one account to another, and frees `held` of the debtor's holds."""
        self._write(debtor, entry, -amount, -held, creditor)
        self._write(creditor, entry, amount, 0, debtor)

    def hold(self, account: str, amount: int, gross: int) -> None:
        """Holds `amount`; `gross` counts as spent today (netted, it may be more)."""
        before = self.last(account)
        today = day(self._now)
        spent = min(before.spent_on(today) + gross, MAX_AMOUNT)
        self._write(account, Entry.LOCK, 0, amount, "", today, spent)

    def refund(self, account: str, amount: int, gross: int, locked: int) -> None:
        """Ends a hold; what was locked on the same civil day counts as spent no more."""
        before = self.last(account)
        spent = before.spent
        if day(locked) == before.day:
            spent = max(0, spent - gross)
        self._write(account, Entry.REFUND, 0, -amount, "", before.day, spent)

    def _write(
        self,
        account: str,
        entry: Entry,
        amount: int,
        hold: int,
        twin: str,
        spent_day: int | None = None,
        spent: int = 0,
    ) -> None:
        before = self.last(account)
        line = Line(
            account=account,
            number=before.number + 1,
            entry=entry,
            amount=amount,
            hold=hold,
            balance=before.balance + amount,
            held=before.held + hold,
            twin=twin,
            reference=self._reference,
            relay=self._relay,
            day=before.day if spent_day is None else spent_day,
            spent=before.spent if spent_day is None else spent,
            time=self._now,
        )
        own = account.startswith("nostro:")
        if line.held < 0 or (line.free < 0 and not own):
            raise Refused(
                Reason.FUNDS_MISSING,
                "less is free than that",
                hint="lianqiao accounts show tells what is free, and what is held",
                account=account,
            )
        self._last[account] = line
        self._state.put(key("line", account, f"{line.number:0{_DIGITS}d}"), line.encode())
