"""What a node does by itself at the end of a batch: contracts' own steps, then statements.

The order matters: what a contract could not send while a client was frozen is sent before the
client states what it has sent.
"""

from __future__ import annotations

import structlog

from relay.channel import Channel
from relay.contract import CONTRACT_FAILURES
from relay.errors import Conflict, LianqiaoError, Unavailable
from relay.host import HostState
from relay.sent import state_sent
from relay.store import Transaction

_log = structlog.get_logger()


def close_batch(channel: Channel, tx: Transaction, now: int, every: int) -> int:
    """Runs `tick` of every contract, then states what was sent (relay.sent); deterministic.

    Before a batch is sealed. Returns when it must be asked again at the latest, seconds.
    """
    for port in sorted(channel.contracts):
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
