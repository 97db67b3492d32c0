"""Every error that leaves this program, with its frozen reason.

The tree (the class says what the caller can do, the reason says what was wrong):

    LianqiaoError
    ├── Malformed        the bytes do not decode; never worth a retry
    ├── NotFound         nothing is known under that name
    ├── Invalid          decoded, and false: a signature, a proof, a rule; may be evidence
    ├── NotEnoughTrust   neither proven nor false: present an intermediate header
    ├── Refused          true, but not allowed in this state (expired, frozen, timed out, policy)
    ├── Denied           the caller may not do this
    ├── Conflict         lost a race; repeat the whole call
    ├── Exhausted        a limit was reached
    └── Unavailable      the only class that may be retried blindly

A reason is never renamed or reused. Programmer errors are RuntimeError or AssertionError and are
not in this tree.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Frozen reasons, listed in order of precedence: the first that holds is the one reported."""

    # --- form
    MALFORMED = "MALFORMED"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    UNSUPPORTED_VERSION = "UNSUPPORTED_VERSION"
    DEADLINE_MISSING = "DEADLINE_MISSING"
    # --- who asks
    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_PERMITTED = "NOT_PERMITTED"
    NO_GRANT = "NO_GRANT"
    PROPOSAL_MISMATCH = "PROPOSAL_MISMATCH"
    APPROVAL_PENDING = "APPROVAL_PENDING"
    # --- names
    CLIENT_NOT_FOUND = "CLIENT_NOT_FOUND"
    CLIENT_TYPE_UNKNOWN = "CLIENT_TYPE_UNKNOWN"
    PACKET_NOT_FOUND = "PACKET_NOT_FOUND"
    HEIGHT_NOT_FOUND = "HEIGHT_NOT_FOUND"
    PATH_NOT_FOUND = "PATH_NOT_FOUND"
    PORT_NOT_FOUND = "PORT_NOT_FOUND"
    RECORD_NOT_FOUND = "RECORD_NOT_FOUND"
    POLICY_NOT_FOUND = "POLICY_NOT_FOUND"
    NOT_FOUND = "NOT_FOUND"
    # --- state of a client
    COUNTERPARTY_MISMATCH = "COUNTERPARTY_MISMATCH"
    COUNTERPARTY_UNKNOWN = "COUNTERPARTY_UNKNOWN"
    COUNTERPARTY_EXISTS = "COUNTERPARTY_EXISTS"
    CHAIN_BOUND = "CHAIN_BOUND"
    CLIENT_FROZEN = "CLIENT_FROZEN"
    CLIENT_EXPIRED = "CLIENT_EXPIRED"
    RECOVERY_PENDING = "RECOVERY_PENDING"
    RECOVERY_NOT_DUE = "RECOVERY_NOT_DUE"
    RECOVERY_NOT_NEEDED = "RECOVERY_NOT_NEEDED"
    SEQUENCE_USED = "SEQUENCE_USED"
    # --- headers
    CHAIN_ID_MISMATCH = "CHAIN_ID_MISMATCH"
    HEIGHT_NOT_MONOTONIC = "HEIGHT_NOT_MONOTONIC"
    TIME_NOT_MONOTONIC = "TIME_NOT_MONOTONIC"
    HEADER_FROM_FUTURE = "HEADER_FROM_FUTURE"
    VALIDATOR_SET_MISMATCH = "VALIDATOR_SET_MISMATCH"
    NOT_ENOUGH_TRUST = "NOT_ENOUGH_TRUST"
    ALGORITHM_NOT_PINNED = "ALGORITHM_NOT_PINNED"
    WEAK_KEY = "WEAK_KEY"
    UNKNOWN_SIGNER = "UNKNOWN_SIGNER"
    DUPLICATE_SIGNER = "DUPLICATE_SIGNER"
    INVALID_SIGNATURE = "INVALID_SIGNATURE"
    QUORUM_NOT_REACHED = "QUORUM_NOT_REACHED"
    WITNESS_MISSING = "WITNESS_MISSING"
    INVALID_CONSISTENCY = "INVALID_CONSISTENCY"
    HEAD_CONFLICT = "HEAD_CONFLICT"
    NOT_MISBEHAVIOUR = "NOT_MISBEHAVIOUR"
    # --- proofs
    HEIGHT_NOT_TRUSTED = "HEIGHT_NOT_TRUSTED"
    INVALID_PROOF = "INVALID_PROOF"
    ABSENCE_NOT_PROVABLE = "ABSENCE_NOT_PROVABLE"
    HEAD_STALE = "HEAD_STALE"
    ENTRY_MISSING = "ENTRY_MISSING"
    PACKETS_MISSING = "PACKETS_MISSING"
    # --- packets
    INVALID_PACKET = "INVALID_PACKET"
    COMMITMENT_MISMATCH = "COMMITMENT_MISMATCH"
    PRUNED = "PRUNED"
    TIMED_OUT = "TIMED_OUT"
    RECEIVED = "RECEIVED"
    TIMEOUT_ELAPSED = "TIMEOUT_ELAPSED"
    TIMEOUT_NOT_REACHED = "TIMEOUT_NOT_REACHED"
    TIMEOUT_TOO_FAR = "TIMEOUT_TOO_FAR"
    ACKNOWLEDGEMENT_PENDING = "ACKNOWLEDGEMENT_PENDING"
    HOP_LIMIT = "HOP_LIMIT"
    # --- journal and node
    PATH_WRITTEN = "PATH_WRITTEN"
    CONTRACT_REFUSED = "CONTRACT_REFUSED"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    CONFLICT = "CONFLICT"
    WRONG_CHAIN = "WRONG_CHAIN"
    WRONG_SCHEMA = "WRONG_SCHEMA"
    CONFIG_INVALID = "CONFIG_INVALID"
    JOURNAL_CORRUPT = "JOURNAL_CORRUPT"
    STALE_RESTORE = "STALE_RESTORE"
    # --- records
    RECORD_MISMATCH = "RECORD_MISMATCH"
    RECORD_INVALID = "RECORD_INVALID"
    RECORD_REVISED = "RECORD_REVISED"
    RECORD_ERASED = "RECORD_ERASED"
    VAULT_CORRUPT = "VAULT_CORRUPT"
    CONSENT_INVALID = "CONSENT_INVALID"
    # --- money
    CURRENCY_UNKNOWN = "CURRENCY_UNKNOWN"
    CURRENCY_MISMATCH = "CURRENCY_MISMATCH"
    AMOUNT_INVALID = "AMOUNT_INVALID"
    PARTY_INVALID = "PARTY_INVALID"
    RATE_NOT_FOUND = "RATE_NOT_FOUND"
    RATE_INVALID = "RATE_INVALID"
    RATE_STALE = "RATE_STALE"
    RATE_COLLAR = "RATE_COLLAR"
    BILL_INVALID = "BILL_INVALID"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    QUOTE_FOREIGN = "QUOTE_FOREIGN"
    QUOTE_EXPIRED = "QUOTE_EXPIRED"
    QUOTE_USED = "QUOTE_USED"
    COSIGNATURE_MISSING = "COSIGNATURE_MISSING"
    LIMIT_REACHED = "LIMIT_REACHED"
    FUNDS_MISSING = "FUNDS_MISSING"
    LANE_PAUSED = "LANE_PAUSED"
    LEDGER_UNABLE = "LEDGER_UNABLE"
    WINDOW_CLOSED = "WINDOW_CLOSED"
    WINDOW_FULL = "WINDOW_FULL"
    SETTLEMENT_DECIDED = "SETTLEMENT_DECIDED"
    DECISION_MISMATCH = "DECISION_MISMATCH"
    # --- bundles
    TRUST_MISSING = "TRUST_MISSING"
    TRUST_TOO_OLD = "TRUST_TOO_OLD"
    NOT_CANONICAL = "NOT_CANONICAL"
    BUNDLE_INCOMPLETE = "BUNDLE_INCOMPLETE"
    # --- transport
    CHAIN_UNREACHABLE = "CHAIN_UNREACHABLE"
    DATABASE_UNREACHABLE = "DATABASE_UNREACHABLE"
    CLOCK_JUMPED = "CLOCK_JUMPED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"


class LianqiaoError(Exception):
    """Base of the tree. `detail` is for people; `data` repeats its dynamic parts for programs."""

    def __init__(self, reason: Reason, detail: str, *, hint: str = "", **data: object) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.hint = hint
        self.data = {name: str(value)[:200] for name, value in data.items()}


class Malformed(LianqiaoError):
    """Bytes that are not an encoding of what was asked for; reason is MALFORMED unless stated."""

    def __init__(
        self,
        detail: str,
        *,
        reason: Reason = Reason.MALFORMED,
        hint: str = "",
        **data: object,
    ) -> None:
        super().__init__(reason, detail, hint=hint, **data)


class NotFound(LianqiaoError):
    """Nothing is known under that name."""


class Invalid(LianqiaoError):
    """It decoded and it is false."""


class NotEnoughTrust(LianqiaoError):
    """Not proven and not disproven: an intermediate header is needed."""

    def __init__(self, detail: str, *, hint: str = "", **data: object) -> None:
        super().__init__(Reason.NOT_ENOUGH_TRUST, detail, hint=hint, **data)


class Refused(LianqiaoError):
    """Well-formed and true, but not allowed in this state."""


class Denied(LianqiaoError):
    """The caller is not who may do this."""


class Conflict(LianqiaoError):
    """Lost a race; the whole call may be repeated."""


class Exhausted(LianqiaoError):
    """A limit was reached; retrying later may help."""


class Unavailable(LianqiaoError):
    """Not now: the only class that may be retried blindly."""
