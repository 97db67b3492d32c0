"""The bytes that an institution signs for a query: published in proto/README.md, frozen here."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

from relay.contracts.payloads import Purpose
from relay.disclosure.asks import Fetch, FindQuery
from relay.record.parts import PatientOpening, patient_reference
from tests.contracts import world

README = Path(__file__).parent.parent / "proto" / "README.md"
PERSON = PatientOpening(bytes(range(32)), "urn:oid:2.16.156.10011.1.3", "330102199001019999")
QUERY = FindQuery(
    institution="sh-h1",
    person="Dr Li",
    purpose=Purpose.TREAT,
    patient=PERSON,
    items=(world.GLUCOSE,),
    consent=world.consent(patients=(patient_reference(PERSON),)),
    nonce=bytes(16),
    time=world.NOW,
    algorithm="ed25519",
    key=b"k",
)
FETCH = Fetch(bytes(32), bytes(32), "sh-h1", "Dr Li", bytes(16), world.NOW, "ed25519", b"k")


def test_the_published_query() -> None:
    found = re.search(r"```text query\n(.*)\n```\n\nSHA-256 `(\w+)`", README.read_text())
    assert found is not None
    assert sha256(found[1].encode()).hexdigest() == found[2] == QUERY.digest.hex()


def test_every_field_of_a_query_is_signed() -> None:
    signed = QUERY.signing_bytes("zj-medical")
    assert signed.startswith(b"lianqiao/find/v1\n")
    changes = {
        "institution": "sh-h2",
        "person": "Dr Wang",
        "purpose": Purpose.ETREAT,
        "patient": replace(PERSON, value="another"),
        "items": (f"{world.LOINC}|3016-3",),
        "consent": world.consent(end=world.NOW + 1),
        "nonce": bytes(15) + b"x",
        "time": world.NOW + 1,
    }
    unsigned = {"algorithm", "key", "signature"}
    assert changes.keys() == {f.name for f in fields(FindQuery)} - unsigned
    for name, value in changes.items():
        assert replace(QUERY, **{name: value}).signing_bytes("zj-medical") != signed, name
    assert QUERY.signing_bytes("sh-medical") != signed


def test_every_field_of_a_fetch_is_signed() -> None:
    signed = FETCH.signing_bytes("zj-medical")
    assert signed.startswith(b"lianqiao/fetch/v1\n")
    changes = {
        "commitment": b"x" * 32,
        "grant": b"x" * 32,
        "institution": "sh-h2",
        "nonce": b"x" * 16,
        "time": world.NOW + 1,
    }
    # Who asks at the institution is its own word; the entry says so.
    unsigned = {"person", "algorithm", "key", "signature"}
    assert changes.keys() == {f.name for f in fields(Fetch)} - unsigned
    for name, value in changes.items():
        assert replace(FETCH, **{name: value}).signing_bytes("zj-medical") != signed, name
    assert FETCH.signing_bytes("sh-medical") != signed
