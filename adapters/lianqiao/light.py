"""The light client for lianqiao nodes, as the entry point `lianqiao.clients: checkpoint` names it.

The type itself is in `relay.light.checkpoint_client`, because a node makes what it verifies; here
is only the name by which it is found, like that of every other family.
"""

from __future__ import annotations

from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ClientType

CLIENT: ClientType = CHECKPOINT
