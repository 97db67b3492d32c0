"""What every RPC of ours passes: identity, deadline, one log line, errors as statuses.

Servicers raise errors of relay.errors and never mention a gRPC code. What is not in that tree is
our own fault: the caller is told so and nothing more, the log gets the place but not the values,
which might be a patient's.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from relay.codec.errors import error_to_status, internal_status
from relay.errors import LianqiaoError, Malformed, Reason
from relay.service.arriving import Arriving
from relay.service.caller import CALLER, caller_of

OURS = "/lianqiao."
MAX_DEADLINE_SECONDS = 24 * 3600
"""A deadline further away is none."""

_log = structlog.get_logger("lianqiao.rpc")
Behaviour = Callable[[Any, grpc.ServicerContext], Any]
Decode = Callable[[bytes], Any]


class Boundary(grpc.ServerInterceptor):
    """Wraps each method of our services; of health and reflection only the wait for a request."""

    def __init__(self, monotonic: Callable[[], float], arriving: Arriving) -> None:
        self._monotonic = monotonic
        self._arriving = arriving

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Replaces the behaviour of a handler by the guarded one."""
        handler = continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None:
            return handler
        if not method.startswith(OURS):
            return self._passed(handler)
        name = method.rpartition(".")[2]
        # The bytes are decoded below, not by grpc, which tells the caller of a fault of the server
        # and not of his own, without a reason. Nor is the request awaited by grpc, which ends no
        # call in which none comes: on the wire, a stream of one request is that request.
        decode = handler.request_deserializer
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._guard_stream(name, handler.unary_stream, decode),
                None,
                handler.response_serializer,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._guard_unary(name, handler.unary_unary, decode),
            None,
            handler.response_serializer,
        )

    def _guard_unary(self, name: str, behaviour: Behaviour, decode: Decode) -> Behaviour:
        def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            start, failure, response = self._monotonic(), None, None
            try:
                _admit(context)
                raw = self._request(requests, context)
                response = behaviour(_decoded(decode, raw), context)
            except Exception as err:
                failure = err
            self._finish(name, start, failure, context)
            return response

        return guarded

    def _guard_stream(self, name: str, behaviour: Behaviour, decode: Decode) -> Behaviour:
        def guarded(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            start, failure = self._monotonic(), None
            try:
                _admit(context)
                raw = self._request(requests, context)
                yield from behaviour(_decoded(decode, raw), context)
            except Exception as err:
                failure = err
            self._finish(name, start, failure, context)

        return guarded

    def _request(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The one request of a call. Raises Malformed where none came."""
        try:
            raw = next(self._arriving.each(requests, context), None)
        except grpc.RpcError:
            raw = None
        if raw is None:
            raise Malformed("the call ended without a request")
        return raw

    def _passed(self, handler: Any) -> Any:
        """A handler of another package, whose requests are awaited as ours are."""
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )

        def passed(requests: Iterator[Any], context: grpc.ServicerContext, *more: Any) -> Any:
            each = self._arriving.each(requests, context)
            if handler.request_streaming:
                return behaviour(each, context, *more)
            request = next(each, None)
            if request is None:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request")
            return behaviour(request, context, *more)

        for name in ("experimental_non_blocking", "experimental_thread_pool"):
            if hasattr(behaviour, name):  # how grpc is asked not to keep a thread for a watch
                setattr(passed, name, getattr(behaviour, name))
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        return make(passed, handler.request_deserializer, handler.response_serializer)

    def _finish(
        self,
        name: str,
        start: float,
        failure: Exception | None,
        context: grpc.ServicerContext,
    ) -> None:
        """Writes the one line of an RPC; ends it with a status where it failed.

        Servicers bind ids and counts to the line, never content.
        """
        code, reason, status = "OK", "", None
        if failure is not None:
            status = _status_of(failure, name)
            code = code_pb2.Code.Name(status.code)
            reason = failure.reason if isinstance(failure, LianqiaoError) else Reason.INTERNAL
        _log.info(
            "rpc",
            method=name,
            caller=CALLER.get().name,
            code=code,
            reason=str(reason),
            milliseconds=round((self._monotonic() - start) * 1000, 1),
        )
        if status is not None:
            context.abort_with_status(rpc_status.to_status(status))


def _admit(context: grpc.ServicerContext) -> None:
    """Identity and deadline, before anything of the request is looked at."""
    structlog.contextvars.clear_contextvars()
    CALLER.set(caller_of(context))
    remaining = context.time_remaining()
    if remaining is None or remaining > MAX_DEADLINE_SECONDS:
        raise Malformed(
            "the call has no deadline",
            reason=Reason.DEADLINE_MISSING,
            hint="set a deadline of at most a day on every call",
        )


def _decoded(decode: Decode, raw: bytes) -> Any:
    """The request in `raw`. Raises Malformed."""
    try:
        return decode(raw)
    except DecodeError:
        raise Malformed(
            "the request does not decode",
            hint="the services are described by reflection, and in proto/",
        ) from None


def _status_of(err: Exception, name: str) -> status_pb2.Status:
    if isinstance(err, LianqiaoError):
        return error_to_status(err)
    frames = traceback.extract_tb(err.__traceback__)[-5:]
    places = [f"{frame.name}:{frame.lineno}" for frame in frames]
    _log.error("fault", method=name, kind=type(err).__name__, places=places)
    return internal_status()
