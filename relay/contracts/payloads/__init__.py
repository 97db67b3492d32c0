"""What contracts say to each other: frozen values with one encoding each (proto/README.md).

| row | value | from → to | port |
| --- | --- | --- | --- |
| 1 | Attestation, answered by Answer | source ledger → relay | recognition |
| 2 | RecognitionRequest, answered by Decision | requesting ledger → relay | recognition |
| 3 | Notice, answered by Answer | relay → source ledger | registry |
| 4 | Outcome, answered by Answer | requesting ledger → relay | recognition |
| 5 | OutcomeNotice, answered by Answer | relay → source ledger | registry |

Decoding is strict: RFC 8785 bytes, exact members, bounded strings, exact lengths; anything else is
Malformed. Each value knows its `signing_bytes`; a signature is put in by `dataclasses.replace`.
"""

from relay.contracts.payloads.access import fetch_bytes, find_bytes
from relay.contracts.payloads.attestation import Action, Attestation, AttestedItem, Status
from relay.contracts.payloads.consent import REPORT, Consent, Purpose, Signer, scope_of
from relay.contracts.payloads.decision import Answer, Decision, ItemDecision, grant_id
from relay.contracts.payloads.notice import Notice, OutcomeNotice, PublicKey
from relay.contracts.payloads.outcome import ItemOutcome, Outcome, Result, Role
from relay.contracts.payloads.request import RecognitionRequest, Setting

ENCODING = "application/json"
RECOGNITION_PORT = "recognition"
RECOGNITION_VERSION = "recognition-1"
REGISTRY_PORT = "registry"
REGISTRY_VERSION = "registry-1"

__all__ = [
    "ENCODING",
    "RECOGNITION_PORT",
    "RECOGNITION_VERSION",
    "REGISTRY_PORT",
    "REGISTRY_VERSION",
    "REPORT",
    "Action",
    "Answer",
    "Attestation",
    "AttestedItem",
    "Consent",
    "Decision",
    "ItemDecision",
    "ItemOutcome",
    "Notice",
    "Outcome",
    "OutcomeNotice",
    "PublicKey",
    "Purpose",
    "RecognitionRequest",
    "Result",
    "Role",
    "Setting",
    "Signer",
    "Status",
    "fetch_bytes",
    "find_bytes",
    "grant_id",
    "scope_of",
]
