"""Each rule by which Solidity reads a lock and a decision, by itself, beside Python."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
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
from relay.contracts.quotes import check_amounts
from relay.errors import LianqiaoError, Reason
from relay.money import Rate, convert, itemise
from tests.adapters.evm.ledger import SealedAnvil
from tests.contracts.money_world import HK, RATE, examples
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

    def order(self, raw: bytes) -> dict[str, Any]:
        """A lock as it was read."""
        data = self.contract.encode_abi("readLock", args=[raw, keccak(HK.encode())])
        done = self.rpc.call(self.address, bytes.fromhex(data[2:]))
        assert not done.reverted, calls.reason_of(done.data)
        kind = calls.type_of(self.outputs["readLock"][0])
        (order,) = Web3().codec.decode([kind], done.data)
        names = [part["name"] for part in self.outputs["readLock"][0]["components"]]
        return dict(zip(names, order, strict=True))

    def amounts(self, raw: bytes) -> str:
        """Why the amounts of a lock do not follow from its rate, or its lines."""
        return bytes(self.order(raw)["amounts"]).rstrip(b"\0").decode()

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


def officers(*names: str) -> list[dict[str, Any]]:
    (one,) = LOCK["signed"]["cosignatures"]
    return [{**one, "officer": name} for name in names]


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
    "no side that pays": leg(0, "side", to="bill"),
    "too many legs": of_instruction("legs", to=lambda legs: legs * 9),
    "a deadline before the quote ends": of_instruction("deadline", to=1770000119),
    "a deadline after it without a window": of_instruction("deadline", to=1770000121),
    "too many signatures": lock("signatures", to=lambda given: given * 9),
    "too many co-signatures": lock("cosignatures", to=lambda given: given * 17),
    "a debtor who did not sign": lock("signatures", to=lambda given: given[1:]),
    "a debtor who signed twice": lock("signatures", to=lambda given: [given[0], *given]),
    "somebody signed who is not debited": lock(
        "signatures", to=lambda given: [given[0], {**given[0], "account": "nobody"}, given[1]]
    ),
    "another ledger's debtor who did not sign": lock("signatures", to=lambda given: given[:1]),
    "somebody signed who is not debited elsewhere": lock(
        "signatures", to=lambda given: [*given, {**given[1], "account": "nobody"}]
    ),
    "signatures against their order": lock("signatures", to=lambda given: given[::-1]),
    "co-signatures against their order": lock("cosignatures", to=lambda given: officers("b", "a")),
    "a co-signer twice": lock("cosignatures", to=lambda given: officers("a", "a")),
    "a regulator before an officer": lock(
        "cosignatures", to=lambda given: [{**given[0], "role": "regulator"}, *officers("z")]
    ),
    **{
        f"{what} that is {value[:4] or 'nothing'!r} of {len(value)}, by {by}": lock(
            by, 0, what, to=value
        )
        for by in ("signatures", "cosignatures")
        for what, values in (
            ("algorithm", ("", "-x", "Ed25519", "a.b", "a" * 33)),
            ("key", ("", "a", "zz", "AA", "ab" * 257)),
            ("signature", ("a", "zz", "AA", "ab" * 257)),
        )
        for value in values
    },
    "a co-signer of another role": lock("cosignatures", 0, "role", to="clerk"),
    **{
        f"an account that begins with {first}": leg(0, "creditor", to=f"{first}x")
        for first in ("-", ".", ":", "@", "_")
    },
    "an account with a blank": leg(0, "creditor", to="a b"),
    "an account of 65 characters": leg(0, "creditor", to="a" * 65),
    "an account without a name": leg(0, "creditor", to=""),
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
        leg(0, "creditor", to="a" * 64),
        leg(0, "creditor", to="0-.:@_Z"),
        lock("cosignatures", to=[]),
        lock(
            "cosignatures",
            to=[*officers("a", "aa", "b"), {**officers("a")[0], "role": "regulator"}],
        ),
        lock("signatures", 0, "signature", to=""),
        lock("signatures", 0, "signature", to="ab" * 256),
        lock("cosignatures", 0, "key", to="ab" * 256),
        lock("cosignatures", 0, "algorithm", to="a" * 32),
    ):
        assert reading.both("readLock", raw)


def test_signatures_stand_in_the_order_of_their_texts(reading: Reading) -> None:
    """Whatever their lengths, and whatever they have in common."""
    names = [
        "a",
        "aa",
        "B",
        "b" * 31,
        "b" * 32,
        "b" * 33,
        "b" * 32 + "a",
        "c" * 63,
        "c" * 64,
        "c:",
        "9",
    ]
    (pay, due), (first, _) = LOCK["signed"]["instruction"]["legs"], LOCK["signed"]["signatures"]
    count = len(names)
    legs = [{**due, "debtor": name, "ledger": HK if i % 3 else "m" * (i + 1)}
            for i, name in enumerate(names)]  # fmt: skip
    who = sorted((one["ledger"], one["debtor"]) for one in [pay, *legs])
    given = [{**first, "ledger": ledger, "account": account} for ledger, account in who]

    def read(listed: list[dict[str, Any]]) -> bool:
        body = json.loads(of_instruction("legs", to=[pay, *legs]))
        return reading.both("readLock", changed(body, "signed", "signatures", to=listed))

    assert read(given)
    for at in range(count):
        assert not read([*given[:at], given[at + 1], given[at], *given[at + 2 :]]), who[at]


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


# --- the lines of a bill


def with_lines(*lines: Any, less: Any = 0, **more: Any) -> bytes:
    given = {"adjustment": less, "lines": list(lines), **more}
    return lock("instruction", to=lambda one: {**one, "itemised": given})


LINED = with_lines(27_500, 24_100, 68_400, less=2_000)


def lined(old: bytes, new: bytes) -> bytes:
    assert LINED.count(old) == 1
    return LINED.replace(old, new)


MANY = with_lines(*[118] * 1000)
BILLS = {
    "no lines": with_lines(),
    "a line too many": with_lines(*[118] * 1000, 0),
    "a line behind the last, which is none": MANY.replace(b"118]", b"118,]"),
    "a line that is none": lined(b"68400]", b"68400,]"),
    "a first line that is none": lined(b"[27500", b"[,27500"),
    "two separators": lined(b"27500,", b"27500,,"),
    "a blank": lined(b"27500,", b"27500, "),
    "a line below zero": with_lines(-1, 118_001),
    "a line with a zero before it": lined(b"27500", b"027500"),
    "a line of two zeros": lined(b"27500", b"00"),
    "a line with a fraction": lined(b"27500", b"27500.0"),
    "a line with an exponent": lined(b"27500", b"275e2"),
    "a line that is too large": lined(b"27500", b"%d" % (MOST + 1)),
    "a line of 17 digits": lined(b"27500", b"1" * 17),
    "a line of 17 digits that begins with zeros": lined(b"27500", b"0" * 12 + b"27500"),
    "a line of 40 digits": lined(b"27500", b"1" * 40),
    "a line that is a text": with_lines("27500", 24_100, 68_400),
    "a line that is a list": with_lines([27_500], 24_100, 68_400),
    **{
        f"a line with {letter!r} in it": lined(b"27500", b"27" + letter + b"00")
        for letter in (b"/", b":", b"\x00", b"\xb5", b"\xff", b"p")
    },
    "an adjustment below zero": with_lines(118_000, less=-1),
    "an adjustment that is too large": lined(b":2000", b":%d" % (MOST + 1)),
    "no adjustment": lined(b'"adjustment":2000,', b""),
    "another member": with_lines(118_000, more=0),
    "a bill that is nothing": of_instruction("itemised", to=None),
    "another member of that length": LINED.replace(b'"itemised"', b'"itemises"'),
    "the bill twice": LINED.replace(b'"legs":[{', LINED[LINED.index(b'"itemised"') :
                                    LINED.index(b'"legs":[{')] + b'"legs":[{'),
    "lines that end in the midst": LINED[: LINED.index(b"24100") + 3],
    "lines that end behind one": LINED[: LINED.index(b"24100") + 5],
    "lines that end behind all": LINED[: LINED.index(b"68400]") + 6],
}  # fmt: skip


@pytest.mark.parametrize("why", BILLS)
def test_lines_that_are_not_read(reading: Reading, why: str) -> None:
    assert not reading.both("readLock", BILLS[why])


def priced(rate: Rate, lines: Sequence[int], less: int = 0) -> bytes:
    """A lock of a bill of these lines, with amounts and legs that follow."""
    bill = sum(lines) - less
    done = convert(bill, "CNY", "HKD", rate)

    def change(one: dict[str, Any]) -> dict[str, Any]:
        (pay, due), quote = one["legs"], one["quote"]
        residue = {"denominator": done.residue.denominator, "numerator": done.residue.numerator}
        return {
            **one,
            "itemised": {"adjustment": less, "lines": list(lines)},
            "legs": [{**pay, "amount": done.amount, "fee": None}, {**due, "amount": bill}],
            "quote": {
                **quote,
                "bill": {"amount": bill, "currency": "CNY"},
                "payable": {"amount": done.amount, "currency": "HKD"},
                "rate": {"denominator": rate.denominator, "numerator": rate.numerator},
                "residue": residue,
            },
        }

    return lock("instruction", to=change)


def test_lines_at_the_bounds(reading: Reading) -> None:
    """They are the bill's to the unit, so no digit of any was read otherwise."""
    for lines in (
        (118_000,),
        (118_000, 0),
        (*[0] * 999, 118_000),
        (118,) * 1000,
        tuple(10**n for n in range(16)),
        (2**52, 118_000),
    ):
        assert reading.amounts(priced(RATE, lines)) == "", lines
        assert reading.both("readLock", priced(RATE, lines))
    assert reading.read("readLock", with_lines(MOST, less=MOST)) == ""


def test_lines_are_converted_as_in_python(reading: Reading) -> None:
    """Of every length, each rounded by itself."""
    rng = random.Random(6)
    seen = set()
    for length in range(1, 16):
        lines = [rng.randrange(10 ** rng.randint(0, length)) for _ in range(rng.randint(1, 60))]
        lines.append(118_000)
        less = sum(lines) - 118_000
        found = itemise(lines, "CNY", "HKD", RATE, less=less)
        order = reading.order(with_lines(*lines, less=less))
        assert (bytes(order["amounts"]), order["difference"]) == (bytes(32), found.difference)
        seen.add((found.difference > 0) - (found.difference < 0))
    assert seen == {-1, 0, 1}


@pytest.mark.parametrize(
    ("rate", "difference"), [(Rate(1, 2), -500), (Rate(14_999_999, 10_000_000), 500)]
)
def test_the_largest_difference_that_lines_can_make(
    reading: Reading, rate: Rate, difference: int
) -> None:
    """1000 lines, each half a unit off to the same side."""
    order = reading.order(priced(rate, [1] * 1000))
    assert (bytes(order["amounts"]), order["difference"]) == (bytes(32), difference)


def two_legs(legs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pay, due = legs
    return [{**pay, "amount": pay["amount"] - 1}, {**pay, "amount": 1}, due]


LINES_OF = json.loads(LINED)
AMOUNTS = {
    "more than the bill": with_lines(118_001),
    "less than the bill": with_lines(117_999),
    "an adjustment too much": with_lines(118_000, less=1),
    "an adjustment of more than the lines": with_lines(1, less=118_001),
    "two legs that pay": changed(LINES_OF, "signed", "instruction", "legs", to=two_legs),
    "lines that come to nothing apart": priced(Rate(2, 5), (1, 1, 1, 1)),
    "lines that come to less than nothing": priced(Rate(2, 5), (1, 1, 1, 1, 1), 2),
    "lines that come to too much": priced(Rate(3, 2), (1, 1, 1, 2 * (MOST // 3) - 3)),
    "a line that comes to too much": priced(RATE, (9 * (MOST // 10), 5), MOST // 2),
    "a line that comes to too much, after another": priced(RATE, (5, 9 * (MOST // 10)), MOST // 2),
    "an adjustment that comes to too much": priced(RATE, (MOST // 2, MOST // 2 + 118_001), MOST),
}


@pytest.mark.parametrize("why", AMOUNTS)
def test_lines_that_are_not_the_bill(reading: Reading, why: str) -> None:
    assert reading.amounts(AMOUNTS[why]) == "AMOUNT_INVALID"
    with pytest.raises(LianqiaoError) as err:
        check_amounts(Lock.decode(AMOUNTS[why]).signed.instruction)
    assert err.value.reason is Reason.AMOUNT_INVALID


def test_what_is_wrong_beside_the_lines_is_said_first(reading: Reading) -> None:
    for path, to, reason in (
        (("rounding",), "up-1", "UNSUPPORTED_VERSION"),
        (("quote", "payable", "amount"), 139_153, "RATE_INVALID"),
        (("legs", 0, "currency"), "USD", "CURRENCY_MISMATCH"),
        (("legs", 1, "currency"), "USD", "CURRENCY_MISMATCH"),
    ):
        raw = changed(json.loads(with_lines(1)), "signed", "instruction", *path, to=to)
        assert reading.amounts(raw) == reason


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
