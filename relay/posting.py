"""One HTTP POST to a stranger, who is trusted with nothing: not to answer, not to end.

The deadline is for the whole call, whatever is slow: connecting, the head of the answer, or a body
that comes a byte at a time. A timeout of a socket alone begins anew with every byte, so a node
could hold its caller for ever, and keep him from asking the next one. The answer has a limit.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from typing import Any

_CHUNK = 64 * 1024
Clock = Callable[[], float]


class TooLongError(Exception):
    """The answer exceeds the limit."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    kind: str
    """Its Content-Type."""
    body: bytes


def post(
    address: str,
    body: bytes,
    *,
    seconds: float,
    limit: int,
    tls: ssl.SSLContext | None = None,
    clock: Clock = time.monotonic,
) -> bytes:
    """The answer of `address` (HOST:PORT) to a JSON body. `limit`: bytes; `clock` rises in seconds.

    Raises http.client.HTTPException for another status than 200, and what `ask` raises.
    """
    answer = ask(address, "/", body, seconds=seconds, limit=limit, tls=tls, clock=clock)
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"status {answer.status}")
    return answer.body


def ask(
    address: str,
    path: str,
    body: bytes,
    *,
    seconds: float,
    limit: int,
    kind: str = "application/json",
    tls: ssl.SSLContext | None = None,
    clock: Clock = time.monotonic,
) -> Answer:
    """The answer of `address` (HOST:PORT), whatever its status; redirections are not followed.

    Raises OSError (TimeoutError at the deadline), http.client.HTTPException (no HTTP, an answer
    that ends early), ValueError (no address) and TooLongError.
    """
    until = clock() + seconds
    connection = (
        http.client.HTTPSConnection(address, timeout=seconds, context=tls)
        if tls is not None
        else http.client.HTTPConnection(address, timeout=seconds)
    )
    # The stub says a class; what is called there gives the answer.
    connection.response_class = partial(_Answer, _Left(until, clock))  # type: ignore[assignment]
    try:
        connection.request("POST", path, body, {"Content-Type": kind})
        response = connection.getresponse()
        read = bytearray()
        while chunk := response.read1(_CHUNK):
            read += chunk
            if len(read) > limit:
                raise TooLongError
        if response.length:
            raise http.client.IncompleteRead(bytes(read))
        return Answer(response.status, response.getheader("Content-Type", ""), bytes(read))
    finally:
        connection.close()


class _Left:
    """How long a call may take from now on."""

    def __init__(self, until: float, clock: Clock) -> None:
        self._until = until
        self._clock = clock

    def __call__(self) -> float:
        """Seconds. Raises TimeoutError where there are none."""
        left = self._until - self._clock()
        if left <= 0:
            raise TimeoutError("the deadline of the call has passed")
        return left


class _Answer(http.client.HTTPResponse):
    """An answer that is read until the deadline, its first line included."""

    def __init__(self, left: _Left, sock: socket.socket, *arguments: Any, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = BufferedReader(_Timed(self.fp.detach(), sock, left))


class _Timed(RawIOBase):
    """What a socket receives, each time for as long as is left."""

    def __init__(self, raw: RawIOBase, sock: socket.socket, left: _Left) -> None:
        self._raw = raw
        self._sock = sock
        self._left = left

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """See io.RawIOBase. Raises TimeoutError."""
        self._sock.settimeout(self._left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Gives the socket back."""
        self._raw.close()
        super().close()
