"""Two contracts that count how often they were run for each packet.

A run writes `ran/CLIENT/SEQUENCE/N`, where N is the number of runs before it: a second run of one
packet shows on the journal as N = 1, whatever else hides it. `acked` and `timed` count callbacks.

`tally` does what the packet's value says. `rally` sends on from inside its callbacks: a packet
with hops left is sent on when it is received, again when it is acknowledged, and again when it has
timed out; what it sent on is recorded beside the run, so that a lost or doubled send shows.
"""

from __future__ import annotations

from collections.abc import Iterable

from relay.contract import Contract, Deferred, HeadNeed, State
from relay.errors import Invalid, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload

RAN, ACKED, TIMED = b"ran", b"acked", b"timed"
ONWARD = b"onward-"
"""Before the kind of the run that sent on."""
YOUNG = 60
"""Seconds: of which time `fresh` wants to know everything."""


def key(kind: bytes, client_id: str, sequence: int, count: int = 0) -> bytes:
    """Where a run is recorded."""
    return b"%s/%s/%d/%d" % (kind, client_id.encode(), sequence, count)


def parse_key(raw: bytes) -> tuple[bytes, str, int, int]:
    """(kind, client id, sequence, count)."""
    kind, client_id, sequence, count = raw.split(b"/")
    return kind, client_id.decode(), int(sequence), int(count)


def _count(state: State, kind: bytes, client_id: str, sequence: int, value: bytes) -> bytes:
    """Records a run; where to record what it sends on."""
    count = 0
    while state.get(key(kind, client_id, sequence, count)) is not None:
        count += 1
    state.put(key(kind, client_id, sequence, count), value)
    return key(ONWARD + kind, client_id, sequence, count)


class Tally(Contract):
    """`COMMAND:NUMBER`. Commands: echo, fail, error, empty, crash, defer, fresh, fail-callback."""

    port = "tally"

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        """Runs the command."""
        _count(state, RAN, packet.destination_client, packet.sequence, payload.value)
        command = payload.value.partition(b":")[0]
        if command == b"fail":
            raise Invalid(Reason.CONTRACT_REFUSED, "asked to fail")
        if command == b"crash":
            raise ZeroDivisionError
        if command == b"error":
            return ERROR_ACKNOWLEDGEMENT
        if command == b"empty":
            return b""
        if command == b"defer":
            return Deferred()
        if command == b"fresh":
            young = state.head(packet.destination_client).complete_time >= now - YOUNG
            return b"young" if young else b"stale"
        return b"done:" + payload.value

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """Counts; `fail-callback` fails after it."""
        _count(state, ACKED, packet.source_client, packet.sequence, acknowledgement)
        if payload.value.startswith(b"fail-callback"):
            raise Invalid(Reason.CONTRACT_REFUSED, "asked to fail")

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """Counts."""
        _count(state, TIMED, packet.source_client, packet.sequence, payload.value)

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """`send`: client id, timeout and value by lines; the sequence. `answer`: client id,
        sequence and acknowledgement."""
        first, second, value = body.split(b"\n", 2)
        if method == "answer":
            state.acknowledge(first.decode(), int(second), value)
            return b"answered"
        payload = Payload(self.port, self.port, "tally-1", "text/plain", value)
        return b"%d" % state.send(first.decode(), payload, int(second))

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """`fresh` wants all that its chain had sent until lately."""
        if payload.value.startswith(b"fresh"):
            return [HeadNeed(packet.destination_client, now - YOUNG)]
        return []


class Rally(Contract):
    """`HOPS:NUMBER:LEDGER,LEDGER,…`: sent on to the next ledger of the list while hops last."""

    port = "rally"
    hop_seconds = 600
    """Timeout of a packet that is sent on."""

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        """Counts, and sends on."""
        where = _count(state, RAN, packet.destination_client, packet.sequence, payload.value)
        self._send_on(payload.value, where, state, now)
        return b"done:" + payload.value

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        """Counts, and sends on."""
        where = _count(state, ACKED, packet.source_client, packet.sequence, acknowledgement)
        self._send_on(payload.value, where, state, now)

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        """Counts, and sends on."""
        where = _count(state, TIMED, packet.source_client, packet.sequence, payload.value)
        self._send_on(payload.value, where, state, now)

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """`send`: client id, timeout and value by lines; the sequence."""
        client_id, timeout, value = body.split(b"\n", 2)
        return b"%d" % state.send(client_id.decode(), self._payload(value), int(timeout))

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        """None."""
        return []

    def _payload(self, value: bytes) -> Payload:
        return Payload(self.port, self.port, "rally-1", "text/plain", value)

    def _send_on(self, value: bytes, where: bytes, state: State, now: int) -> None:
        """One packet to the next ledger on the list that is another one and a neighbour."""
        hops, number, route = value.split(b":")
        if int(hops) <= 0:
            return
        ahead = route.split(b",")
        ahead = ahead[1:] + ahead[:1]
        for _ in ahead:
            if ahead[0] != state.chain_id.encode():
                break
            ahead = ahead[1:] + ahead[:1]
        onward = b"%d:%s:%s" % (int(hops) - 1, number, b",".join(ahead))
        client_id = state.client_of(ahead[0].decode())
        sequence = state.send(client_id, self._payload(onward), now + self.hop_seconds)
        state.put(where, client_id.encode() + b"\n%d" % sequence)
