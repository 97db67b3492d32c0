"""Contracts for tests of the host: they do what the packet says, and count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from relay.contract import Contract, Deferred, HeadNeed, State
from relay.errors import Invalid, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload
from relay.paths import record_path

YOUNG = 60
"""Seconds: of which time `fresh:CLIENT` wants to know everything."""


class Echo(Contract):
    """Answers with what it was sent. The value is a command:

    `fail` raises after a write; `crash` raises what is no error of ours; `error` returns the error
    constant; `defer` answers later; `count` writes a key; anything else is echoed. `with:KEY` is
    sent with its sender's record at KEY and answered with what was proven there; `lone:KEY` is the
    same, but nothing travels with it.
    """

    port = "echo"

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        name = f"received/{packet.destination_client}/{packet.sequence}".encode()
        command = payload.value
        if command == b"scan":
            return b",".join(key for key, _ in state.scan(b"received/")) or b"none"
        state.put(name, command)
        if command == b"fail":
            raise Invalid(Reason.CONTRACT_REFUSED, "asked to fail")
        if command == b"crash":
            raise ZeroDivisionError
        if command == b"error":
            return ERROR_ACKNOWLEDGEMENT
        if key := _wanted(payload):
            return b"proven:" + (state.proven(record_path(payload.source_port, key)) or b"nothing")
        if command == b"empty":
            return b""
        if command == b"defer":
            return Deferred()
        return b"echo:" + command

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        state.put(
            f"acknowledged/{packet.source_client}/{packet.sequence}".encode(), acknowledgement
        )
        if payload.value == b"fail-acknowledge":
            raise Invalid(Reason.CONTRACT_REFUSED, "asked to fail")

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        state.put(f"timed-out/{packet.source_client}/{packet.sequence}".encode(), payload.value)

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        """`send`: body is client id, timeout and value joined by newlines. `answer`: client id,
        sequence, acknowledgement. `put`: key, value."""
        first, second, value = body.split(b"\n", 2)
        if method == "answer":
            state.acknowledge(first.decode(), int(second), value)
            return b"answered"
        if method == "put":
            state.put(first, value)
            return b"written"
        payload = Payload(self.port, self.port, "echo-1", "text/plain", value)
        return str(state.send(first.decode(), payload, int(second))).encode()

    def entries(self, packet: Packet, payload: Payload, state: State) -> Sequence[bytes]:
        key = _wanted(payload)
        return [key] if key and payload.value.startswith(b"with:") else []

    def entries_needed(self, packet: Packet, payload: Payload) -> Sequence[bytes]:
        key = _wanted(payload)
        return [record_path(payload.source_port, key)] if key else []

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        if payload.value.startswith(b"fresh:"):
            client_id = payload.value.removeprefix(b"fresh:").decode()
            return [HeadNeed(client_id, now - YOUNG)]
        return []


def _wanted(payload: Payload) -> bytes:
    """The key of the record that must be proven beside a packet."""
    command, _, key = payload.value.partition(b":")
    return key if command in (b"with", b"lone") else b""


ECHO = Echo()
