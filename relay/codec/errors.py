"""Errors as google.rpc.Status with one ErrorInfo, and back (AIP-193).

    class             code                  retry
    Malformed         INVALID_ARGUMENT      no; BadRequest names the field
    NotFound          NOT_FOUND             no
    Invalid           INVALID_ARGUMENT      no
    NotEnoughTrust    FAILED_PRECONDITION   with an intermediate header
    Refused           FAILED_PRECONDITION   when the state has changed
    Denied            PERMISSION_DENIED     no (UNAUTHENTICATED where nobody was recognised)
    Conflict          ABORTED               the whole call
    Exhausted         RESOURCE_EXHAUSTED    later, RetryInfo says when
    Unavailable       UNAVAILABLE           yes, RetryInfo says when

The message is for people; its dynamic parts and the hint are repeated in the metadata. A reason
that a newer peer made up becomes INTERNAL here, with the reason kept in the detail.
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from relay.errors import (
    Conflict,
    Denied,
    Exhausted,
    Invalid,
    LianqiaoError,
    Malformed,
    NotEnoughTrust,
    NotFound,
    Reason,
    Refused,
    Unavailable,
)

DOMAIN = "relay.lianqiao"
RETRY_SECONDS = 1
MAX_DETAIL = 1000
INTERNAL_HINT = (
    "a fault of the node's program: what it wrote to standard error at this moment says which; "
    "lianqiao fsck finds whether its database is whole"
)
MAX_METADATA = 16
"""Trailing metadata must stay well below gRPC's 8 KiB."""

_CODES: dict[type[LianqiaoError], int] = {
    Malformed: code_pb2.INVALID_ARGUMENT,
    NotFound: code_pb2.NOT_FOUND,
    Invalid: code_pb2.INVALID_ARGUMENT,
    NotEnoughTrust: code_pb2.FAILED_PRECONDITION,
    Refused: code_pb2.FAILED_PRECONDITION,
    Denied: code_pb2.PERMISSION_DENIED,
    Conflict: code_pb2.ABORTED,
    Exhausted: code_pb2.RESOURCE_EXHAUSTED,
    Unavailable: code_pb2.UNAVAILABLE,
}
_FORM = frozenset(
    {
        Reason.MALFORMED,
        Reason.LIMIT_EXCEEDED,
        Reason.UNSUPPORTED_VERSION,
        Reason.DEADLINE_MISSING,
        Reason.NOT_CANONICAL,
    }
)
"""Reasons of INVALID_ARGUMENT that say the bytes did not decode; the others are Invalid."""


def code_of(error: LianqiaoError) -> int:
    """The google.rpc.Code of an error: by its class, but for two reasons."""
    if error.reason is Reason.UNAUTHENTICATED:
        return int(code_pb2.UNAUTHENTICATED)
    if error.reason is Reason.REQUEST_ID_REUSED:
        return int(code_pb2.INVALID_ARGUMENT)
    return next((_CODES[c] for c in type(error).__mro__ if c in _CODES), int(code_pb2.INTERNAL))


def error_to_status(error: LianqiaoError) -> status_pb2.Status:
    """The status that a caller is shown."""
    code = code_of(error)
    data = dict(list(error.data.items())[:MAX_METADATA])
    if error.hint:
        data["hint"] = error.hint[:MAX_DETAIL]
    status = status_pb2.Status(code=code, message=error.detail[:MAX_DETAIL])
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=data)
    status.details.add().Pack(info)
    if isinstance(error, Malformed) and "field" in error.data:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.data["field"], description=status.message
        )
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if code in (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED):
        delay = Duration(seconds=RETRY_SECONDS)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def internal_status() -> status_pb2.Status:
    """What a caller is shown of our own fault: that it was ours, and nothing of the inside."""
    status = status_pb2.Status(code=code_pb2.INTERNAL, message="the node failed; see its log")
    info = error_details_pb2.ErrorInfo(
        reason=Reason.INTERNAL.value, domain=DOMAIN, metadata={"hint": INTERNAL_HINT}
    )
    status.details.add().Pack(info)
    return status


def error_from_status(status: status_pb2.Status) -> LianqiaoError | None:
    """The error that a peer of ours raised; None where the status is not one of ours."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            try:
                detail.Unpack(info)
            except DecodeError:
                return None
            break
    if info.domain != DOMAIN:
        return None
    data: dict[str, str] = {k: v for k, v in info.metadata.items() if k != "hint"}
    hint = info.metadata.get("hint", "")
    try:
        reason = Reason(info.reason)
    except ValueError:
        detail_text = f"{status.message} (reason {info.reason[:64]}, unknown to this version)"
        return _make(status.code, Reason.INTERNAL, detail_text, hint, data)
    return _make(status.code, reason, status.message, hint, data)


def _make(code: int, reason: Reason, detail: str, hint: str, data: dict[str, str]) -> LianqiaoError:
    """The error of the class that code and reason stand for together."""
    if reason is Reason.NOT_ENOUGH_TRUST:
        error: LianqiaoError = NotEnoughTrust(detail, hint=hint)
    elif code == code_pb2.INVALID_ARGUMENT and reason in _FORM:
        error = Malformed(detail, reason=reason, hint=hint)
    elif reason is Reason.REQUEST_ID_REUSED:
        error = Refused(reason, detail, hint=hint)
    else:
        classes: dict[int, type[LianqiaoError]] = {
            code_pb2.INVALID_ARGUMENT: Invalid,
            code_pb2.NOT_FOUND: NotFound,
            code_pb2.FAILED_PRECONDITION: Refused,
            code_pb2.PERMISSION_DENIED: Denied,
            code_pb2.UNAUTHENTICATED: Denied,
            code_pb2.ABORTED: Conflict,
            code_pb2.RESOURCE_EXHAUSTED: Exhausted,
            code_pb2.UNAVAILABLE: Unavailable,
        }
        error = classes.get(code, LianqiaoError)(reason, detail, hint=hint)
    error.data = data
    return error
