"""The one place that writes: `with store.transaction() as tx:`; nothing below it commits."""

from relay.store.rows import (
    BlockRow,
    CheckpointRow,
    ClientRow,
    ConsensusRow,
    DeliveryRow,
    Direction,
    PacketRow,
    PacketState,
    RequestRow,
    client_of_lineage,
    lineage_of,
)
from relay.store.store import Store
from relay.store.transaction import Transaction

__all__ = [
    "BlockRow",
    "CheckpointRow",
    "ClientRow",
    "ConsensusRow",
    "DeliveryRow",
    "Direction",
    "PacketRow",
    "PacketState",
    "RequestRow",
    "Store",
    "Transaction",
    "client_of_lineage",
    "lineage_of",
]
