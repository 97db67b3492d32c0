"""Payloads of settlement: one encoding each, strict, and every signed field covered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.canonical import decode, encode
from relay.contracts.payloads import (
    Fee,
    Instruction,
    Mode,
    Money,
    OfficerRole,
    Ruling,
    SignedInstruction,
    window_settlement,
)
from relay.contracts.payloads.instruction import rate_day
from relay.contracts.payloads.parties import parties
from relay.errors import Invalid, Malformed, Reason
from relay.light.keys import verify
from relay.money import MAX_AMOUNT, Rate
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload
from tests.contracts.money_world import (
    EXPIRES,
    HK,
    HUB,
    LINES,
    OFFICER,
    decision,
    examples,
    instruction,
    quote,
    signed,
    withdrawal,
)
from tests.contracts.world import digest
from tests.refusals import refusing

VALUES = examples()
EXAMPLES: dict[str, bytes] = {name: value.encode() for name, value in VALUES.items()}
READERS: dict[str, Callable[[bytes], Any]] = {n: type(v).decode for n, v in VALUES.items()}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_round_trip(kind: str) -> None:
    raw = EXAMPLES[kind]
    assert READERS[kind](raw) == VALUES[kind]
    body = decode(raw)
    assert isinstance(body, dict)
    assert body["type"] == {"itemised": "instruction"}.get(kind, kind)


@pytest.mark.parametrize("kind", EXAMPLES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_another_value_or_malformed(kind: str, data: st.DataObject) -> None:
    raw = bytearray(EXAMPLES[kind])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Malformed):
        assert READERS[kind](bytes(raw)) != VALUES[kind]


@pytest.mark.parametrize("kind", EXAMPLES)
@settings(max_examples=10, deadline=None)
@given(raw=st.binary(max_size=40))
def test_any_bytes_are_malformed(kind: str, raw: bytes) -> None:
    with refusing({Reason.MALFORMED, Reason.NOT_CANONICAL}):  # a blank before a number is JSON
        READERS[kind](raw)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_members_are_exact(kind: str) -> None:
    body = decode(EXAMPLES[kind])
    assert isinstance(body, dict)
    for name in body:
        less = {n: v for n, v in body.items() if n != name}
        for changed in (less, {**body, "extra": 1}, {**body, name: -1}, {**body, name: {}}):
            if name == "itemised" and changed is less:
                continue  # the one member that may be left out
            with refusing((Reason.AMOUNT_INVALID, Reason.CURRENCY_UNKNOWN, Reason.MALFORMED)):
                READERS[kind](encode(changed))
    with refusing(Reason.MALFORMED):
        READERS[kind](encode([body]))


def _at(body: Any, path: str, value: Any) -> bytes:
    """The document with the member at a dotted path replaced."""
    *steps, last = path.split(".")
    here = body
    for step in steps:
        here = here[int(step) if step.isdigit() else step]
    here[int(last) if last.isdigit() else last] = value
    return encode(body)


@pytest.mark.parametrize(
    ("kind", "path", "value", "reason"),
    [
        ("instruction", "legs.0.amount", 0, Reason.AMOUNT_INVALID),
        ("instruction", "legs.0.amount", -5, Reason.AMOUNT_INVALID),
        ("instruction", "legs.0.amount", True, Reason.AMOUNT_INVALID),
        ("instruction", "legs.0.amount", "100", Reason.AMOUNT_INVALID),
        ("instruction", "legs.0.amount", MAX_AMOUNT, Reason.AMOUNT_INVALID),  # with the fee
        ("instruction", "legs.0.fee.amount", 0, Reason.AMOUNT_INVALID),
        ("instruction", "legs.0.currency", "CNH", Reason.CURRENCY_UNKNOWN),
        ("instruction", "legs.0.currency", "XAU", Reason.CURRENCY_UNKNOWN),
        ("instruction", "legs.0.currency", "hkd", Reason.CURRENCY_UNKNOWN),
        ("instruction", "legs.0.creditor", "insurer", Reason.PARTY_INVALID),
        ("instruction", "legs.0.fee.account", "insurer", Reason.PARTY_INVALID),
        ("instruction", "legs.0.side", "bill", Reason.MALFORMED),
        ("instruction", "legs.0.debtor", "Mr Chan", Reason.MALFORMED),
        ("instruction", "legs", [], Reason.LIMIT_EXCEEDED),
        ("instruction", "uetr", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Reason.MALFORMED),
        ("instruction", "uetr", "", Reason.MALFORMED),
        ("instruction", "returns", "x", Reason.MALFORMED),
        ("instruction", "deadline", EXPIRES - 1, Reason.MALFORMED),
        ("instruction", "deadline", EXPIRES + 1, Reason.MALFORMED),
        ("instruction", "settlement", "ab", Reason.MALFORMED),
        ("instruction", "quote.rate", {"denominator": 2, "numerator": 4}, Reason.RATE_INVALID),
        ("instruction", "quote.rate", {"denominator": 0, "numerator": 1}, Reason.RATE_INVALID),
        ("instruction", "quote.residue", {"denominator": 2, "numerator": 1}, Reason.RATE_INVALID),
        ("instruction", "quote.day", "2026-10-30", Reason.MALFORMED),
        ("instruction", "quote.mode", "fixing", Reason.MALFORMED),
        ("instruction", "quote.bill.amount", 0, Reason.AMOUNT_INVALID),
        ("instruction", "quote.version", 0, Reason.MALFORMED),
        ("itemised", "itemised.lines", [], Reason.LIMIT_EXCEEDED),
        ("itemised", "itemised.lines", [1] * 1001, Reason.LIMIT_EXCEEDED),
        ("itemised", "itemised.lines.0", -1, Reason.MALFORMED),
        ("itemised", "itemised.lines.0", 1.5, Reason.MALFORMED),
        ("itemised", "itemised.lines.0", MAX_AMOUNT + 1, Reason.MALFORMED),
        ("itemised", "itemised.adjustment", -1, Reason.MALFORMED),
        ("itemised", "itemised", None, Reason.MALFORMED),
        ("itemised", "itemised", {"lines": [1]}, Reason.MALFORMED),
        ("lock", "signed.signatures", [], Reason.MALFORMED),
        ("lock", "signed.signatures.0.account", "maker-hkd", Reason.MALFORMED),
        ("lock", "signed.cosignatures.0.role", "friend", Reason.MALFORMED),
        ("net_lock", "instructions", [], Reason.LIMIT_EXCEEDED),
        ("lock_answer", "accepted", False, Reason.MALFORMED),
        ("lock_answer", "reason", "BECAUSE", Reason.MALFORMED),
        ("settlement_decision", "ruling", "abort", Reason.MALFORMED),
        ("settlement_decision", "ruling", "maybe", Reason.MALFORMED),
        ("settlement_decision", "answers", [], Reason.LIMIT_EXCEEDED),
        ("settlement_decision", "answers.0.ledger", "zz", Reason.MALFORMED),
        ("settlement_decision", "answers.0.settlement", "ab" * 32, Reason.MALFORMED),
        ("decision_notice", "relay", "another", Reason.MALFORMED),
        ("decision_answer", "ended", "lost", Reason.MALFORMED),
        ("withdrawal", "amount", 0, Reason.AMOUNT_INVALID),
        ("withdrawal", "currency", "CNH", Reason.CURRENCY_UNKNOWN),
    ],
)
def test_refused_field(kind: str, path: str, value: Any, reason: Reason) -> None:
    with pytest.raises(Malformed) as err:
        READERS[kind](_at(decode(EXAMPLES[kind]), path, value))
    assert err.value.reason is reason


def test_a_commit_holds_no_refusal_and_an_abort_does() -> None:
    commit, abort = decision(Ruling.COMMIT), decision(Ruling.ABORT)
    assert commit.reason is None
    assert abort.reason is Reason.TIMED_OUT
    with refusing(Reason.MALFORMED):
        READERS["settlement_decision"](replace(commit, answers=abort.answers).encode())


@pytest.mark.parametrize("value", [5, None, "itemised", ["itemised"]])
def test_an_instruction_is_an_object(value: Any) -> None:
    with refusing(Reason.MALFORMED):
        Instruction.from_json(value)


def test_a_debtor_signs_every_field() -> None:
    value = signed(instruction(fee=500))
    [first, _] = value.signatures
    base = value.instruction
    verify(first.algorithm, first.key, base.signing_bytes(), first.signature)
    pay, due = base.legs
    changes: dict[str, list[Any]] = {
        "legs": [
            (replace(pay, amount=pay.amount + 1), due),
            (replace(pay, ledger="another"), due),
            (replace(pay, creditor="another"), due),
            (replace(pay, debtor="another"), due),
            (replace(pay, currency="CNY"), due),
            (replace(pay, fee=None), due),
            (replace(pay, fee=Fee("another", 500)), due),
            (pay, replace(due, creditor="another")),
            (due, pay),
        ],
        "quote": [
            replace(base.quote, **one)
            for one in (
                {"id": "q"}, {"maker": "m"}, {"mode": Mode.FACTOR, "day": "2026-10"},
                {"policy": "p"}, {"version": 2}, {"source": "s"}, {"expires": 1},
                {"rate": Rate(1, 2)}, {"bill": Money("CNY", 1)}, {"payable": Money("CNY", 1)},
                {"residue": quote(7).residue},
            )
        ],
        "deadline": [base.deadline + 1],
        "itemised": [LINES, replace(LINES, adjustment=1), replace(LINES, lines=(1,))],
    }  # fmt: skip
    for field in dataclass_fields(base):
        old = getattr(base, field.name)
        fresh = [digest("x")] if isinstance(old, bytes) else [f"{old}x"]
        for new in changes.get(field.name, fresh):
            changed = replace(base, **{field.name: new})
            with pytest.raises(Invalid) as err:
                verify(first.algorithm, first.key, changed.signing_bytes(), first.signature)
            assert err.value.reason is Reason.INVALID_SIGNATURE, field.name


def test_a_cosignature_is_over_instruction_role_and_officer() -> None:
    value = signed(cosigners=((OfficerRole.OFFICER, "hk-officer", OFFICER),))
    [one] = value.cosignatures
    of = value.instruction.digest
    verify(one.algorithm, one.key, one.signing_bytes(of), one.signature)
    for changed, subject in (
        (replace(one, role=OfficerRole.REGULATOR), of),
        (replace(one, officer="another"), of),
        (one, instruction("two").digest),
    ):
        with pytest.raises(Invalid) as err:
            verify(one.algorithm, one.key, changed.signing_bytes(subject), one.signature)
        assert err.value.reason is Reason.INVALID_SIGNATURE


def test_cosignatures_ascend() -> None:
    value = signed(cosigners=((OfficerRole.OFFICER, "hk-officer", OFFICER),))
    twice = replace(value, cosignatures=value.cosignatures * 2)
    with pytest.raises(Malformed) as err:
        SignedInstruction.decode(twice.encode())
    assert err.value.data["field"] == "cosignatures"


def test_what_an_owner_signs_to_withdraw_covers_every_field() -> None:
    value = withdrawal()
    verify(value.algorithm, value.key, value.signing_bytes(), value.signature)
    for field in dataclass_fields(value):
        if field.name in ("signature", "algorithm", "key"):
            continue
        old = getattr(value, field.name)
        fresh = old + 1 if isinstance(old, int) else f"{old}x"
        changed = replace(value, **{field.name: digest("x") if isinstance(old, bytes) else fresh})
        with pytest.raises(Invalid) as err:
            verify(changed.algorithm, changed.key, changed.signing_bytes(), changed.signature)
        assert err.value.reason is Reason.INVALID_SIGNATURE, field.name


def test_context_tags_differ() -> None:
    one = signed(cosigners=((OfficerRole.OFFICER, "o", OFFICER),))
    said = (
        one.instruction.signing_bytes(),
        one.cosignatures[0].signing_bytes(one.instruction.digest),
        withdrawal().signing_bytes(),
    )
    assert {s.partition(b"\n")[0] for s in said} == {
        b"lianqiao/instruction/v1",
        b"lianqiao/approval/v1",
        b"lianqiao/withdrawal/v1",
    }


def test_a_window_settles_under_one_id() -> None:
    ids = {window_settlement(r, w) for r, w in (("a", "w"), ("a", "v"), ("b", "w"))}
    assert len(ids) == 3
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize("kind", ["lock", "net_lock", "decision_notice"])
def test_a_payload_says_between_whom_it_goes(kind: str) -> None:
    payload = Payload("settlement", "escrow", "escrow-1", "application/json", EXAMPLES[kind])
    packet = Packet(1, "a-0", "b-0", 1, (payload,))
    assert parties(packet, ()) == {(HUB, HK)}
    assert parties(packet, (ERROR_ACKNOWLEDGEMENT,)) == set()


def test_the_day_of_a_rate_is_a_day_or_a_month_or_nothing() -> None:
    for day in ("", "2026-10", "2026-10-30"):
        assert rate_day({"day": day}) == day
    for wrong in ("2026", "2026-1-1", "2026/10/30", "2026-10-30T", " ", 20261030, None):
        with pytest.raises(Malformed) as err:
            rate_day({"day": wrong})
        assert err.value.data["field"] == "day"


def test_an_instruction_of_a_window_may_wait_for_it_and_not_less_than_its_quote() -> None:
    for deadline, fine in ((EXPIRES, True), (EXPIRES + 1, True), (EXPIRES - 1, False)):
        raw = instruction(window="w-1", deadline=deadline).encode()
        if fine:
            assert Instruction.decode(raw).deadline == deadline
        else:
            with pytest.raises(Malformed) as err:
                Instruction.decode(raw)
            assert err.value.data["field"] == "deadline"
