"""Every decoder with its seeds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from google.protobuf.message import DecodeError

from adapters.cometbft.light import CLIENT as COMETBFT
from adapters.cometbft.light.ics23 import decode_proof
from adapters.cometbft.light.proofs import decode_store_proof, encode_store_proof
from adapters.cometbft.light.txproof import decode_tx_proof
from lianqiao.relay.v1 import client_pb2, packet_pb2
from relay.action_bytes import decode_action, encode_action
from relay.bundle_format import decode_bundle, encode_bundle
from relay.canonical import decode as decode_json
from relay.canonical import encode as encode_json
from relay.clients import decode_creation, encode_creation
from relay.codec.clients import client_state_from_pb
from relay.codec.packets import deliveries_from_pb
from relay.codec.pages import decode_token, encode_token, filter_hash
from relay.contracts.policy.documents import parse_document
from relay.epoch import decode_opening, encode_opening
from relay.errors import Malformed
from relay.light.checkpoint import encode_body, parse_body
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.membership import decode_membership_proof, encode_membership_proof
from relay.light.misbehaviour import decode_evidence, encode_evidence
from relay.light.note import decode_line, decode_note, encode_line, encode_note
from relay.light.sent import decode_sent
from relay.light.states import (
    decode_client_state,
    decode_consensus_state,
    encode_client_state,
    encode_consensus_state,
)
from relay.light.validators import decode_set, encode_set
from relay.money.amount import parse_amount
from relay.money.rate import parse_rate
from relay.packet_bytes import (
    decode_acknowledgements,
    decode_claims,
    decode_packet,
    encode_acknowledgements,
    encode_claims,
    encode_packet,
)
from relay.paths import parse_host_path
from relay.record import door
from relay.record.card import decode_card, encode_card
from relay.record.parts import decode_record
from relay.record.strict import read as read_strict
from relay.recovery import decode_proposal, encode_proposal
from relay.trust import decode_trust
from tests.fuzz import engine, evm, seeds
from tests.fuzz.target import Target

__all__ = ["Target", "targets"]

_LISTING = filter_hash("fuzz")


def _spread(encode: Callable[..., bytes]) -> Callable[[Any], bytes]:
    return lambda value: encode(*value)


def _token(raw: bytes) -> bytes | None:
    return decode_token(raw.decode("latin-1"), _LISTING)


def _delivery(raw: bytes) -> Any:
    return deliveries_from_pb([_parsed(packet_pb2.Delivery(), raw)])


def _state(raw: bytes) -> Any:
    return client_state_from_pb(_parsed(client_pb2.ClientState(), raw))


def _parsed(message: Any, raw: bytes) -> Any:
    """gRPC answers bytes that are no message by itself; ours begins after that."""
    try:
        message.ParseFromString(raw)
    except DecodeError as err:
        raise Malformed("no message") from err
    return message


def _door(raw: bytes) -> Any:
    """The door tells refusals beside what it takes, and raises nothing typed."""
    return door.take([door.Source("fuzz", raw)])


def _payload(cls: Any, name: str) -> Target:
    found = partial(seeds.payloads, name)
    return Target(f"payload {name}", cls.decode, found, lambda value: value.encode())


@cache
def targets() -> tuple[Target, ...]:
    """All of them."""
    light = (
        Target("header", CHECKPOINT.decode_header, seeds.headers, CHECKPOINT.encode_header),
        Target("checkpoint body", parse_body, seeds.bodies, encode_body),
        Target("note", decode_note, seeds.notes, encode_note),
        Target("note line", decode_line, seeds.lines, lambda v: encode_line(v).removesuffix(b"\n")),
        Target("validator set", decode_set, seeds.sets, encode_set),
        Target("client state", decode_client_state, seeds.client_states, encode_client_state),
        Target("consensus", decode_consensus_state, seeds.consensus, encode_consensus_state),
        Target(
            "membership proof",
            decode_membership_proof,
            seeds.proofs,
            _spread(encode_membership_proof),
        ),
        Target("evidence", decode_evidence, seeds.evidence, encode_evidence),
        Target("sent", decode_sent, seeds.sent),
        Target("cometbft header", COMETBFT.decode_header, seeds.cometbft_headers),
        Target(
            "cometbft store proof",
            decode_store_proof,
            seeds.store_proofs,
            _spread(encode_store_proof),
        ),
        Target("cometbft tx proof", decode_tx_proof, seeds.cometbft_headers),
        Target("ics23 proof", decode_proof, seeds.ics23),
    )
    journal = (
        Target("packet", decode_packet, seeds.packets, encode_packet),
        Target("acknowledgements", decode_acknowledgements, seeds.acks, encode_acknowledgements),
        Target("claims", decode_claims, seeds.claims, encode_claims),
        Target("path", parse_host_path, seeds.paths),
        Target("creation", decode_creation, seeds.creations, _spread(encode_creation)),
        Target("recovery", decode_proposal, seeds.proposals, encode_proposal),
        Target("epoch", decode_opening, seeds.openings, encode_opening),
        Target("action", decode_action, seeds.actions, encode_action),
    )
    documents = (
        Target("bundle", decode_bundle, seeds.bundles, encode_bundle),
        Target("trust", decode_trust, seeds.trusts),
        Target("canonical json", decode_json, seeds.documents, encode_json),
        Target("policy", parse_document, seeds.policies),
        Target("card", decode_card, seeds.cards, encode_card),
        Target("record", decode_record, seeds.records),
        Target("strict json", lambda raw: read_strict(raw, "fuzz"), lambda: seeds.reports()[:1]),
        Target("door", _door, seeds.reports),
        Target(
            "amount", lambda raw: parse_amount(raw.decode("latin-1"), "CNY"), lambda: [b"1180.00"]
        ),
        Target("rate", lambda raw: parse_rate(raw.decode("latin-1")), seeds.rates),
    )
    border = (
        Target("page token", _token, lambda: [encode_token(_LISTING, b"zj/12").encode()]),
        Target("protobuf delivery", _delivery, seeds.deliveries),
        Target("protobuf client state", _state, seeds.state_messages),
    )
    examples = seeds.examples()
    payloads = tuple(_payload(type(value), name) for name, value in examples.items())
    return light + evm.targets() + engine.targets() + journal + documents + border + payloads
