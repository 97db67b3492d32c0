"""What a node does by itself: calls that are due, contracts' own steps, then statements.

The order at the end of a batch matters: what a contract could not send while a client was frozen is
sent before the client states what it has sent. Calls that are due (relay.contract.Contract.due)
wait for no batch: a node looks for them with its own tick, a replicated one runs them with every
block, at the time of the block, so that all replicas do the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from relay.channel import Channel
from relay.contract import CONTRACT_FAILURES
from relay.errors import Conflict, LianqiaoError, Reason, Unavailable
from relay.host import HostState
from relay.sent import state_sent
from relay.store import Transaction

_log = structlog.get_logger()
Failed = tuple[str, str, str]
"""(port, method, reason)."""


def close_batch(channel: Channel, tx: Transaction, now: int, every: int) -> int:
    """Runs `tick` of every contract, then states what was sent (relay.sent); deterministic.

    Before a batch is sealed. Returns when it must be asked again at the latest, seconds.
    """
    for port in sorted(channel.contracts) if channel.ticks else ():
        mark = tx.mark()
        try:
            channel.contracts[port].tick(HostState(channel, tx, port, now), now)
        except (Conflict, Unavailable):
            raise
        except CONTRACT_FAILURES as err:
            tx.rollback(mark)
            reason = err.reason.value if isinstance(err, LianqiaoError) else type(err).__name__
            _log.error("tick_failed", port=port, reason=reason)

    def holds(chain_id: str) -> bool:
        return any(
            contract.holds(chain_id, HostState(channel, tx, port, now))
            for port, contract in channel.contracts.items()
        )

    return state_sent(channel.clients, tx, now, every, holds)


def any_due(channel: Channel, tx: Transaction, now: int) -> bool:
    """Whether a contract has something to do."""
    return any(True for _ in _due(channel, tx, now))


def run_due(channel: Channel, tx: Transaction, now: int) -> list[Failed]:
    """Runs every call that is due; those that failed, which have written nothing and stay due.

    Raises Conflict, and what the database raises.
    """
    failed: list[Failed] = []
    for port, method, body in list(_due(channel, tx, now)):
        mark = tx.mark()
        try:
            channel.contracts[port].call(method, body, HostState(channel, tx, port, now), now)
        except CONTRACT_FAILURES as err:
            tx.rollback(mark)
            if isinstance(err, Conflict | Unavailable):
                raise
            reason = err.reason if isinstance(err, LianqiaoError) else Reason.INTERNAL
            failed.append((port, method, reason.value))
    return failed


def _due(channel: Channel, tx: Transaction, now: int) -> Iterator[tuple[str, str, bytes]]:
    """(port, method, body), ascending by port. A contract that fails here has nothing due."""
    for port, contract in sorted(channel.contracts.items()):
        try:
            calls = contract.due(HostState(channel, tx, port, now), now)
        except CONTRACT_FAILURES as err:
            if isinstance(err, Conflict | Unavailable):
                raise
            continue
        yield from ((port, method, body) for method, body in calls)
