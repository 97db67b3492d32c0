"""The story: records attested in Hangzhou, asked for in Shanghai, decided, delivered, reported.

Every step is a call of `relay.client`, as a hospital's own system would make it. What each record
must be answered is known beforehand only for records of our own generator; for the user's own there
is no oracle, and what the contract says is what is shown.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from relay.canonical import encode
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
from relay.demo.generator import Expected, Generated
from relay.demo.hospitals import DAY, HOSPITALS, RECEIVERS, SOURCES, policy_documents
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.disclosure.asks import Fetched
from relay.errors import LianqiaoError, Reason, Unavailable
from relay.keys import SigningKey
from relay.ledger_views import Deposit, RecognitionState, RecognitionView
from relay.record.attest import Attested, attest, retraction
from relay.record.door import record as read_record
from relay.record.facts import Record

RECEIVER = RECEIVERS[0]
BATCH = 100
WAIT_SECONDS = 120
Progress = Callable[[str, int, int], None]
"""(step, done, of)"""


@dataclass(slots=True)
class Case:
    """One record on its way, and all that became of it."""

    name: str
    record: Record
    hospital: str
    scope: tuple[str, ...]
    expected: tuple[Expected, ...] = ()
    """Empty for the user's own records."""
    made: Generated | None = None
    attested: Attested | None = None
    request: RecognitionRequest | None = None
    view: RecognitionView | None = None
    fetched: Fetched | None = None
    refusal: str = ""
    """Why it went no further: attestation, request or fetch refused."""
    times: dict[str, float] = field(default_factory=dict)
    """Monotonic seconds at which each step was done."""

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
            stage.node(SOURCE).register_institution(hospital.id, 1, [dated])
    names = [h.id for h in HOSPITALS] + [h.doctor for h in HOSPITALS]
    keys = {name: (stage.key(name).algorithm, stage.key(name).public) for name in names}
    items = [item.item for item in catalogue.items]
    relay = stage.node(RELAY)
    relay.load_policy(shipped())
    for document in policy_documents(now, keys, items, catalogue.name):
        relay.load_policy(encode(document))


def known_codes() -> frozenset[str]:
    """Every code of the catalogue that ships."""
    items = parse_document(shipped()).items
    return frozenset(code for item in items for code in item.codes)


def cases_of_generated(made: Sequence[Generated]) -> list[Case]:
    """Our own records, through the door."""
    return [
        Case(
            name=one.name,
            record=read_record(one.data, one.name),
            hospital=one.hospital.id,
            scope=one.consent_scope,
            expected=one.expected,
            made=one,
        )
        for one in made
    ]


def cases_of_records(records: Sequence[Record]) -> list[Case]:
    """The user's own records, each attested by the first hospital, all items consented to."""
    return [
        Case(
            name=record.where,
            record=record,
            hospital=SOURCES[0].id,
            scope=(),
        )
        for record in records
    ]


# --- attest


def attest_all(stage: Stage, cases: Sequence[Case], now: int, progress: Progress) -> None:
    """Salts, commits to, signs and hands over every record; then what became of some of them."""
    known = known_codes()
    for case in cases:
        try:
            case.attested = _sign(stage, case, case.record, now, known)
        except LianqiaoError as error:
            case.refusal = str(error)
            continue
        if not case.scope:
            case.scope = _all_items(case.attested)
    signed = [case for case in cases if case.attested is not None]
    source = stage.node(SOURCE)
    for done, batch in batches(signed):
        source.attest([_deposit(case.attested) for case in batch], [RELAY])
        for case in batch:
            case.times["attested"] = time.monotonic()
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
        commitment = case.attested.attestation.commitment
        if case.made.amendment:
            record = read_record(case.made.amendment, case.name)
            amended.append(_deposit(_sign(stage, case, record, now, known, commitment)))
        if case.made.then == "retract":
            retracted.append(
                retraction(
                    ledger=SOURCE,
                    institution=case.hospital,
                    signer=stage.key(case.hospital),
                    issued=now,
                    commitment=commitment,
                    patient=case.attested.attestation.patient,
                )
            )
    if amended:
        source.amend(amended, [RELAY])
    if retracted:
        source.retract(retracted, [RELAY])


def wait_announced(stage: Stage, cases: Sequence[Case], progress: Progress) -> None:
    """Until the relay has answered every attestation: the facts are where they are asked for."""
    total = stage.node(SOURCE).status().packets_open
    end = time.monotonic() + WAIT_SECONDS
    while True:
        still = stage.node(SOURCE).status().packets_open
        progress("relay", max(total - still, 0), total)
        if not still:
            return
        if time.monotonic() > end:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, f"{still} packets are still on their way")
        time.sleep(0.05)


# --- request


def request_all(stage: Stage, cases: Sequence[Case], now: int, progress: Progress) -> None:
    """A signed request for all items of each record, and the decisions as they are proven."""
    asked = [case for case in cases if case.attested is not None]
    node = stage.node(ASKING)
    for _, batch in batches(asked):
        for case in batch:
            case.request = build_request(stage, case, now)
            case.times["requested"] = time.monotonic()
        results = node.request_recognition([c.request for c in batch if c.request is not None])
        for case, result in zip(batch, results, strict=True):
            case.view, case.refusal = result.recognition, result.reason
    _wait_decided(stage, asked, progress)


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
        patient=attestation.patient,
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


def _wait_decided(stage: Stage, cases: Sequence[Case], progress: Progress) -> None:
    open_ = {c.request.request: c for c in cases if c.request is not None and c.view is not None}
    total, node, end = len(open_), stage.node(ASKING), time.monotonic() + WAIT_SECONDS
    while open_:
        for view in node.recognitions():
            case = open_.get(view.request.request)
            if case is not None and view.state is not RecognitionState.SENT:
                case.view, case.times["decided"] = view, time.monotonic()
                del open_[view.request.request]
        progress("decide", total - len(open_), total)
        if time.monotonic() > end:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, f"{len(open_)} requests are undecided")
        if open_:
            time.sleep(0.1)


def batches(cases: Sequence[Case]) -> Iterator[tuple[int, Sequence[Case]]]:
    """(how many with this one, the next cases) for one call each."""
    for start in range(0, len(cases), BATCH):
        batch = cases[start : start + BATCH]
        yield start + len(batch), batch
