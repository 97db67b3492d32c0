"""What the contracts share: keys, knowing who sent a packet, reading payloads and calls."""

from __future__ import annotations

from collections.abc import Iterator

from relay.contract import Reader as Reader
from relay.contract import State
from relay.contracts.payloads import ENCODING, fields
from relay.contracts.payloads.fields import Object
from relay.errors import Invalid, NotFound, Reason
from relay.light.keys import verify
from relay.packet import Packet, Payload

CLOCK_DRIFT = 60
"""Seconds by which a signed time may lie in the future."""
MAX_CALL_BYTES = 16 * 1024 * 1024
_PAGE = 500


def key(*parts: str | bytes) -> bytes:
    """A readable key: parts joined by `/`, bytes as hex."""
    return "/".join(p.hex() if isinstance(p, bytes) else p for p in parts).encode()


def everything(state: Reader, prefix: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """All pairs under `prefix`, up to `most`, page by page."""
    return list(paged(state, prefix, b"", _PAGE, most))


def paged(
    state: Reader, prefix: bytes, after: bytes, page: int, most: int
) -> Iterator[tuple[bytes, bytes]]:
    """Pairs under `prefix` above `after`, up to `most`; the next page is read when it is wanted."""
    left = most
    while left > 0:
        limit = min(page, left)
        found = state.scan(prefix, after=after, limit=limit)
        yield from found
        if len(found) < limit:
            break
        left, after = left - limit, found[-1][0]


def sender(packet: Packet, state: State) -> str:
    """The chain that a received packet was proven to come from.

    The host has taken the epoch off. What is left is the whole id: a chain that calls itself
    `zj-medical/7` is not `zj-medical`.
    """
    return state.head(packet.destination_client).chain_id


def read_payload(payload: Payload, version: str) -> Object:
    """The decoded payload. Raises Invalid(UNSUPPORTED_VERSION) or Malformed."""
    if payload.version != version or payload.encoding != ENCODING:
        raise Invalid(
            Reason.UNSUPPORTED_VERSION, f"this port speaks {version} as {ENCODING}, nothing else"
        )
    return fields.document(payload.value)


def read_call(body: bytes, members: str, optional: str = "") -> Object:
    """The canonical object of a call, with exactly `members` and any of `optional`."""
    value = fields.document(body, MAX_CALL_BYTES)
    extra = fields.names(optional) & value.keys()
    return fields.members(value, fields.names(members) | extra, "body")


def signed(algorithm: str, public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is valid, for decisions in which a wrong one is an answer.

    One under an algorithm that is not installed is not valid: nodes that re-execute one journal
    install the same algorithms, or they do not decide alike.
    """
    try:
        verify(algorithm, public_key, message, signature)
    except Invalid:
        return False
    return True


def check_route(relay: str, origin: str, hops: int, packet: Packet, state: State) -> None:
    """Checks that a payload was meant for this relay and names the ledger it came from.

    Raises Invalid: CHAIN_ID_MISMATCH, COUNTERPARTY_MISMATCH or HOP_LIMIT.
    """
    if relay != state.chain_id:
        raise Invalid(Reason.CHAIN_ID_MISMATCH, "meant for another relay", relay=relay)
    if origin != sender(packet, state):
        raise Invalid(
            Reason.COUNTERPARTY_MISMATCH, "names another origin than it came from", origin=origin
        )
    if hops < 1:
        raise Invalid(Reason.HOP_LIMIT, "may not pass another relay", hops=hops)


def unknown_method(port: str, method: str) -> NotFound:
    """The error for a call that a contract does not have."""
    return NotFound(Reason.NOT_FOUND, f"{port} has no call {method[:64]!r}")
