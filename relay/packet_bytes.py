"""Packets and acknowledgements as bytes: for the database and for bundles, never for hashing.

What is hashed is in relay.packet. Decoding is strict: any bytes give a value that encodes back to
the same bytes, or Malformed.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import Malformed
from relay.light.types import Claim
from relay.light.wire import Reader, Writer
from relay.packet import MAX_NAME_BYTES, MAX_PAYLOAD_BYTES, MAX_PAYLOADS, Packet, Payload

MAX_ACKNOWLEDGEMENT_BYTES = 256 * 1024
MAX_CLAIMS = 4096
"""In one delivery."""
MAX_CLAIM_BYTES = 64 * 1024


def encode_packet(packet: Packet) -> bytes:
    """Strict bytes of a packet. Raises Malformed past the limits of relay.packet."""
    writer = Writer().u64(packet.sequence)
    writer.text(packet.source_client, MAX_NAME_BYTES)
    writer.text(packet.destination_client, MAX_NAME_BYTES)
    writer.u64(packet.timeout_timestamp).count(len(packet.payloads), MAX_PAYLOADS)
    for payload in packet.payloads:
        writer.text(payload.source_port, MAX_NAME_BYTES)
        writer.text(payload.destination_port, MAX_NAME_BYTES)
        writer.text(payload.version, MAX_NAME_BYTES)
        writer.text(payload.encoding, MAX_NAME_BYTES)
        writer.data(payload.value, MAX_PAYLOAD_BYTES)
    return writer.done()


def decode_packet(raw: bytes) -> Packet:
    """The packet in `raw`. Raises Malformed."""
    reader = Reader(raw, "packet")
    sequence = reader.u64()
    source, destination = reader.text(MAX_NAME_BYTES), reader.text(MAX_NAME_BYTES)
    timeout = reader.u64()
    payloads = tuple(
        Payload(
            reader.text(MAX_NAME_BYTES),
            reader.text(MAX_NAME_BYTES),
            reader.text(MAX_NAME_BYTES),
            reader.text(MAX_NAME_BYTES),
            reader.data(MAX_PAYLOAD_BYTES),
        )
        for _ in range(reader.count(MAX_PAYLOADS))
    )
    reader.end()
    return Packet(sequence, source, destination, timeout, payloads)


def encode_acknowledgements(acknowledgements: Sequence[bytes]) -> bytes:
    """Strict bytes of an acknowledgement list; empty for the empty list."""
    if not acknowledgements:
        return b""
    writer = Writer().count(len(acknowledgements), MAX_PAYLOADS)
    for acknowledgement in acknowledgements:
        writer.data(acknowledgement, MAX_ACKNOWLEDGEMENT_BYTES)
    return writer.done()


def decode_acknowledgements(raw: bytes) -> tuple[bytes, ...]:
    """The acknowledgements in `raw`. Raises Malformed."""
    if not raw:
        return ()
    reader = Reader(raw, "acknowledgements")
    found = tuple(reader.data(MAX_ACKNOWLEDGEMENT_BYTES) for _ in range(reader.count(MAX_PAYLOADS)))
    reader.end()
    if not found:
        raise Malformed("acknowledgements: nothing is written as nothing")
    return found


def encode_claims(claims: Sequence[Claim]) -> bytes:
    """Strict bytes of what one proof covers; empty for nothing."""
    if not claims:
        return b""
    writer = Writer().count(len(claims), MAX_CLAIMS)
    for claim in claims:
        writer.data(claim.path, MAX_CLAIM_BYTES).boolean(claim.value is not None)
        writer.data(claim.value or b"", MAX_CLAIM_BYTES)
    return writer.done()


def decode_claims(raw: bytes) -> tuple[Claim, ...]:
    """The claims in `raw`. Raises Malformed."""
    if not raw:
        return ()
    reader = Reader(raw, "claims")
    found = []
    for _ in range(reader.count(MAX_CLAIMS)):
        path, present = reader.data(MAX_CLAIM_BYTES), reader.boolean()
        value = reader.data(MAX_CLAIM_BYTES)
        if value and not present:
            raise Malformed("claims: the value of an absence")
        found.append(Claim(path, value if present else None))
    reader.end()
    if not found:
        raise Malformed("claims: nothing is written as nothing")
    return tuple(found)
