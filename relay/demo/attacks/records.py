"""Attacks on records and requests: what hospitals could try with keys of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from relay.canonical import encode
from relay.contracts.catalogue import shipped
from relay.contracts.payloads import RecognitionRequest
from relay.contracts.policy import parse_document
from relay.contracts.policy.values import DatedKey, Kind
from relay.contracts.registry import Role
from relay.demo.attacks import foreign
from relay.demo.attacks.attacker import GROW_TRIES, NOWHERE, Attacker, deposit_of, silent
from relay.demo.delivery import deliver_all
from relay.demo.hospitals import RECEIVERS, Hospital, policy_documents
from relay.demo.stage import ASKING, RELAY, SOURCE
from relay.demo.story import (
    Case,
    attest_all,
    build_request,
    request_all,
    wait_announced,
)
from relay.errors import Reason, Unavailable
from relay.keys import SigningKey
from relay.ledger_views import RecognitionState, SentPacket
from relay.light.types import DAY
from relay.record.attest import retraction
from relay.record.parts import Opened, encode_record, verify_record
from relay.views import Direction, PacketState

OTHER = RECEIVERS[1]
"""The hospital of the asking ledger that was granted nothing, and that lies in STRICT_REGION."""
STRICT_REGION, STRICT_SECONDS = OTHER.regions[0], 1
STRICT = "strict"
SHORTLY = 29
"""Seconds until a request expires that is not to wait for a source out of reach."""
WAIT_SECONDS = 60
NOBODY = "zj-h0"
NOT_AGREED = "http://loinc.org|0000-0"


# --- records


def changed_record(attacker: Attacker) -> tuple[str, str]:
    """A delivered record with one byte changed, its commitment kept. Raises RECORD_MISMATCH."""
    case = attacker.delivered
    assert case.fetched is not None
    commitment = case.fetched.commitment
    verify_record(encode_record(case.fetched.parts), commitment)
    parts = list(case.fetched.parts)
    index, part = next((i, p) for i, p in enumerate(parts) if isinstance(p, Opened))
    content = part.content[:-2] + bytes([part.content[-2] ^ 1]) + part.content[-1:]
    parts[index] = Opened(part.salt, content)
    raw = encode_record(parts)
    claimed = raw.index(b'"commitment":"') + len(b'"commitment":"')
    forged = raw[:claimed] + commitment.hex().encode() + raw[claimed + 64 :]
    verify_record(forged, commitment)
    return "VERIFIED", "a changed record verifies"


def changed_original(attacker: Attacker) -> tuple[str, str]:
    """A hospital attests one record and deposits another. Raises RECORD_MISMATCH."""
    case, other = attacker.fresh(), attacker.fresh()
    key = attacker.stage.key(case.hospital)
    signed, deposited = (attacker.sign(c, case.hospital, key, SOURCE) for c in (case, other))
    parts = deposited.kept.parts
    attacker.source.attest([replace(deposit_of(signed), parts=parts)], [RELAY])
    return "ATTESTED", "an original that was never committed to is kept"


def unregistered_hospital(attacker: Attacker) -> tuple[str, str]:
    """Somebody whom no operator registered attests. Raises NOT_PERMITTED."""
    case, key = attacker.fresh(), SigningKey.generate()
    signed = attacker.sign(case, NOBODY, key, SOURCE)
    attacker.source.attest([deposit_of(signed)], [RELAY])
    return "ATTESTED", "anybody may attest"


def other_ledgers_attestation(attacker: Attacker) -> tuple[str, str]:
    """An attestation signed for another ledger is handed in here. Raises CHAIN_ID_MISMATCH."""
    case = attacker.fresh()
    signed = attacker.sign(case, case.hospital, attacker.stage.key(case.hospital), ASKING)
    attacker.source.attest([deposit_of(signed)], [RELAY])
    return "ATTESTED", "a signature for one ledger counts on another"


def other_ledgers_hospital(attacker: Attacker) -> tuple[str, str]:
    """A hospital of the asking ledger attests on the source, whose operator has let it, by mistake.

    The source writes it down, and the relay knows whose hospital it is.
    """
    case, now = attacker.fresh(), int(time.time())
    key = attacker.stage.key(OTHER.id)
    dated = DatedKey(key.algorithm, key.public, now - DAY, now + DAY)
    attacker.source.register_institution(OTHER.id, 2, [dated], Role.ATTESTS)
    case.attested = attacker.sign(case, OTHER.id, attacker.stage.key(OTHER.id), SOURCE)
    attacker.source.attest([deposit_of(case.attested)], [RELAY])
    wait_announced(attacker.stage, [case], silent)
    return _answer(attacker, case, build_request(attacker.stage, case, now))


# --- requests


def narrow_consent(attacker: Attacker) -> tuple[str, str]:
    """A request for items that the patient's consent does not name."""
    case = attacker.record
    request = build_request(attacker.stage, case, int(time.time()), scope=(NOT_AGREED,))
    return _answer(attacker, case, request)


def forged_statement(attacker: Attacker) -> tuple[str, str]:
    """A clinician's statement signed by somebody else's key."""
    case, key = attacker.record, SigningKey.generate()
    request = build_request(attacker.stage, case, int(time.time()))
    forged = replace(request, key=key.public, algorithm=key.algorithm)
    return _answer(attacker, case, _signed(forged, key))


def stale_head(attacker: Attacker) -> tuple[str, str]:
    """A request while nothing young is known of the source, by the rule of the district: within
    one second, a rule made for this attack, so that nobody has to wait ten minutes."""
    case = attacker.record
    _load_strict_rule(attacker)
    for _ in range(3):
        _wait_stale(attacker)
        before = attacker.source.head().size
        answer = _answer(attacker, case, _request_by(attacker, case, OTHER))
        if attacker.source.head().size == before:  # else it ticked meanwhile, and was not stale
            break
    return answer


def kept_back(attacker: Attacker) -> tuple[str, str]:
    """A retraction that nobody brings, and a head above it that somebody does: the lane leads
    nowhere for a while, and the attacker gives the relay the source's newest head himself.

    A turn of the lane that had begun before may still bring the retraction: then this was no
    attack, and it is tried again with another record.
    """
    _load_strict_rule(attacker)
    for _ in range(GROW_TRIES):
        case = attacker.fresh()
        case.attested = attacker.sign(
            case, case.hospital, attacker.stage.key(case.hospital), SOURCE
        )
        (view,) = attacker.source.attest([deposit_of(case.attested)], [RELAY])
        case.packets += view.packets
        wait_announced(attacker.stage, [case], silent)
        attacker.wait_quiet()
        with _cut_off(attacker):
            retracted = _retract(attacker, case)
            while time.time() < attacker.trusted().complete_time + STRICT_SECONDS + 1:
                time.sleep(0.1)
            given = _give_newest(attacker)
            if given[0] != "DONE":
                return given
            answer = _answer(attacker, case, _request_by(attacker, case, OTHER), SHORTLY)
            sent = attacker.source.packet(retracted.client_id, retracted.sequence, Direction.OUT)
            if sent.state is PacketState.SENT:
                return answer
    raise Unavailable(Reason.CONFLICT, "the relay takes every packet at once")


@contextmanager
def _cut_off(attacker: Attacker) -> Iterator[None]:
    """The relay's lane to the source leads nowhere."""
    relay, client_id = attacker.relay, attacker.client_id
    (lane,) = [lane for lane in relay.lanes() if lane.client_id == client_id]
    relay.register_lane(client_id, NOWHERE, lane.adapter, dict(lane.settings))
    try:
        attacker.wait_unreachable()
        yield
    finally:
        relay.register_lane(client_id, lane.address, lane.adapter, dict(lane.settings))
        attacker.wait_quiet()


def _give_newest(attacker: Attacker) -> tuple[str, str]:
    """Hands the source's newest head to the relay. One that links to a head which the relay has
    passed meanwhile is refused, and the next is tried: the relay may still be taking what it had
    asked for before it was cut off, and that comes to an end."""
    given = "", ""
    for _ in range(GROW_TRIES):
        trusted = attacker.trusted().latest.height
        if attacker.stage.foreign is not None:
            given = foreign.give(attacker, foreign.next_header(attacker))
        else:
            attacker.grow()
            given = attacker.give_header(attacker.next_header())
        if given[0] == "DONE" or attacker.trusted().latest.height == trusted:
            break
    return given


def _retract(attacker: Attacker, case: Case) -> SentPacket:
    assert case.attested is not None
    attested = case.attested.attestation
    ended = retraction(
        ledger=SOURCE,
        institution=case.hospital,
        signer=attacker.stage.key(case.hospital),
        issued=int(time.time()),
        commitment=attested.commitment,
        patient=attested.patient,
    )
    (view,) = attacker.source.retract([ended], [RELAY])
    return view.packets[-1]


def _answer(
    attacker: Attacker, case: Case, request: RecognitionRequest, timeout: int = 0
) -> tuple[str, str]:
    """What the relay decided on a request: the reason that every item was refused for."""
    assert case.attested is not None
    (result,) = attacker.asking.request_recognition([request], timeout)
    if result.reason:
        return result.reason, result.detail
    end = time.monotonic() + WAIT_SECONDS
    while (view := attacker.asking.recognition(request.request)).decision is None:
        if view.state is not RecognitionState.SENT or time.monotonic() > end:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, f"the request ended as {view.state}")
        time.sleep(0.02)
    decision = view.decision
    refused = [[str(reason) for reason in item.reasons] for item in decision.items]
    common = [reason for reason in refused[0] if all(reason in other for other in refused)]
    word = common[0] if common else "RECOGNISED"
    return word, f"{len(refused)} items, none granted" if common else "an item was granted"


def _request_by(attacker: Attacker, case: Case, hospital: Hospital) -> RecognitionRequest:
    """A good request of another hospital, with a consent for it."""
    request = build_request(attacker.stage, case, int(time.time()))
    patient, clinician = SigningKey.generate(), attacker.stage.key(hospital.doctor)
    consent = replace(
        request.consent,
        grantee=hospital.id,
        algorithm=patient.algorithm,
        key=patient.public,
    )
    forged = replace(
        request,
        institution=hospital.id,
        clinician=hospital.doctor,
        consent=replace(consent, signature=patient.sign(consent.signing_bytes())),
        algorithm=clinician.algorithm,
        key=clinician.public,
    )
    return _signed(forged, clinician)


def _signed(request: RecognitionRequest, key: SigningKey) -> RecognitionRequest:
    return replace(request, signature=key.sign(request.signing_bytes()))


def _load_strict_rule(attacker: Attacker) -> None:
    """A rule of one district, narrower than the province's, with its own freshness; once."""
    if any(policy.name == STRICT for policy in attacker.relay.policies(Kind.RULES.value)):
        return
    name = parse_document(shipped()).name
    documents = policy_documents(int(time.time()), {}, (), name)
    rules = next(document for document in documents if document["kind"] == Kind.RULES.value)
    rule = {**rules["regions"][0], "region": STRICT_REGION, "head_seconds": STRICT_SECONDS}
    strict = {**rules, "name": STRICT, "agreements": [], "regions": [rule]}
    attacker.relay.load_policy(encode(strict))


def _wait_stale(attacker: Attacker) -> None:
    """Until the newest head of the source is older than the strict rule allows."""
    attacker.wait_quiet()
    while time.time() < attacker.source.head().time + STRICT_SECONDS + 1:
        time.sleep(0.1)


# --- afterwards


def honest_path(attacker: Attacker) -> tuple[str, str]:
    """One more record goes through, and every client that the network uses is active."""
    case, now, stage = attacker.fresh(), int(time.time()), attacker.stage
    attest_all(stage, [case], now, silent)
    wait_announced(stage, [case], silent)
    request_all(stage, [case], now, silent)
    deliver_all(stage, [case], silent)
    if not case.as_expected or case.fetched is None:
        return "NOT_DELIVERED", case.refusal or str(case.findings)
    clients = [c for n in (SOURCE, RELAY, ASKING) for c in stage.node(n).clients()]
    used = [c for c in clients if c.counterparty_client_id]
    ended = [c.client_id for c in used if c.frozen or c.expires <= now]
    # A node before a chain of another kind has none: that is in the chain's own contract.
    if ended or len(used) < (4 if stage.foreign is None else 3):
        return "CLIENT_FROZEN", f"no longer active: {', '.join(ended)}"
    return "DELIVERED", f"{len(case.findings)} items; all {len(used)} clients are active"
