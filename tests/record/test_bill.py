"""Bills at the door: what can be cleared, byte for byte, and everything that cannot."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from relay.errors import LianqiaoError, Reason
from relay.keys import SigningKey
from relay.record.bill import Bill, BillSignature, sign_bill, subject, take_bill, take_signed
from tests.vectors_dir import vectors

KEY = SigningKey.from_seed(b"i" * 32)


def money(value: str, currency: str = "CNY") -> str:
    return f'{{"value": {value}, "currency": "{currency}"}}'


def bill(**changes: str) -> bytes:
    """A ClaimResponse, its amounts as texts, with members replaced by JSON texts or left out."""
    members = {
        "resourceType": '"ClaimResponse"',
        "status": '"active"',
        "type": '{"coding": [{"code": "institutional"}]}',
        "use": '"claim"',
        "patient": '{"reference": "Patient/1"}',
        "created": '"2026-10-30"',
        "insurer": '{"identifier": {"value": "hk-insurer"}}',
        "outcome": '"complete"',
        "item": lines("880.00", "300.00"),
        "total": total("1180.00"),
        "payment": payment("1180.00"),
        **changes,
    }
    return ("{" + ", ".join(f'"{n}": {v}' for n, v in members.items() if v) + "}").encode()


BENEFIT = '"category": {"coding": [{"code": "benefit"}]}'


def total(value: str, currency: str = "CNY") -> str:
    return f'[{{{BENEFIT}, "amount": {money(value, currency)}}}]'


def lines(*values: str) -> str:
    each = [f'[{{{BENEFIT}, "amount": {money(value)}}}]' for value in values]
    items = [f'{{"itemSequence": {n}, "adjudication": {a}}}' for n, a in enumerate(each, 1)]
    return f"[{', '.join(items)}]"


def payment(value: str, currency: str = "CNY", adjustment: str = "") -> str:
    more = f', "adjustment": {money(adjustment)}' if adjustment else ""
    kind = '{"coding": [{"code": "complete"}]}'
    return f'{{"type": {kind}, "amount": {money(value, currency)}{more}}}'


def test_a_bill_is_taken() -> None:
    raw = bill()
    assert take_bill(raw) == Bill("CNY", 118_000, (88_000, 30_000), 0, sha256(raw).digest())


def test_an_adjustment_is_taken_off() -> None:
    found = take_bill(bill(payment=payment("1000.00", adjustment="180.00")))
    assert (found.amount, found.adjustment) == (100_000, 18_000)


def test_a_bill_without_lines_has_its_total() -> None:
    assert take_bill(bill(item="")).lines == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"status": '"cancelled"'}, "active"),
        ({"use": '"preauthorization"'}, "claim"),
        ({"outcome": '"partial"'}, "complete"),
        ({"payment": ""}, "missing"),
        ({"payment": payment("1180.01")}, "adjustment"),
        ({"payment": payment("1180.00", "HKD")}, "another currency"),
        ({"total": total("1180.00", "HKD")}, "another currency"),
        ({"total": ""}, "benefit"),
        ({"item": lines("880.00", "300.01")}, "add up"),
        ({"payment": payment("1180.000")}, "AMOUNT_INVALID"),
        ({"payment": payment("-1180.00")}, "MALFORMED"),
        ({"payment": payment("1.18e3")}, "MALFORMED"),
        ({"payment": payment("0"), "total": total("0"), "item": ""}, "nothing to pay"),
        ({"payment": payment("1180.00", "CNH")}, "CURRENCY_UNKNOWN"),
        ({"resourceType": '"Claim"'}, "ClaimResponse"),
    ],
)
def test_what_cannot_be_cleared_is_refused(changes: dict[str, str], told: str) -> None:
    with pytest.raises(LianqiaoError) as err:
        take_bill(bill(**changes))
    assert err.value.reason is Reason.BILL_INVALID
    assert told in err.value.detail
    assert "1180" not in str(err.value) + err.value.hint + str(err.value.data)


def test_two_readings_of_one_bill_are_refused() -> None:
    raw = bill().replace(b'"use"', b'"status": "active", "use"')
    with pytest.raises(LianqiaoError) as err:
        take_bill(raw)
    assert err.value.reason is Reason.MALFORMED


def test_a_signature_is_over_the_exact_bytes_by_the_registered_key() -> None:
    raw = bill()
    signature = sign_bill(raw, "hk-insurer", KEY)
    assert BillSignature.decode(signature.encode()) == signature
    assert take_signed(raw, signature, KEY.public).amount == 118_000
    cases: list[tuple[Reason, Any]] = [
        (Reason.RECORD_MISMATCH, (raw + b" ", signature, KEY.public)),
        (Reason.UNKNOWN_SIGNER, (raw, signature, b"x" * 32)),
        (Reason.INVALID_SIGNATURE, (raw, replace(signature, insurer="other"), KEY.public)),
    ]
    for reason, arguments in cases:
        with pytest.raises(LianqiaoError) as err:
            take_signed(*arguments)
        assert err.value.reason is reason


def test_what_stands_on_a_ledger_is_salted() -> None:
    raw = bill()
    assert subject(raw, b"a" * 32) != subject(raw, b"b" * 32)
    assert subject(raw, b"a" * 32) not in (sha256(raw).digest(), sha256(b"a" * 32 + raw).digest())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("R3500", "adjustment"),
        ("R3501", "complete"),
        ("R3502", "add up"),
        ("R3503", "adjustment"),
        ("UR3503", "claim"),
    ],
)
def test_the_published_examples_do_not_tie_and_are_refused(name: str, told: str) -> None:
    """HL7's own examples: 90.47 of benefit is paid as 100.47 (R3500), lines miss 9.68 (R3502)."""
    raw = (vectors("health", "fhir-r4") / f"ClaimResponse-{name}.json").read_bytes()
    with pytest.raises(LianqiaoError) as err:
        take_bill(raw)
    assert err.value.reason is Reason.BILL_INVALID
    assert told in err.value.detail


def test_a_published_example_that_is_mended_is_taken() -> None:
    raw = (vectors("health", "fhir-r4") / "ClaimResponse-R3500.json").read_bytes()
    assert take_bill(raw.replace(b"100.47", b"90.47")).amount == 9047
