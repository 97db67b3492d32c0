"""The whole flow with seeded people, served over gRPC: found, fetched, and made to fail."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from relay import canonical
from relay.bundle_writer import BundleWriter
from relay.client import NodeClient, connect
from relay.codec.errors import error_to_status
from relay.contracts.payloads import Consent, Purpose, Signer
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.registry import find_request
from relay.demo.generator import PATIENT_SCHEME, Generated
from relay.disclosure.asks import Fetch, Fetched, FindQuery
from relay.errors import LianqiaoError
from relay.keys import SigningKey
from relay.ledger_views import Deposit
from relay.query import list_packets
from relay.record.parts import PatientOpening, patient_reference
from relay.trust import encode_trust
from relay.views import Direction
from tests.bench.flow import ASKING, NODES, RECEIVER, RELAY, SOURCE, Case, Flow
from tests.databases import rows
from tests.privacy.search import files

PEOPLE = 4
FREE = "Qzxwvseeded 自由文本"
PHONE, VALUE, CLINICIAN = "+86-139-7788-4455", "5.14159265", "Dr Wqzseeded 主任"
CRASH = "Kqzcrashed 病人"


@dataclass
class Ran:
    """What is left when everything has been done."""

    flow: Flow
    cases: list[Case]
    log: io.StringIO
    errors: list[BaseException] = field(default_factory=list)
    bundles: dict[str, bytes] = field(default_factory=dict)
    fetched: list[Fetched] = field(default_factory=list)
    secrets: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def places(self) -> dict[str, bytes]:
        """Everything that somebody but the patient's own hospital may come to see."""
        errors = {f"error {n}: {e!r:.60}": told(e) for n, e in enumerate(self.errors)}
        log = {"the log": self.log.getvalue().encode()}
        kept = dict(files(self.flow.folder))
        for name in NODES:
            kept |= rows(self.flow.folder / f"{name}.db")
        return {**kept, **log, **self.bundles, **errors}


def told(error: BaseException) -> bytes:
    """All that an error says: to people, to programs, over gRPC."""
    if isinstance(error, LianqiaoError):
        parts = [str(error), error.detail, error.hint, json.dumps(error.data, ensure_ascii=False)]
        return "\n".join(parts).encode() + error_to_status(error).SerializeToString()
    return str(error).encode()


def seeded(made: Generated) -> Generated:
    """The record with personal data wherever FHIR has room for it."""
    bundle = json.loads(made.data)
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "Patient":
            resource["telecom"] = [{"system": "phone", "value": PHONE}]
            resource["address"] = [{"text": FREE, "city": FREE}]
            resource["contact"] = [{"name": {"text": FREE}}]
        if resource["resourceType"] == "Observation":
            resource["note"] = [{"text": FREE}]
            if "valueQuantity" in resource:
                resource["valueQuantity"]["value"] = float(VALUE)
        if resource["resourceType"] == "DiagnosticReport":
            resource["conclusion"] = f"{made.person.name_zh}: {FREE}"
    return replace(made, data=json.dumps(bundle, ensure_ascii=False).encode())


def run(flow: Flow, log: io.StringIO, fail: Callable[[Ran, NodeClient, NodeClient], None]) -> Ran:
    """The whole flow, over gRPC as a hospital would; then `fail` lets everything fail."""
    made = [seeded(one) for one in flow.generate(PEOPLE, 0.0)]
    cases = flow.deposit(made)
    ran = Ran(flow, cases, log)
    for one in made:
        who = one.person
        for secret in (who.number, who.name_zh, who.name_en, who.born):
            ran.secrets[secret] = (PATIENT_SCHEME, "")
    ran.secrets |= dict.fromkeys((FREE, PHONE, VALUE, CLINICIAN, CRASH), ())
    source, asking = (connect(flow.addresses[name], timeout=10) for name in (SOURCE, ASKING))
    try:
        source.attest([deposit_of(case) for case in cases], [RELAY])
        flow.settle()
        ran.cases = cases = flow.sign(cases)
        for result in asking.request_recognition([c.request for c in cases if c.request]):
            assert result.recognition is not None, result
        flow.settle()
        assert flow.check(cases) == PEOPLE
        _disclose(ran, source)
        fail(ran, source, asking)
    finally:
        source.close()
        asking.close()
    _bundle(ran)
    return ran


def deposit_of(case: Case) -> Deposit:
    kept = case.attested.kept
    return Deposit(case.attested.attestation, kept.parts, kept.patient, kept.identifiers)


# --- found and fetched


def _disclose(ran: Ran, source: NodeClient) -> None:
    """The asking hospital finds each record with a consent and fetches what was granted."""
    flow = ran.flow
    register(flow)
    for case in ran.cases:
        kept = case.attested.kept
        found = source.find_records(query(flow, kept.patient, case))
        assert case.commitment in [record.commitment for record in found]
    for answer in source.fetch_records([fetch(flow, case) for case in ran.cases]):
        assert isinstance(answer, Fetched), answer
        ran.fetched.append(answer)


def register(flow: Flow) -> None:
    """The source knows the asking hospital's key: it answers its queries."""
    key = flow.keys[RECEIVER.id]
    dated = {
        "algorithm": key.algorithm,
        "end": flow.now + 10**6,
        "key": key.public.hex(),
        "start": 0,
    }
    body = {"institution": RECEIVER.id, "keys": [dated], "version": 1}
    flow.node(SOURCE).call("registry", "institution.register", canonical.encode(body))


def query(flow: Flow, opening: PatientOpening, case: Case, **changes: Any) -> FindQuery:
    """A signed query with the patient's consent."""
    signer, key = SigningKey.from_seed(flow.salt()), flow.keys[RECEIVER.id]
    consent = Consent(
        records=(),
        patients=(patient_reference(opening),),
        grantee=RECEIVER.id,
        purposes=(Purpose.TREAT,),
        scope=case.made.consent_scope,
        start=flow.now - 60,
        end=flow.now + 600,
        revocation=flow.salt(),
        signer=Signer.PATIENT,
        signed_by="",
        algorithm=signer.algorithm,
        key=signer.public,
        signature=b"",
    )
    consent = replace(consent, signature=signer.sign(consent.signing_bytes()))
    bare = FindQuery(
        institution=RECEIVER.id,
        person=CLINICIAN,
        purpose=Purpose.TREAT,
        patient=opening,
        items=case.made.consent_scope,
        consent=consent,
        nonce=flow.salt(),
        time=flow.now,
        algorithm=key.algorithm,
        key=key.public,
    )
    bare = replace(bare, **changes)
    return replace(bare, signature=key.sign(bare.signing_bytes(SOURCE)))


def fetch(flow: Flow, case: Case, **changes: Any) -> Fetch:
    """A signed fetch of what was granted."""
    assert case.request is not None
    with flow.reader(ASKING, REGISTRY) as state:
        decision = find_request(state, case.request.request).decision
    assert decision is not None
    key = flow.keys[RECEIVER.id]
    bare = Fetch(
        commitment=case.commitment,
        grant=decision.grant,
        institution=RECEIVER.id,
        person=CLINICIAN,
        nonce=flow.salt(),
        time=flow.now,
        algorithm=key.algorithm,
        key=key.public,
    )
    bare = replace(bare, **changes)
    return replace(bare, signature=key.sign(bare.signing_bytes(SOURCE)))


# --- bundles


def _bundle(ran: Ran) -> None:
    """A bundle of every packet of every node, and each node's trust file."""
    for name in NODES:
        node = ran.flow.node(name)
        writer = BundleWriter(node)
        ran.bundles[f"trust file of {name}"] = encode_trust(writer.trust())
        for _, view in list_packets(node.store):
            out = view.direction is Direction.OUT
            client = view.packet.source_client if out else view.packet.destination_client
            key = (client, view.packet.sequence, view.direction)
            ran.bundles[f"bundle of {name} {key}"] = writer.bundle([key])
