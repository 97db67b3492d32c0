"""The patient card: one strict encoding, on file and as QR code, that opens one reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.canonical import decode, encode
from relay.errors import Invalid, LianqiaoError, Malformed, Reason
from relay.record.card import (
    MAX_CARD_BYTES,
    Card,
    check_card,
    decode_card,
    encode_card,
    qr_png,
    qr_svg,
    qr_terminal,
)
from relay.record.parts import PatientOpening, patient_reference
from tests.refusals import refusing

CARD = Card("zj-medical", bytes(range(32)), PatientOpening(bytes(32), "urn:oid:1.2", "甲-7"))


@given(
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
)
def test_round_trip(record: bytes, salt: bytes, scheme: str, value: str) -> None:
    card = Card("zj-medical", record, PatientOpening(salt, scheme, value))
    assert decode_card(encode_card(card)) == card


def test_it_holds_no_more_than_needed() -> None:
    value = decode(encode_card(CARD))
    assert isinstance(value, dict)
    assert value.keys() == {"format", "ledger", "patient", "record"}
    assert isinstance(value["patient"], dict)
    assert value["patient"].keys() == {"salt", "scheme", "value"}


def test_it_opens_one_patient_reference() -> None:
    reference = patient_reference(CARD.patient)
    check_card(CARD, reference)
    with pytest.raises(Invalid) as err:
        check_card(replace(CARD, patient=replace(CARD.patient, value="甲-8")), reference)
    assert err.value.reason == Reason.RECORD_MISMATCH
    assert "甲" not in str(vars(err.value))


def _changed(**changes: object) -> bytes:
    value = decode(encode_card(CARD))
    assert isinstance(value, dict)
    return encode({k: v for k, v in {**value, **changes}.items() if v is not None})  # type: ignore[misc]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"[]", Reason.MALFORMED),
        (b"{}", Reason.MALFORMED),
        (_changed(format="lianqiao-card/2"), Reason.UNSUPPORTED_VERSION),
        (_changed(more=1), Reason.MALFORMED),
        (_changed(ledger=None), Reason.MALFORMED),
        (_changed(ledger="a b"), Reason.MALFORMED),
        (_changed(record="00"), Reason.MALFORMED),
        (_changed(record="AA" * 32), Reason.MALFORMED),
        (_changed(patient=[]), Reason.MALFORMED),
        (_changed(patient={"salt": "00" * 32, "scheme": "s", "value": ""}), Reason.MALFORMED),
        (_changed(patient={"salt": "00" * 31, "scheme": "s", "value": "v"}), Reason.MALFORMED),
        (_changed(patient={"salt": "00" * 32, "scheme": 5, "value": "v"}), Reason.MALFORMED),
        (
            _changed(patient={"salt": "00" * 32, "scheme": "s", "value": "v" * 257}),
            Reason.MALFORMED,
        ),
        (encode_card(CARD) + b"\n", Reason.NOT_CANONICAL),
        (encode_card(CARD).replace(b",", b", "), Reason.NOT_CANONICAL),
        (b" " * (MAX_CARD_BYTES + 1), Reason.LIMIT_EXCEEDED),
    ],
)
def test_refused(raw: bytes, reason: Reason) -> None:
    with pytest.raises(Malformed) as err:
        decode_card(raw)
    assert err.value.reason == reason


def test_every_changed_byte_makes_another_card_or_none() -> None:
    raw = encode_card(CARD)
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            card = decode_card(changed)
        except LianqiaoError:
            continue
        assert card != CARD


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with refusing({Reason.MALFORMED, Reason.NOT_CANONICAL}):  # a blank before a number is JSON
        decode_card(raw)


def test_qr_codes() -> None:
    assert qr_png(CARD).startswith(b"\x89PNG")
    assert b"<svg" in qr_svg(CARD)
    drawn = qr_terminal(CARD).splitlines()
    assert len(drawn) > 20
    longest = Card("l" * 64, bytes(32), PatientOpening(bytes(32), "s" * 256, "v" * 256))
    assert qr_png(longest)
