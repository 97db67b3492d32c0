"""Which reasons a refusal may have: for honest relayers few, for each fault those it leads to.

A refusal that is right with a reason that is wrong is a fault too: people and programs act on
reasons, and a reason that hides another check (a path written twice, an error of ours) shows that
the check before it is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from relay.chain import Submission
from relay.errors import LianqiaoError, Reason
from relay.light.types import DEFAULT_CLOCK_DRIFT
from relay.relayer import LaneReport
from tests.simulation.options import Options
from tests.simulation.oracle import Broken

R = Reason
Pair = frozenset[str]
"""The names of two chains that follow each other."""
_LATE = {R.TIMEOUT_ELAPSED, R.TIMED_OUT, R.RECEIVED}
"""A packet that came too late, or was decided meanwhile."""
_OPEN = {R.PACKETS_MISSING}
"""Statements about packets of which one expired here, and which its sender has not closed yet."""
_MOVED = {R.HEIGHT_NOT_MONOTONIC, R.INVALID_CONSISTENCY, R.HEIGHT_NOT_TRUSTED}
"""Headers that were made for a client that another relayer has moved since."""
_EARLY = {R.TIMEOUT_NOT_REACHED}
"""Clocks that differ, or a node that does not look at its own."""
_AHEAD = {R.HEADER_FROM_FUTURE, R.HEIGHT_NOT_TRUSTED}
"""Clocks that differ by more than clients tolerate, and what was shown under such a header."""
_CHANGED_SET = {R.NOT_ENOUGH_TRUST, R.VALIDATOR_SET_MISMATCH, R.HEIGHT_NOT_TRUSTED}
"""Headers of a set whose announcement was not shown, and what was shown under them."""
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
_EXPIRED = {R.CLIENT_EXPIRED, *_MOVED}
"""After a night longer than the trusting period, and once clients have new heads."""
_RECOVERING = {R.RECOVERY_PENDING}
"""Between nodes one of whose operators has proposed a recovery of the other's client."""
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
    R.HEADER_FROM_FUTURE,  # a time is changed like any other text, and looked at before signatures
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
    """Holds every refusal against what may be.

    What is excused by a fault is excused from when it has happened, and between the chains that it
    has happened to, as far as a simulation knows both.
    """

    def __init__(
        self,
        options: Options,
        rotated: Callable[[str], bool],
        hasty: str,
        marks: Mapping[str, int],
    ) -> None:
        """`rotated`: whether a chain has ever changed its set. `hasty`: the node that does not look
        at its clock. `marks`: what has happened so far."""
        self._rotated = rotated
        self._marks = marks
        self._hasty = hasty
        self._always = _LATE | _OPEN
        if options.second_relayer or options.calls or options.commits:
            self._always |= _MOVED
        if options.replay or options.change or options.own or options.forge:
            self._always |= _MOVED
        if options.drift_seconds:
            self._always |= _EARLY
        if 2 * options.drift_seconds > DEFAULT_CLOCK_DRIFT:
            self._always |= _AHEAD
        ends = [(frozenset((edge.near, edge.far)), edge.carrier) for edge in options.edges]
        self._both = {pair for pair, carrier in ends if carrier == "both"}
        self.recovering: set[Pair] = set()
        """Of which a client was ever proposed to be recovered."""
        self._stranger = _STRANGER | (_UNWITNESSED if options.witnessed else set())
        if options.money is not None:
            self._stranger |= _BARE
        self.down = set(_DOWN)
        """More where disks fail."""
        self.seen: Counter[str] = Counter()

    def _honest(self, pair: Pair) -> set[Reason]:
        """What honest relayers may be refused with between two chains, by now."""
        found = set(self._always)
        if pair in self._both:
            found |= _MOVED
        if self._hasty in pair:
            found |= _EARLY
        if self._marks["night"]:
            found |= _EXPIRED
        if pair in self.recovering:
            found |= _RECOVERING
        if any(map(self._rotated, pair)):
            found |= _CHANGED_SET
        return found

    def refused(
        self, answer: Submission, pair: Pair, name: str, *, stranger: bool, split: bool
    ) -> None:
        """The answer of the chain `name` to a delivery from the other of the pair; `split`: one of
        them has signed two histories. Raises Broken."""
        reason = Reason(answer.reason)
        allowed = self._honest(pair) | (_SPLIT if split else set())
        if stranger:
            allowed |= self._stranger
        self.seen[f"{'stranger' if stranger else 'relayer'}: {reason}"] += 1
        if reason not in allowed:
            who = "a stranger" if stranger else "a relayer"
            raise Broken("reasons", f"{name} refuses {who} with {reason}: {answer.detail}")

    def stopped(self, report: LaneReport, pair: Pair, name: str, *, split: bool) -> None:
        """Why a side of a lane stopped. Raises Broken."""
        for side in report.sides:
            if not side.reason:
                continue
            reason = Reason(side.reason)
            self.seen[f"side: {reason}"] += 1
            allowed = self._honest(pair) | self.down | (_SPLIT if split else set())
            if reason not in allowed:
                raise Broken("reasons", f"a side of {name} stops with {reason}: {side.detail}")

    def operator(self, err: LianqiaoError, name: str) -> None:
        """Why an operator's action failed. Raises Broken."""
        self.seen[f"operator: {err.reason}"] += 1
        if err.reason not in self.down:
            raise Broken("reasons", f"an operator of {name} is refused with {err.reason}") from err
