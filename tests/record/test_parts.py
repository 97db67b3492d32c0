"""Salted parts: one commitment per record, any part shown without the rest, any change refused."""

from __future__ import annotations

import json
from hashlib import sha256
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.canonical import encode
from relay.errors import Invalid, Malformed, Reason
from relay.light import merkle
from relay.record import parts
from relay.record.door import record
from relay.record.parts import (
    MAX_PARTS,
    Hidden,
    Opened,
    PatientOpening,
    check_parts,
    commit,
    decode_record,
    encode_record,
    open_patient,
    part_leaf,
    patient_reference,
    show,
    verify_record,
)
from tests.record.samples import Entropy, panel
from tests.refusals import refusing


def _record(count: int, seed: int = 1) -> tuple[Opened, ...]:
    entropy = Entropy(seed)
    return tuple(Opened(entropy.salt(), b"part %d" % n) for n in range(count))


def test_the_bytes_that_are_hashed() -> None:
    salt = bytes(range(32))
    data = sha256(
        b"lianqiao/part/1\x00" + b"\x00\x00\x00\x01\x00\x00\x00\x03" + salt + b"x"
    ).digest()
    assert part_leaf(1, 3, salt, b"x") == sha256(b"\x00" + data).digest()
    reference = sha256(
        b"lianqiao/patient/1\x00" + salt + b"\x00\x00\x00\x05urn:x\x00\x00\x00\x0242"
    ).digest()
    assert patient_reference(PatientOpening(salt, "urn:x", "42")) == reference


def test_the_commitment_is_the_rfc_6962_root() -> None:
    whole = _record(5)
    leaves = [part_leaf(i, 5, p.salt, p.content) for i, p in enumerate(whole)]
    assert commit(whole) == merkle.root(leaves)


def test_a_published_commitment() -> None:
    """A fixed value: what was committed to once must open for ever."""
    whole = [Opened(bytes([n]) * 32, b'{"resourceType":"Observation"}') for n in range(3)]
    assert commit(whole).hex() == COMMITMENT
    assert patient_reference(PatientOpening(bytes(32), "urn:demo", "7")).hex() == REFERENCE


COMMITMENT = "6fce0a4450833eb73f47004a99be99c2a604b9ad6db4983611f6d5b1b7a3c1e0"
REFERENCE = "9c035ebea98d02ce0e1f69e53a1006eb21cd5b4f2560577d22e0ce5d7a359370"


@given(st.integers(1, 12), st.data())
def test_any_choice_of_parts_is_shown_and_nothing_else(count: int, data: st.DataObject) -> None:
    whole = _record(count)
    chosen = data.draw(st.sets(st.integers(0, count - 1)))
    raw = encode_record(show(whole, chosen))
    shown = verify_record(raw, commit(whole))
    assert shown.parts == tuple((i, whole[i].content) for i in sorted(chosen))
    assert shown.count == count
    claimed, found = decode_record(raw)
    assert claimed == commit(whole)
    assert encode_record(found) == raw
    for index, part in enumerate(whole):
        if index not in chosen:
            assert part.salt not in raw
            assert json.dumps(part.content.decode()) not in raw.decode()


def test_one_result_of_a_real_record_without_the_rest() -> None:
    entropy = Entropy()
    taken = record(panel(3), "f")
    whole = [Opened(entropy.salt(), p.content) for p in taken.parts]
    for item in taken.items:
        shown = verify_record(encode_record(show(whole, [item.part])), commit(whole))
        ((index, content),) = shown.parts
        assert index == item.part
        assert content == taken.parts[item.part].content


def test_every_changed_byte_is_refused() -> None:
    whole = _record(3)
    raw = encode_record(show(whole, [0, 2]))
    for at in range(len(raw)):
        for flip in (1, 0x20):
            changed = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
            with pytest.raises((Malformed, Invalid)) as err:
                verify_record(changed, commit(whole))
            assert err.value.reason in (
                Reason.RECORD_MISMATCH,
                Reason.MALFORMED,
                Reason.NOT_CANONICAL,
                Reason.UNSUPPORTED_VERSION,
            )


def test_another_record_is_refused() -> None:
    raw = encode_record(_record(3))
    with pytest.raises(Invalid) as err:
        verify_record(raw, commit(_record(3, seed=2)))
    assert err.value.reason == Reason.RECORD_MISMATCH


def test_parts_cannot_change_places_or_numbers() -> None:
    whole = _record(4)
    for a, b in combinations(range(4), 2):
        moved = list(whole)
        moved[a], moved[b] = moved[b], moved[a]
        with pytest.raises(Invalid) as err:
            check_parts(moved, commit(whole))
        assert err.value.reason == Reason.RECORD_MISMATCH


def test_an_inner_node_cannot_stand_for_a_part() -> None:
    """Without index and count in the leaf, this would show part 2 of 3 as part 1 of 2."""
    whole = _record(3)
    leaves = [part_leaf(i, 3, p.salt, p.content) for i, p in enumerate(whole)]
    inner = merkle.node_hash(leaves[0], leaves[1])
    assert merkle.root([inner, leaves[2]]) == commit(whole)
    with pytest.raises(Invalid) as err:
        check_parts([Hidden(inner), whole[2]], commit(whole))
    assert err.value.reason == Reason.RECORD_MISMATCH


def test_the_salt_is_part_of_it() -> None:
    first, *rest = _record(2)
    with pytest.raises(Invalid) as err:
        check_parts([Opened(bytes(32), first.content), *rest], commit([first, *rest]))
    assert err.value.reason == Reason.RECORD_MISMATCH


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({}, Reason.MALFORMED),
        ([], Reason.MALFORMED),
        ({"format": "lianqiao-record/2"}, Reason.UNSUPPORTED_VERSION),
        ({"format": parts.FORMAT}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": "00" * 32, "parts": {}}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": "00", "parts": []}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": "AA" * 32, "parts": []}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": 5, "parts": []}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": "00" * 32, "parts": []}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": "00" * 32, "parts": [5]}, Reason.MALFORMED),
        ({"format": parts.FORMAT, "commitment": "00" * 32, "parts": [{}]}, Reason.MALFORMED),
        (
            {"format": parts.FORMAT, "commitment": "00" * 32, "parts": [{"leaf": "00"}]},
            Reason.MALFORMED,
        ),
        (
            {
                "format": parts.FORMAT,
                "commitment": "00" * 32,
                "parts": [{"content": "", "salt": "AAAA"}],
            },
            Reason.MALFORMED,
        ),
        (
            {
                "format": parts.FORMAT,
                "commitment": "00" * 32,
                "parts": [{"leaf": "00" * 32}] * (MAX_PARTS + 1),
            },
            Reason.LIMIT_EXCEEDED,
        ),
        (
            {"format": parts.FORMAT, "commitment": "00" * 32, "parts": [], "more": 1},
            Reason.MALFORMED,
        ),
    ],
)
def test_files_that_are_refused(value: object, reason: Reason) -> None:
    with pytest.raises(Malformed) as err:
        verify_record(encode(value), bytes(32))  # type: ignore[arg-type]
    assert err.value.reason == reason


def test_base64_has_one_spelling() -> None:
    raw = encode_record([Opened(bytes(32), b"a")])
    assert b'"YQ=="' in raw
    with pytest.raises(Malformed) as err:
        decode_record(raw.replace(b'"YQ=="', b'"YR=="'))
    assert err.value.reason == Reason.MALFORMED


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with refusing({Reason.MALFORMED, Reason.NOT_CANONICAL}):  # a blank before a number is JSON
        verify_record(data, bytes(32))


def test_forms_of_parts() -> None:
    for salt in (b"", bytes(31), bytes(33)):
        with refusing(Reason.MALFORMED):
            part_leaf(0, 1, salt, b"")
    with refusing(Reason.MALFORMED):
        part_leaf(1, 1, bytes(32), b"")
    with pytest.raises(Malformed) as err:
        part_leaf(0, MAX_PARTS + 1, bytes(32), b"")
    assert err.value.reason == Reason.LIMIT_EXCEEDED
    with refusing(Reason.MALFORMED):
        commit([])
    with refusing(Reason.MALFORMED):
        show(_record(2), [2])


def test_the_patient_reference_opens_to_one_person() -> None:
    salt = bytes(range(32))
    reference = patient_reference(PatientOpening(salt, "urn:x", "42"))
    open_patient(reference, salt, "urn:x", "42")
    for scheme, value in (("urn:x", "43"), ("urn:y", "42"), ("urn:x4", "2"), ("urn", ":x42")):
        with pytest.raises(Invalid) as err:
            open_patient(reference, salt, scheme, value)
        assert err.value.reason == Reason.RECORD_MISMATCH
    with refusing(Reason.RECORD_MISMATCH):
        open_patient(reference, bytes(32), "urn:x", "42")
    assert reference != patient_reference(PatientOpening(bytes(32), "urn:x", "42"))


@pytest.mark.parametrize(
    ("scheme", "value"), [("", "1"), ("s", ""), ("s" * 257, "1"), ("s", "1" * 257), ("s", "\ud800")]
)
def test_forms_of_patient_openings(scheme: str, value: str) -> None:
    with refusing(Reason.MALFORMED):
        patient_reference(PatientOpening(bytes(32), scheme, value))
