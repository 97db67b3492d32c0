"""What the contracts share: reading, knowing who sent a packet, sending until it is acknowledged.

A packet that must arrive (rows 1, 3, 4, 5) is sent again under a new sequence whenever it timed
out, until it is acknowledged. Where that is impossible at the moment (no active client to that
chain) the payload is written down as undelivered, and `call("resend")` takes it up again; it is
never lost with the packet that carried it.

    undelivered/<sha256 of the payload>/<time, 12 digits>   {chain, port, source_port, payload}
    redelivered/<the same>                                  {client, sequence}
"""

from __future__ import annotations

from hashlib import sha256

from relay.canonical import Json, encode
from relay.contract import Reader as Reader
from relay.contract import State
from relay.contracts.payloads import ENCODING, VERSIONS, fields
from relay.contracts.payloads.fields import Object
from relay.errors import Invalid, NotFound, Reason, Refused
from relay.light.keys import verify
from relay.packet import MAX_PAYLOAD_BYTES, Packet, Payload

ROW_TIMEOUT = 3600
"""Seconds until a packet that must arrive is given up and sent again."""
CLOCK_DRIFT = 60
"""Seconds by which a signed time may lie in the future."""
MAX_CALL_BYTES = 16 * 1024 * 1024
_PAGE = 500


def key(*parts: str | bytes) -> bytes:
    """A readable key: parts joined by `/`, bytes as hex."""
    return "/".join(p.hex() if isinstance(p, bytes) else p for p in parts).encode()


def everything(state: Reader, prefix: bytes, most: int) -> list[tuple[bytes, bytes]]:
    """All pairs under `prefix`, up to `most`, page by page."""
    found: list[tuple[bytes, bytes]] = []
    while len(found) < most:
        limit = min(_PAGE, most - len(found))
        page = state.scan(prefix, after=found[-1][0] if found else b"", limit=limit)
        found += page
        if len(page) < limit:
            break
    return found


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


def payload_for(port: str, source_port: str, value: bytes) -> Payload:
    """A payload to one of our ports, in the version that it speaks."""
    return Payload(source_port, port, VERSIONS[port], ENCODING, value)


def post(state: State, chain: str, payload: Payload, now: int) -> tuple[str, int]:
    """Sends what must arrive at `chain`; (client id, sequence), or ("", 0) if set aside."""
    try:
        client = state.client_of(chain)
        return client, state.send(client, payload, now + ROW_TIMEOUT)
    except (NotFound, Refused):
        set_aside(state, chain, payload, now)
        return "", 0


def set_aside(state: State, chain: str, payload: Payload, now: int) -> None:
    """Writes down what must arrive at `chain` and cannot be sent now; `resend` takes it up."""
    held: Json = {
        "chain": chain,
        "payload": payload.value.hex(),
        "port": payload.destination_port,
        "source_port": payload.source_port,
    }
    name = (sha256(payload.value).digest(), f"{now:012d}")
    state.put(key("undelivered", *name), encode(held))


def resend(body: bytes, state: State, now: int) -> bytes:
    """`call("resend", {after, limit})`: sends what was set aside; {sent, failed, after}.

    `after` is the hex of the last key looked at, or empty; the answer's is empty at the end.
    """
    asked = read_call(body, "after limit")
    limit = fields.integer(asked, "limit", 1, 1000)
    after = fields.octets(asked, "after", 0, 512)
    sent = failed = 0
    page = state.scan(b"undelivered/", after=after, limit=limit)
    for name, value in page:
        done = b"re" + name.removeprefix(b"un")
        if state.get(done) is not None:
            continue
        held = fields.document(value)
        payload = payload_for(
            fields.name(held, "port"),
            fields.name(held, "source_port"),
            fields.octets(held, "payload", 1, MAX_PAYLOAD_BYTES),
        )
        try:
            client = state.client_of(fields.identifier(held, "chain"))
            number = state.send(client, payload, now + ROW_TIMEOUT)
        except (NotFound, Refused):
            failed += 1
            continue
        sent += 1
        state.put(done, encode({"client": client, "sequence": number}))
    last = page[-1][0].hex() if len(page) == limit else ""
    return encode({"after": last, "failed": failed, "sent": sent})


def unknown_method(port: str, method: str) -> NotFound:
    """The error for a call that a contract does not have."""
    return NotFound(Reason.NOT_FOUND, f"{port} has no call {method[:64]!r}")
