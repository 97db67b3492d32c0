"""The witness of this node over HTTP, as C2SP has it (relay.tlog_witness): POST /add-checkpoint.

It answers what the RPC answers (relay.service.witness), by the same Witness and in the words of the
specification. Which status an error has is told by _status; its text is `REASON: detail`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import structlog
from waitress.server import create_server  # type: ignore[import-untyped]

from relay.errors import (
    Exhausted,
    Invalid,
    LianqiaoError,
    Malformed,
    NotFound,
    Reason,
    Unavailable,
)
from relay.light.checkpoint import parse_body
from relay.light.note import decode_note
from relay.tlog_witness import (
    MAX_REQUEST_BYTES,
    PATH,
    SIZE_TYPE,
    TEXT_TYPE,
    decode_request,
    encode_answer,
    encode_size,
)
from relay.witness import Witness

THREADS = 4
MAX_CONNECTIONS = 64
MAX_HEAD_BYTES = 16 * 1024
POLL_SECONDS = 0.1
SILENCE_SECONDS = 30
"""After which a connection is closed."""
_log = structlog.get_logger("lianqiao.witness")

Start = Callable[[str, list[tuple[str, str]]], object]
"""start_response of WSGI."""


class HttpWitnessServer:
    """Serves until `stop`."""

    def __init__(self, witness: Witness, listen: str, clock: Callable[[], int]) -> None:
        """`listen`: HOST:PORT of this machine. Raises OSError."""
        self._server = create_server(
            Application(witness, clock),
            listen=listen.replace("localhost", "127.0.0.1"),  # one socket, not one of each family
            threads=THREADS,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=SILENCE_SECONDS,
            cleanup_interval=SILENCE_SECONDS // 2,
            max_request_body_size=MAX_REQUEST_BYTES,
            max_request_header_size=MAX_HEAD_BYTES,
            ident="",
            expose_tracebacks=False,
            clear_untrusted_proxy_headers=True,
        )
        self.port = int(self._server.effective_port)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="witness http", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no more calls; those that are being answered end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        # The thread that uses the sockets closes them: another one could write to a number that
        # has become somebody else's file.
        loop, sockets = self._server.asyncore, self._server._map
        while not self._stopping.is_set():
            loop.loop(timeout=POLL_SECONDS, use_poll=True, map=sockets, count=1)
        self._server.task_dispatcher.shutdown()
        self._server.close()
        loop.close_all(sockets, ignore_all=True)


class Application:
    """The WSGI application."""

    def __init__(self, witness: Witness, clock: Callable[[], int]) -> None:
        self._witness = witness
        self._clock = clock

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """One call. Whatever comes is answered."""
        try:
            status, kind, body = self._answer(environ)
        except LianqiaoError as error:
            status, kind = _status(error), TEXT_TYPE
            body = f"{error.reason}: {error.detail}\n".encode()
        except Exception as error:  # a fault of ours, whose text is not for strangers
            _log.error("fault", kind=type(error).__name__, exc_info=error)
            status, kind, body = HTTPStatus.INTERNAL_SERVER_ERROR, TEXT_TYPE, b"INTERNAL\n"
        start(
            f"{status.value} {status.phrase}",
            [("Content-Type", kind), ("Content-Length", str(len(body)))],
        )
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[HTTPStatus, str, bytes]:
        if environ["PATH_INFO"] != PATH:
            return HTTPStatus.NOT_FOUND, TEXT_TYPE, f"there is {PATH}\n".encode()
        if environ["REQUEST_METHOD"] != "POST":
            return HTTPStatus.METHOD_NOT_ALLOWED, TEXT_TYPE, b"it takes a POST\n"
        given = decode_request(environ["wsgi.input"].read(MAX_REQUEST_BYTES + 1))
        if given.old_size > parse_body(decode_note(given.note).text).size:
            raise Malformed("the old size is above that of the checkpoint")
        answer = self._witness.add_checkpoint(
            given.old_size, given.proof, given.note, b"", self._clock(), exact=True
        )
        if not answer.lines:
            return HTTPStatus.CONFLICT, SIZE_TYPE, encode_size(answer.size)
        return HTTPStatus.OK, TEXT_TYPE, encode_answer(answer.lines)


def _status(error: LianqiaoError) -> HTTPStatus:
    """What https://c2sp.org/tlog-witness says of it; where that is silent, what HTTP says."""
    if isinstance(error, Malformed):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, NotFound):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, Unavailable | Exhausted) or error.reason is Reason.STALE_RESTORE:
        return HTTPStatus.SERVICE_UNAVAILABLE
    if error.reason is Reason.HEAD_CONFLICT:
        return HTTPStatus.CONFLICT
    unproven = (Reason.INVALID_CONSISTENCY, Reason.TIME_NOT_MONOTONIC, Reason.HEADER_FROM_FUTURE)
    if isinstance(error, Invalid) and error.reason in unproven:
        return HTTPStatus.UNPROCESSABLE_ENTITY
    return HTTPStatus.FORBIDDEN  # not signed by whom the witness trusts, or no longer
