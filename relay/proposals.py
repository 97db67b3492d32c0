"""What several operators of one chain agree on when they ask for a client. Pure.

The header that a client is anchored in may be shown with other signatures by another node of the
same chain. What is agreed on is what will be trusted: the pinned state, what is kept of the anchor,
and the counterparty, if it is named at once. The digest of that is short enough to be compared by
telephone: `lianqiao connect` prints it, and takes it by `--proposal`.
"""

from __future__ import annotations

from hashlib import sha256

from relay.light.states import encode_client_state, encode_consensus_state
from relay.light.types import ClientState, ConsensusState
from relay.light.wire import Writer
from relay.packet import MAX_NAME_BYTES

CREATE, RECOVER = b"lianqiao/proposal/create/v1\n", b"lianqiao/proposal/recover/v1\n"
_MAX_STATE = 1 << 18


def creation_digest(state: ClientState, anchor: ConsensusState, counterparty: str = "") -> bytes:
    """32 bytes: a new client of that state, anchored there, with that counterparty or none."""
    return _digest(CREATE, state, anchor, Writer().text(counterparty, MAX_NAME_BYTES))


def recovery_digest(
    client_id: str, state: ClientState, anchor: ConsensusState, delay: int
) -> bytes:
    """32 bytes: that client recovered to that state and anchor after `delay` seconds."""
    writer = Writer().text(client_id, MAX_NAME_BYTES).u64(delay)
    return _digest(RECOVER, state, anchor, writer)


def _digest(tag: bytes, state: ClientState, anchor: ConsensusState, rest: Writer) -> bytes:
    writer = Writer().data(encode_client_state(state), _MAX_STATE)
    writer.data(encode_consensus_state(anchor), _MAX_STATE)
    return sha256(tag + writer.done() + rest.done()).digest()
