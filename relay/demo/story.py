"""The story: records attested in Hangzhou, asked for in Shanghai, and decided.

Every step is a call of `relay.client`, as a hospital's own system would make it; the rest of the
story is in relay.demo.delivery. What each record must be answered is known beforehand only for
records of our own generator; for the user's own there is no oracle, and what the contract says is
what is shown. Each function takes any lot of records, and lots may run side by side.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from relay.canonical import encode
from relay.client import NodeClient
from relay.contracts.catalogue import shipped
from relay.contracts.payloads import (
    Consent,
    Decision,
    Purpose,
    RecognitionRequest,
    Setting,
    Signer,
    scope_of,
)
from relay.contracts.policy import parse_document
from relay.contracts.policy.values import DatedKey
from relay.contracts.registry import Role
from relay.demo.generator import Expected, Generated
from relay.demo.hospitals import DAY, HOSPITALS, RECEIVERS, SOURCES, policy_documents
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.disclosure.asks import Fetched, FoundRecord
from relay.errors import LianqiaoError, Reason, Unavailable
from relay.keys import SigningKey
from relay.ledger_views import Deposit, RecognitionState, RecognitionView, SentPacket
from relay.record.attest import Attested, attest, retraction
from relay.record.door import record as read_record
from relay.record.facts import Record
from relay.record.parts import PatientOpening, patient_reference
from relay.views import Direction, PacketState

RECEIVER = RECEIVERS[0]
MAX_CALL_RECORDS = 250
MAX_CALL_BYTES = 8 * 1024 * 1024
"""Of one call that hands records over: a message has its limit."""
WAIT_SECONDS, POLL_SECONDS = 120, 0.02
_ENDED = (RecognitionState.TIMED_OUT, RecognitionState.FAILED)
Progress = Callable[[str, int, int], None]
"""(step, done, of)"""


@dataclass(slots=True)
class Case:
    """One record on its way, and all that became of it."""

    number: int
    name: str
    record: Record
    hospital: str
    scope: tuple[str, ...]
    expected: tuple[Expected, ...] = ()
    """Empty for the user's own records."""
    made: Generated | None = None
    attested: Attested | None = None
    packets: tuple[SentPacket, ...] = ()
    """By which its attestation, and what revised it, went to the relay."""
    found: FoundRecord | None = None
    """Where the asking hospital found it at the source; else the patient brought his card."""
    request: RecognitionRequest | None = None
    view: RecognitionView | None = None
    fetched: Fetched | None = None
    refusal: str = ""
    """Why it went no further: attestation, request or fetch refused."""
    outcome: str = ""
    """What the clinician did: `adopted`, or R1 to R6; empty where nothing was recognised."""
    times: dict[str, float] = field(default_factory=dict)
    """Monotonic seconds: `begun`, `attested`, `requested`, `decided`, `delivered`."""

    @property
    def stem(self) -> str:
        """What its files are called; never as the user's own, which may name a patient."""
        return self.name if self.made is not None else f"{self.number:05d}"

    @property
    def opening(self) -> PatientOpening:
        """What opens the patient reference, as the source answered or as the card says."""
        assert self.attested is not None
        return self.found.patient if self.found is not None else self.attested.kept.patient

    @property
    def decision(self) -> Decision | None:
        """What the relay decided, proven by its acknowledgement."""
        return self.view.decision if self.view is not None else None

    @property
    def findings(self) -> list[tuple[int, tuple[str, ...]]]:
        """(part, reasons or flags) of each item as decided."""
        items = self.decision.items if self.decision is not None else ()
        return [(i.part, tuple(str(f) for f in i.reasons or i.flags)) for i in items]

    @property
    def as_expected(self) -> bool:
        """Whether every item was answered as its maker foresaw; True where nobody foresaw it."""
        return self.made is None or self.findings == [(e.part, e.findings) for e in self.expected]


def introduce(stage: Stage, now: int) -> None:
    """Tells the ledgers their institutions and the relay its rules."""
    catalogue = parse_document(shipped())
    for hospital in HOSPITALS:
        key = stage.key(hospital.id)
        dated = DatedKey(key.algorithm, key.public, now - 366 * DAY, now + 366 * DAY)
        stage.node(hospital.ledger).register_institution(hospital.id, 1, [dated])
        if hospital in RECEIVERS:  # who asks at the source must be known to it
            stage.node(SOURCE).register_institution(hospital.id, 1, [dated], Role.ASKS)
    names = [h.id for h in HOSPITALS] + [h.doctor for h in HOSPITALS]
    keys = {name: (stage.key(name).algorithm, stage.key(name).public) for name in names}
    items = [item.item for item in catalogue.items]
    relay = stage.node(RELAY)
    relay.load_policy(shipped())
    for document in policy_documents(now, keys, items, catalogue.name):
        relay.load_policy(encode(document))


@cache
def known_codes() -> frozenset[str]:
    """Every code of the catalogue that ships."""
    items = parse_document(shipped()).items
    return frozenset(code for item in items for code in item.codes)


def cases_of_generated(made: Sequence[Generated]) -> list[Case]:
    """Our own records, through the door."""
    return [
        Case(
            number=number,
            name=one.name.removesuffix(".json"),
            record=read_record(one.data, one.name),
            hospital=one.hospital.id,
            scope=one.consent_scope,
            expected=one.expected,
            made=one,
        )
        for number, one in enumerate(made)
    ]


def cases_of_records(records: Sequence[Record]) -> list[Case]:
    """The user's own records, each attested by the first hospital, all items consented to."""
    return [
        Case(
            number=number,
            name=record.where,
            record=record,
            hospital=SOURCES[0].id,
            scope=(),
        )
        for number, record in enumerate(records)
    ]


# --- attest


def attest_all(stage: Stage, cases: Sequence[Case], now: int, progress: Progress) -> None:
    """Salts, commits to, signs and hands over every record; then what became of some of them."""
    known = known_codes()
    for case in cases:
        case.times["begun"] = time.monotonic()
        try:
            case.attested = _sign(stage, case, case.record, now, known)
        except LianqiaoError as error:
            case.refusal = f"{error.reason}: {error.detail}"
            continue
        if not case.scope:
            case.scope = _all_items(case.attested)
    signed = [case for case in cases if case.attested is not None]
    done = 0
    for batch in batches(signed):
        answers = stage.node(SOURCE).attest([_deposit(case.attested) for case in batch], [RELAY])
        for case, answer in zip(batch, answers, strict=True):
            case.packets = answer.packets
            case.times["attested"] = time.monotonic()
        done += len(batch)
        progress("attest", done, len(signed))
    _amend_and_retract(stage, signed, now, known)


def _sign(
    stage: Stage, case: Case, record: Record, now: int, known: frozenset[str], previous: bytes = b""
) -> Attested:
    return attest(
        record,
        ledger=SOURCE,
        institution=case.hospital,
        signer=stage.key(case.hospital),
        issued=now,
        salts=lambda: os.urandom(32),
        known=known,
        previous=previous,
    )


def _all_items(attested: Attested) -> tuple[str, ...]:
    items = attested.attestation.items
    return tuple(sorted({scope_of(item.system, item.code) for item in items}))


def _deposit(attested: Attested | None) -> Deposit:
    assert attested is not None
    kept = attested.kept
    return Deposit(attested.attestation, kept.parts, kept.patient, kept.identifiers)


def _amend_and_retract(
    stage: Stage, cases: Sequence[Case], now: int, known: frozenset[str]
) -> None:
    source = stage.node(SOURCE)
    amended, retracted = [], []
    for case in cases:
        if case.made is None or case.attested is None:
            continue
        attestation = case.attested.attestation
        if case.made.amendment:
            record = read_record(case.made.amendment, case.name)
            later = _sign(stage, case, record, now, known, attestation.commitment)
            amended.append((case, _deposit(later)))
        if case.made.then == "retract":
            ended = retraction(
                ledger=SOURCE,
                institution=case.hospital,
                signer=stage.key(case.hospital),
                issued=now,
                commitment=attestation.commitment,
                patient=attestation.patient,
            )
            retracted.append((case, ended))
    if amended:
        answers = source.amend([deposit for _, deposit in amended], [RELAY])
        for (case, _), answer in zip(amended, answers, strict=True):
            case.packets += answer.packets
    if retracted:
        answers = source.retract([ended for _, ended in retracted], [RELAY])
        for (case, _), answer in zip(retracted, answers, strict=True):
            case.packets += answer.packets


def wait_announced(stage: Stage, cases: Sequence[Case], progress: Progress) -> None:
    """Until the relay has answered every attestation: the facts are where they are asked for."""
    if all(case.packets for case in cases):
        sent = [(p.client_id, p.sequence) for case in cases for p in case.packets]
        wait_answered(stage, SOURCE, sent)
    else:
        end = time.monotonic() + WAIT_SECONDS
        while still := stage.node(SOURCE).status().packets_open:
            waited(stage, end, f"{still} packets of {SOURCE} are not answered")
    progress("relay", len(cases), len(cases))


def wait_answered(stage: Stage, name: str, sent: Sequence[tuple[str, int]]) -> None:
    """Until nothing of what a node sent, (client id, sequence) each, is open.

    The last is asked for first: packets are carried in order, and what is still open by then is
    listed in one call. Raises Unavailable(CHAIN_UNREACHABLE).
    """
    if not sent:
        return
    node, wanted, end = stage.node(name), set(sent), time.monotonic() + WAIT_SECONDS
    last = max(sent)
    while node.packet(*last, Direction.OUT).state is PacketState.SENT:
        waited(stage, end, f"packet {last[0]}/{last[1]} of {name} is not answered")
    while wanted & _open(node):
        waited(stage, end, f"{len(wanted & _open(node))} packets of {name} are not answered")


def _open(node: NodeClient) -> set[tuple[str, int]]:
    found = node.packets(state=PacketState.SENT)
    return {(view.client_id, view.packet.sequence) for view in found}


def waited(stage: Stage, end: float, otherwise: str) -> None:
    """One pause of waiting. Raises Unavailable(CHAIN_UNREACHABLE) past `end`, and where a node
    has ended."""
    stage.check()
    if time.monotonic() > end:
        raise Unavailable(
            Reason.CHAIN_UNREACHABLE,
            otherwise,
            hint=f"the logs say what the nodes did: {stage.directory / 'nodes'}",
        )
    time.sleep(POLL_SECONDS)


# --- request


def request_all(stage: Stage, cases: Sequence[Case], now: int, progress: Progress) -> None:
    """A signed request for all items of each record, and the decisions as they are proven."""
    asked = [case for case in cases if case.attested is not None and not case.refusal]
    done = 0
    for batch in batches(asked):
        requests = [build_request(stage, case, now) for case in batch]
        for case, request in zip(batch, requests, strict=True):
            case.request, case.times["requested"] = request, time.monotonic()
        _ask(stage, batch, requests)
        sent = [(c.view.client_id, c.view.sequence) for c in batch if c.view is not None]
        wait_answered(stage, ASKING, sent)
        for case in batch:
            case.times["decided"] = time.monotonic()
        _ask(stage, batch, requests)  # the same again sends nothing: it answers where they stand
        done += len(batch)
        progress("decide", done, len(asked))


def _ask(stage: Stage, cases: Sequence[Case], requests: Sequence[RecognitionRequest]) -> None:
    answers = stage.node(ASKING).request_recognition(requests)
    for case, answer in zip(cases, answers, strict=True):
        case.view, case.refusal = answer.recognition, answer.reason
        if answer.recognition and answer.recognition.state in _ENDED:
            case.refusal = str(answer.recognition.state)


def build_request(
    stage: Stage, case: Case, now: int, scope: tuple[str, ...] | None = None
) -> RecognitionRequest:
    """The clinician's request with the patient's consent, both signed."""
    assert case.attested is not None
    attestation = case.attested.attestation
    patient, clinician = SigningKey.generate(), stage.key(RECEIVER.doctor)
    consent = Consent(
        records=(attestation.commitment,),
        patients=(),
        grantee=RECEIVER.id,
        purposes=(Purpose.TREAT,),
        scope=case.scope if scope is None else scope,
        start=now - 60,
        end=now + 30 * DAY,
        revocation=os.urandom(32),
        signer=Signer.PATIENT,
        signed_by="",
        algorithm=patient.algorithm,
        key=patient.public,
        signature=b"",
    )
    consent = replace(consent, signature=patient.sign(consent.signing_bytes()))
    parts = [e.part for e in case.expected] or [item.part for item in attestation.items]
    request = RecognitionRequest(
        request=os.urandom(32),
        relay=RELAY,
        origin=ASKING,
        target=SOURCE,
        hops=1,
        commitment=attestation.commitment,
        patient=patient_reference(case.opening),
        parts=tuple(sorted(set(parts))),
        institution=RECEIVER.id,
        clinician=RECEIVER.doctor,
        purpose=Purpose.TREAT,
        setting=Setting.OUTPATIENT,
        time=int(time.time()),
        consent=consent,
        algorithm=clinician.algorithm,
        key=clinician.public,
        signature=b"",
    )
    return replace(request, signature=clinician.sign(request.signing_bytes()))


def batches(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """The cases for one call each: few enough, and few enough bytes."""
    batch: list[Case] = []
    size = 0
    for case in cases:
        weight = sum(len(part.content) for part in case.record.parts)
        if batch and (len(batch) == MAX_CALL_RECORDS or size + weight > MAX_CALL_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(case)
        size += weight
    if batch:
        yield batch
