"""True encodings, made by the product's own encoders from the worlds that other tests have."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from functools import cache
from typing import Any

from adapters.cometbft.light.proofs import encode_store_proof
from lianqiao.relay.v1 import packet_pb2
from relay.action_bytes import encode_action
from relay.actions import Call, Deliver
from relay.bundle_format import encode_bundle
from relay.canonical import encode as encode_json
from relay.chain import Delivery, Item, Step
from relay.clients import encode_creation
from relay.codec.clients import client_state_to_pb
from relay.codec.packets import delivery_to_pb
from relay.contracts.payloads import Answer
from relay.epoch import Opening, encode_opening
from relay.journal import Kind, host_path
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.client import consensus_of
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.note import decode_note, encode_line
from relay.light.sent import encode_sent
from relay.light.states import encode_client_state, encode_consensus_state
from relay.light.types import Claim, Threshold, Witness
from relay.light.validators import encode_set
from relay.packet_bytes import encode_acknowledgements, encode_claims, encode_packet
from relay.record.card import Card, encode_card
from relay.record.parts import PatientOpening, encode_record
from relay.recovery import Proposal, encode_proposal
from relay.trust import encode_trust
from tests.contracts import money_world
from tests.contracts import world as recognition
from tests.light.ledger import Ledger, witness
from tests.test_bundle import ACKNOWLEDGEMENTS, PACKET, World
from tests.vectors_dir import folder

Raws = Sequence[bytes]


@cache
def _world() -> World:
    return World()


@cache
def _ledger() -> Ledger:
    ledger = Ledger()
    ledger.fill(9)
    return ledger


@cache
def headers() -> Raws:
    """Anchors, and heads with a link."""
    ledger = _ledger()
    world = _world()
    return [ledger.raw(3), ledger.raw(8), world.relay.raw(5), world.source.raw(3)]


def _decoded() -> Any:
    return CHECKPOINT.decode_header(headers()[0])


def bodies() -> Raws:
    """Bodies of heads."""
    return [CHECKPOINT.decode_header(raw).body for raw in headers()]


def notes() -> Raws:
    """Signed notes, and published ones of other logs."""
    found = [raw[5 : 5 + int.from_bytes(raw[1:5], "big")] for raw in headers()]
    return [note for note in found if note.endswith(b"\n")]


def lines() -> Raws:
    """Signature lines."""
    return [encode_line(s).removesuffix(b"\n") for n in notes() for s in decode_note(n).signatures]


def sets() -> Raws:
    """Validator sets."""
    return [encode_set(CHECKPOINT.decode_header(raw).validators) for raw in headers()]


def _states() -> list[Any]:
    from dataclasses import replace

    plain = _ledger().state
    witnesses: tuple[Witness, ...] = (witness("a"), witness("b"))
    strict = replace(plain, witnesses=witnesses, witness_quorum=2, threshold=Threshold(3, 4))
    return [plain, strict]


def client_states() -> Raws:
    """Client states."""
    return [encode_client_state(state) for state in _states()]


def consensus() -> Raws:
    """Consensus states."""
    return [
        encode_consensus_state(consensus_of(CHECKPOINT.decode_header(raw))) for raw in headers()
    ]


def proofs() -> Raws:
    """Membership proofs."""
    world = _world()
    return [world.source.prove([world.sent]), world.relay.prove(world.received)]


def evidence() -> Raws:
    """Evidence of two heads."""
    first, second = headers()[:2]
    return [encode_evidence(Evidence(first, second))]


def sent() -> Raws:
    """Statements of what was sent."""
    return [encode_sent(1_760_000_000, 7, 3), encode_sent(1_760_000_000, 90, 3, ((4, 6), (8, 80)))]


def packets() -> Raws:
    """Packets."""
    return [encode_packet(PACKET)]


def acks() -> Raws:
    """Lists of acknowledgements."""
    return [encode_acknowledgements(ACKNOWLEDGEMENTS), encode_acknowledgements((b"a", b"b" * 40))]


def claims() -> Raws:
    """Claims of proofs."""
    return [encode_claims([Claim(b"path", b"value"), Claim(b"other", None)])]


def paths() -> Raws:
    """Paths of the host."""
    return [host_path(Kind.RECORD, "registry", b"key"), host_path(Kind.CLIENT, "checkpoint-0")]


def creations() -> Raws:
    """Creations of clients."""
    return [encode_creation(client_states()[0], consensus()[0])]


def proposals() -> Raws:
    """Proposals of recoveries."""
    return [encode_proposal(Proposal(5, 9, client_states()[0], headers()[0]))]


def openings() -> Raws:
    """Openings of epochs."""
    return [encode_opening(Opening("zj-medical/0", 7, b"r" * 32, 9))]


def _delivery() -> Delivery:
    item = Item(Step.RECEIVE, PACKET, entries=(Claim(b"path", b"value"),))
    answered = Item(Step.ACKNOWLEDGE, PACKET, ACKNOWLEDGEMENTS)
    return Delivery("checkpoint-0", (headers()[0],), 3, proofs()[0], (item, answered))


def actions() -> Raws:
    """Ways into a node."""
    call = Call("registry", "attest", b"{}", "request-1")
    return [encode_action(Deliver((_delivery(),))), encode_action(call)]


def deliveries() -> Raws:
    """The same as protobuf."""
    made: packet_pb2.Delivery = delivery_to_pb(_delivery())
    return [made.SerializeToString()]


def state_messages() -> Raws:
    """Client states as protobuf."""
    return [client_state_to_pb(state).SerializeToString() for state in _states()]


def bundles() -> Raws:
    """Bundles."""
    return [encode_bundle(_world().bundle())]


def trusts() -> Raws:
    """Trust files."""
    return [encode_trust(_world().trust())]


@cache
def policies() -> Raws:
    """Policy documents."""
    found = [encode_json(document) for document in recognition.policy().values()]
    return sorted(found, key=len)[:12]


def documents() -> Raws:
    """JSON of every kind."""
    return [*bundles(), *trusts(), *policies()[:3], *(v.encode() for v in examples().values())]


def _opening() -> PatientOpening:
    return PatientOpening(b"s" * 32, "urn:scheme", "330102199001011234")


def cards() -> Raws:
    """Patients' cards."""
    return [encode_card(Card("zj-medical", b"r" * 32, _opening()))]


def records() -> Raws:
    """Records as they are delivered."""
    from relay.record.parts import Hidden, Opened

    return [encode_record([Opened(b"s" * 32, b'{"a":1}'), Hidden(b"h" * 32)])]


def reports() -> Raws:
    """FHIR, small."""
    code = {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]}
    result = {
        "resourceType": "Observation",
        "id": "k",
        "status": "final",
        "code": code,
        "valueQuantity": {"value": 4.1, "unit": "mmol/L"},
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r",
        "status": "final",
        "code": code,
        "issued": "2026-11-27T08:00:00+08:00",
        "subject": {"identifier": {"system": "urn:s", "value": "1"}},
        "result": [{"reference": "Observation/k"}],
    }
    entries = [{"resource": report}, {"resource": result}]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    lines = b"\n".join(json.dumps(one).encode() for one in (report, result))
    return [json.dumps(bundle).encode(), lines]


def rates() -> Raws:
    """Rates as central banks publish them."""
    return [b"0.5", b"1.179246", b"20000"]


@cache
def examples() -> dict[str, Any]:
    """One of each payload, by name."""
    found: dict[str, Any] = {
        "attestation": recognition.attestation(),
        "consent": recognition.consent(),
        "request": recognition.request(),
        "outcome": recognition.outcome(),
        "answer": Answer(b"s" * 32),
    }
    return found | money_world.examples()


def payloads(name: str) -> Raws:
    """Encodings of one kind of payload."""
    return [examples()[name].encode()]


@cache
def ics23() -> Raws:
    """Published proofs of ICS-23; without them a decoder is fed with what the others have."""
    files = sorted(folder("ibc", "ics23").glob("*/*.json"))
    found = [json.loads(path.read_text()) for path in files]
    proofs_ = [bytes.fromhex(one["proof"]) for one in found if isinstance(one.get("proof"), str)]
    return [raw for raw in proofs_ if len(raw) < 4096] or [b"\x0a\x02\x0a\x00"]


def store_proofs() -> Raws:
    """Two of them in one, as a store proves."""
    return [encode_store_proof(b"ibc", [ics23()[0], ics23()[-1]])]


@cache
def cometbft_headers() -> Raws:
    """Light blocks of published scenarios."""
    from adapters.cometbft import answers
    from adapters.cometbft.light.client import encode_light_block
    from adapters.cometbft.light.validators import make_set

    found = []
    scenarios = folder("ibc", "lightclient-mbt-tendermint-rs")
    for path in sorted(scenarios.rglob("*.json"))[:3]:
        for case in json.loads(path.read_text()).get("input", [])[:2]:
            block = case["block"]
            if not (block["signed_header"]["commit"] or {}).get("signatures"):
                continue
            header, commit = answers.signed_header_of(block["signed_header"])
            names = make_set(answers.validator_of(v) for v in block["validator_set"]["validators"])
            found.append(encode_light_block(header, commit, names, None))
    return found or [b64decode("CgA=")]
