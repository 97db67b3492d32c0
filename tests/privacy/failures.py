"""Everything that is refused, with the patient's data as near to the error as it can be.

Names stand where values stand. Names of members are repeated in errors, to whoever wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from relay import canonical
from relay.bundle import verify_bundle
from relay.bundle_writer import BundleWriter
from relay.client import NodeClient
from relay.contract import Contract, Deferred, HeadNeed, State
from relay.contracts.payloads import Attestation, RecognitionRequest
from relay.demo.generator import PATIENT_SCHEME, Generated
from relay.disclosure.asks import Fetch, Withheld
from relay.errors import LianqiaoError, Reason, Refused
from relay.keys import SigningKey
from relay.packet import Packet, Payload
from relay.record.audit import Access, Act
from relay.record.card import Card, check_card, decode_card, encode_card
from relay.record.door import Source, take
from relay.trust import decode_trust
from tests.bench.flow import RECEIVER, RELAY, SOURCE, Case
from tests.privacy.run import CRASH, PHONE, Ran, deposit_of, fetch, query, seeded
from tests.record.samples import bundle as fhir_bundle
from tests.record.samples import observation, patient, report
from tests.world import TYPES


def fail(ran: Ran, source: NodeClient, asking: NodeClient) -> None:
    """Every door, with what it must refuse; the errors are kept."""
    case = ran.cases[0]
    _at_the_door(ran, case.made)
    failures: Sequence[Callable[[], Any]] = (
        *_of_calls(ran, source, asking, case),
        *_of_files(ran, case),
    )
    for number, failure in enumerate(failures):
        with pytest.raises(LianqiaoError) as caught:
            failure()
            pytest.fail(f"failure {number} did not fail")
        ran.errors.append(caught.value)
    _crash(ran)


def _at_the_door(ran: Ran, made: Generated) -> None:
    """FHIR that is wrong where the patient's data stands, or holds it where it does not belong."""
    who, name = made.person.name_zh, made.person.name_zh
    text = made.data.decode()
    broken = [
        text.replace('"final"', f'"{name}"', 1),
        text[: text.index(name) + 5],
        text + name,
        text.replace('"collection"', f'"{name}"'),
        text.replace("DiagnosticReport", name, 1),
        text.replace('"birthDate"', f'"{name}": 1, "{name}": 2, "birthDate"', 1),
        text.replace('"gender": "', f'"gender": "{who}', 1),
        text.replace(f'"birthDate": "{made.person.born}"', f'"birthDate": "{name}"'),
        text.replace("urn:uuid:", f"urn:uuid:{made.person.number}", 1),
        text.replace('"identifier"', '"identifiers"'),
        text.replace('"Observation/', f'"{name}/'),
        text.replace('"system": "phone"', f'"system": "{PHONE}"'),
        "[" * 200 + json.dumps(name) + "]" * 200,
        f'{{"resourceType": "{name}"}}',
        f'{{"{name}": 1e400}}',
        f'"{name}',
        name,
    ]
    sources = [Source("record.json", one.encode()) for one in broken]
    resources = [patient(), report(1, status=name), observation(1, issued=f"{name} 2026")]
    sources += [
        Source("record.json", fhir_bundle(*resources)),
        Source("record.json", fhir_bundle(patient(), report(1, result=[{"reference": name}]))),
        Source("record.json", b"\xef\xbb\xbf" + made.data),
        Source("record.json", made.data + b"\xff"),
        Source("record.json", made.data.replace(name.encode(), b'"\\ud800' + name.encode())),
    ]
    refused = [refusal.error for one in sources for refusal in take([one]).refused]
    assert len(refused) > len(sources) // 2
    ran.errors += refused


def _of_calls(
    ran: Ran, source: NodeClient, asking: NodeClient, case: Case
) -> list[Callable[[], Any]]:
    flow, who = ran.flow, case.made.person
    deposit, opening = deposit_of(case), case.attested.kept.patient
    stranger = SigningKey.from_seed(bytes(32))
    other = replace(opening, value=ran.cases[1].made.person.number)
    fresh = deposit_of(flow.deposit([seeded(flow.generate(1, 0.0)[0])])[0])
    ran.secrets[fresh.patient.value] = (PATIENT_SCHEME, "")
    broken = replace(fresh.parts[0], content=json.dumps({"resourceType": who.name_zh}).encode())
    forged = replace(fresh.attestation, signature=bytes(64))
    named = {"attestations": [who.name_zh], "relays": [who.number, who.name_zh]}
    strange = query(flow, opening, case, algorithm="ed25519", key=stranger.public)
    beyond = query(flow, opening, case, items=("http://loinc.org|718-7",))
    assert case.request is not None
    request = replace(case.request, request=flow.salt(), signature=bytes(64))
    return [
        lambda: source.attest([replace(deposit, patient=other)], [RELAY]),
        lambda: source.attest([replace(fresh, parts=(broken, *fresh.parts[1:]))]),
        lambda: source.attest([replace(fresh, attestation=forged)]),
        lambda: source.attest([replace(fresh, identifiers=((who.name_zh * 200, who.number),))]),
        lambda: list(source.records(who.name_zh)),
        lambda: source.find_records(strange),
        lambda: source.find_records(beyond),
        lambda: source.find_records(query(flow, other, case, consent=beyond.consent)),
        lambda: source.find_records(query(flow, opening, case, person=who.name_zh * 200)),
        lambda: _withheld(source, fetch(flow, case, grant=bytes(32))),
        lambda: _withheld(source, fetch(flow, case, time=flow.now - 10**6)),
        lambda: _refused(asking, request),
        lambda: flow.node(SOURCE).call("registry", "attest", canonical.encode(named)),
        lambda: flow.node(SOURCE).call("registry", "access", f'{{"{who.name_zh}"'.encode()),
    ]


def _withheld(source: NodeClient, wanted: Fetch) -> NoReturn:
    """Raises what a source answered to a fetch."""
    (answer,) = source.fetch_records([wanted])
    assert isinstance(answer, Withheld)
    raise Refused(Reason(answer.reason), answer.detail)


def _refused(asking: NodeClient, request: RecognitionRequest) -> NoReturn:
    """Raises what a ledger answered to a request."""
    (result,) = asking.request_recognition([request])
    raise Refused(Reason(result.reason), result.detail)


def _of_files(ran: Ran, case: Case) -> list[Callable[[], Any]]:
    """Cards, the vault, the audit store and bundles."""
    flow, kept, who = ran.flow, case.attested.kept, case.made.person
    vault, audit = flow.vaults[SOURCE], flow.audits[SOURCE]
    card = encode_card(Card(SOURCE, case.commitment, kept.patient))
    other = ran.cases[1].attested
    erased = flow.deposit([case.made])[0].attested.kept
    vault.erase(erased.commitment)
    damaged = flow.deposit([case.made])[0].commitment
    (path,) = (flow.folder / f"{SOURCE}-vault").rglob(f"{damaged.hex()}.sealed")
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    access = Access(Act.FIND, flow.now, RECEIVER.id, who.name_zh * 200, "TREAT", "", "", (), "OK")
    attested, trust = case.attested.attestation, BundleWriter(flow.node(RELAY)).trust()
    return [
        lambda: decode_card(card[:-1]),
        lambda: decode_card(card.replace(b'"value"', f'"value": "{who.name_zh}", "'.encode())),
        lambda: decode_card(card.replace(b"lianqiao-card/1", who.name_zh.encode())),
        lambda: check_card(decode_card(card), other.attestation.patient),
        lambda: vault.get(erased.commitment),
        lambda: vault.put([erased]),
        lambda: vault.get(damaged),
        lambda: audit.append([access]),
        lambda: Attestation.decode(attested.encode().replace(b"new", who.name_zh.encode())),
        lambda: canonical.parse(f'{{"name": "{who.name_zh}", "name": "{who.number}"}}'.encode()),
        lambda: decode_trust(f'{{"chains": [], "{who.name_zh}": 1}}'.encode()),
        lambda: verify_bundle(who.name_zh.encode(), trust, 0, TYPES),
    ]


class Crash(Contract):
    """A contract with a fault: what it raises holds what it worked on."""

    port = "crash"

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        raise ValueError(CRASH)

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        raise KeyError(CRASH)

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        raise RuntimeError(CRASH)

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        if method == "fail":
            raise ZeroDivisionError(CRASH)
        payload = Payload(self.port, self.port, "1", "text", b"nothing of a patient")
        return str(state.send(state.client_of(RELAY), payload, now + 600)).encode()

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        raise TypeError(CRASH)


def _crash(ran: Ran) -> None:
    """Faults of a contract: at a call, on receipt, at its answer. The log and the row of the packet
    tell the kind of the fault and not its text."""
    for name in (SOURCE, RELAY):
        ran.flow.node(name).contracts["crash"] = Crash()  # type: ignore[index]
    with pytest.raises(ZeroDivisionError):
        ran.flow.node(SOURCE).call("crash", "fail", b"")
    ran.flow.node(SOURCE).call("crash", "send", b"")
    ran.flow.settle()
