"""What a payer's day may come to, and what the lines of a bill are posted as, by our own sums."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from relay.contracts.payloads import Instruction, Side
from tests.simulation.money.town import ACCOUNTS, Cosigned, difference_of
from tests.simulation.oracle import Broken

Name = tuple[str, str]
"""(relay, settlement in hex)."""
_DAY = 86_400
_SHANGHAI = 8 * 3600


def require(holds: bool, invariant: str, detail: str) -> None:
    """Raises Broken."""
    if not holds:
        raise Broken(invariant, detail)


@dataclass(slots=True)
class Payers:
    """The days of one ledger's accounts, held against their limits."""

    marks: Counter[str]
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    """By account, as its last terms say."""
    _days: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Locked and not refunded: by (day, account), and (day, account, payee's owner)."""
    _counted: dict[Name, Counter[tuple[str, ...]]] = field(default_factory=dict)
    """By settlement: what of it counts in `_days`."""

    def count(
        self, name: str, settlement: Name, given: Instruction, time: int, who: Cosigned
    ) -> None:
        """Adds an instruction that was locked on ledger `name`, co-signed by `who`. Raises Broken.

        What is paid to one owner counts from when it is limited, as the ledger keeps it."""
        today = str((time + _SHANGHAI) // _DAY)
        mine, legs = self._counted.setdefault(settlement, Counter()), given.legs_on(name)
        for leg in legs:
            fresh = Counter({(today, leg.debtor): leg.total})
            if self.limits[leg.debtor]["counterparty"]:
                fresh[today, leg.debtor, ACCOUNTS[leg.creditor][1]] += leg.amount
                if leg.fee is not None:
                    fresh[today, leg.debtor, ACCOUNTS[leg.fee.account][1]] += leg.fee.amount
            mine.update(fresh)
            self._days.update(fresh)
        for leg in legs:
            limits, owner = self.limits[leg.debtor], ACCOUNTS[leg.creditor][1]
            total, paid = self._days[today, leg.debtor], self._days[today, leg.debtor, owner]
            where = f"{name}: {leg.debtor} locked {total}, of it {paid} for {owner}, by {limits}"
            for limit, spent in (("daily", total), ("counterparty", paid)):
                require(not limits[limit] or spent <= limits[limit], "limits", where)
            if limits["officer"] and total > limits["officer"]:
                require(who is Cosigned.OFFICER, "limits", f"{where}, and co-signed by {who}")
                self.marks["money: co-signed above the threshold"] += 1

    def give_back(self, settlement: Name) -> None:
        """What was refunded counts no more."""
        self._days.subtract(self._counted.get(settlement, Counter()))


def check_rounding(
    where: str,
    given: Instruction,
    name: str,
    movements: list[dict[str, Any]],
    marks: Counter[str],
) -> None:
    """Principal and difference on ledger `name` are what the lines give. Raises Broken."""
    for leg in given.legs_on(name):
        due = Counter({("principal", leg.debtor, leg.creditor): leg.amount})
        if given.itemised is not None and leg.side is Side.PAY:
            found = difference_of(given.itemised)
            assert found is not None, "nobody itemises what comes to nothing"
            due = Counter({("principal", leg.debtor, leg.creditor): found[0]})
            if found[1] > 0:
                due["rounding", leg.debtor, leg.creditor] = found[1]
            elif found[1] < 0:
                due["rounding_back", leg.creditor, leg.debtor] = -found[1]
            marks["money: rounding"] += found[1] > 0
            marks["money: rounding back"] += found[1] < 0
        posted: Counter[tuple[str, str, str]] = Counter()
        for m in movements:
            if {m["debtor"], m["creditor"]} == {leg.debtor, leg.creditor} and m["entry"] != "fee":
                posted[m["entry"], m["debtor"], m["creditor"]] += m["amount"]
        require(posted == due, "rounding", f"{where} posts {posted} where {due} is due")
