"""The registry of records, grants and access; runs on a ledger (see contract.py)."""

from relay.contracts.registry.contract import CONTRACT, Registry
from relay.contracts.registry.keys import (
    UNAUTHENTICATED_CALLER,
    RequestStatus,
    RequestView,
    Role,
    find_attestation,
    find_grant,
    find_request,
    institution_keys,
    latest_version,
    revision_of,
    standing,
)

__all__ = [
    "CONTRACT",
    "UNAUTHENTICATED_CALLER",
    "Registry",
    "RequestStatus",
    "RequestView",
    "Role",
    "find_attestation",
    "find_grant",
    "find_request",
    "institution_keys",
    "latest_version",
    "revision_of",
    "standing",
]
