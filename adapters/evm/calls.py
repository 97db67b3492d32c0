"""The endpoint's calls and logs: between relay.chain's values and the contract's ABI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import coincurve

from adapters.evm.light.crypto import address_of, keccak
from adapters.evm.rpc import decode_hex, decode_number
from adapters.evm.sdk import Contract, Web3
from relay.chain import Delivery, Item, Outcome, PacketStep, Step, Submission
from relay.errors import LianqiaoError, Malformed, Reason
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.narrow import narrow_membership
from relay.light.types import Claim, Header, Signature, ValidatorSet, Witness
from relay.light.validators import encode_set
from relay.packet import (
    ABSENT,
    Packet,
    Payload,
    acknowledgement_commitment,
    acknowledgement_path,
    check_name,
    commitment_path,
    packet_commitment,
    receipt_path,
)

ARTIFACTS = Path(__file__).parent / "contracts" / "artifacts.json"
DONE, NOOP = bytes(4), b"\0\0\0\1"
MAX_ITEMS = 40
"""Items in one call: at most 6 million gas where applications use little (README.md)."""
PART_GAS = 8_000_000
"""What the items of one call may use by the next two figures. With the 3 million that an
application must have at the last of them, a call stays below adapters.evm.sender.MAX_GAS."""
ITEM_GAS, BYTE_GAS = 110_000, 280
"""Of one item, and of each byte of a payload that is received: measured with locks, which use the
most (README.md)."""
_VERBS = {Step.RECEIVE: 0, Step.ACKNOWLEDGE: 1, Step.TIMEOUT: 2, Step.EXPIRE: 3}
OF_HEADERS = {
    "CLIENT_FROZEN", "CLIENT_EXPIRED", "RECOVERY_PENDING", "HEIGHT_NOT_MONOTONIC",
    "TIME_NOT_MONOTONIC", "HEADER_FROM_FUTURE", "NOT_ENOUGH_TRUST", "VALIDATOR_SET_MISMATCH",
    "HEAD_CONFLICT", "INVALID_CONSISTENCY", "INVALID_SIGNATURE", "DUPLICATE_SIGNER",
    "UNKNOWN_SIGNER", "QUORUM_NOT_REACHED", "WITNESS_MISSING",
}  # fmt: skip


@cache
def artifacts() -> dict[str, Any]:
    """ABI and bytecode of each contract, as built from contracts/src."""
    found: dict[str, Any] = json.loads(ARTIFACTS.read_text())
    return found


@cache
def _contract(name: str) -> Contract:
    return Web3().eth.contract(abi=artifacts()[name]["abi"])  # type: ignore[return-value]


@cache
def _functions() -> dict[str, Any]:
    return {f["name"]: f for f in artifacts()["Endpoint"]["abi"] if f["type"] == "function"}


def type_of(part: dict[str, Any]) -> str:
    """The ABI's name of a type."""
    kind: str = part["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(type_of, part['components']))}){kind[5:]}"


def encode(name: str, arguments: Sequence[Any], contract: str = "Endpoint") -> bytes:
    """The data of a call."""
    return bytes.fromhex(_contract(contract).encode_abi(name, args=list(arguments))[2:])


def decode(name: str, data: bytes) -> tuple[Any, ...]:
    """What a call returned. Raises Malformed."""
    types = [type_of(part) for part in _functions()[name]["outputs"]]
    return decode_as(types, data)


def decode_as(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Values of these types. Raises Malformed."""
    try:
        return tuple(Web3().codec.decode(types, data))
    except Exception as err:  # the codec has many kinds of its own
        raise Malformed("the node answers what the endpoint cannot have said") from err


def topic(name: str, contract: str = "Endpoint") -> str:
    """The first topic of a contract's log of that name."""
    found = next(
        e for e in artifacts()[contract]["abi"] if e["type"] == "event" and e["name"] == name
    )
    return "0x" + keccak(f"{name}({','.join(map(type_of, found['inputs']))})".encode()).hex()


PACKET = "(uint64,string,string,uint64,string,string,string,string,bytes)"
_PACKET_BYTES = PACKET.replace("string", "bytes")
_SHOWN = 31
"""Characters of what is no name, of up to four bytes each, that stand in its place."""
SENT_TOPIC, WRITTEN_TOPIC, EXPIRED_TOPIC = topic("Sent"), topic("Written"), topic("Expired")
HEAD_TOPIC, DELIVERED_TOPIC = topic("Head"), topic("Delivered")
STEP_TOPICS = [SENT_TOPIC, WRITTEN_TOPIC, EXPIRED_TOPIC]


@cache
def _reasons() -> dict[bytes, str]:
    """Selectors of the custom errors, which are named like our reasons."""
    found = {}
    for made in artifacts().values():
        for part in made["abi"] if isinstance(made, dict) else ():
            if part["type"] == "error":
                found[keccak(f"{part['name']}()".encode())[:4]] = part["name"]
    return found


def reason_of(data: bytes) -> str:
    """The reason in what a call reverted with."""
    return _reasons().get(data[:4], Reason.CONTRACT_REFUSED.value)


def submission_of(code: bytes) -> Submission:
    """What became of one item."""
    if code == DONE:
        return Submission(Outcome.DONE)
    if code == NOOP:
        return Submission(Outcome.NOOP)
    return Submission(Outcome.REFUSED, reason_of(code), "the endpoint says so")


# --- what goes in


def decode_checkpoint(raw: bytes) -> Header:
    """A header of the relay. Raises Malformed."""
    return CHECKPOINT.decode_header(raw)


def head_word(header: Header) -> bytes:
    """What the endpoint keeps of a head."""
    return keccak(header.root + header.time.to_bytes(32, "big"))


def update_of(header: Header, witnesses: Sequence[Witness] = ()) -> tuple[Any, ...]:
    """A head with its signatures and co-signatures, in order of the set and of `witnesses`."""
    body = (header.height, header.time, header.root, header.set_hash, header.next_set_hash)
    order = {v.name: i for i, v in enumerate(header.validators.validators)}
    keys = {v.name: v.key("secp256k1") for v in header.validators.validators}
    signatures = []
    for signature in header.signatures:
        key = keys.get(signature.signer)
        if key is not None:
            signatures.append(_signature(order[signature.signer], key, header.body, signature))
    signatures.sort()
    cosignatures = []
    for signature in header.cosignatures:
        witness = CHECKPOINT.witness_of(signature, witnesses)
        if witness is not None:
            index = witnesses.index(witness)
            cosignatures.append(_signature(index, witness.key, header.body, signature))
    cosignatures.sort()
    return (body, signatures, cosignatures, header.link_height, list(header.link))


def witness_address(witness: Witness) -> bytes:
    """The address by which an endpoint knows a witness. Raises Malformed for another algorithm."""
    if witness.algorithm != "secp256k1":
        raise Malformed("an endpoint counts witnesses with a key of secp256k1")
    return address_of(coincurve.PublicKey(witness.key).format(compressed=False))


def _signature(index: int, key: bytes, body: bytes, signature: Signature) -> tuple[Any, ...]:
    """(index, r, vs): v is found by trying both, since a note's signature has none."""
    r, s = signature.value[:32], int.from_bytes(signature.value[32:64], "big")
    for v in (0, 1):
        try:
            compact = signature.value[:64] + bytes((v,))
            if coincurve.PublicKey.from_signature_and_message(compact, body).format() == key:
                return (index, r, ((v << 255) | s).to_bytes(32, "big"))
        except Exception:  # noqa: S112 - no point for this v
            continue
    return (index, r, s.to_bytes(32, "big"))


def set_of(validators: ValidatorSet) -> tuple[bytes, list[int]]:
    """(encoding, y of each secp256k1 key) as `registerSet` takes it."""
    ys = []
    for validator in validators.validators:
        key = validator.key("secp256k1")
        if key is not None:
            full = coincurve.PublicKey(key).format(compressed=False)
            ys.append(int.from_bytes(full[33:], "big"))
    return encode_set(validators), ys


def packet_of(packet: Packet) -> tuple[Any, ...]:
    """A packet of one payload. Raises Malformed for what the endpoint has no words for."""
    if len(packet.payloads) != 1 or not 0 <= packet.sequence < 2**64:
        raise Malformed("the endpoint takes packets of one payload", reason=Reason.INVALID_PACKET)
    (p,) = packet.payloads
    return (
        packet.sequence, packet.source_client, packet.destination_client,
        packet.timeout_timestamp, p.source_port, p.destination_port, p.version, p.encoding, p.value,
    )  # fmt: skip


def item_of(item: Item) -> tuple[Any, ...]:
    """An item. Raises Malformed."""
    verb = _VERBS.get(item.step)
    if verb is None or (item.step is Step.ACKNOWLEDGE and len(item.acknowledgements) != 1):
        raise Malformed("the endpoint has no such item", reason=Reason.INVALID_PACKET)
    answer = item.acknowledgements[0] if item.acknowledgements else b""
    return (verb, packet_of(item.packet), answer, [(e.path, e.value or b"") for e in item.entries])


def claims_of(delivery: Delivery) -> list[Claim]:
    """What the one proof covers, in the endpoint's order."""
    claims = list(delivery.sent)
    for item in delivery.items:
        packet, answers = item.packet, item.acknowledgements
        if item.step is Step.ACKNOWLEDGE:
            path = acknowledgement_path(packet.destination_client, packet.sequence)
            claims.append(Claim(path, acknowledgement_commitment(answers)))
        elif item.step is Step.TIMEOUT:
            claims.append(Claim(receipt_path(packet.destination_client, packet.sequence), ABSENT))
        else:
            path = commitment_path(packet.source_client, packet.sequence)
            claims.append(Claim(path, packet_commitment(packet)))
        claims.extend(item.entries)
    return claims


NO_PROOF: tuple[Any, ...] = (0, bytes(32), 0, [], [], [], [])


def proof_of(
    delivery: Delivery,
    root: bytes,
    time: int,
    indexes: Sequence[int],
    hashes: Sequence[bytes],
    claims: Sequence[Claim],
) -> tuple[Any, ...]:
    """The multi proof: leaves ascending, and for each claim which of them it is."""
    distinct = list(dict.fromkeys(claims))
    ascending = sorted(indexes)
    place: list[int] = []
    for claim in claims:
        at = distinct.index(claim) if len(claims) != len(distinct) else len(place)
        place.append(ascending.index(indexes[at]) if at < len(indexes) else 2**16 - 1)
    if len(distinct) != len(indexes):
        place = [2**16 - 1] * len(claims)
    sent = [(c.path, c.value or b"") for c in delivery.sent]
    return (delivery.height, root, time, ascending, place, list(hashes), sent)


# --- what comes out


def read_steps(logs: Any) -> list[PacketStep]:
    """The steps in an answer of eth_getLogs, in order. Raises Malformed."""
    try:
        found = [read_step(log) for log in logs]
    except (KeyError, TypeError, ValueError, IndexError) as err:
        raise Malformed("the node's logs have another form") from err
    return sorted(found, key=lambda step: step.cursor)


def read_step(log: dict[str, Any]) -> PacketStep:
    """The step in one log of the endpoint. Endpoints have sent whatever text an application gave
    as a version, and what one institution posts must not keep anyone from reading on."""
    topics = log["topics"]
    cursor, height = decode_number(topics[1]), decode_number(log["blockNumber"])
    data = decode_hex(log["data"], "log")
    answers: tuple[bytes, ...] = ()
    if topics[0] == WRITTEN_TOPIC:
        packet, answer = decode_as([_PACKET_BYTES, "bytes"], data)
        step, answers = Step.RECEIVE, (answer,)
    else:
        (packet,) = decode_as([_PACKET_BYTES], data)
        step = Step.SEND if topics[0] == SENT_TOPIC else Step.EXPIRE
    sequence, source, destination, timeout, *names, value = packet
    source, destination, port, to, version, encoding = map(_name, (source, destination, *names))
    payload = Payload(port, to, version, encoding, value)
    return PacketStep(
        cursor, height, step, Packet(sequence, source, destination, timeout, (payload,)), answers
    )


def _name(raw: bytes) -> str:
    """A name in a packet. What is none is shown so that every relay refuses the packet, and no
    longer than a name is."""
    text = raw.decode(errors="replace")
    try:
        check_name(text, "name")
    except LianqiaoError:
        return text[:_SHOWN] + "\ufffd"
    return text


def read_head(logs: Any) -> tuple[bytes, int]:
    """(root, time) of a head in the logs; zeros where there is none, which no head is."""
    if not isinstance(logs, list) or not logs:
        return bytes(32), 0
    time, root = decode_as(["uint64", "bytes32"], decode_hex(logs[-1].get("data"), "log"))
    return root, time


def read_outcomes(receipt: dict[str, Any]) -> list[bytes]:
    """What became of each item, from the receipt of the call. Raises Malformed."""
    for log in receipt.get("logs", ()):
        if log["topics"][0] == DELIVERED_TOPIC:
            return [bytes(c) for c in decode_as(["bytes4[]"], decode_hex(log["data"], "log"))[0]]
    raise Malformed("the receipt does not say what became of the items")


def creation(contract: str, arguments: Sequence[object]) -> bytes:
    """The data that makes a contract."""
    made = artifacts()[contract]
    types = [
        type_of(part)
        for entry in made["abi"]
        if entry["type"] == "constructor"
        for part in entry["inputs"]
    ]
    return bytes.fromhex(made["bytecode"][2:]) + Web3().codec.encode(types, arguments)


def parts_of(delivery: Delivery) -> list[Delivery]:
    """The delivery in parts of at most MAX_ITEMS and PART_GAS, each with the proof of its claims.

    The head goes with the first. What cannot be divided is left as it is: it is refused whole.
    """
    ends = _ends(delivery.items)
    if len(ends) <= 1:
        return [delivery]
    claims = list(dict.fromkeys(claims_of(delivery)))
    place = {claim: at for at, claim in enumerate(claims)}
    parts = []
    for start, end in zip([0, *ends], ends, strict=False):
        part = replace(
            delivery,
            headers=delivery.headers if start == 0 else (),
            items=delivery.items[start:end],
            sent=(),
        )
        wanted = [place[claim] for claim in dict.fromkeys(claims_of(part))]
        try:
            proof = narrow_membership(delivery.height, delivery.proof, claims, wanted)
        except (LianqiaoError, ValueError, KeyError, IndexError):
            return [delivery]
        parts.append(replace(part, proof=proof))
    return parts


def _ends(items: Sequence[Item]) -> list[int]:
    """Where each part of a delivery ends; a part holds one item at least."""
    ends, count, gas = [], 0, 0
    for at, item in enumerate(items):
        value = len(item.packet.payloads[0].value) if item.packet.payloads else 0
        due = ITEM_GAS + (BYTE_GAS * value if item.step is Step.RECEIVE else 0)
        if count and (count == MAX_ITEMS or gas + due > PART_GAS):
            ends.append(at)
            count, gas = 0, 0
        count, gas = count + 1, gas + due
    return [*ends, len(items)] if items else []
