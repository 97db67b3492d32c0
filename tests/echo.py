"""Contracts for tests of the host: they do what the packet says, and count."""

from __future__ import annotations

from collections.abc import Iterable

from relay.contract import Deferred, HeadNeed, State
from relay.errors import Invalid, Reason
from relay.packet import ERROR_ACKNOWLEDGEMENT, Packet, Payload


class Echo:
    """Answers with what it was sent. The value is a command:

    `fail` raises after a write; `crash` raises what is no error of ours; `error` returns the error
    constant; `defer` answers later; `count` writes a key; anything else is echoed.
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

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        if payload.value.startswith(b"fresh:"):
            client_id = payload.value.removeprefix(b"fresh:").decode()
            return [HeadNeed(client_id, now)]
        return []


ECHO = Echo()
