"""What must arrive and cannot be sent now: written down by chain, in order, until it is sent.

Where there is no active client to a chain, a payload that must arrive is set aside. It is never
lost with the packet that carried it, and never forgotten in what the node states to have sent
(relay.sent): as long as something is held for a chain, nothing is stated to it, so that nobody
there takes a retraction that lies here for one that was never made.

    undelivered/<hex of the chain id>/<n, 12 digits>   {payload, port, source_port, time}
    redelivered/<the same>                             {client, sequence}

What is held is sent again by itself when the client is active (`send_held`, once in a tick and
with a recovery), and by `call("resend")`. What a chain answered by an error is kept in the same
way under `refused/` and `resent/`; only the call takes that up, since it comes back as long as
nobody has mended the chain.
"""

from __future__ import annotations

from collections.abc import Iterator

from relay.canonical import Json, encode
from relay.contract import Contract, Reader, State
from relay.contracts.payloads import ENCODING, VERSIONS, fields
from relay.errors import Invalid, NotFound, Reason, Refused
from relay.packet import MAX_PAYLOAD_BYTES, Payload

ROW_TIMEOUT = 3600
"""Seconds until a packet that must arrive is given up and sent again."""
MAX_HELD_SENT = 1000
"""Packets sent again in one tick."""
MAX_CALL_SENT = 1000
_MAX_HELD_BYTES = 2 * MAX_PAYLOAD_BYTES + 1024
"""Of one that is set aside: its payload in hex, and the rest."""
_UNSENT = (b"undelivered/", b"redelivered/")
_REFUSED = (b"refused/", b"resent/")
_Queue = tuple[bytes, bytes]


def payload_for(port: str, source_port: str, value: bytes) -> Payload:
    """A payload to one of our ports, in the version that it speaks."""
    return Payload(source_port, port, VERSIONS[port], ENCODING, value)


def post(state: State, chain: str, payload: Payload, now: int) -> tuple[str, int]:
    """Sends what must arrive at `chain`; (client id, sequence), or ("", 0) if set aside.

    Raises Invalid(INVALID_PACKET) for what no packet can carry: set aside, it would wait for ever,
    and all behind it.
    """
    if not 1 <= len(payload.value) <= MAX_PAYLOAD_BYTES:
        raise Invalid(Reason.INVALID_PACKET, f"a payload holds 1 to {MAX_PAYLOAD_BYTES} bytes")
    try:
        client = state.client_of(chain)
        return client, state.send(client, payload, now + ROW_TIMEOUT)
    except (NotFound, Refused):
        _put(_UNSENT, state, chain, payload, now)
        return "", 0


def set_aside(state: State, chain: str, payload: Payload, now: int) -> None:
    """Keeps what `chain` answered by an error, for the call that sends it again."""
    _put(_REFUSED, state, chain, payload, now)


def is_held(state: Reader, chain: str) -> bool:
    """Whether something that must arrive at `chain` waits to be sent; two look-ups."""
    return _last(_UNSENT[0], state, chain) > _last(_UNSENT[1], state, chain)


class Posts(Contract):
    """A contract that posts: in a tick it sends what is held, and says what still is."""

    def tick(self, state: State, now: int) -> None:
        """Sends what is held for chains that can be reached again."""
        send_held(state, now)

    def holds(self, chain_id: str, state: State) -> bool:
        """See relay.contract.Contract."""
        return is_held(state, chain_id)


def note_sent(state: State, chain: str, payload: Payload, client: str, sequence: int) -> None:
    """Notes that what is held first for `chain` was sent by other means, if it is this payload."""
    n = _last(_UNSENT[1], state, chain) + 1
    value = state.get(_key(_UNSENT[0], chain, n))
    if value is not None and _read(value)["payload"] == payload.value.hex():
        state.put(_key(_UNSENT[1], chain, n), encode({"client": client, "sequence": sequence}))


def count_held(state: Reader) -> int:
    """How much is set aside, for whatever chain and reason."""
    return sum(
        _last(queue[0], state, chain) - _last(queue[1], state, chain)
        for queue in (_UNSENT, _REFUSED)
        for chain in _chains(queue, state)
    )


def send_held(state: State, now: int, limit: int = MAX_HELD_SENT) -> int:
    """Sends what is held for chains that have an active client again, oldest first; how much."""
    sent = 0
    for chain in _chains(_UNSENT, state):
        sent += _send(_UNSENT, state, chain, now, limit - sent)
    return sent


def resend(body: bytes, state: State, now: int) -> bytes:
    """`call("resend", {limit})`: sends what was set aside; {failed, sent}.

    `failed` is what stays: more than `limit` (1-1000), or for chains without an active client.
    """
    asked = fields.members(fields.document(body), ("limit",), "body")
    limit = fields.integer(asked, "limit", 1, MAX_CALL_SENT)
    sent = 0
    for queue in (_UNSENT, _REFUSED):
        for chain in _chains(queue, state):
            sent += _send(queue, state, chain, now, limit - sent)
    return encode({"failed": count_held(state), "sent": sent})


def _put(queue: _Queue, state: State, chain: str, payload: Payload, now: int) -> None:
    held: Json = {
        "payload": payload.value.hex(),
        "port": payload.destination_port,
        "source_port": payload.source_port,
        "time": now,
    }
    state.put(_key(queue[0], chain, _last(queue[0], state, chain) + 1), encode(held))


def _send(queue: _Queue, state: State, chain: str, now: int, limit: int) -> int:
    """Sends in order, up to the first that cannot be sent: what follows it could not either."""
    first, end = _last(queue[1], state, chain) + 1, _last(queue[0], state, chain) + 1
    for n in range(first, min(end, first + limit)):
        value = state.get(_key(queue[0], chain, n))
        assert value is not None, "what is set aside is numbered without gaps"
        held = _read(value)
        payload = payload_for(
            fields.name(held, "port"),
            fields.name(held, "source_port"),
            fields.octets(held, "payload", 1, MAX_PAYLOAD_BYTES),
        )
        try:
            client = state.client_of(chain)
            number = state.send(client, payload, now + ROW_TIMEOUT)
        except (NotFound, Refused):
            return n - first
        state.put(_key(queue[1], chain, n), encode({"client": client, "sequence": number}))
    return max(0, min(end - first, limit))


def _read(value: bytes) -> fields.Object:
    return fields.document(value, _MAX_HELD_BYTES)


def _chains(queue: _Queue, state: Reader) -> Iterator[str]:
    """The chains for which something was ever set aside; two look-ups each."""
    after = b""
    while found := state.scan(queue[0], after=after, limit=1):
        chain = bytes.fromhex(found[0][0].split(b"/")[1].decode()).decode()
        yield chain
        last = state.last(_prefix(queue[0], chain))
        assert last is not None, "there is one at least"
        after = last[0]


def _last(kind: bytes, state: Reader, chain: str) -> int:
    found = state.last(_prefix(kind, chain))
    return int(found[0].rpartition(b"/")[2]) if found is not None else 0


def _key(kind: bytes, chain: str, n: int) -> bytes:
    return _prefix(kind, chain) + f"{n:012d}".encode()


def _prefix(kind: bytes, chain: str) -> bytes:
    return kind + chain.encode().hex().encode() + b"/"
