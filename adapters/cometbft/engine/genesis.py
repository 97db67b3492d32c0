"""The first state of a replicated chain, as `app_state` of its genesis file says it. Pure.

    {"operators": [{"key": "ed25519:<hex>", "name": "zj", "power": 1}, …], "quorum": 3,
     "role": "relay", "version": 1}

Operators ask for actions; validators (in the genesis file of CometBFT) make blocks. Each
institution is both, with two keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from relay.errors import Malformed
from relay.light.types import Validator, ValidatorSet
from relay.light.validators import validator_set
from relay.nesting import loads

MAX_STATE_BYTES = 256 * 1024
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Genesis:
    """What the chain begins with."""

    role: str
    operators: ValidatorSet
    quorum: int
    """Operators who must ask for what changes whom the chain trusts."""


def encode_genesis(genesis: Genesis) -> bytes:
    """The JSON that stands in the genesis file, and is compared by all who start the chain."""
    operators = [
        {"key": f"{algorithm}:{key.hex()}", "name": v.name}
        for v in genesis.operators.validators
        for algorithm, key in v.keys[:1]
    ]
    value = {
        "operators": operators,
        "quorum": genesis.quorum,
        "role": genesis.role,
        "version": _VERSION,
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def decode_genesis(raw: bytes) -> Genesis:
    """Raises Malformed, and Invalid(WEAK_KEY)."""
    try:
        value = loads(raw, 16) if len(raw) <= MAX_STATE_BYTES else None
        if not isinstance(value, dict) or set(value) != {"operators", "quorum", "role", "version"}:
            raise ValueError
        if value["version"] != _VERSION or value["role"] not in ("ledger", "relay"):
            raise ValueError
        operators = [_operator(one) for one in value["operators"]]
        genesis = Genesis(value["role"], validator_set(operators), value["quorum"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Malformed("app_state is not that of a lianqiao chain") from None
    quorum, count = genesis.quorum, len(genesis.operators.validators)
    if type(quorum) is not int or not 1 <= quorum <= count:
        raise Malformed(f"a quorum lies between 1 and the {count} operators")
    return genesis


def _operator(value: dict[str, str]) -> Validator:
    if set(value) != {"key", "name"}:
        raise ValueError
    algorithm, _, key = value["key"].partition(":")
    return Validator(value["name"], 1, ((algorithm, bytes.fromhex(key)),))
