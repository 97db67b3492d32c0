"""Which reasons a refusal may have: for honest relayers few, for each fault those it leads to.

A refusal that is right with a reason that is wrong is a fault too: people and programs act on
reasons, and a reason that hides another check (a path written twice, an error of ours) shows that
the check before it is gone.
"""

from __future__ import annotations

from collections import Counter

from relay.chain import Submission
from relay.errors import LianqiaoError, Reason
from relay.relayer import LaneReport
from tests.simulation.options import Options
from tests.simulation.oracle import Broken

R = Reason
_LATE = {R.TIMEOUT_ELAPSED, R.TIMED_OUT, R.RECEIVED}
"""A packet that came too late, or was decided meanwhile."""
_OPEN = {R.PACKETS_MISSING}
"""Statements about packets of which one expired here, and which its sender has not closed yet."""
_MOVED = {R.HEIGHT_NOT_MONOTONIC, R.INVALID_CONSISTENCY, R.HEIGHT_NOT_TRUSTED}
"""Headers that were made for a client that another relayer has moved since."""
_AHEAD = {R.HEADER_FROM_FUTURE, R.HEIGHT_NOT_TRUSTED, R.TIMEOUT_NOT_REACHED}
"""Clocks that differ."""
_CHANGED_SET = {R.NOT_ENOUGH_TRUST, R.VALIDATOR_SET_MISMATCH}
"""Headers of a set whose announcement was not shown."""
_SPLIT = {
    R.CLIENT_FROZEN,
    R.HEAD_CONFLICT,
    R.TIME_NOT_MONOTONIC,
    R.INVALID_PROOF,
    R.COMMITMENT_MISMATCH,
    R.PATH_NOT_FOUND,
    R.HEIGHT_NOT_FOUND,
    R.TIMEOUT_NOT_REACHED,
    *_LATE,
    *_MOVED,
    *_CHANGED_SET,
}
"""Between nodes one of which has signed two histories."""
_EXPIRED = {R.CLIENT_EXPIRED, R.RECOVERY_PENDING, *_MOVED}
"""Between nodes that were asleep for too long."""
_UNWITNESSED = {R.WITNESS_MISSING}
"""Heads that were not shown to those who must co-sign them."""
_BARE = {R.ENTRY_MISSING}
"""Decisions without the record that they are written in."""
_STRANGER = {
    R.MALFORMED,
    R.INVALID_PACKET,
    R.INVALID_PROOF,
    R.INVALID_SIGNATURE,
    R.UNKNOWN_SIGNER,
    R.DUPLICATE_SIGNER,
    R.QUORUM_NOT_REACHED,
    R.WEAK_KEY,
    R.CHAIN_ID_MISMATCH,
    R.COUNTERPARTY_MISMATCH,
    R.COMMITMENT_MISMATCH,
    R.TIMEOUT_NOT_REACHED,
    R.TIME_NOT_MONOTONIC,  # a statement under an earlier head than its own
    R.UNSUPPORTED_VERSION,
    R.LIMIT_EXCEEDED,
    *_LATE,
    *_MOVED,
    *_CHANGED_SET,
}
"""Deliveries that somebody changed, mixed or made up."""
_DOWN = {R.CHAIN_UNREACHABLE, R.DATABASE_UNREACHABLE}
"""Why an honest side stops for a while."""


class Reasons:
    """Holds every refusal against what may be."""

    def __init__(self, options: Options) -> None:
        self._honest = _LATE | _OPEN
        carriers = {edge.carrier for edge in options.edges}
        if options.second_relayer or "both" in carriers or options.calls or options.commits:
            self._honest |= _MOVED
        if options.replay or options.change or options.own or options.forge:
            self._honest |= _MOVED
        if options.drift_seconds or options.downtime_seconds:
            self._honest |= _AHEAD
        if options.night:
            self._honest |= _EXPIRED
        if options.rotation:
            self._honest |= _CHANGED_SET
        self._stranger = _STRANGER | (_UNWITNESSED if options.witnessed else set())
        if options.money is not None:
            self._stranger |= _BARE
        self.down = set(_DOWN)
        """More where disks fail."""
        self._ahead = _AHEAD if options.drift_seconds else set()
        self.seen: Counter[str] = Counter()

    def refused(self, answer: Submission, name: str, stranger: bool, split: bool) -> None:
        """A chain's answer to a delivery. Raises Broken."""
        reason = Reason(answer.reason)
        allowed = (
            self._honest | (self._stranger if stranger else set()) | (_SPLIT if split else set())
        )
        self.seen[f"{'stranger' if stranger else 'relayer'}: {reason}"] += 1
        if reason not in allowed | self._ahead:
            who = "a stranger" if stranger else "a relayer"
            raise Broken("reasons", f"{name} refuses {who} with {reason}: {answer.detail}")

    def stopped(self, report: LaneReport, name: str, split: bool) -> None:
        """Why a side of a lane stopped. Raises Broken."""
        for side in report.sides:
            if not side.reason:
                continue
            reason = Reason(side.reason)
            self.seen[f"side: {reason}"] += 1
            if reason not in self._honest | self.down | self._ahead | (_SPLIT if split else set()):
                raise Broken("reasons", f"a side of {name} stops with {reason}: {side.detail}")

    def operator(self, err: LianqiaoError, name: str) -> None:
        """Why an operator's action failed. Raises Broken."""
        self.seen[f"operator: {err.reason}"] += 1
        if err.reason not in self.down:
            raise Broken("reasons", f"an operator of {name} is refused with {err.reason}") from err
