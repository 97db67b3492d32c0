"""What a node can be asked: read-only, keyset paging, frozen values out. Nothing here writes.

Lists take `after` (the key of the last item seen, exclusive) and `limit` (at most MAX_PAGE).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, select

from relay.chain import PacketStep, Step
from relay.errors import NotFound, Reason
from relay.host import scan_records
from relay.journal import Kind, host_path
from relay.light.sent import decode_sent, sent_path
from relay.light.states import decode_client_state, decode_consensus_state
from relay.light.types import Claim
from relay.packet import MAX_INT
from relay.packet_bytes import decode_acknowledgements, decode_packet
from relay.recovery import decode_proposal
from relay.store import ClientRow, DeliveryRow, PacketRow, Store, tables
from relay.store.cosignatures import AT_ONCE
from relay.store.heads import Heads
from relay.store.statements import columns, make_row
from relay.views import (
    ClientView,
    Direction,
    HeadView,
    PacketState,
    PacketView,
    RecoveryView,
    StatusView,
    TraceStep,
)

MAX_PAGE = 1000
MAX_STATEMENTS = 120
"""Of one client, looked at for one that says nothing of what is not delivered yet."""
_CLIENT = tables.table(tables.Client)
_CONSENSUS = tables.table(tables.Consensus)
_PACKET = tables.table(tables.Packet)
_ENTRY = tables.table(tables.Entry)
_DELIVERY = tables.table(tables.DeliveryTable)
_OUTBOX = tables.table(tables.Outbox)

# Asked at every turn of a lane: what is said once is not built again each time.
_ONE_CLIENT = select(*columns(ClientRow)).where(_CLIENT.c.client_id == bindparam("client_id"))
_STATE = select(_CONSENSUS.c.state).where(
    _CONSENSUS.c.client_id == bindparam("client_id"), _CONSENSUS.c.height == bindparam("height")
)
_STEPS = (
    select(*columns(PacketRow))
    .where(_PACKET.c.client_id == bindparam("client_id"), _PACKET.c.index > bindparam("after"))
    .order_by(_PACKET.c.index)
    .limit(bindparam("limit"))
)


# --- clients


def get_client(store: Store, client_id: str) -> ClientView:
    """Raises NotFound(CLIENT_NOT_FOUND)."""
    with store.read() as connection:
        found = connection.execute(_ONE_CLIENT, {"client_id": client_id}).one_or_none()
        if found is None:
            raise NotFound(
                Reason.CLIENT_NOT_FOUND,
                "no such client",
                hint="lianqiao clients list shows them",
                client_id=client_id,
            )
        return _client_view(connection, ClientRow(*found))


def verified_header(store: Store, client_id: str) -> bytes:
    """The newest header that a client has verified, raw. Raises NotFound(CLIENT_NOT_FOUND)."""
    get_client(store, client_id)
    with store.read() as connection:
        row = ClientRow(*connection.execute(_ONE_CLIENT, {"client_id": client_id}).one())
        query = select(_CONSENSUS.c.header).where(
            _CONSENSUS.c.client_id == row.lineage, _CONSENSUS.c.height == row.latest_height
        )
        return bytes(connection.execute(query).scalar_one())


def list_clients(store: Store, after: str = "", limit: int = MAX_PAGE) -> list[ClientView]:
    """In order of client id."""
    with store.read() as connection:
        query = (
            select(*columns(ClientRow))
            .where(_CLIENT.c.client_id > after)
            .order_by(_CLIENT.c.client_id)
            .limit(min(limit, MAX_PAGE))
        )
        return [_client_view(connection, ClientRow(*row)) for row in connection.execute(query)]


def _client_view(connection: Connection, row: ClientRow) -> ClientView:
    asked = {"client_id": row.lineage, "height": row.latest_height}
    latest = decode_consensus_state(bytes(connection.execute(_STATE, asked).scalar_one()))
    state = decode_client_state(bytes(row.state))
    return ClientView(
        client_id=row.client_id,
        state=state,
        latest=latest,
        counterparty_client_id=row.counterparty,
        frozen=row.frozen != 0,
        expires=latest.time + state.trusting_period,
        recovery=_recovery(connection, row),
        complete_time=row.complete_time,
    )


def _recovery(connection: Connection, row: ClientRow) -> RecoveryView | None:
    """The pending proposal of a client."""
    if not row.recovery:
        return None
    query = select(_ENTRY.c.value).where(_ENTRY.c.index == row.recovery - 1)
    proposal = decode_proposal(bytes(connection.execute(query).scalar_one()))
    return RecoveryView(decode_client_state(proposal.state), proposal.time, proposal.due)


# --- packets


def get_packet(store: Store, client_id: str, sequence: int, direction: Direction) -> PacketView:
    """Raises NotFound(PACKET_NOT_FOUND)."""
    with store.read() as connection:
        row = packet_row(connection, client_id, sequence, direction)
        return _packet_views(connection, store.heads, [row])[0]


def packet_row(
    connection: Connection, client_id: str, sequence: int, direction: Direction
) -> PacketRow:
    """The row of one packet. Raises NotFound(PACKET_NOT_FOUND)."""
    query = select(*columns(PacketRow)).where(
        _PACKET.c.client_id == client_id,
        _PACKET.c.direction == direction.value,
        _PACKET.c.sequence == sequence,
    )
    found = connection.execute(query).one_or_none()
    if found is None:
        raise NotFound(
            Reason.PACKET_NOT_FOUND,
            "this node has not seen that packet",
            hint="lianqiao packets list shows those it has; a packet is named by client, "
            "direction and sequence",
            client_id=client_id,
            sequence=sequence,
        )
    return make_row(PacketRow, found)


def list_packets(
    store: Store,
    after: int = -1,
    limit: int = MAX_PAGE,
    *,
    client_id: str | None = None,
    state: PacketState | None = None,
    direction: Direction | None = None,
) -> list[tuple[int, PacketView]]:
    """(cursor, packet) in order of the journal; `after` is the last cursor seen.

    Deferred packets have no step to carry on yet and are listed with get_packet only.
    """
    query = select(*columns(PacketRow)).where(_PACKET.c.index > after)
    if client_id is not None:
        query = query.where(_PACKET.c.client_id == client_id)
    if state is not None:
        sent = state is PacketState.SENT
        query = query.where(tables.OPEN if sent else _PACKET.c.state == state.value)
    if direction is not None:
        query = query.where(_PACKET.c.direction == direction.value)
    query = query.order_by(_PACKET.c.index).limit(min(limit, MAX_PAGE))
    with store.read() as connection:
        rows = [make_row(PacketRow, row) for row in connection.execute(query)]
        views = _packet_views(connection, store.heads, rows)
    return [(row.index, view) for row, view in zip(rows, views, strict=True)]


def _packet_views(
    connection: Connection, heads: Heads, rows: Sequence[PacketRow]
) -> list[PacketView]:
    last = [_last_step(row) for row in rows]
    heights = heads.heights(connection, [index for index, _ in last])
    return [
        PacketView(
            direction=row.direction,
            state=row.state,
            packet=decode_packet(bytes(row.packet)),
            acknowledgements=decode_acknowledgements(bytes(row.acknowledgements)),
            height=height,
            time=time,
        )
        for row, (_, time), height in zip(rows, last, heights, strict=True)
    ]


def _last_step(row: PacketRow) -> tuple[int, int]:
    if row.closed_index > row.index:
        return row.closed_index, row.closed_time
    return row.index, row.time


def packet_steps(
    store: Store, client_id: str, after: int, limit: int, shown: Heads = AT_ONCE
) -> list[PacketStep]:
    """What a relayer carries on: sends, acknowledgements and sentinels with cursor > `after`.

    Each with the lowest height that is shown and covers it, or with one above `Shown.newest`.
    """
    asked = {"client_id": client_id, "after": after, "limit": min(limit, MAX_PAGE)}
    with store.read() as connection:
        rows = [make_row(PacketRow, row) for row in connection.execute(_STEPS, asked)]
        indexes = [row.index for row in rows]
        heights = shown.cover(connection, store.heads.heights(connection, indexes))
    return [_packet_step(row, height) for row, height in zip(rows, heights, strict=True)]


def sent_statement(
    store: Store, client_id: str, height: int, before: int, shown: Heads = AT_ONCE
) -> tuple[Claim, ...]:
    """The youngest statement of a client that is under `height` and about sequences below `before`.

    Empty where none of the last MAX_STATEMENTS is. Raises NotFound(CLIENT_NOT_FOUND).
    """
    get_client(store, client_id)
    query = (
        select(_ENTRY.c.index, _ENTRY.c.path, _ENTRY.c.value)
        .where(_ENTRY.c.path >= sent_path(client_id, 0))
        .where(_ENTRY.c.path <= sent_path(client_id, MAX_INT))
        .order_by(_ENTRY.c.path.desc())
        .limit(MAX_STATEMENTS)
    )
    with store.read() as connection:
        for index, path, value in connection.execute(query).all():
            if decode_sent(bytes(value))[0].next_sequence > before:
                continue
            if shown.heights(connection, [index])[0] <= height:
                return (Claim(bytes(path), bytes(value)),)
    return ()


def written(
    store: Store, paths: Sequence[bytes], height: int, shown: Heads = AT_ONCE
) -> dict[bytes, bytes]:
    """The value of each of a few paths that is written under a height."""
    query = select(_ENTRY.c.path, _ENTRY.c.index, _ENTRY.c.value).where(_ENTRY.c.path.in_(paths))
    with store.read() as connection:
        return {
            bytes(path): bytes(value)
            for path, index, value in connection.execute(query).all()
            if shown.heights(connection, [index])[0] <= height
        }


def _packet_step(row: PacketRow, height: int) -> PacketStep:
    packet = decode_packet(bytes(row.packet))
    if row.direction is Direction.OUT:
        return PacketStep(row.index, height, Step.SEND, packet)
    if row.state is PacketState.EXPIRED:
        return PacketStep(row.index, height, Step.EXPIRE, packet)
    acknowledgements = decode_acknowledgements(bytes(row.acknowledgements))
    return PacketStep(row.index, height, Step.RECEIVE, packet, acknowledgements)


def trace_packet(
    store: Store, client_id: str, sequence: int, direction: Direction
) -> list[TraceStep]:
    """Every entry of this node's journal about one packet, in order, each with its proof."""
    with store.read() as connection:
        row = packet_row(connection, client_id, sequence, direction)
        steps = _trace_out(row) if direction is Direction.OUT else _trace_in(row)
        heights = store.heads.heights(connection, [step[1] for step in steps])
        proofs = {number: _delivery_height(connection, number) for _, _, _, number, _ in steps}
    return [
        TraceStep(
            step=step,
            index=index,
            height=height,
            time=time,
            verified_height=proofs[number],
            detail=detail,
        )
        for (step, index, time, number, detail), height in zip(steps, heights, strict=True)
    ]


_Traced = tuple[Step, int, int, int, str]


def _trace_out(row: PacketRow) -> list[_Traced]:
    steps: list[_Traced] = [(Step.SEND, row.index, row.time, 0, "commitment written")]
    if row.state is PacketState.ACKNOWLEDGED:
        detail = row.error or "acknowledgement proven"
        steps.append(
            (Step.ACKNOWLEDGE, row.closed_index, row.closed_time, row.closed_delivery, detail)
        )
    if row.state is PacketState.TIMED_OUT:
        detail = row.error or "proven never to have been received"
        steps.append((Step.TIMEOUT, row.closed_index, row.closed_time, row.closed_delivery, detail))
    return steps


def _trace_in(row: PacketRow) -> list[_Traced]:
    if row.state is PacketState.EXPIRED:
        return [(Step.EXPIRE, row.closed_index, row.closed_time, row.delivery, "sentinel written")]
    steps: list[_Traced] = [
        (Step.RECEIVE, row.closed_index, row.closed_time, row.delivery, "receipt written")
    ]
    if row.state is PacketState.RECEIVED:
        detail = row.error or "acknowledgement written"
        steps.append((Step.RECEIVE, row.index, row.time, row.delivery, detail))
    return steps


def _delivery_height(connection: Connection, number: int) -> int:
    if not number:
        return 0
    query = select(_DELIVERY.c.height).where(_DELIVERY.c.number == number)
    return int(connection.execute(query).scalar_one())


def get_delivery(store: Store, number: int) -> DeliveryRow:
    """One proof as it came. Raises NotFound."""
    with store.read() as connection:
        query = select(*columns(DeliveryRow)).where(_DELIVERY.c.number == number)
        found = connection.execute(query).one_or_none()
    if found is None:
        raise NotFound(Reason.NOT_FOUND, "no such delivery", number=number)
    return DeliveryRow(*found)


# --- contracts' records


def list_records(
    store: Store, port: str, prefix: bytes, after: bytes = b"", limit: int = MAX_PAGE
) -> list[tuple[bytes, bytes]]:
    """A contract's written (key, value) pairs whose key starts with `prefix`, in byte order."""
    with store.reading() as tx:
        return scan_records(tx, port, prefix, after, min(limit, MAX_PAGE))


def get_record(store: Store, port: str, key: bytes) -> bytes | None:
    """The value that the contract on `port` wrote at `key`, or None."""
    with store.read() as connection:
        query = select(_ENTRY.c.value).where(_ENTRY.c.path == host_path(Kind.RECORD, port, key))
        found = connection.execute(query).scalar_one_or_none()
    return None if found is None else bytes(found)


# --- the node


def head(store: Store, shown: Heads = AT_ONCE) -> HeadView | None:
    """The newest head that is shown, or None while there is none."""
    with store.read() as connection:
        return shown.view(connection)


def status(
    store: Store,
    *,
    chain_id: str,
    role: str,
    version: str,
    ports: Sequence[str],
    shown: Heads = AT_ONCE,
) -> StatusView:
    """A node in one glance."""
    with store.read() as connection:
        open_packets = select(func.count()).select_from(_PACKET).where(tables.OPEN)
        return StatusView(
            chain_id=chain_id,
            role=role,
            version=version,
            head=shown.view(connection),
            signed_size=store.heads.newest(connection),
            witness_quorum=shown.quorum,
            clients=int(connection.execute(select(func.count()).select_from(_CLIENT)).scalar_one()),
            packets_open=int(connection.execute(open_packets).scalar_one()),
            outbox=int(connection.execute(select(func.count()).select_from(_OUTBOX)).scalar_one()),
            ports=tuple(sorted(ports)),
        )
