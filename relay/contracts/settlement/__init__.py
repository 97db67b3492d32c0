"""Settlement across ledgers, both sides or neither; runs on a relay (see contract.py)."""

from relay.contracts.settlement.contract import CONTRACT, Settlement
from relay.contracts.settlement.keys import (
    SettlementStatus,
    SettlementView,
    find_cut_off,
    find_decision,
    find_instruction,
    find_settlement,
    paused,
    retried_locks,
    settlement_of,
)
from relay.contracts.settlement.rates import RatePolicy, policy_at, rate_key, read_policy
from relay.contracts.settlement.windows import net_set

__all__ = [
    "CONTRACT",
    "RatePolicy",
    "Settlement",
    "SettlementStatus",
    "SettlementView",
    "find_cut_off",
    "find_decision",
    "find_instruction",
    "find_settlement",
    "net_set",
    "paused",
    "policy_at",
    "rate_key",
    "read_policy",
    "retried_locks",
    "settlement_of",
]
