"""zj-medical — relay-1 — sh-medical: real nodes with the real contracts, served, joined by lanes.

The people, the policy and what they sign are those of tests.contracts.world; the records are FHIR.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from relay import canonical
from relay.contracts.payloads import (
    Action,
    Attestation,
    Consent,
    Decision,
    Purpose,
    RecognitionRequest,
)
from relay.contracts.policy.values import DatedKey
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.disclosure.asks import Fetch, FindQuery
from relay.ledger_views import Deposit, RecognitionState
from relay.local import LocalChain
from relay.record.audit import AuditStore
from relay.record.parts import Opened, PatientOpening, commit, patient_reference
from relay.record.vault import Vault
from relay.relayer import Relayer
from tests.contracts import world
from tests.contracts.world import ASKING, HOSPITAL, NOW, Person
from tests.record import samples
from tests.service.nodes import Clock, Running, join, run

SCHEME, PATIENT = "urn:oid:2.16.156.10011.1.3", samples.PATIENT_ID
KEY = bytes(range(32))
ENTROPY = samples.Entropy(7)


def opening(value: str = PATIENT) -> PatientOpening:
    """A fresh opening of a patient."""
    return PatientOpening(ENTROPY.salt(), SCHEME, value)


def deposit(
    patient: str = PATIENT, by: Person = HOSPITAL, items: int = 1, **changes: Any
) -> Deposit:
    """A report with results, attested by zj-h1."""
    resources = [samples.report(items), *(samples.observation(n + 1) for n in range(items))]
    parts = tuple(Opened(ENTROPY.salt(), json.dumps(r).encode()) for r in resources)
    person = opening(patient)
    attested = [world.item(part=n + 1) for n in range(items)]
    attestation = world.attestation(
        *attested,
        by=by,
        **{"commitment": commit(parts), "patient": patient_reference(person), **changes},
    )
    return Deposit(attestation, parts, person, (("urn:mrn", f"MRN-{patient}"),))


def amended(of: Deposit) -> Deposit:
    """A later version of a deposit."""
    return deposit(action=Action.AMEND, previous=of.attestation.commitment)


def retraction(of: Deposit) -> Attestation:
    """The retraction of a deposit, signed."""
    bare = replace(of.attestation, action=Action.RETRACT, items=(), previous=b"")
    signed: Attestation = HOSPITAL.sign(bare)
    return signed


def consent(of: Deposit | None = None, **changes: Any) -> Consent:
    """A consent that covers one record."""
    records = (of.attestation.commitment,) if of else ()
    return world.consent(**{"records": records, **changes})


def request(of: Deposit, **changes: Any) -> RecognitionRequest:
    """dr-li asks for glucose."""
    base = {
        "request": ENTROPY(32),
        "commitment": of.attestation.commitment,
        "patient": of.attestation.patient,
        "consent": consent(of),
    }
    return world.request(**{**base, **changes})


def fetch(
    decision: Decision, by: Person = ASKING, ledger: str = "zj-medical", **changes: Any
) -> Fetch:
    """sh-h1 fetches what was granted."""
    bare = Fetch(
        commitment=decision.commitment,
        grant=decision.grant,
        institution="sh-h1",
        person="Dr Li",
        nonce=ENTROPY(16),
        time=NOW,
        algorithm="ed25519",
        key=b"",
    )
    return sign(replace(bare, **changes), by, ledger)


def query(by: Person = ASKING, ledger: str = "zj-medical", **changes: Any) -> FindQuery:
    """sh-h1 asks for a patient's glucose."""
    patient = changes.pop("patient", None) or opening()
    agreed = changes.pop("consent", None) or consent(patients=(patient_reference(patient),))
    bare = FindQuery(
        institution="sh-h1",
        person="Dr Li",
        purpose=Purpose.TREAT,
        patient=patient,
        items=(world.GLUCOSE,),
        consent=agreed,
        nonce=ENTROPY(16),
        time=NOW,
        algorithm="ed25519",
        key=b"",
    )
    return sign(replace(bare, **changes), by, ledger)


def sign(ask: Any, by: Person, ledger: str) -> Any:
    """`ask` under a person's key, for one ledger."""
    ask = replace(ask, algorithm=by.algorithm, key=by.public)
    return replace(ask, signature=by._key.sign(ask.signing_bytes(ledger)))


class Region:
    """Three nodes, with the policy loaded and institutions registered."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock(NOW)
        self.vault = Vault(folder / "vault", KEY, "zj-medical", ENTROPY)
        self.audit = AuditStore(folder / "audit", KEY, "zj-medical", ENTROPY)
        self.zj = self._ledger(folder / "zj", "zj-medical", vault=self.vault, audit=self.audit)
        self.sh = self._ledger(
            folder / "sh",
            "sh-medical",
            vault=Vault(folder / "sh-vault", KEY, "sh-medical", ENTROPY),
            audit=AuditStore(folder / "sh-audit", KEY, "sh-medical", ENTROPY),
        )
        self.relay = run(
            folder / "relay", "relay-1", "relay", {"recognition": RECOGNITION}, self.clock
        )
        self.relayer = Relayer(
            self.relay.node.store,
            LocalChain(self.relay.node),
            heads_needed=self.relay.node.heads_needed,
        )
        for ledger in (self.zj, self.sh):
            _, there = join(ledger, self.relay)
            self.relayer.add_lane(there, LocalChain(ledger.node))
        for document in world.policy().values():
            self.relay.client.load_policy(canonical.encode(copy.deepcopy(document)))
        for ledger, name, person in (
            (self.zj, "zj-h1", HOSPITAL),
            (self.zj, "sh-h1", ASKING),
            (self.sh, "sh-h1", ASKING),
        ):
            key = DatedKey("ed25519", person.public, 0, NOW + 10**8)
            ledger.client.register_institution(name, 1, [key])

    def _ledger(self, folder: Path, name: str, **stores: Any) -> Running:
        return run(folder, name, "ledger", {"registry": REGISTRY}, self.clock, **stores)

    def settle(self, until: Callable[[], bool] = lambda: False) -> None:
        """Runs the relayer until nothing moves."""
        for _ in range(20):
            if until() or all(report.idle for report in self.relayer.tick(self.clock())):
                return

    def attest(self, *deposits: Deposit) -> None:
        """Attests records and lets the relay know."""
        self.zj.client.attest(deposits, ["relay-1"])
        self.settle()

    def decide(self, asked: RecognitionRequest) -> Decision:
        """Asks from sh-medical; the decision."""
        (result,) = self.sh.client.request_recognition([asked])
        assert result.recognition is not None, result
        self.settle()
        view = self.sh.client.recognition(asked.request)
        assert view.state is RecognitionState.DECIDED
        assert view.decision is not None
        return view.decision

    def granted(self, **changes: Any) -> tuple[Deposit, Decision]:
        """A record attested, recognised and granted."""
        given = deposit(**changes)
        self.attest(given)
        return given, self.decide(request(given))

    def stop(self) -> None:
        """Ends everything."""
        for running in (self.zj, self.sh, self.relay):
            running.stop()
