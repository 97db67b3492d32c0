"""PacketService: deliveries with their proofs, and what became of packets.

A watch keeps nothing in memory for its reader: the journal is the buffer, gRPC's flow control the
pace. What is bounded is how many watch at a time, since each holds a thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import structlog

from lianqiao.relay.v1 import packet_service_pb2 as pb
from lianqiao.relay.v1 import packet_service_pb2_grpc as rpc
from relay import query
from relay.codec import packets as codec
from relay.codec import pages
from relay.codec.fields import integer, name, present
from relay.errors import Exhausted, Reason, Unavailable
from relay.service.parts import MAX_WATCHERS, Parts
from relay.travelling import steps_of

HEARTBEAT_SECONDS = 5
POLL_SECONDS = 0.5
"""How soon a waiting watch notices that its caller has gone or the server stops."""
WATCH_BATCH = 100


class PacketServicer(rpc.PacketServiceServicer):
    """Applies deliveries, lists and traces packets, tells of new steps."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def Deliver(
        self, request: pb.DeliverRequest, context: grpc.ServicerContext
    ) -> pb.DeliverResponse:
        """Node.deliver."""
        deliveries = codec.deliveries_from_pb(request.deliveries)
        structlog.contextvars.bind_contextvars(
            client_id=deliveries[0].client_id, items=sum(len(d.items) for d in deliveries)
        )
        results = self._parts.node.deliver(deliveries)
        return pb.DeliverResponse(results=[codec.result_to_pb(r) for r in results])

    def ListSteps(
        self, request: pb.ListStepsRequest, context: grpc.ServicerContext
    ) -> pb.ListStepsResponse:
        """travelling.steps_of."""
        store, size = self._parts.node.store, pages.page_size(request.page_size)
        client_id = name(request.client_id, "client_id")
        after = integer(request.after_cursor, "after_cursor")
        listing = pages.filter_hash("ListSteps", client_id, after)
        cursor = pages.decode_token(request.page_token, listing)
        start = pages.decode_number(cursor, after)
        query.get_client(store, client_id)
        steps = steps_of(self._parts.node, client_id, start, size)
        found, token = pages.cut(
            listing, size, steps, codec.step_to_pb, lambda s: pages.encode_number(s.cursor)
        )
        return pb.ListStepsResponse(steps=found, next_page_token=token)

    def GetSent(
        self, request: pb.GetSentRequest, context: grpc.ServicerContext
    ) -> pb.GetSentResponse:
        """query.sent_statement."""
        claims = query.sent_statement(
            self._parts.node.store,
            name(request.client_id, "client_id"),
            integer(request.height, "height"),
            integer(request.before_sequence, "before_sequence"),
            self._parts.node.shown,
        )
        return pb.GetSentResponse(claims=codec.entries_to_pb(claims))

    def GetPacket(
        self, request: pb.GetPacketRequest, context: grpc.ServicerContext
    ) -> pb.GetPacketResponse:
        """query.get_packet."""
        present(request, "key")
        view = query.get_packet(self._parts.node.store, *codec.key_from_pb(request.key))
        return pb.GetPacketResponse(packet=codec.view_to_pb(view))

    def ListPackets(
        self, request: pb.ListPacketsRequest, context: grpc.ServicerContext
    ) -> pb.ListPacketsResponse:
        """query.list_packets."""
        size = pages.page_size(request.page_size)
        client_id = name(request.client_id, "client_id") if request.client_id else None
        state = codec.state_filter_from_pb(request.state)
        listing = pages.filter_hash("ListPackets", client_id, state)
        after = pages.decode_number(pages.decode_token(request.page_token, listing))
        found = query.list_packets(
            self._parts.node.store, after, size, client_id=client_id, state=state
        )
        packets, token = pages.cut(
            listing,
            size,
            found,
            lambda item: codec.view_to_pb(item[1]),
            lambda item: pages.encode_number(item[0]),
        )
        return pb.ListPacketsResponse(packets=packets, next_page_token=token)

    def TracePacket(
        self, request: pb.TracePacketRequest, context: grpc.ServicerContext
    ) -> pb.TracePacketResponse:
        """query.trace_packet."""
        present(request, "key")
        steps = query.trace_packet(self._parts.node.store, *codec.key_from_pb(request.key))
        return pb.TracePacketResponse(steps=[codec.trace_to_pb(s) for s in steps])

    def WatchPackets(
        self, request: pb.WatchPacketsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchPacketsResponse]:
        """travelling.steps_of, again whenever the journal has grown."""
        client_id = name(request.client_id, "client_id")
        cursor = integer(request.after_cursor, "after_cursor")
        query.get_client(self._parts.node.store, client_id)
        if not self._parts.watchers.acquire(blocking=False):
            raise Exhausted(
                Reason.LIMIT_EXCEEDED,
                f"{MAX_WATCHERS} callers watch already",
                hint="list the steps since your cursor instead, or watch later",
            )
        try:
            yield from self._watch(client_id, cursor, context)
        finally:
            self._parts.watchers.release()

    def _watch(
        self, client_id: str, cursor: int, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchPacketsResponse]:
        node, clock = self._parts.node, self._parts.clock
        told = clock()
        while context.is_active():
            if self._parts.stopping.is_set():
                raise Unavailable(Reason.SHUTTING_DOWN, "the node stops", cursor=cursor)
            size = node.shown_size
            steps = steps_of(node, client_id, cursor, WATCH_BATCH)
            # Told of what it cannot prove yet, a reader would ask again at once, and again.
            steps = [step for step in steps if step.height <= size]
            now = clock()
            if steps or now - told >= HEARTBEAT_SECONDS:
                told = now
                for step in steps:
                    cursor = step.cursor
                    yield pb.WatchPacketsResponse(cursor=cursor, step=codec.step_to_pb(step))
                if not steps:
                    yield pb.WatchPacketsResponse(cursor=cursor)
            else:
                node.wait_shown(size, POLL_SECONDS)
