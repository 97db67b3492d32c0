"""The rows of packets: as they begin, and read ahead for a whole delivery."""

from __future__ import annotations

from relay.chain import Delivery, Step
from relay.journal import Kind, host_path
from relay.packet import (
    MAX_INT,
    Packet,
    acknowledgement_path,
    be64,
    commitment_path,
    receipt_path,
)
from relay.packet_bytes import encode_packet
from relay.store import Direction, PacketRow, PacketState, Transaction


def new_row(
    packet: Packet, direction: Direction, state: PacketState, *, index: int, time: int
) -> PacketRow:
    """A packet's row as it begins, its first entry at `index`."""
    out = direction is Direction.OUT
    return PacketRow(
        client_id=packet.source_client if out else packet.destination_client,
        direction=direction,
        sequence=packet.sequence,
        packet=encode_packet(packet),
        state=state,
        acknowledgements=b"",
        index=index,
        time=time,
        delivery=0,
        closed_index=-1,
        closed_time=0,
        closed_delivery=0,
        error="",
    )


def prefetch(tx: Transaction, delivery: Delivery) -> None:
    """What the items will look up, in a few statements for the whole delivery."""
    paths: list[bytes] = []
    sent: list[int] = []
    for item in delivery.items:
        packet = item.packet
        if not 1 <= packet.sequence <= MAX_INT:
            continue
        if item.step in (Step.RECEIVE, Step.EXPIRE):
            paths.append(receipt_path(delivery.client_id, packet.sequence))
            paths.append(acknowledgement_path(delivery.client_id, packet.sequence))
        else:
            paths.append(commitment_path(delivery.client_id, packet.sequence))
            paths.append(host_path(Kind.CLOSED, delivery.client_id, be64(packet.sequence)))
            sent.append(packet.sequence)
    if len(delivery.items) > 1:
        tx.prefetch(paths)
        tx.prefetch_packets(delivery.client_id, Direction.OUT, sent)
