"""Packets, and the bytes that commit to them: IBC v2, exactly.

Source of each rule: ibc-go `modules/core/04-channel/v2/types/commitment.go` and
`24-host/v2/packet_keys.go`, which agree with the Solidity implementation. (The prose of ICS-04 v2
differs in byte order and swaps two path bytes in one place; published values decide.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from relay.errors import Invalid, Reason

MAX_PAYLOAD_BYTES = 256 * 1024
"""Sum of the values of all payloads of a packet."""
MAX_PAYLOADS = 16
MAX_NAME_BYTES = 128
"""Ports, versions, encodings and client ids."""
MAX_TIMEOUT_AHEAD = 24 * 3600
"""Seconds a timeout may lie ahead of the sender's time."""
MAX_INT = 2**63 - 1

ERROR_ACKNOWLEDGEMENT = sha256(b"UNIVERSAL_ERROR_ACKNOWLEDGEMENT").digest()
ABSENT = bytes(32)
"""The sentinel at a receipt path: this packet was not received and never will be."""

_COMMITMENT, _RECEIPT, _ACKNOWLEDGEMENT = b"\x01", b"\x02", b"\x03"


@dataclass(frozen=True, slots=True)
class Payload:
    """What one application sends another."""

    source_port: str
    destination_port: str
    version: str
    encoding: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """One numbered delivery between two clients that name each other as counterparties."""

    sequence: int
    source_client: str
    destination_client: str
    timeout_timestamp: int
    """Seconds since 1970 UTC, judged by the receiving chain's verified time."""
    payloads: tuple[Payload, ...]


def _h(data: bytes) -> bytes:
    return sha256(data).digest()


def be64(number: int) -> bytes:
    """Eight bytes, big-endian. Raises OverflowError outside u64 (callers validate first)."""
    return number.to_bytes(8, "big")


def payload_hash(payload: Payload) -> bytes:
    """H of the five field hashes, in the order of ibc-go `hashPayload`."""
    return _h(
        _h(payload.source_port.encode())
        + _h(payload.destination_port.encode())
        + _h(payload.version.encode())
        + _h(payload.encoding.encode())
        + _h(payload.value)
    )


def packet_commitment(packet: Packet) -> bytes:
    """The 32 bytes that the sender writes (ibc-go `CommitPacket`)."""
    payloads = b"".join(payload_hash(p) for p in packet.payloads)
    return _h(
        b"\x02"
        + _h(packet.destination_client.encode())
        + _h(be64(packet.timeout_timestamp))
        + _h(payloads)
    )


def acknowledgement_commitment(acknowledgements: Sequence[bytes]) -> bytes:
    """The 32 bytes that the receiver writes (ibc-go `CommitAcknowledgement`)."""
    return _h(b"\x02" + b"".join(_h(a) for a in acknowledgements))


def commitment_path(source_client: str, sequence: int) -> bytes:
    """Where a sender writes a packet's commitment."""
    return source_client.encode() + _COMMITMENT + be64(sequence)


def receipt_path(destination_client: str, sequence: int) -> bytes:
    """Where a receiver writes a packet's receipt, or the sentinel ABSENT."""
    return destination_client.encode() + _RECEIPT + be64(sequence)


def acknowledgement_path(destination_client: str, sequence: int) -> bytes:
    """Where a receiver writes the commitment to its acknowledgement."""
    return destination_client.encode() + _ACKNOWLEDGEMENT + be64(sequence)


def check_name(name: str, what: str) -> None:
    """Printable ASCII without space, 1 to MAX_NAME_BYTES. Raises Invalid(INVALID_PACKET)."""
    if not 1 <= len(name) <= MAX_NAME_BYTES or not all("!" <= c <= "~" for c in name):
        raise Invalid(Reason.INVALID_PACKET, f"{what} must be 1-128 printable ASCII characters")


def check_packet(packet: Packet) -> None:
    """The invariants of DESIGN §3. Raises Invalid(INVALID_PACKET) with the first that is broken."""
    if not 1 <= packet.sequence <= MAX_INT:
        raise Invalid(Reason.INVALID_PACKET, "sequence must be between 1 and 2^63-1")
    if not 1 <= packet.timeout_timestamp <= MAX_INT:
        raise Invalid(Reason.INVALID_PACKET, "timeout_timestamp must be between 1 and 2^63-1")
    check_name(packet.source_client, "source_client")
    check_name(packet.destination_client, "destination_client")
    if not 1 <= len(packet.payloads) <= MAX_PAYLOADS:
        raise Invalid(Reason.INVALID_PACKET, f"a packet holds 1 to {MAX_PAYLOADS} payloads")
    for payload in packet.payloads:
        check_name(payload.source_port, "source_port")
        check_name(payload.destination_port, "destination_port")
        check_name(payload.version, "version")
        check_name(payload.encoding, "encoding")
        if not payload.value:
            raise Invalid(Reason.INVALID_PACKET, "a payload's value must not be empty")
    if sum(len(p.value) for p in packet.payloads) > MAX_PAYLOAD_BYTES:
        raise Invalid(Reason.INVALID_PACKET, f"payloads exceed {MAX_PAYLOAD_BYTES} bytes")
