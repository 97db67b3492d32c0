"""Who decides for a chain that several institutions replicate, and how many of them must agree: as
its journal holds it, from the genesis on. Pure but for the journal that it reads and extends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.actions import AnnounceSet
from relay.channel import Channel
from relay.errors import Malformed, Reason, Refused
from relay.light.types import ValidatorSet
from relay.light.validators import check_keys, decode_set
from relay.packet import be64
from relay.paths import Kind, host_path
from relay.store import Transaction

MAX_CHANGES = 10_000


@dataclass(frozen=True, slots=True)
class ChangeOperators:
    """Changes who decides and how many of them must agree, in one step: between two there would be
    a chain for which too few decide, or all must."""

    operators: ValidatorSet
    quorum: int

    def apply(self, channel: Channel, tx: Transaction, now: int) -> bytes:
        """The hash of the set. Raises as `check_operators`."""
        check_operators(self.operators, self.quorum)
        tx.append(host_path(Kind.QUORUM, channel.chain_id, be64(tx.size)), be64(self.quorum))
        return AnnounceSet(self.operators).apply(channel, tx, now)


def check_operators(operators: ValidatorSet, quorum: int) -> None:
    """Raises Malformed, Invalid(WEAK_KEY), Refused(LIMIT_EXCEEDED) where fewer than must agree."""
    check_keys(operators)
    if any(len(one.keys) != 1 or one.power != 1 for one in operators.validators):
        raise Malformed("an operator has one key and one voice")
    if quorum < 1:
        raise Malformed("at least one operator must agree", field="quorum")
    if len(operators.validators) < quorum:
        raise Refused(Reason.LIMIT_EXCEEDED, f"fewer operators than the {quorum} who must agree")


def founding_quorum_path(chain_id: str) -> bytes:
    """Where the genesis writes how many operators must agree; later changes are Kind.QUORUM."""
    return host_path(Kind.DECIDED, chain_id, b"quorum")


def quorum_of(tx: Transaction, chain_id: str) -> int:
    """How many operators must agree: as changed last, else as the genesis says."""
    found = _changes(tx, Kind.QUORUM, chain_id)
    value = found[-1][1] if found else tx.get(founding_quorum_path(chain_id))
    assert value is not None, "the genesis says how many operators are needed"
    return int.from_bytes(value, "big")


def operators_of(tx: Transaction, chain_id: str) -> ValidatorSet:
    """The operators in force: those announced last, else those of the genesis."""
    found = _changes(tx, Kind.SET, chain_id)
    value = found[-1][1] if found else tx.get(host_path(Kind.GENESIS, chain_id))
    assert value is not None, "a journal begins with its operators"
    return decode_set(value)


def announced(tx: Transaction, chain_id: str) -> int:
    """Size of the journal when those in force were announced; 0 at the genesis. What was approved
    before does not count: it was by whoever had the name then, and under the quorum of then."""
    found = _changes(tx, Kind.SET, chain_id)
    return int.from_bytes(found[-1][0][-8:], "big") if found else 0


def _changes(tx: Transaction, kind: Kind, chain_id: str) -> Sequence[tuple[bytes, bytes]]:
    base = host_path(kind, chain_id)
    return tx.scan(base, base + b"\xff" * 9, MAX_CHANGES)
