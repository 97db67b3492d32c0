"""Structural validity of one FHIR R4 resource: fhirkit's findings, told without its values.

fhirkit quotes the offending value in its messages and unknown keys in its paths; both can be
patient data, so only known wordings and known element names leave this module.
"""

from __future__ import annotations

import re
from typing import Any

import fhirkit

from relay.errors import Invalid, Reason
from relay.record.bindings import check_bindings

_KINDS = frozenset(fhirkit.RESOURCE_TYPES)
_STEP = re.compile(r"_?[A-Za-z]{1,40}(?:\[(?:\d{1,6}|x)\])?")
_INVALID = re.compile(r"is not a valid ([A-Za-z]{1,20})\Z")
_FIXED = re.compile(
    r"(?:expected [a-z ]+, found (?:a|an|true|false|null)[a-z ]*"
    r"|required element missing|unknown element|the key appears more than once"
    r"|null [a-z ]+|an empty [a-z]+ is not allowed[a-z; ]*)\Z",
    re.IGNORECASE,
)


def check_structure(resource: dict[str, Any], content: bytes, where: str) -> None:
    """Checks one resource against FHIR R4 4.0.1 and the required bindings.

    `resource` is the strict reading of `content`. Raises Invalid(RECORD_INVALID) naming the
    element; never a value.
    """
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Invalid(
            Reason.RECORD_INVALID, "not a FHIR R4 resource", hint=f"{where}: check resourceType"
        )
    for issue in _issues(content):
        if issue.severity == "error":
            path, message = _path(issue), _message(issue.message)
            raise Invalid(
                Reason.RECORD_INVALID,
                f"{kind} is not valid FHIR R4: {message}",
                hint=f"{where}: {path}",
                field=path,
            )
    check_bindings(resource, where)


def _issues(content: bytes) -> list[Any]:
    try:
        return list(fhirkit.parse(content).issues)
    except fhirkit.ValidationError as error:
        return list(error.issues) or [_Unknown()]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        # A young native library: even a panic in it (a BaseException) refuses the record, no more.
        return [_Unknown()]


class _Unknown:
    severity, path, message = "error", "", ""


def _path(issue: Any) -> str:
    steps = str(issue.path).split(".")
    if issue.message == "unknown element":
        steps = steps[:-1]
    if not steps or steps[0] not in _KINDS:
        return "resource"
    safe = [steps[0]]
    for step in steps[1:]:
        if not _STEP.fullmatch(step):
            break
        safe.append(step)
    return ".".join(safe)


def _message(message: str) -> str:
    if match := _INVALID.search(message):
        return f"not a valid {match.group(1)}"
    return message if _FIXED.match(message) else "the element is not allowed as it stands"
