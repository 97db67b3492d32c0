"""The form of a bundle: what happened to some packets, as one file that needs no network to check.

A bundle is RFC 8785 JSON (`relay.canonical`); bytes are standard base64, 64-bit numbers are decimal
strings, since JSON has no such integers. `encode_bundle(decode_bundle(b)) == b`, so there is one
file for one content. How it is verified: `relay.bundle`.

    {"version": 1,
     "packets": [{"packet": {source_client, destination_client, sequence, timeout_timestamp,
                             payloads: [{source_port, destination_port, version, encoding, value}]},
                  "acknowledgements": [bytes, …]}, …],
     "hops":    [{"chain":   origin of a checkpoint, or what identifies another chain,
                  "height":  the height under whose root the claims are proven,
                  "headers": [raw header, …] ascending,
                  "proof":   one membership proof for all claims in their order,
                  "claims":  [{"kind": "commitment" | "receipt" | "acknowledgement" | "absent",
                               "packet": index into packets},
                              {"kind": "entry", "path": bytes, "value": bytes}, …]}, …]}

A claim about a packet holds no path and no value: both are recomputed from the packet's own fields
(`relay.packet`). An `entry` shows any other entry of a journal as it stands, such as a decision.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay import canonical
from relay.canonical import Json
from relay.errors import Malformed
from relay.light.note import decode_base64
from relay.light.states import MAX_CHAIN_ID_BYTES
from relay.light.types import MAX_HEADER_BYTES, MAX_INT, MAX_PROOF_BYTES, Claim
from relay.packet import (
    ABSENT,
    MAX_NAME_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOADS,
    Packet,
    Payload,
    acknowledgement_commitment,
    acknowledgement_path,
    commitment_path,
    packet_commitment,
    receipt_path,
)

MAX_BUNDLE_BYTES = 16 * 1024 * 1024
MAX_PACKETS = 64
MAX_HOPS = 64
MAX_HEADERS = 4096
MAX_CLAIMS = 4096
MAX_ACKNOWLEDGEMENT_BYTES = 256 * 1024
MAX_ENTRY_BYTES = 1024 * 1024

VERSION = 1


class ClaimKind(StrEnum):
    """What a claim says was written, and so which path and value are recomputed."""

    COMMITMENT = "commitment"
    RECEIPT = "receipt"
    ACKNOWLEDGEMENT = "acknowledgement"
    ABSENT = "absent"
    ENTRY = "entry"


@dataclass(frozen=True, slots=True)
class BundlePacket:
    """One packet that the bundle is about."""

    packet: Packet
    acknowledgements: tuple[bytes, ...] = ()
    """What the receiver answered; present exactly where a claim shows it."""


@dataclass(frozen=True, slots=True)
class BundleClaim:
    """One claim of a hop: about a packet, or an entry as it stands."""

    kind: ClaimKind
    packet: int = 0
    """Index into the bundle's packets, for all kinds but ENTRY."""
    path: bytes = b""
    """For ENTRY alone."""
    value: bytes = b""
    """For ENTRY alone."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What one chain shows."""

    chain: str
    height: int
    headers: tuple[bytes, ...]
    proof: bytes
    claims: tuple[BundleClaim, ...]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Packets, and the hops that show what became of them."""

    packets: tuple[BundlePacket, ...]
    hops: tuple[Hop, ...]


def claim_of(claim: BundleClaim, packets: Sequence[BundlePacket]) -> Claim:
    """The path and value that a claim stands for, recomputed from the packet's fields."""
    if claim.kind == ClaimKind.ENTRY:
        return Claim(claim.path, claim.value)
    about = packets[claim.packet]
    packet = about.packet
    destination, sequence = packet.destination_client, packet.sequence
    if claim.kind == ClaimKind.COMMITMENT:
        return Claim(commitment_path(packet.source_client, sequence), packet_commitment(packet))
    if claim.kind == ClaimKind.RECEIPT:
        return Claim(receipt_path(destination, sequence), packet_commitment(packet))
    if claim.kind == ClaimKind.ABSENT:
        return Claim(receipt_path(destination, sequence), ABSENT)
    return Claim(
        acknowledgement_path(destination, sequence),
        acknowledgement_commitment(about.acknowledgements),
    )


def encode_bundle(bundle: Bundle) -> bytes:
    """The one encoding of a bundle. Raises Malformed where a limit is broken."""
    raw = canonical.encode(
        {
            "version": VERSION,
            "packets": [_write_packet(p) for p in bundle.packets],
            "hops": [_write_hop(h) for h in bundle.hops],
        }
    )
    decode_bundle(raw)  # what nobody could read is not written
    return raw


def decode_bundle(raw: bytes) -> Bundle:
    """The bundle in `raw`. Raises Malformed (MALFORMED, LIMIT_EXCEEDED, NOT_CANONICAL)."""
    top = fields(canonical.decode(raw, MAX_BUNDLE_BYTES), "bundle", "version", "packets", "hops")
    if top["version"] != VERSION or top["version"] is True:
        raise Malformed("bundle: unknown version", hint=f"this program reads version {VERSION}")
    packets = tuple(_read_packet(p) for p in items(top["packets"], "packets", MAX_PACKETS))
    hops = tuple(_read_hop(h) for h in items(top["hops"], "hops", MAX_HOPS))
    return Bundle(packets, hops)


# --- strict reading of JSON values, used by relay.trust as well


def fields(value: Json, what: str, *names: str) -> dict[str, Json]:
    """An object with exactly these keys. Raises Malformed."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise Malformed(f"{what}: must be an object with exactly {', '.join(names)}")
    return value


def items(value: Json, what: str, maximum: int) -> list[Json]:
    """A list of at most `maximum` elements. Raises Malformed."""
    if not isinstance(value, list) or len(value) > maximum:
        raise Malformed(f"{what}: must be a list of at most {maximum} elements")
    return value


def text(value: Json, what: str, maximum: int) -> str:
    """Printable ASCII of at most `maximum` characters. Raises Malformed."""
    if (
        not isinstance(value, str)
        or len(value) > maximum
        or not all(" " <= c <= "~" for c in value)
    ):
        raise Malformed(f"{what}: must be at most {maximum} printable ASCII characters")
    return value


def integer(value: Json, what: str, maximum: int) -> int:
    """An integer from 0 to `maximum`. Raises Malformed."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise Malformed(f"{what}: must be an integer from 0 to {maximum}")
    return value


def decimal(value: Json, what: str) -> int:
    """A number below 2^63 as a decimal string without leading zero. Raises Malformed."""
    digits = text(value, what, 19)
    if not digits.isdecimal() or str(int(digits)) != digits or int(digits) > MAX_INT:
        raise Malformed(f"{what}: must be a decimal number below 2^63, as a string")
    return int(digits)


def octets(value: Json, what: str, maximum: int) -> bytes:
    """At most `maximum` bytes in canonical base64. Raises Malformed."""
    encoded = text(value, what, 4 * (maximum + 2) // 3)
    data = decode_base64(encoded, what)
    if len(data) > maximum:
        raise Malformed(f"{what}: at most {maximum} bytes")
    return data


def write_octets(data: bytes) -> str:
    """Bytes as JSON holds them."""
    return b64encode(data).decode()


# --- packets and hops


def _write_packet(about: BundlePacket) -> Json:
    packet = about.packet
    return {
        "packet": {
            "source_client": packet.source_client,
            "destination_client": packet.destination_client,
            "sequence": str(packet.sequence),
            "timeout_timestamp": str(packet.timeout_timestamp),
            "payloads": [
                {
                    "source_port": payload.source_port,
                    "destination_port": payload.destination_port,
                    "version": payload.version,
                    "encoding": payload.encoding,
                    "value": write_octets(payload.value),
                }
                for payload in packet.payloads
            ],
        },
        "acknowledgements": [write_octets(a) for a in about.acknowledgements],
    }


def _read_packet(value: Json) -> BundlePacket:
    about = fields(value, "packet", "packet", "acknowledgements")
    packet = fields(
        about["packet"],
        "packet",
        "source_client",
        "destination_client",
        "sequence",
        "timeout_timestamp",
        "payloads",
    )
    return BundlePacket(
        Packet(
            sequence=decimal(packet["sequence"], "sequence"),
            source_client=text(packet["source_client"], "source_client", MAX_NAME_BYTES),
            destination_client=text(
                packet["destination_client"], "destination_client", MAX_NAME_BYTES
            ),
            timeout_timestamp=decimal(packet["timeout_timestamp"], "timeout_timestamp"),
            payloads=tuple(
                _read_payload(p) for p in items(packet["payloads"], "payloads", MAX_PAYLOADS)
            ),
        ),
        tuple(
            octets(a, "acknowledgement", MAX_ACKNOWLEDGEMENT_BYTES)
            for a in items(about["acknowledgements"], "acknowledgements", MAX_PAYLOADS)
        ),
    )


def _read_payload(value: Json) -> Payload:
    names = ("source_port", "destination_port", "version", "encoding")
    payload = fields(value, "payload", *names, "value")
    port, other_port, version, encoding = (
        text(payload[name], name, MAX_NAME_BYTES) for name in names
    )
    value_bytes = octets(payload["value"], "value", MAX_PAYLOAD_BYTES)
    return Payload(port, other_port, version, encoding, value_bytes)


def _write_hop(hop: Hop) -> Json:
    return {
        "chain": hop.chain,
        "height": str(hop.height),
        "headers": [write_octets(h) for h in hop.headers],
        "proof": write_octets(hop.proof),
        "claims": [_write_claim(c) for c in hop.claims],
    }


def _read_hop(value: Json) -> Hop:
    hop = fields(value, "hop", "chain", "height", "headers", "proof", "claims")
    return Hop(
        chain=text(hop["chain"], "chain", MAX_CHAIN_ID_BYTES),
        height=decimal(hop["height"], "height"),
        headers=tuple(
            octets(h, "header", MAX_HEADER_BYTES)
            for h in items(hop["headers"], "headers", MAX_HEADERS)
        ),
        proof=octets(hop["proof"], "proof", MAX_PROOF_BYTES),
        claims=tuple(_read_claim(c) for c in items(hop["claims"], "claims", MAX_CLAIMS)),
    )


def _write_claim(claim: BundleClaim) -> Json:
    if claim.kind == ClaimKind.ENTRY:
        return {
            "kind": claim.kind.value,
            "path": write_octets(claim.path),
            "value": write_octets(claim.value),
        }
    return {"kind": claim.kind.value, "packet": claim.packet}


def _read_claim(value: Json) -> BundleClaim:
    if not isinstance(value, dict):
        raise Malformed("claim: must be an object")
    kind = text(value.get("kind"), "kind", MAX_NAME_BYTES)
    if kind == ClaimKind.ENTRY:
        entry = fields(value, "entry", "kind", "path", "value")
        path = octets(entry["path"], "path", MAX_ENTRY_BYTES)
        written = octets(entry["value"], "value", MAX_ENTRY_BYTES)
        return BundleClaim(ClaimKind.ENTRY, path=path, value=written)
    if kind not in ClaimKind.__members__.values():
        raise Malformed("claim: unknown kind")
    about = fields(value, "claim", "kind", "packet")
    return BundleClaim(ClaimKind(kind), integer(about["packet"], "packet", MAX_PACKETS - 1))
