"""What must hold of money after every tick, read from the journals and computed by itself.

    conservation   per ledger and currency, all accounts with the nostro come to zero, and the
                   nostro owes what was paid in and not paid out
    below zero     nobody but the nostro is, and nothing is held that is not there
    locks          what is held is what open locks hold: no lock ends by time, none holds less
    ended          what a settlement moved is what its lock names, if it was released, once
    terms          what is locked was signed, for this ledger, by the rate, before the quote expired
    quote          one use of (maker, quote id) on each ledger, and at each relay
    limits         a payer's day: no more than his limits, and co-signed above his threshold
    rounding       the lines of a bill and their difference are posted apart, and are the leg
    returns        only what was committed is given back, once
    decision       one for each settlement; commit iff all have locked; every end follows it
    legs           both sides or neither
    reasons        a lock is refused for what can go wrong in a network, and for nothing else

A chain that has signed two histories excuses what takes it and another chain to judge; its own
books must be right all the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import sha256
from math import floor
from typing import Any

from relay.contracts.payloads import Instruction, SignedInstruction, window_settlement
from relay.errors import Reason
from tests.contracts.money_world import RATE
from tests.simulation.money.options import INSISTENT, LAX, TWO_FACED, Money
from tests.simulation.money.payers import Name, Payers, check_rounding, require
from tests.simulation.money.records import ESCROW, SETTLEMENT, Records
from tests.simulation.money.town import ACCOUNTS, Cosigned, Kind
from tests.simulation.oracle import Broken

R = Reason
_REFUSED = {R.FUNDS_MISSING, R.QUOTE_USED, R.QUOTE_EXPIRED, R.TIMED_OUT, R.TIMEOUT_ELAPSED}
"""Why a ledger may refuse a lock that our program asks for."""
_LIMITED = {R.LIMIT_REACHED, R.COSIGNATURE_MISSING}
"""Why as well, where payers are limited: a relay may judge by older terms, or see less."""
_PROGRAM_MARKS = {"again": INSISTENT, "refused": TWO_FACED}
"""What only a relay with another program writes: what it asked for again, what was refused."""
Known = Mapping[bytes, tuple[SignedInstruction, Kind]]


@dataclass(slots=True)
class _Ledger:
    """The books of one ledger so far."""

    payers: Payers
    last: dict[str, dict[str, Any]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    """By account, as its lines say."""
    open: Counter[str] = field(default_factory=Counter)
    """By account, as open locks say."""
    moved: Counter[Name] = field(default_factory=Counter)
    holds: Counter[Name] = field(default_factory=Counter)
    quotes: set[tuple[str, str]] = field(default_factory=set)


class MoneyOracle:
    """See the module docstring."""

    def __init__(
        self,
        records: Mapping[str, Mapping[str, Records]],
        known: Known,
        cosigned: Mapping[bytes, Cosigned],
        liars: Collection[str],
        options: Money,
        marks: Counter[str],
    ) -> None:
        """`records`: by node and port. `known`: what was ever signed, by settlement."""
        self._marks = marks
        self._records = records
        self._known = known
        self._cosigned = cosigned
        self._returns: dict[tuple[str, str], list[Instruction]] = {}
        """(relay, UETR) → what was accepted to give it back."""
        self._liars = liars
        self._options = options
        self._ledgers = {name: _Ledger(payers=Payers(marks)) for name in records}
        self._quotes: dict[str, set[tuple[str, str]]] = {name: set() for name in records}

    def look(self) -> None:
        """Judges what is new everywhere. Raises Broken."""
        fresh = {
            (name, port): records.take()
            for name, ports in self._records.items()
            for port, records in ports.items()
        }
        for (name, port), entries in fresh.items():
            if port == SETTLEMENT:
                for key, value, time in entries:
                    self._at_relay(name, key.decode().split("/"), value, time)
        for (name, port), entries in fresh.items():
            if port == ESCROW and entries:
                self._at_ledger(name, entries)

    # --- a ledger

    def _at_ledger(self, name: str, entries: list[tuple[bytes, bytes, int]]) -> None:
        ledger, touched = self._ledgers[name], set[Name]()
        for key, value, time in entries:
            what, *rest = key.decode().split("/")
            if what == "account":
                ledger.payers.limits[rest[0]] = json.loads(value)["limits"]
            elif what == "line":
                touched.add(self._line(name, rest[0], int(rest[1]), json.loads(value)))
            elif what == "lock":
                touched.add((rest[0], rest[1]))
                self._lock(name, (rest[0], rest[1]), json.loads(value), time)
            elif what == "ended":
                touched.add((rest[0], rest[1]))
                self._ended(name, (rest[0], rest[1]), json.loads(value))
        require(not any(ledger.totals.values()), "conservation", f"{name}: {ledger.totals}")
        for settlement in sorted(touched):
            self._moved(name, settlement)
        require(+ledger.held == +ledger.open, "locks", f"{name}: {ledger.held} {ledger.open}")

    def _line(self, name: str, account: str, number: int, line: dict[str, Any]) -> Name:
        ledger = self._ledgers[name]
        before = ledger.last.get(account, {"balance": 0, "held": 0, "number": 0})
        due = (
            before["number"] + 1,
            before["balance"] + line["amount"],
            before["held"] + line["hold"],
        )
        found = (number, line["balance"], line["held"])
        require(found == due, "conservation", f"{name}: {account} is {found}, not {due}")
        # Of every line: what was below zero may be above it again in the same tick.
        enough = ":" in account or 0 <= line["held"] <= line["balance"]
        require(enough, "below zero", f"{name}: {account} {line}")
        ledger.last[account] = {**line, "number": number}
        code = account.partition(":")[2] or ACCOUNTS[account][0]
        ledger.totals[code] += line["amount"]
        ledger.held[account] += line["hold"]
        settlement = (line["relay"], line["reference"])
        ledger.moved[settlement] += max(0, line["amount"])
        ledger.holds[settlement] += line["hold"]
        return settlement

    def _lock(self, name: str, settlement: Name, lock: dict[str, Any], time: int) -> None:
        ledger, where = self._ledgers[name], f"{name}: {settlement}"
        for hold in lock["holds"]:
            ledger.open[hold["account"]] += hold["amount"]
        members = self._members(name, settlement, lock["window"])
        if members is None:
            return  # a window of a relay with two histories: nobody can say what it held
        owed: Counter[str] = Counter()
        for given in members:
            self._check_terms(where, given, name, time, bool(lock["window"]))
            ledger.payers.count(name, settlement, given, time, self._cosigned[given.settlement])
            quote = (given.quote.maker, given.quote.id)
            require(quote not in ledger.quotes, "quote", f"{where} uses {quote} again")
            ledger.quotes.add(quote)
            for leg in given.legs_on(name):
                owed[leg.debtor] -= leg.total
                owed[leg.creditor] += leg.amount
                if leg.fee is not None:
                    owed[leg.fee.account] += leg.fee.amount
        moved: Counter[str] = Counter()
        for movement in lock["movements"]:
            moved[movement["debtor"]] -= movement["amount"]
            moved[movement["creditor"]] += movement["amount"]
        _drop_zeros(owed)
        _drop_zeros(moved)
        require(moved == owed, "terms", f"{where} would move {moved} where {owed} was signed")
        if not lock["window"]:
            check_rounding(where, members[0], name, lock["movements"], self._marks)
        held = Counter[str]()
        for movement in lock["movements"]:
            if movement["entry"] != "rounding_back":
                held[movement["debtor"]] += movement["amount"]
        holds = Counter({hold["account"]: hold["amount"] for hold in lock["holds"]})
        require(+holds == held, "locks", f"{where} holds {holds} to move {held}")

    def _members(self, name: str, settlement: Name, window: str) -> list[Instruction] | None:
        """The instructions that a lock on a ledger is for."""
        relay, under = settlement
        ids = [under]
        if window:
            raw = self._records[relay][SETTLEMENT].get(b"cut-off/" + window.encode())
            if raw is None:
                require(relay in self._liars, "terms", f"a net lock without a cut-off: {window}")
                return None
            members = json.loads(raw)["members"]
            ids = [member["settlement"] for member in members if name in member["ledgers"]]
        found = []
        for one in ids:
            signed = self._known.get(bytes.fromhex(one))
            if signed is None:
                raise Broken("terms", f"{settlement} was signed by nobody")
            found.append(signed)
        for done, kind in found:
            given = done.instruction
            # Whether the payer signed is for the ledger to see that keeps his account.
            elsewhere = all(leg.debtor != "payer" for leg in given.legs_on(name))
            right = kind is Kind.RIGHT or (kind is Kind.UNSIGNED and elsewhere)
            require(right, "terms", f"{name} locks {given.settlement.hex()}, which is {kind}")
        return [done.instruction for done, _ in found]

    def _check_terms(
        self, where: str, given: Instruction, ledger: str, time: int, netted: bool
    ) -> None:
        quote = given.quote
        exact = Fraction(quote.bill.amount * RATE.numerator, RATE.denominator)
        half_up = floor(exact + Fraction(1, 2))
        require(quote.payable.amount == half_up, "terms", f"{where}: rounded by another rule")
        due = given.deadline if netted else quote.expires
        require(time < due, "terms", f"{where}: locked at {time}, which is over since {due}")
        if ledger:
            require(bool(given.legs_on(ledger)), "terms", f"{where}: for another ledger")

    def _ended(self, name: str, settlement: Name, end: dict[str, Any]) -> None:
        ledger, where = self._ledgers[name], f"{name}: {settlement}"
        lock = self._lock_of(name, settlement)
        for hold in lock["holds"] if lock else ():
            ledger.open[hold["account"]] -= hold["amount"]
        if end["ended"] == "refunded":
            ledger.payers.give_back(settlement)
        due = "nothing"
        if lock is not None:
            due = "released" if end["ruling"] == "commit" else "refunded"
        self._marks[f"money: ended {end['ended']}"] += 1
        require(end["ended"] == due, "ended", f"{where}: {end['ended']} by {end['ruling']}")
        if settlement[0] in self._liars:
            return
        written = self._decision(settlement)
        if written is None:
            raise Broken("decision", f"{where}: {end['ended']}, and nothing is decided")
        ledgers = self.concerned(settlement)
        if ledgers and not {*ledgers} & {*self._liars}:
            ends = {one: self._end_of(one, settlement) for one in ledgers} | {name: end["ended"]}
            wrong = "released" in ends.values() and {"refunded", "nothing"} & {*ends.values()}
            require(not wrong, "legs", f"{where}: one side alone: {ends}")
        require(
            sha256(written).hexdigest() == end["decision"],
            "decision",
            f"{where}: ended by another decision than was written",
        )

    def _moved(self, name: str, settlement: Name) -> None:
        """What its lines come to is what its lock and its end say."""
        ledger, lock = self._ledgers[name], self._lock_of(name, settlement)
        if not settlement[0]:
            return
        end = self._end_of(name, settlement)
        movements = lock["movements"] if lock else ()
        holds = lock["holds"] if lock and not end else ()
        due = sum(one["amount"] for one in movements) if end == "released" else 0
        moved, held = ledger.moved[settlement], sum(one["amount"] for one in holds)
        where = f"{name}: {settlement} {end}"
        require(moved == due, "ended", f"{where}: {moved} moved where {due} is due")
        found = ledger.holds[settlement]
        require(found == held, "locks", f"{where}: {found} held where {held} is locked")

    def _lock_of(self, name: str, settlement: Name) -> dict[str, Any] | None:
        raw = self._records[name][ESCROW].get("/".join(("lock", *settlement)).encode())
        return None if raw is None else json.loads(raw)

    def _end_of(self, name: str, settlement: Name) -> str:
        raw = self._records[name][ESCROW].get("/".join(("ended", *settlement)).encode())
        return "" if raw is None else str(json.loads(raw)["ended"])

    # --- a relay

    def _decision(self, settlement: Name) -> bytes | None:
        relay, under = settlement
        return self._records[relay][SETTLEMENT].get(f"decision/{under}".encode())

    def concerned(self, settlement: Name) -> tuple[str, ...]:
        """The ledgers of a settlement, or of the window that is settled under that id."""
        relay, under = settlement
        records = self._records[relay][SETTLEMENT]
        raw = records.get(f"instruction/{under}".encode())
        if raw is not None:
            given = json.loads(raw)["signed"]["instruction"]
            return tuple(sorted({leg["ledger"] for leg in given["legs"]}))
        raw = records.get(f"locking/{under}".encode())
        if raw is None:
            return ()
        window = json.loads(raw)["window"]
        cut_off = json.loads(records.get(f"cut-off/{window}".encode()) or b"{}")
        return tuple(sorted({one for m in cut_off["members"] for one in m["ledgers"]}))

    def _at_relay(self, name: str, key: list[str], value: bytes, time: int) -> None:
        what = key[0]
        if what in _PROGRAM_MARKS:
            self._marks[f"money: {_PROGRAM_MARKS[what]}"] += 1
        if what == "instruction":
            self._accepted(name, key[1], time)
        elif what == "decision" and name not in self._liars:
            self._decided((name, key[1]), json.loads(value))
        elif what == "done" and not {name, key[2]} & {*self._liars}:
            ended = json.loads(value)["ended"]
            there = self._end_of(key[2], (name, key[1]))
            require(ended == there, "decision", f"{key} says {ended}, and it is {there}")

    def _accepted(self, name: str, settlement: str, time: int) -> None:
        signed = self._known.get(bytes.fromhex(settlement))
        if signed is None:
            raise Broken("terms", f"{name} accepts {settlement}, which nobody signed")
        given, kind = signed[0].instruction, signed[1]
        quote = (given.quote.maker, given.quote.id)
        require(quote not in self._quotes[name], "quote", f"{name} accepts {quote} again")
        self._quotes[name].add(quote)
        if self._options.program == LAX and self._options.programmed == name:
            return
        require(kind is Kind.RIGHT, "terms", f"{name} accepts what is {kind}")
        require(time < given.quote.expires, "terms", f"{name} accepts an expired quote at {time}")
        self._check_terms(name, given, "", time, bool(given.window))
        if given.returns:
            self._given_back(name, given)

    def _given_back(self, name: str, given: Instruction) -> None:
        """What is given back was committed here, and is not given back by another already."""
        self._marks["money: given back"] += 1
        [original] = [
            done.instruction
            for done, _ in self._known.values()
            if done.instruction.uetr == given.returns
        ]
        ruled = self._ruling(name, original)
        require(ruled == "commit", "returns", f"{name} gives back {given.returns}, {ruled}")
        before = self._returns.setdefault((name, given.returns), [])
        again = [one for one in before if self._ruling(name, one) != "abort"]
        require(not again, "returns", f"{name} gives back {given.returns} twice")
        before.append(given)

    def _ruling(self, name: str, given: Instruction) -> str:
        under = given.settlement
        if given.window:
            under = window_settlement(name, given.window)
        raw = self._decision((name, under.hex()))
        return "" if raw is None else str(json.loads(raw)["ruling"])

    def _decided(self, settlement: Name, decision: dict[str, Any]) -> None:
        ledgers, where = self.concerned(settlement), f"decision on {settlement}"
        if {*ledgers} & {*self._liars}:
            return
        locked = [one for one in ledgers if self._lock_of(one, settlement) is not None]
        if decision["ruling"] == "commit":
            require(locked == [*ledgers], "decision", f"{where}: commits, and {locked} locked")
            return
        lax = self._options.program == LAX and self._options.programmed == settlement[0]
        for one in decision["answers"]:
            self._marks[f"money: refused {one['reason']}"] += not one["accepted"]
            may = _REFUSED | (_LIMITED if self._options.limited else set())
            known = one["accepted"] or lax or one["reason"] in may
            require(known, "reasons", f"{where}: {one['ledger']} refuses with {one['reason']}")
        failed = [one["ledger"] for one in decision["answers"] if not one["accepted"]]
        require(bool(failed), "decision", f"{where}: aborts, and nobody refused")
        wrong = {*failed} & {*locked}
        if wrong <= self._asked_again(settlement) and wrong:
            # Refused once and locked once; that it is given back is checked where it ends.
            self._marks["money: refused once, locked once"] += 1
            return
        require(not wrong, "decision", f"{where}: aborts for {wrong}, which locked")

    def _asked_again(self, settlement: Name) -> set[str]:
        """The ledgers that were asked to lock by `retry`."""
        relay, under = settlement
        records, found, number = self._records[relay][SETTLEMENT], set[str](), 1
        while raw := records.get(f"retried/{under}/{number:08d}".encode()):
            found |= {*json.loads(raw)["locks"]}
            number += 1
        return found


def _drop_zeros(counts: Counter[str]) -> None:
    for name in [name for name, count in counts.items() if not count]:
        del counts[name]
