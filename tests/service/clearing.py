"""hk-money — hub — sz-money: real nodes with the contracts of money, served, joined by lanes.

Accounts, people and what they sign are those of tests.contracts.money_world.
"""

from __future__ import annotations

from pathlib import Path

from relay.canonical import encode
from relay.contracts.accounts import Terms, read_terms
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.local import LocalChain
from relay.relayer import Relayer
from tests.contracts.money_flow import ACCOUNTS, PLENTY, policy, terms
from tests.contracts.money_world import HK, HUB, SZ
from tests.contracts.world import NOW, digest
from tests.service.nodes import Clock, Running, join, run


def account_terms(ledger: str, account: str, **changes: object) -> Terms:
    """Terms of one account of the small world."""
    return read_terms(terms(account, *ACCOUNTS[ledger][account], **changes))


class Clearing:
    """Three nodes, accounts opened and funded through the API alone."""

    def __init__(self, folder: Path, now: int = NOW, *, opened: bool = True) -> None:
        """`opened`: with accounts, funds and a rate policy."""
        folder.mkdir(exist_ok=True)
        self.clock = Clock(now)
        self.ledgers = {
            name: run(folder / name, name, "ledger", {"escrow": ESCROW}, self.clock)
            for name in (HK, SZ)
        }
        self.hub = run(folder / HUB, HUB, "relay", {"settlement": SETTLEMENT}, self.clock)
        self.relayer = Relayer(
            self.hub.node.store, LocalChain(self.hub.node), heads_needed=self.hub.node.heads_needed
        )
        self.lanes = {}
        for name, ledger in self.ledgers.items():
            _, self.lanes[name] = join(ledger, self.hub)
            self.relayer.add_lane(self.lanes[name], LocalChain(ledger.node))
        if opened:
            self.hub.client.load_rate_policy(encode(policy()))
            for name in self.ledgers:
                self._open(name)

    def _open(self, ledger: str) -> None:
        client = self[ledger].client
        for account, (code, _, _) in ACCOUNTS[ledger].items():
            client.open_currency(code)
            client.register_account(account_terms(ledger, account))
            self.hub.client.register_settlement_account(ledger, account_terms(ledger, account))
            client.deposit(account, code, PLENTY, digest(f"{ledger} {account}"))

    def __getitem__(self, ledger: str) -> Running:
        return self.ledgers[ledger]

    def settle(self) -> None:
        """Runs the relayer until nothing moves."""
        for _ in range(30):
            if all(report.idle for report in self.relayer.tick(self.clock())):
                return

    def stop(self) -> None:
        """Ends everything."""
        for running in (*self.ledgers.values(), self.hub):
            running.stop()
