"""Money in a world: made before the faults begin, used while they last, reconciled at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from relay.canonical import Json, encode
from relay.contracts.accounts import find_terms
from relay.contracts.escrow import CONTRACT as ESCROW_CONTRACT
from relay.contracts.escrow.telling import told
from relay.contracts.settlement import CONTRACT as SETTLEMENT_CONTRACT
from relay.contracts.settlement import find_settlement
from relay.contracts.undelivered import count_held
from relay.reconcile import Break, Side, reconcile
from tests.contracts.money_flow import policy
from tests.contracts.world import digest
from tests.simulation.money.options import Money
from tests.simulation.money.oracle import MoneyOracle
from tests.simulation.money.records import ESCROW, SETTLEMENT
from tests.simulation.money.town import ACCOUNTS, CURRENCIES, FUNDED, account_terms
from tests.simulation.money.users import MoneyUsers, Wish
from tests.simulation.oracle import Broken

if TYPE_CHECKING:
    from tests.simulation.world import World

AUDITED = {ESCROW: ESCROW_CONTRACT, SETTLEMENT: SETTLEMENT_CONTRACT}
"""What fsck is told of the contracts here."""


class MoneyStory:
    """See the module docstring."""

    def __init__(self, world: World, options: Money) -> None:
        self._world = world
        self._options = options
        self._records = {name: one.records for name, one in world.observers.items()}
        self._neighbours: dict[str, list[str]] = {name: [] for name in world.options.nodes}
        for on, of in world.clients:
            self._neighbours[on].append(of)
        self.users = MoneyUsers(
            options,
            world.processes,
            self._neighbours,
            Random(f"money {world.options.seed}"),
            world.marks,
        )
        self.oracle = MoneyOracle(
            self._records,
            self.users.signed,
            self.users.cosigned,
            world.liars,
            options,
            world.marks,
        )
        for name in world.options.nodes:
            self._open(name)

    # --- before

    def _open(self, name: str) -> None:
        """Accounts with funds on a node, and the same accounts registered at its relays."""
        for code in CURRENCIES:
            self._call(name, ESCROW, "currency.open", {"currency": code})
        for account, (code, _, _) in ACCOUNTS.items():
            asked = account_terms(account, self._options)
            self._call(name, ESCROW, "account.open", asked)
            for relay in self._neighbours[name]:
                self._call(relay, SETTLEMENT, "account.register", {**asked, "ledger": name})
            if account in FUNDED:
                reference = digest(f"{name} {account}").hex()
                body: Json = {"account": account, "amount": self._options.funds, "currency": code}
                assert isinstance(body, dict)
                self._call(name, ESCROW, "deposit", {**body, "reference": reference})
        self._call(name, SETTLEMENT, "rates.policy", policy())

    def _call(self, name: str, port: str, method: str, body: Mapping[str, Json]) -> None:
        self._world.node(name).call(port, method, encode(dict(body)))

    # --- after the faults

    def tick(self) -> None:
        """What operators do while a network comes to rest."""
        self.users.finish_windows()
        for name in self._world.processes:
            if count_held(self._records[name][SETTLEMENT]):
                body = encode({"limit": 1000})
                self._world.marks["money: decided again"] += 1
                self.users.call_once(Wish(name, SETTLEMENT, "resend", body))

    def left(self) -> Iterator[str]:
        """What is open still and is not excused."""
        if not self.users.resting:
            yield "payers wait for answers"
        yield from self._untold()
        for relay, records in self._records.items():
            if relay in self._world.liars:
                continue
            for key, _ in records[SETTLEMENT].scan(b"instruction/", limit=10_000):
                settlement = key.decode().partition("/")[2]
                view = find_settlement(records[SETTLEMENT], bytes.fromhex(settlement))
                concerned = self.oracle.concerned((relay, view.under.hex()))
                if not view.closed and not self._is_tainted(concerned):
                    yield f"{relay}: settlement {settlement[:8]} is {view.status}"

    def _untold(self) -> Iterator[str]:
        """Relays that have older terms of a payer than his ledger, and have locked through him or
        were told of him before."""
        for ledger, version in self.users.versions.items():
            records = self._records[ledger][ESCROW]
            for relay in told(records):
                locks = records.scan(f"lock/{relay}/".encode(), limit=10_000)
                through = any(b'"payer"' in held for _, held in locks)
                if not through and records.get(f"terms-sent/{relay}/payer".encode()) is None:
                    continue
                known = find_terms(self._records[relay][SETTLEMENT], ledger, "payer")
                if self._is_tainted((ledger, relay)):
                    continue
                if known is None or known.version < version:
                    yield f"{relay} judges by terms of {ledger} before version {version}"

    def _is_tainted(self, ledgers: Sequence[str]) -> bool:
        return bool({*ledgers} & {*self._world.liars})

    def finish(self) -> None:
        """The product's own reconciliation of every relay with its ledgers. Raises Broken."""
        for relay, records in self._records.items():
            ledgers = self._neighbours[relay]
            if relay not in self._world.liars:
                found = reconcile(
                    Side(relay, records[SETTLEMENT]),
                    [Side(name, self._records[name][ESCROW]) for name in ledgers],
                )
                self._world.marks["money: committed"] += found.committed
                self._world.marks["money: aborted"] += found.aborted
                breaks = [one for one in found.breaks if not self._excused(relay, one)]
                if breaks:
                    raise Broken("reconcile", f"{relay}: {breaks[:3]}")
        self._came_and_went()

    def _excused(self, relay: str, found: Break) -> bool:
        """Whether a ledger with two histories explains it."""
        if not self._world.liars:
            return False
        if found.subject == "books":
            return False
        under = bytes.fromhex(found.subject)
        if under in self.users.signed:
            under = find_settlement(self._records[relay][SETTLEMENT], under).under
        return self._is_tainted(self.oracle.concerned((relay, under.hex())))

    def _came_and_went(self) -> None:
        """Every deposit and every withdrawal that was answered was made, once; no other was."""
        for name in self._world.processes:
            owed = self._options.funds * len(FUNDED)
            for wish in self.users.wishes:
                if wish.node == name and wish.answered:
                    owed += wish.amount
            found = 0
            for code in CURRENCIES:
                last = self._records[name][ESCROW].last(f"line/nostro:{code}/".encode())
                found -= _balance(last)
            if found != owed:
                raise Broken("conservation", f"{name}: {found} is on it where {owed} came")


def _balance(found: tuple[bytes, bytes] | None) -> int:
    return 0 if found is None else int(json.loads(found[1])["balance"])
