"""What a relayer could not deliver, for people: each step with the reason of its last refusal.

The rows are those of relay.outbox. A step that was finished in passing has none, so what is listed
is what waits for its next attempt or was given up.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, select

from relay.chain import Step
from relay.outbox import NEVER
from relay.packet import packet_commitment
from relay.packet_bytes import decode_packet
from relay.query import MAX_PAGE
from relay.store import Store, tables
from relay.views import Direction, Undelivered

Key = tuple[str, str, int]
"""(client id, side of the lane, cursor), by which the rows are ordered."""
FIRST: Key = ("", "", -1)
_OUTBOX = tables.table(tables.Outbox)
_SENT_HERE = {("out", Step.RECEIVE), ("out", Step.EXPIRE), ("in", Step.ACKNOWLEDGE),
              ("in", Step.TIMEOUT)}  # fmt: skip
"""(side, verb) about a packet that this node sent; all others are about one that it received."""


def list_undelivered(
    store: Store,
    after: Key = FIRST,
    limit: int = MAX_PAGE,
    *,
    client_id: str = "",
    sequence: int = 0,
) -> list[tuple[Key, Undelivered]]:
    """(key, step) of one client or all, of packets of one sequence or all, in order of the key."""
    c = _OUTBOX.c
    client, side, cursor = after
    query = select(c.client_id, c.side, c.cursor, c.step, c.sequence, c.packet, c.attempts,
                   c.not_before, c.reason).where(
        (c.client_id > client)
        | and_(c.client_id == client, c.side > side)
        | and_(c.client_id == client, c.side == side, c.cursor > cursor)
    )  # fmt: skip
    if client_id:
        query = query.where(c.client_id == client_id)
    if sequence:
        query = query.where(c.sequence == sequence)
    query = query.order_by(c.client_id, c.side, c.cursor).limit(min(limit, MAX_PAGE))
    with store.read() as connection:
        return [
            ((row.client_id, row.side, row.cursor), _view(row)) for row in connection.execute(query)
        ]


def _view(row: Any) -> Undelivered:
    step, given_up = Step(row.step), row.not_before == NEVER
    sent = (row.side, step) in _SENT_HERE
    return Undelivered(
        client_id=row.client_id,
        sequence=row.sequence,
        direction=Direction.OUT if sent else Direction.IN,
        step=step,
        attempts=row.attempts,
        next_attempt=0 if given_up else row.not_before,
        given_up=given_up,
        reason=row.reason,
        commitment=packet_commitment(decode_packet(bytes(row.packet))),
    )
