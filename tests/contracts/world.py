"""A small world for the contracts: two ledgers, a relay, their policy, and people who can sign.

zj-h1 (Hangzhou, on zj-medical) examines; sh-h1 (Shanghai, on sh-medical) asks. Everything is legal
until a test changes one thing: `World(**changes)` alters policy, `request(**changes)` and friends
alter what is signed.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.canonical import encode
from relay.contracts.payloads import (
    Action,
    Attestation,
    AttestedItem,
    Consent,
    Decision,
    ItemOutcome,
    Outcome,
    Purpose,
    RecognitionRequest,
    Result,
    Setting,
    Signer,
    Status,
)
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from tests.contracts.ledger import Ledger, Network

NOW = 1_770_000_000
"""2026-02-02 10:40:00 in Shanghai."""
DAY = 86_400
HOUR = 3_600
LOINC = "http://loinc.org"
GLUCOSE = f"{LOINC}|14749-6"
LOCAL = "urn:zj-h1:lis"


class Person:
    """Whoever holds a key; the same name gives the same key."""

    algorithm = "ed25519"

    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, value: Any) -> Any:
        """`value` with this person's key and signature."""
        value = replace(value, algorithm=self.algorithm, key=self.public, signature=b"")
        return replace(value, signature=self._key.sign(value.signing_bytes()))

    def raw(self, message: bytes) -> bytes:
        """This person's signature over bytes."""
        return self._key.sign(message)

    def dated(self, start: int = 0, end: int = NOW + 3650 * DAY) -> dict[str, Any]:
        return {
            "algorithm": self.algorithm,
            "end": end,
            "key": self.public.hex(),
            "start": start,
        }


HOSPITAL, OTHER_HOSPITAL, ASKING = Person("zj-h1"), Person("zj-h2"), Person("sh-h1")
DOCTOR, PATIENT, STRANGER = Person("dr-li"), Person("patient"), Person("stranger")


def digest(name: str) -> bytes:
    return sha256(name.encode()).digest()


RECORD, REFERENCE = digest("record"), digest("patient reference")


def catalogue(version: int = 1, effective_from: int = NOW - 400 * DAY) -> dict[str, Any]:
    def item(name: str, code: str, units: list[str], methods: list[str]) -> dict[str, Any]:
        return {
            "category": "LAB",
            "codes": [f"{LOINC}|{code}"],
            "item": name,
            "methods": methods,
            "name": {"en": name, "zh": name},
            "specimens": ["SER", "PLAS"],
            "units": units,
        }

    return {
        "effective_from": effective_from,
        "items": [
            item("GLU", "14749-6", ["mmol/L", "mg/dL"], []),
            item("TSH", "3016-3", ["m[IU]/L"], ["IA-CL"]),
            item("HBSAG", "5196-1", [], []),
        ],
        "kind": "catalogue",
        "name": "lab",
        "provenance": "made for tests",
        "version": version,
    }


def policy() -> dict[str, dict[str, Any]]:
    """The documents by name; a test changes what it wants before they are loaded."""
    head: dict[str, Any] = {"effective_from": 0, "provenance": "made for tests", "version": 1}
    hospital = {"leagues": [], "level": 30}
    year = {"first": "2025-01-01", "last": "2026-12-31"}
    return {
        "catalogue": catalogue(),
        "accreditations": {
            **head,
            "institutions": [
                {
                    **hospital,
                    "id": "zj-h1",
                    "keys": [HOSPITAL.dated()],
                    "ledger": "zj-medical",
                    "regions": ["330102", "330100", "330000"],
                },
                {
                    **hospital,
                    "id": "zj-h2",
                    "keys": [OTHER_HOSPITAL.dated()],
                    "ledger": "zj-medical",
                    "regions": ["330000"],
                },
                {
                    **hospital,
                    "id": "sh-h1",
                    "keys": [ASKING.dated()],
                    "ledger": "sh-medical",
                    "regions": ["310101", "310100", "310000"],
                },
            ],
            "kind": "accreditations",
            "laboratories": [{"id": "zj-h1-lab", **year}],
            "name": "east",
        },
        "quality": {
            **head,
            "eqa": [
                {
                    "body": "nccl",
                    "cycle": "2026-1",
                    "items": ["GLU", "TSH", "HBSAG"],
                    "laboratory": "zj-h1-lab",
                    "result": "pass",
                    **year,
                }
            ],
            "iqc": [],
            "kind": "quality",
            "name": "zj",
        },
        "clinicians": {
            **head,
            "clinicians": [
                {"id": "dr-li", "institution": "sh-h1", "keys": [DOCTOR.dated()], **year},
                {"id": "dr-zhang", "institution": "zj-h1", "keys": [], **year},
            ],
            "kind": "clinicians",
            "name": "east",
        },
        "rules": {
            **head,
            "agreements": [{"id": "yangtze-delta", "members": ["310000", "330000"]}],
            "kind": "rules",
            "name": "sh",
            "regions": [
                {
                    "accepted_marks": [],
                    "catalogues": ["lab"],
                    "categories": ["LAB"],
                    "consent_signers": ["patient"],
                    "grant_seconds": 7 * DAY,
                    "head_seconds": 600,
                    "iqc_required": False,
                    "item_max_age_days": [{"inpatient": 1, "item": "TSH", "outpatient": 3}],
                    "level": "any",
                    "max_age_days": {"inpatient": 7, "outpatient": 30},
                    "purposes": ["TREAT"],
                    "qc_bodies": ["nccl"],
                    "region": "310000",
                    "statement_seconds": DAY,
                }
            ],
        },
        "conceptmap": {
            **head,
            "kind": "conceptmap",
            "name": "zj-h1",
            "rows": [
                {"equivalence": "equivalent", "source": f"{LOCAL}|1001", "target": GLUCOSE},
                {"equivalence": "wider", "source": f"{LOCAL}|1002", "target": GLUCOSE},
                {"equivalence": "inexact", "source": f"{LOCAL}|1003", "target": GLUCOSE},
                {"equivalence": "equal", "source": f"{LOCAL}|1004", "target": GLUCOSE},
                {
                    "equivalence": "equal",
                    "source": f"{LOCAL}|1004",
                    "target": f"{LOINC}|5196-1",
                },
            ],
        },
    }


def item(**changes: Any) -> AttestedItem:
    """Glucose in serum, examined and issued yesterday, marked for the Yangtze delta."""
    base = AttestedItem(
        part=1,
        system=LOINC,
        code="14749-6",
        specimen="SER",
        method="",
        unit="mmol/L",
        examined=NOW - DAY - HOUR,
        issued=NOW - DAY,
        status=Status.FINAL,
        category="LAB",
        laboratory="zj-h1-lab",
        author="dr-zhang",
        reference_range=True,
        scope=("yangtze-delta",),
    )
    return replace(base, **changes)


def attestation(*items: AttestedItem, by: Person = HOSPITAL, **changes: Any) -> Attestation:
    base = Attestation(
        ledger="zj-medical",
        port="registry",
        commitment=RECORD,
        patient=REFERENCE,
        institution="zj-h1",
        action=Action.NEW,
        previous=b"",
        issued=NOW - HOUR,
        items=items or (item(),),
        algorithm="ed25519",
        key=b"",
        signature=b"",
    )
    signed: Attestation = by.sign(replace(base, **changes))
    return signed


def consent(by: Person = PATIENT, **changes: Any) -> Consent:
    base = Consent(
        records=(RECORD,),
        patients=(),
        grantee="sh-h1",
        purposes=(Purpose.TREAT,),
        scope=tuple(sorted((GLUCOSE, f"{LOINC}|3016-3", f"{LOINC}|5196-1"))),
        start=NOW - DAY,
        end=NOW + 30 * DAY,
        revocation=digest("revocation"),
        signer=Signer.PATIENT,
        signed_by="",
        algorithm="ed25519",
        key=b"",
        signature=b"",
    )
    signed: Consent = by.sign(replace(base, **changes))
    return signed


def request(by: Person = DOCTOR, **changes: Any) -> RecognitionRequest:
    base = RecognitionRequest(
        request=digest("request"),
        relay="relay-1",
        origin="sh-medical",
        target="zj-medical",
        hops=1,
        commitment=RECORD,
        patient=REFERENCE,
        parts=(1,),
        institution="sh-h1",
        clinician="dr-li",
        purpose=Purpose.TREAT,
        setting=Setting.OUTPATIENT,
        time=NOW - 60,
        consent=changes.pop("consent", None) or consent(),
        algorithm="ed25519",
        key=b"",
        signature=b"",
    )
    signed: RecognitionRequest = by.sign(replace(base, **changes))
    return signed


def adopted(part: int = 1) -> ItemOutcome:
    return ItemOutcome(part, Result.ADOPTED, None, b"", None, 0)


def outcome(*items: ItemOutcome, by: Person = DOCTOR, **changes: Any) -> Outcome:
    base = Outcome(
        relay="relay-1",
        origin="sh-medical",
        target="zj-medical",
        hops=1,
        request=digest("request"),
        commitment=RECORD,
        institution="sh-h1",
        clinician="dr-li",
        time=NOW,
        items=items or (adopted(),),
        algorithm="ed25519",
        key=b"",
        signature=b"",
    )
    signed: Outcome = by.sign(replace(base, **changes))
    return signed


class World(Network):
    """zj-medical — relay-1 — sh-medical, at NOW, with the policy loaded and institutions known."""

    def __init__(self, documents: dict[str, dict[str, Any]] | None = None) -> None:
        self.relay = Ledger("relay-1", RECOGNITION)
        self.zj, self.sh = Ledger("zj-medical", REGISTRY), Ledger("sh-medical", REGISTRY)
        super().__init__((self.relay, self.zj, self.sh))
        self.at(NOW - 2 * HOUR)
        self.connect(self.zj, self.relay, NOW)
        self.connect(self.sh, self.relay, NOW)
        for document in (documents or policy()).values():
            self.load(document)
        for ledger, name, person in (
            (self.zj, "zj-h1", HOSPITAL),
            (self.zj, "zj-h2", OTHER_HOSPITAL),
            (self.sh, "sh-h1", ASKING),
        ):
            body = {"institution": name, "keys": [person.dated()], "version": 1}
            ledger.call("institution.register", encode(copy.deepcopy(body)))
        self.at(NOW)

    def load(self, document: dict[str, Any]) -> bytes:
        return self.relay.call("policy.load", encode(copy.deepcopy(document)))

    def attest(self, *given: Attestation, method: str = "attest") -> bytes:
        body = {
            "attestations": [a.to_json() for a in given or (attestation(),)],
            "relays": ["relay-1"],
        }
        return self.zj.call(method, encode(body))

    def ask(self, asked: RecognitionRequest | None = None) -> bytes:
        asked = asked or request()
        return self.sh.call("request", encode({"request": asked.to_json()}))

    def report(self, reported: Outcome | None = None) -> bytes:
        return self.sh.call("outcome", encode({"outcome": (reported or outcome()).to_json()}))

    def decide(
        self, asked: RecognitionRequest | None = None, given: Attestation | None = None
    ) -> Decision:
        """Attests, asks, delivers everything; the decision that came back."""
        self.attest(given or attestation())
        self.deliver()
        asked = asked or request()
        self.ask(asked)
        self.deliver()
        value = self.sh.get(b"decision/" + asked.request.hex().encode())
        assert value is not None, "the request got no decision"
        return Decision.decode(value)


def reasons(decision: Decision, part: int = 1) -> list[str]:
    """The reasons of one item, as words."""
    return [str(r) for i in decision.items if i.part == part for r in i.reasons]


def flags(decision: Decision, part: int = 1) -> list[str]:
    return [str(f) for i in decision.items if i.part == part for f in i.flags]
