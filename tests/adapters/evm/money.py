"""The escrow on a real EVM, beside the one in Python: the same people, accounts and instructions.

The money world is that of tests/contracts/money_world, but that whoever is debited on the EVM
ledger signs under secp256k1. `Twins` asks both escrows the same and compares their answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.evm import calls
from adapters.evm.deploy import deploy
from adapters.evm.escrow import EscrowCalls, deploy_escrow
from relay.canonical import decode
from relay.contract import Contract
from relay.contracts.payloads import Instruction, SignedInstruction
from relay.keys import SigningKey
from relay.packet import Packet
from tests.adapters.evm.ledger import EvmLedger
from tests.contracts.money_flow import ACCOUNTS, PLENTY, terms
from tests.contracts.money_world import OWNERS, SZ, signed
from tests.contracts.world import DAY, NOW, Person, digest

DIGITS = 6
"""Of the token: more than the currency has, as tokens do."""
UNIT = 10 ** (DIGITS - 2)


class Holder(Person):
    """Somebody whose key an EVM ledger verifies."""

    algorithm = "secp256k1"

    def __init__(self, name: str) -> None:
        self._signing = SigningKey.from_seed(digest(f"{name}/secp256k1"), "secp256k1")
        self.public = self._signing.public

    def raw(self, message: bytes) -> bytes:
        return self._signing.sign(message)

    def dated(self, start: int = 0, end: int = NOW + 3650 * DAY) -> dict[str, Any]:
        return {**super().dated(start, end), "key": self.public.hex()}


MAKER_K, HOSPITAL_K = Holder("maker-1"), Holder("sz-hospital")
OFFICER_K, REGULATOR_K, STRANGER_K = Holder("officer"), Holder("regulator"), Holder("stranger")
ON_EVM: dict[str, tuple[str, str, Person]] = {
    "maker-cny": ("CNY", "maker-1", MAKER_K),
    "hospital": ("CNY", "sz-hospital", HOSPITAL_K),
    "sz-fees": ("CNY", "sz-bank", HOSPITAL_K),
}
"""Accounts of the EVM ledger: currency, owner, who signs."""
KEYS: dict[tuple[str, str], Person] = {
    **OWNERS,
    **{(SZ, account): person for account, (_, _, person) in ON_EVM.items()},
}
ALL_ACCOUNTS = {**ACCOUNTS, SZ: ON_EVM}


def signed_here(given: Instruction, **more: Any) -> SignedInstruction:
    """Signed by all debtors, those of the EVM ledger under secp256k1."""
    return signed(given, owners={**KEYS, **more.pop("owners", {})}, **more)


class MoneyLedger(EvmLedger):
    """The EVM ledger `sz-money` with an escrow over a token, its accounts and funds."""

    def __init__(
        self, path: Path, contracts: list[Contract], now: int = 0, funds: int = PLENTY
    ) -> None:
        super().__init__(path, contracts, now=now)
        self.me = self.sender.address
        self.deployed["Token"] = deploy(self.rpc, self.sender, "Token")
        self.deployed["Escrow"] = deploy_escrow(self.rpc, self.sender, self.endpoint.address)
        self.escrow = EscrowCalls(self.rpc, self.sender, self.deployed["Escrow"].address)
        self.token = self.deployed["Token"].address
        self.transact("Endpoint", "registerApp", "escrow", "0x" + self.escrow.address.hex())
        self.opened: list[str] = []
        self.escrow.open_currency("CNY", self.token, DIGITS)
        self.transact("Token", "approve", "0x" + self.escrow.address.hex(), 2**255)
        self.transact("Token", "mint", "0x" + self.me.hex(), 10**30)
        for account, (code, owner, person) in ON_EVM.items():
            self.open(terms(account, code, owner, person))
            if funds:
                self.escrow.deposit(account, funds, digest(f"funds of {account}"))

    def open(self, body: dict[str, Any], holder: bytes = b"") -> None:
        """Opens an account, or its next version."""
        self.escrow.open_account(body, holder or self.me)
        if body["account"] not in self.opened:
            self.opened.append(body["account"])

    def balances(self) -> dict[str, tuple[int, int]]:
        """(balance, held) of each account."""
        found = {}
        for account in self.opened:
            standing = self.escrow.standing(account)
            found[account] = (standing.balance, standing.held)
        return found

    def check_books(self) -> None:
        """Balances are what the postings come to; the token holds all of it."""
        standing = {account: self.escrow.standing(account) for account in self.opened}
        names = {one.number: account for account, one in standing.items()}
        due = {account: [0, 0] for account in self.opened}
        suspended: Counter[str] = Counter()
        for one in self.escrow.postings():
            debtor, creditor = names.get(one.debtor, ""), names.get(one.creditor, "")
            if one.kind in ("lock", "refund"):
                due[debtor][1] += one.amount if one.kind == "lock" else -one.amount
                continue
            if debtor:
                due[debtor][0] -= one.amount
            if creditor:
                due[creditor][0] += one.amount
            if one.kind in ("principal", "fee", "rounding"):
                due[debtor][1] -= one.amount
                suspended[one.currency] += one.amount if not creditor else 0
            if one.kind == "assigned" or (one.kind == "rounding_back" and not debtor):
                suspended[one.currency] -= one.amount
        assert {a: tuple(v) for a, v in due.items()} == self.balances()
        backed = 0
        for code in {one.currency for one in standing.values()}:
            assert suspended[code] == self.escrow.suspense(code)
            booked, unit, token = self.escrow.booked(code)
            held = sum(one.balance for one in standing.values() if one.currency == code)
            assert booked == held + suspended[code]
            assert token == self.token
            backed += booked * unit
        assert self.tokens(self.escrow.address) >= backed

    def tokens(self, of: bytes) -> int:
        """The balance of an address in units of the token."""
        data = self.data("Token", "balanceOf", "0x" + of.hex())
        return int.from_bytes(self.rpc.call(self.token, data).data, "big")

    # --- straight to the application, as its endpoint

    def receive(self, packet: Packet, entries: Sequence[tuple[bytes, bytes]] = ()) -> bytes | str:
        """Has the escrow receive a packet: its answer, or the reason for which it reverted."""
        data = self.data("Escrow", "onReceive", calls.packet_of(packet), list(entries))
        self.anvil.mine()
        tried = self.rpc.call(self.escrow.address, data, sender=self.endpoint.address)
        if tried.reverted:
            return calls.reason_of(tried.data)
        self.gas = self.as_address(self.endpoint.address, self.escrow.address, data)
        return decode_answer(tried.data)

    def try_receive(self, packet: Packet, entries: Sequence[tuple[bytes, bytes]] = ()) -> str:
        """What the escrow would say, with no effect: the reason, or how it ended."""
        data = self.data("Escrow", "onReceive", calls.packet_of(packet), list(entries))
        tried = self.rpc.call(self.escrow.address, data, sender=self.endpoint.address)
        if tried.reverted:
            return calls.reason_of(tried.data)
        body = decode(decode_answer(tried.data))
        assert isinstance(body, dict)
        return str(body.get("reason", "ended"))

    def hooked(self) -> tuple[bool, str]:
        """What became of the call that the token made in the midst of a transfer."""

        def view(name: str) -> bytes:
            return self.rpc.call(self.token, self.data("Token", name)).data

        assert int.from_bytes(view("called"), "big") == 1
        done = int.from_bytes(view("done"), "big") == 1
        return done, "" if done else calls.reason_of(decode_answer(view("said")))


def decode_answer(data: bytes) -> bytes:
    """The bytes that a call returned."""
    from adapters.evm.sdk import Web3

    found: bytes = Web3().codec.decode(["bytes"], data)[0]
    return found
