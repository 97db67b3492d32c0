"""One gRPC channel to a node: deadlines on every call, statuses turned into our errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from relay.codec.errors import error_from_status
from relay.errors import Denied, Exhausted, LianqiaoError, NotFound, Reason, Unavailable

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_MESSAGE_BYTES = 32 * 1024 * 1024
_STATUS_KEY = "grpc-status-details-bin"

_TRANSPORT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)

_T = TypeVar("_T")


class Connection:
    """A channel to `address`, `host:port`. Opened lazily: the first call finds out who is there."""

    def __init__(self, address: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self.address = address
        self.timeout = timeout
        self.channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.enable_http_proxy", 0),
                # A node that was restarted is found again within seconds, not minutes.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.min_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 5_000),
            ],
        )

    def call(self, method: Callable[..., _T], request: Any, timeout: float | None = None) -> _T:
        """One unary call. Raises the node's error, or Unavailable(CHAIN_UNREACHABLE)."""
        try:
            return method(request, timeout=timeout or self.timeout)
        except grpc.RpcError as err:
            raise self.error(err) from None

    def stream(
        self, method: Callable[..., Any], request: Any, timeout: float | None = None
    ) -> Iterator[Any]:
        """A server's stream. Ends quietly at its deadline where `timeout` was given."""
        answers = method(request, timeout=timeout or self.timeout)
        try:
            yield from answers
        except grpc.RpcError as err:
            if err.code() is grpc.StatusCode.DEADLINE_EXCEEDED and timeout:
                return
            raise self.error(err) from None
        finally:
            answers.cancel()

    def error(self, err: grpc.RpcError) -> LianqiaoError:
        """What went wrong, as an error of ours."""
        status = _details(err)
        ours = None if status is None else error_from_status(status)
        return ours or self._transport_error(err)

    def _transport_error(self, err: grpc.RpcError) -> LianqiaoError:
        """An error that gRPC itself made: no node of ours spoke."""
        code, detail = err.code(), (err.details() or "")[:200]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return NotFound(
                Reason.PORT_NOT_FOUND,
                f"{self.address} does not serve this: {detail}",
                hint="records are kept by a node of role ledger, decisions by one of role relay",
                address=self.address,
            )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Exhausted(
                Reason.LIMIT_EXCEEDED,
                f"{self.address} would not take the call: {detail}",
                hint="send fewer items at a time, or later",
                address=self.address,
            )
        if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
            return Denied(
                Reason.NOT_PERMITTED,
                f"something before {self.address} refuses: {detail}",
                hint="it is no node of ours that answered; ask who runs the proxy there",
                address=self.address,
            )
        if code not in _TRANSPORT:
            return LianqiaoError(
                Reason.INTERNAL,
                f"{self.address} failed: {detail}",
                hint="it is no refusal of a node of ours: see the log of what runs there",
                address=self.address,
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unavailable(
                Reason.CHAIN_UNREACHABLE,
                f"{self.address} did not answer in time",
                hint="repeat the call; nothing is done twice",
                address=self.address,
            )
        if "SETTINGS frame" in detail:  # gRPC's words for a peer that took the connection
            return Unavailable(
                Reason.CHAIN_UNREACHABLE,
                f"something takes connections at {self.address} and does not speak gRPC",
                hint="check the port: `lianqiao serve` prints where it listens; another program "
                "may have this one, or the node there hangs",
                address=self.address,
            )
        return Unavailable(
            Reason.CHAIN_UNREACHABLE,
            f"no node answers at {self.address}",
            hint="start it with `lianqiao serve --config FILE`, or give its address by --node",
            address=self.address,
        )

    def close(self) -> None:
        """Ends the channel and every call on it."""
        self.channel.close()


def _details(err: Any) -> status_pb2.Status | None:
    """The google.rpc.Status in the trailing metadata, where there is one that decodes."""
    for key, value in err.trailing_metadata() or ():
        if key == _STATUS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None
