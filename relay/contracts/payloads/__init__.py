"""What contracts say to each other: frozen values with one encoding each (proto/README.md).

| row | value | from → to | port |
| --- | --- | --- | --- |
| 1 | Attestation, answered by Answer | source ledger → relay | recognition |
| 2 | RecognitionRequest, answered by Decision | requesting ledger → relay | recognition |
| 3 | Notice, answered by Answer | relay → source ledger | registry |
| 4 | Outcome, answered by Answer | requesting ledger → relay | recognition |
| 5 | OutcomeNotice, answered by Answer | relay → source ledger | registry |
| 6 | Lock, answered by LockAnswer | relay → money ledger | escrow |
| 7 | NetLock, answered by LockAnswer | relay → money ledger | escrow |
| 8 | DecisionNotice, answered by DecisionAnswer | relay → money ledger | escrow |
| 9 | TermsNotice, answered by TermsAnswer | money ledger → relay | settlement |

Row 9 holds the terms of an account and is in relay.contracts.terms_notice.

Decoding is strict: RFC 8785 bytes, exact members, bounded strings, exact lengths; anything else is
Malformed. Each value knows its `signing_bytes`; a signature is put in by `dataclasses.replace`.
"""

from relay.contracts.payloads.access import fetch_bytes, find_bytes
from relay.contracts.payloads.attestation import Action, Attestation, AttestedItem, Status
from relay.contracts.payloads.consent import REPORT, Consent, Purpose, Signer, scope_of
from relay.contracts.payloads.decision import Answer, Decision, ItemDecision, grant_id
from relay.contracts.payloads.instruction import (
    Fee,
    Instruction,
    Leg,
    Mode,
    Money,
    Quote,
    Side,
)
from relay.contracts.payloads.itemised import BillLines
from relay.contracts.payloads.netting import (
    CutOff,
    Member,
    NetLock,
    cut_off_key,
    window_settlement,
)
from relay.contracts.payloads.notice import Notice, OutcomeNotice, PublicKey
from relay.contracts.payloads.outcome import ItemOutcome, Outcome, Result, Role
from relay.contracts.payloads.request import RecognitionRequest, Setting
from relay.contracts.payloads.settling import (
    DecisionAnswer,
    DecisionNotice,
    Ended,
    Lock,
    LockAnswer,
    Ruling,
    SettlementDecision,
    decision_key,
)
from relay.contracts.payloads.signatures import (
    Cosignature,
    OfficerRole,
    Signature,
    SignedInstruction,
    Withdrawal,
)

ENCODING = "application/json"
RECOGNITION_PORT = "recognition"
RECOGNITION_VERSION = "recognition-1"
REGISTRY_PORT = "registry"
REGISTRY_VERSION = "registry-1"
SETTLEMENT_PORT = "settlement"
SETTLEMENT_VERSION = "settlement-1"
ESCROW_PORT = "escrow"
ESCROW_VERSION = "escrow-1"
VERSIONS = {
    RECOGNITION_PORT: RECOGNITION_VERSION,
    REGISTRY_PORT: REGISTRY_VERSION,
    SETTLEMENT_PORT: SETTLEMENT_VERSION,
    ESCROW_PORT: ESCROW_VERSION,
}
"""What each port speaks."""

__all__ = [
    "ENCODING",
    "ESCROW_PORT",
    "ESCROW_VERSION",
    "RECOGNITION_PORT",
    "RECOGNITION_VERSION",
    "REGISTRY_PORT",
    "REGISTRY_VERSION",
    "REPORT",
    "SETTLEMENT_PORT",
    "SETTLEMENT_VERSION",
    "VERSIONS",
    "Action",
    "Answer",
    "Attestation",
    "AttestedItem",
    "BillLines",
    "Consent",
    "Cosignature",
    "CutOff",
    "Decision",
    "DecisionAnswer",
    "DecisionNotice",
    "Ended",
    "Fee",
    "Instruction",
    "ItemDecision",
    "ItemOutcome",
    "Leg",
    "Lock",
    "LockAnswer",
    "Member",
    "Mode",
    "Money",
    "NetLock",
    "Notice",
    "OfficerRole",
    "Outcome",
    "OutcomeNotice",
    "PublicKey",
    "Purpose",
    "Quote",
    "RecognitionRequest",
    "Result",
    "Role",
    "Ruling",
    "Setting",
    "SettlementDecision",
    "Side",
    "Signature",
    "SignedInstruction",
    "Signer",
    "Status",
    "Withdrawal",
    "cut_off_key",
    "decision_key",
    "fetch_bytes",
    "find_bytes",
    "grant_id",
    "scope_of",
    "window_settlement",
]
