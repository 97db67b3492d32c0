"""The rules of recognition as versioned data on the relay.

`documents` says how a document is written, `values` what it is parsed into, `loaded` how it is
loaded and which version is in force, `snapshot` what an evaluation looks things up in.
"""

from relay.contracts.policy.documents import MAX_POLICY_BYTES, parse_document
from relay.contracts.policy.loaded import Line, document, in_force, index, load, read
from relay.contracts.policy.snapshot import Policy, catalogues_at, merge, policy_at
from relay.contracts.policy.values import Document, Kind

__all__ = [
    "MAX_POLICY_BYTES",
    "Document",
    "Kind",
    "Line",
    "Policy",
    "catalogues_at",
    "document",
    "in_force",
    "index",
    "load",
    "merge",
    "parse_document",
    "policy_at",
    "read",
]
