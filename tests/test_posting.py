"""A node that does not answer, or does not end: whoever asks goes on at the deadline."""

from __future__ import annotations

import http.client
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from adapters.cometbft.rpc import Endpoint
from adapters.evm.rpc import Rpc
from relay.errors import Reason
from relay.posting import TooLongError, post
from tests.refusals import refusing

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x7"}'
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves bytes on loopback, all at once or one at a time without an end; HOST:PORT."""
    ended, listening, threads = threading.Event(), list[socket.socket](), list[threading.Thread]()

    def made(first: bytes, drop: bytes = b"") -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def run() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, suppress(OSError):
                        part = b" "
                        while part and part[-1:] != b"}":  # all of it: else the answer is reset
                            part = connection.recv(65_536)
                        connection.sendall(first)
                        while drop and not ended.wait(0.001):
                            connection.sendall(drop)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield made
    ended.set()
    for server in listening:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join(10)


def hasty() -> Callable[[], float]:
    """A clock on which a second passes with every look."""
    ticks = itertools.count()
    return lambda: float(next(ticks))


def asked(address: str, limit: int = 1000) -> bytes:
    return post(address, b"{}", seconds=10, limit=limit, clock=hasty())


def test_an_answer_is_read_whole(serve: Serve) -> None:
    assert asked(serve(HEAD % 3 + b"abc")) == b"abc"
    assert asked(serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc")) == b"abc"


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
        (HEAD % 10**6, b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
    ids=["first line", "head", "body", "body without an end"],
)
@pytest.mark.timeout(60)
def test_a_node_that_drips_is_left_at_the_deadline(serve: Serve, first: bytes, drop: bytes) -> None:
    """A socket's own timeout begins anew with every byte."""
    address = serve(first, drop)
    with pytest.raises(TimeoutError):
        asked(address, 10**6)
    good = serve(HEAD % len(ANSWER) + ANSWER)
    rpc = Rpc([address, good], hasty())
    assert rpc.number("eth_blockNumber", []) == 7
    with refusing(Reason.CHAIN_UNREACHABLE):
        Endpoint(address, clock=hasty()).status()


def test_an_answer_that_is_none(serve: Serve) -> None:
    for first in (HEAD % 9 + b"short", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"?\r\n"):
        with pytest.raises(http.client.HTTPException):
            asked(serve(first))
    with pytest.raises(TooLongError):
        asked(serve(HEAD % 1001 + b"x" * 1001))
    assert len(asked(serve(HEAD % 1000 + b"x" * 1000))) == 1000
    with pytest.raises(ConnectionError):
        asked("127.0.0.1:1")


@pytest.mark.parametrize("answer", [b"[" * 10_000, b"[]", b"no json", b"\xff", b'{"result":'])
def test_the_next_node_is_asked_for_what_is_no_answer(serve: Serve, answer: bytes) -> None:
    bad, good = serve(HEAD % len(answer) + answer), serve(HEAD % len(ANSWER) + ANSWER)
    rpc = Rpc([bad, good])
    assert rpc.number("eth_blockNumber", []) == 7
    with refusing(Reason.CHAIN_UNREACHABLE):
        Rpc([bad]).number("eth_blockNumber", [])
