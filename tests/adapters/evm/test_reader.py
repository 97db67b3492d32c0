"""Each rule by which Solidity reads a lock and a decision, by itself, beside Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.deploy import deploy
from adapters.evm.light.crypto import keccak
from adapters.evm.practice.chain import KEY
from adapters.evm.rpc import Rpc
from adapters.evm.sdk import Web3
from adapters.evm.sender import Sender
from relay.canonical import encode
from relay.contracts.payloads import DecisionNotice, Lock
from relay.errors import LianqiaoError
from tests.adapters.evm.ledger import SealedAnvil
from tests.contracts.money_world import HK, examples
from tests.world import Clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
LOCK = json.loads(examples()["lock"].encode())
NOTICE = json.loads(examples()["decision_notice"].encode())
DECODE: dict[str, Callable[[bytes], object]] = {
    "readLock": Lock.decode, "readDecision": DecisionNotice.decode,
}  # fmt: skip


class Reading:
    """The contract that reads."""

    def __init__(self, anvil: SealedAnvil, key: Any) -> None:
        self.rpc = Rpc([anvil.address])
        self.address = deploy(self.rpc, Sender(key, 10**12), "Reader").address
        abi = calls.artifacts()["Reader"]["abi"]
        self.contract = Web3().eth.contract(abi=abi)
        self.outputs = {e["name"]: e["outputs"] for e in abi if "outputs" in e}

    def read(self, name: str, raw: bytes) -> str:
        """The reason for which the text is not read; empty where it is."""
        data = self.contract.encode_abi(name, args=[raw, keccak(HK.encode())])
        done = self.rpc.call(self.address, bytes.fromhex(data[2:]))
        return calls.reason_of(done.data) if done.reverted else ""

    def amounts(self, raw: bytes) -> str:
        """Why the amounts of a lock do not follow from its rate."""
        data = self.contract.encode_abi("readLock", args=[raw, keccak(HK.encode())])
        done = self.rpc.call(self.address, bytes.fromhex(data[2:]))
        assert not done.reverted, calls.reason_of(done.data)
        kind = calls.type_of(self.outputs["readLock"][0])
        (order,) = Web3().codec.decode([kind], done.data)
        names = [part["name"] for part in self.outputs["readLock"][0]["components"]]
        return bytes(order[names.index("amounts")]).rstrip(b"\0").decode()

    def both(self, name: str, raw: bytes) -> bool:
        """Whether Solidity reads it; Python reads no more."""
        there = self.read(name, raw)
        assert there in ("", "MALFORMED"), there
        if not there:
            DECODE[name](raw)
            return True
        with pytest.raises(LianqiaoError):
            DECODE[name](raw)
        return False


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    key = tmp_path_factory.mktemp("reader") / "key"
    key.write_text(KEY)
    anvil = SealedAnvil(Clock())
    yield Reading(anvil, key)
    anvil.close()


def changed(document: Any, *path: Any, to: Any) -> bytes:
    """The document with one member exchanged; `to` may be a function of what stands there."""
    body = at = deepcopy(document)
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to(at[path[-1]]) if callable(to) else to
    return encode(body)


def lock(*path: Any, to: Any) -> bytes:
    return changed(LOCK, "signed", *path, to=to)


def of_instruction(*path: Any, to: Any) -> bytes:
    return lock("instruction", *path, to=to)


def leg(number: int, *path: Any, to: Any) -> bytes:
    return of_instruction("legs", number, *path, to=to)


MOST = 2**53 - 1
WHOLE = encode(LOCK)
LOCKS = {
    "a debtor who pays himself": leg(0, "creditor", to="insurer"),
    "a fee to the debtor": leg(0, "fee", "account", to="insurer"),
    "amount and fee too large together": leg(0, "fee", "amount", to=MOST),
    "an amount of nothing": leg(0, "amount", to=0),
    "a number too large": leg(0, "amount", to=MOST).replace(b"%d" % MOST, b"%d" % (MOST + 1)),
    "another side": leg(0, "side", to="both"),
    "no side that is billed": of_instruction("legs", to=lambda legs: legs[:1]),
    "no side that pays": of_instruction("legs", to=lambda legs: legs[1:]),
    "too many legs": of_instruction("legs", to=lambda legs: legs * 9),
    "a deadline before the quote ends": of_instruction("deadline", to=1770000119),
    "a deadline after it without a window": of_instruction("deadline", to=1770000121),
    "too many signatures": lock("signatures", to=lambda given: given * 9),
    "too many co-signatures": lock("cosignatures", to=lambda given: given * 17),
    "a co-signer of another role": lock("cosignatures", 0, "role", to="clerk"),
    **{
        f"an account that begins with {first}": leg(0, "debtor", to=f"{first}x")
        for first in ("-", ".", ":", "@", "_")
    },
    "an account with a blank": leg(0, "debtor", to="a b"),
    "an account of 65 characters": leg(0, "debtor", to="a" * 65),
    "an account without a name": leg(0, "debtor", to=""),
    "a currency in small letters": leg(0, "currency", to="hkd"),
    "a currency with a digit": leg(0, "currency", to="HK1"),
    "a currency with a bracket": leg(0, "currency", to="HK["),
    "a currency of four letters": leg(0, "currency", to="HKDD"),
    "a text that is too long": of_instruction("subject", to="a" * 513),
    "a settlement in capitals": of_instruction("settlement", to="AB" * 32),
    "an end in the midst of a currency": WHOLE[: WHOLE.index(b"HKD") + 2],
    "an end in the midst of a number": WHOLE[: WHOLE.index(b"139152") + 3],
    "an end in the midst of a text": WHOLE[: WHOLE.index(b"ed25519") + 3],
    "an end in the midst of a hash": WHOLE[: WHOLE.index(b"e7f41834") + 20],
    "something behind the end": WHOLE + b" ",
}


@pytest.mark.parametrize("why", LOCKS)
def test_locks_that_are_not_read(reading: Reading, why: str) -> None:
    assert not reading.both("readLock", LOCKS[why])


def test_locks_at_the_bounds(reading: Reading) -> None:
    for raw in (
        WHOLE,
        leg(0, "debtor", to="a" * 64),
        leg(0, "debtor", to="0-.:@_Z"),
        lock("cosignatures", to=[]),
    ):
        assert reading.read("readLock", raw) == ""


def test_amounts_that_do_not_follow(reading: Reading) -> None:
    def quote(to: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
        return of_instruction("quote", to=to)

    assert reading.amounts(WHOLE) == ""
    same = quote(lambda q: {**q, "payable": {**q["payable"], "currency": "CNY"}})
    assert reading.amounts(same) == "RATE_INVALID"
    nothing = quote(lambda q: {**q, "rate": {"denominator": MOST, "numerator": 1}})
    assert reading.amounts(nothing) == "AMOUNT_INVALID"
    too_much = quote(lambda q: {**q, "rate": {"denominator": 1, "numerator": MOST}})
    assert reading.amounts(too_much) == "AMOUNT_INVALID"
    assert reading.amounts(of_instruction("rounding", to="up-1")) == "UNSUPPORTED_VERSION"
    more = quote(lambda q: {**q, "payable": {**q["payable"], "amount": 139153}})
    assert reading.amounts(more) == "RATE_INVALID"


def answer(number: int, **members: Any) -> bytes:
    return changed(NOTICE, "decision", "answers", number, to=lambda given: {**given, **members})


OTHER = "ab" * 32
DECISIONS = {
    "a commit that one refused": answer(0, accepted=False, reason="FUNDS_MISSING"),
    "an abort that all accepted": changed(NOTICE, "decision", "ruling", to="abort"),
    "another ruling": changed(NOTICE, "decision", "ruling", to="perhaps"),
    "accepted with a reason": answer(0, reason="FUNDS_MISSING"),
    "refused without a reason": answer(0, accepted=False),
    "an answer about another settlement": answer(1, settlement=OTHER),
    "a decision about another settlement": changed(NOTICE, "decision", "settlement", to=OTHER),
    "decided by another relay": changed(NOTICE, "relay", to="hub2"),
    "no answers": changed(NOTICE, "decision", "answers", to=[]),
    "an end in the midst": encode(NOTICE)[:-3],
}


@pytest.mark.parametrize("why", DECISIONS)
def test_decisions_that_are_not_read(reading: Reading, why: str) -> None:
    assert not reading.both("readDecision", DECISIONS[why])


def test_a_decision_that_is_read(reading: Reading) -> None:
    assert reading.both("readDecision", encode(NOTICE))
