"""What was done to an escrow, a step at a time, and the word in which the contract hashes it.

    history' = Keccak-256( history ‖ time ‖ by ‖ Keccak-256(data) ‖ Keccak-256(answer) )

each 32 bytes, numbers and addresses padded on the left; of a call there is no answer, and 32 zero
bytes stand in its place. A step as it is kept and handed on (`relay.light.wire`):

    u64 time, 20 bytes by, boolean packet, data data, and of a packet data answer

The words that are proven, by their slots in the contract's storage:

    10  u32 accounts, u8, u64 steps (from the lowest byte)      11  history
    Keccak(code padded ‖ 0)   20 bytes token, u64 booked        a currency
    Keccak(code padded ‖ 1)   u64 suspense                      a currency
    Keccak(number ‖ 3)        u64 balance, u64 held, …          an account
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from adapters.evm import calls
from adapters.evm.light.crypto import keccak
from relay.canonical import Json
from relay.errors import Malformed
from relay.light.wire import Reader, Writer

MAX_DATA = 1024 * 1024
COUNT_SLOT, HISTORY_SLOT = (10).to_bytes(32, "big"), (11).to_bytes(32, "big")
EMPTY = bytes(32)
_CURRENCIES, _SUSPENSE, _ACCOUNTS = 0, 1, 3


@dataclass(frozen=True, slots=True)
class BookStep:
    """One thing that was done to an escrow."""

    time: int
    """Of its block, seconds."""
    by: bytes
    """The address that called; of a packet, the endpoint."""
    data: bytes
    """The call, or the value of the packet's payload."""
    answer: bytes | None = None
    """To a packet; None of a call."""

    def after(self, history: bytes) -> bytes:
        """The contract's word after this step, `history` being the one before."""
        words = (
            history,
            self.time.to_bytes(32, "big"),
            self.by.rjust(32, b"\0"),
            keccak(self.data),
            bytes(32) if self.answer is None else keccak(self.answer),
        )
        return keccak(b"".join(words))

    def encode(self) -> bytes:
        """See the module. Raises Malformed."""
        writer = Writer().u64(self.time).fixed(self.by, 20).boolean(self.answer is not None)
        writer.data(self.data, MAX_DATA)
        if self.answer is not None:
            writer.data(self.answer, MAX_DATA)
        return writer.done()

    @classmethod
    def decode(cls, raw: bytes) -> BookStep:
        """Raises Malformed."""
        reader = Reader(raw, "step")
        time, by, packet = reader.u64(), reader.fixed(20), reader.boolean()
        data = reader.data(MAX_DATA)
        found = cls(time, by, data, reader.data(MAX_DATA) if packet else None)
        reader.end()
        return found


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the contract, read: a method of `relay.contracts.escrow` and its body."""

    method: str
    body: dict[str, Json]


def read_call(step: BookStep) -> Call:
    """The call of a step; what moves money does not say in which currency.

    Raises Malformed for what is no call that changes books, or no text where one must be.
    """
    name, values = _decoded(step)
    if name == "openCurrency":
        return Call("currency.open", {"currency": _text(values[0])})
    if name == "openAccount":
        return Call("account.open", _terms(values[0]))
    account, amount, movement = values[0], values[1], values[-1]
    body: dict[str, Json] = {
        "account": _text(account),
        "amount": amount,
        "reference": bytes(movement).hex(),
    }
    return Call(name, body)


def _decoded(step: BookStep) -> tuple[str, tuple[Any, ...]]:
    """(name of the function, its arguments), texts as bytes: the chain takes any."""
    entry = _functions().get(step.data[:4])
    if entry is None:
        raise Malformed("a call of the escrow that is not known")
    types = [calls.type_of(p).replace("string", "bytes") for p in entry["inputs"]]
    return str(entry["name"]), calls.decode_as(types, step.data[4:])


@cache
def _functions() -> dict[bytes, dict[str, Any]]:
    """The calls that change books, by selector."""
    by_name = {entry.get("name"): entry for entry in calls.artifacts()["Escrow"]["abi"]}
    found = {}
    for name in ("openCurrency", "openAccount", "deposit", "withdraw", "assign"):
        types = ",".join(map(calls.type_of, by_name[name]["inputs"]))
        found[keccak(f"{name}({types})".encode())[:4]] = by_name[name]
    return found


def _text(raw: bytes) -> str:
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as err:
        raise Malformed("a text that is not UTF-8") from err


def _terms(values: Any) -> dict[str, Json]:
    """Terms as `account.open` takes them."""
    account, owner, code, _holder, version, closed, keys, cosigners, limits = values
    names = ("daily", "counterparty", "officer", "regulator")
    return {
        "account": _text(account),
        "closed": closed,
        "cosigners": [
            {"keys": [_key(key) for key in of], "officer": _text(officer), "role": _text(role)}
            for role, officer, of in cosigners
        ],
        "currency": _text(code),
        "keys": [_key(key) for key in keys],
        "limits": dict(zip(names, limits, strict=True)),
        "owner": _text(owner),
        "version": version,
    }


def _key(values: Any) -> Json:
    prefix, x, _, start, end = values
    key = prefix.to_bytes(1, "big") + x.to_bytes(32, "big")
    return {"algorithm": "secp256k1", "end": end, "key": key.hex(), "start": start}


@dataclass(frozen=True, slots=True)
class Named:
    """What the contract keeps balances of, in the order in which it was opened."""

    currencies: tuple[str, ...]
    accounts: tuple[str, ...]
    """The contract numbers them from 1."""

    def slots(self) -> list[bytes]:
        """The storage slots that books are held against: count, history, then of each currency
        what is booked and suspended, then each account's balance."""
        found = [COUNT_SLOT, HISTORY_SLOT]
        for code in self.currencies:
            padded = code.encode().ljust(32, b"\0")
            found += [keccak(padded + _number(_CURRENCIES)), keccak(padded + _number(_SUSPENSE))]
        numbers = range(1, len(self.accounts) + 1)
        return found + [keccak(_number(n) + _number(_ACCOUNTS)) for n in numbers]


def named_by(steps: Iterable[BookStep]) -> Named:
    """Currencies and accounts that the steps open, by whatever name. Raises Malformed."""
    currencies: dict[str, None] = {}
    accounts: dict[bytes, None] = {}
    for step in steps:
        if step.answer is not None:
            continue
        name, values = _decoded(step)
        if name == "openCurrency":
            currencies.setdefault(_text(values[0]))
        elif name == "openAccount":
            accounts.setdefault(values[0][0])
    shown = (raw.decode(errors="backslashreplace") for raw in accounts)
    return Named(tuple(currencies), tuple(shown))


def history_of(steps: Sequence[BookStep], history: bytes = EMPTY) -> bytes:
    """The contract's word after all of them."""
    for step in steps:
        history = step.after(history)
    return history


def _number(value: int) -> bytes:
    return value.to_bytes(32, "big")
