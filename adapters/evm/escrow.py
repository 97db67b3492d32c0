"""The application `escrow` of an EVM ledger, as its operator and the holders of accounts call it.

Terms of an account are those of every money ledger (relay.contracts.accounts), with the address
of whoever deposits and withdraws beside them. Keys are secp256k1: such a chain verifies no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import coincurve

from adapters.evm import calls
from adapters.evm.deploy import Deployed, deploy, digits_of, transact
from adapters.evm.light.crypto import keccak
from adapters.evm.rpc import Rpc, decode_hex, decode_number
from adapters.evm.sdk import Web3
from adapters.evm.sender import Sender
from relay.contracts.accounts import Cosigner, read_terms
from relay.contracts.payloads.fields import Object
from relay.contracts.policy.values import DatedKey
from relay.errors import Malformed, NotFound, Reason

MAX_TIME = 2**48 - 1
KINDS = (
    "deposit", "withdrawal", "principal", "fee", "assigned", "lock", "refund", "rounding",
    "rounding_back",
)  # fmt: skip
"""What a posting is about, in the order of the contract's `Kind`; words of escrow.books."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An account as it is now."""

    number: int
    """The contract's own, from 1."""
    currency: str
    balance: int
    """Minor units; of it, `held` is locked."""
    held: int
    version: int
    closed: bool


@dataclass(frozen=True, slots=True)
class Posting:
    """One line of the books, as a log tells it."""

    settlement: bytes
    """Zeros for what the ledger does alone."""
    kind: str
    currency: str
    debtor: int
    """Number of an account; 0: the token, or suspense for what is assigned."""
    creditor: int
    """As `debtor`; 0 of a release: suspense."""
    amount: int


def deploy_escrow(rpc: Rpc, sender: Sender, endpoint: bytes) -> Deployed:
    """The escrow of an endpoint, whose owner operates it. Raises Unavailable."""
    return deploy(rpc, sender, "Escrow", _checksum(endpoint))


class EscrowCalls:
    """Calls of one escrow, each tried first, so that a refusal costs nothing; the block of each."""

    def __init__(self, rpc: Rpc, sender: Sender, address: bytes) -> None:
        self._rpc = rpc
        self._sender = sender
        self.address = address

    def open_currency(self, code: str, token: bytes, digits: int) -> int:
        """Keeps accounts over a token of `digits`. Raises Refused (PATH_WRITTEN,
        CURRENCY_MISMATCH, NOT_PERMITTED)."""
        return self._transact("openCurrency", code.encode(), _checksum(token), digits)

    def open_over(self, code: str, token: bytes) -> int:
        """As `open_currency`, with the digits that the token says; these."""
        digits = digits_of(self._rpc, token)
        self.open_currency(code, token, digits)
        return digits

    def open_account(self, body: Object, holder: bytes) -> int:
        """The next version of an account's terms, as for `account.open` of any escrow.

        Raises Malformed, Invalid(WEAK_KEY), Malformed(ALGORITHM_NOT_PINNED) for another kind of
        key, Refused (CONFLICT, PARTY_INVALID, CURRENCY_MISMATCH, ACCOUNT_CLOSED, NOT_PERMITTED).
        """
        return self._transact("openAccount", terms_argument(body, holder))

    def assign(self, account: str, amount: int, movement: bytes) -> int:
        """Out of suspense. `movement`: its name, 32 bytes; the same again moves nothing. Raises
        Refused (FUNDS_MISSING, REQUEST_ID_REUSED …)."""
        return self._transact("assign", account, amount, movement)

    def deposit(self, account: str, amount: int, movement: bytes) -> int:
        """Pulls the token of whoever calls, who approved it. As `assign`."""
        return self._transact("deposit", account, amount, movement)

    def withdraw(self, account: str, amount: int, to: bytes, movement: bytes) -> int:
        """Pays out to an address. As `assign`."""
        return self._transact("withdraw", account, amount, _checksum(to), movement)

    def approve(self, token: bytes, amount: int) -> int:
        """Lets the escrow pull `amount` units of a token of whoever calls."""
        return transact(
            self._rpc, self._sender, token, "approve", (_text(self.address), amount), "Token"
        )

    def approved(self, token: bytes, holder: bytes) -> int:
        """What of a holder's token the escrow may pull. Raises Malformed, Unavailable."""
        data = calls.encode("allowance", [_checksum(holder), _checksum(self.address)], "Token")
        done = self._rpc.call(token, data)
        if done.reverted or len(done.data) != 32:
            raise Malformed("the token does not say what may be pulled of it")
        return int.from_bytes(done.data, "big")

    def standing(self, account: str) -> Standing:
        """Raises NotFound(ACCOUNT_NOT_FOUND)."""
        (number,) = self._view("ids", keccak(account.encode()))
        if number == 0:
            raise NotFound(Reason.ACCOUNT_NOT_FOUND, "no such account", account=account)
        balance, held, _, _, version, _, code, closed, _, _ = self._view("accounts", number)
        return Standing(number, bytes(code).decode("ascii"), balance, held, version, closed)

    def covered(self, code: str) -> tuple[int, int]:
        """(units of the token that are booked, units that the escrow holds). Raises Malformed,
        Unavailable."""
        booked, unit, token = self.booked(code)
        done = self._rpc.call(token, calls.encode("balanceOf", [_checksum(self.address)], "Token"))
        if done.reverted or len(done.data) != 32:
            raise Malformed("the token does not say what the escrow holds of it")
        return booked * unit, int.from_bytes(done.data, "big")

    def holder(self, account: str) -> bytes:
        """The address that deposits and withdraws; zeros where there is no such account."""
        (number,) = self._view("ids", keccak(account.encode()))
        return bytes.fromhex(self._view("accounts", number)[5][2:])

    def suspense(self, code: str) -> int:
        """What waits to be assigned, minor units."""
        return int(self._view("suspense", code.encode())[0])

    def booked(self, code: str) -> tuple[int, int, bytes]:
        """(minor units on all accounts together, units of the token for one, its address)."""
        token, booked, unit = self._view("currencies", code.encode())
        return booked, unit, bytes.fromhex(token[2:])

    def postings(self, first: int = 0) -> list[Posting]:
        """Every line of the books since a block, in order, as the node's logs tell them."""
        asked = {
            "address": "0x" + self.address.hex(),
            "fromBlock": hex(first),
            "topics": [calls.topic("Posted", "Escrow")],
        }
        try:
            return [_posting(log) for log in self._rpc.ask("eth_getLogs", [asked])]
        except (KeyError, TypeError, ValueError, IndexError) as err:
            raise Malformed("the node's logs have another form") from err

    def _view(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        result = self._rpc.call(self.address, calls.encode(name, arguments, "Escrow"))
        if result.reverted or not result.data:
            raise self._rpc.distrust("has no escrow at that address")
        entry = next(e for e in calls.artifacts()["Escrow"]["abi"] if e.get("name") == name)
        return calls.decode_as([calls.type_of(p) for p in entry["outputs"]], result.data)

    def _transact(self, name: str, *arguments: Any) -> int:
        return transact(self._rpc, self._sender, self.address, name, arguments, "Escrow")


def _posting(log: dict[str, Any]) -> Posting:
    types = ["bytes3", "uint32", "uint32", "uint64"]
    code, debtor, creditor, amount = calls.decode_as(types, decode_hex(log["data"], "log"))
    settlement, kind = decode_hex(log["topics"][1], "topic"), decode_number(log["topics"][2])
    return Posting(settlement, KINDS[kind], code.decode("ascii"), debtor, creditor, amount)


def terms_argument(body: Object, holder: bytes) -> tuple[Any, ...]:
    """Terms as `openAccount` takes them. Raises as EscrowCalls.open_account."""
    terms = read_terms(body)
    limits = terms.limits
    return (
        terms.account,
        terms.owner,
        terms.currency.encode(),
        _checksum(holder),
        terms.version,
        terms.closed,
        [_key(one) for one in terms.keys],
        [_cosigner(one) for one in terms.cosigners],
        (limits.daily, limits.counterparty, limits.officer, limits.regulator),
    )


def _cosigner(one: Cosigner) -> tuple[Any, ...]:
    return (one.role.value, one.officer, [_key(key) for key in one.keys])


def _key(one: DatedKey) -> tuple[int, int, int, int, int]:
    if one.algorithm != "secp256k1":
        raise Malformed(
            "an EVM ledger verifies secp256k1 keys alone", reason=Reason.ALGORITHM_NOT_PINNED
        )
    full = coincurve.PublicKey(one.key).format(compressed=False)
    x, y = int.from_bytes(full[1:33], "big"), int.from_bytes(full[33:], "big")
    return (one.key[0], x, y, min(one.start, MAX_TIME), min(one.end, MAX_TIME))


def _text(address: bytes) -> str:
    return "0x" + address.hex()


def _checksum(address: bytes) -> str:
    return str(Web3.to_checksum_address(_text(address)))
