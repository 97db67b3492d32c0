"""The Python client against nodes that lie, and the face it shows to those who build on it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from lianqiao.ledger.v1 import record_pb2, record_service_pb2_grpc
from lianqiao.ledger.v1 import record_service_pb2 as rpb
from lianqiao.relay.v1 import packet_pb2, packet_service_pb2, packet_service_pb2_grpc
from relay import client as face
from relay.chain import Delivery, Item, Step
from relay.client import NodeClient, connect
from relay.disclosure.asks import Fetch, Fetched
from relay.errors import (
    Denied,
    Exhausted,
    Invalid,
    LianqiaoError,
    Malformed,
    NotFound,
    Reason,
    Unavailable,
)
from relay.packet import Packet
from relay.record.parts import Hidden, Opened, commit, part_leaf
from relay.views import Direction


class Liar(
    record_service_pb2_grpc.RecordServiceServicer,
    packet_service_pb2_grpc.PacketServiceServicer,
):
    """Answers what a test tells it to."""

    def __init__(self) -> None:
        self.fetched: Sequence[rpb.FetchRecordResponse] = ()
        self.delivered = packet_service_pb2.DeliverResponse()
        self.status = status_pb2.Status()

    def FetchRecord(self, request, context):
        yield from self.fetched

    def Deliver(self, request, context):
        return self.delivered

    def ListSteps(self, request, context):
        context.abort_with_status(rpc_status.to_status(self.status))

    def GetPacket(self, request, context):
        raise ZeroDivisionError


@contextmanager
def served(liar: Liar) -> Iterator[NodeClient]:
    server = grpc.server(ThreadPoolExecutor(2))
    record_service_pb2_grpc.add_RecordServiceServicer_to_server(liar, server)
    packet_service_pb2_grpc.add_PacketServiceServicer_to_server(liar, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with connect(f"127.0.0.1:{port}", timeout=5) as node:
            yield node
    finally:
        server.stop(0)


PARTS = (Opened(bytes([1]) * 32, b"{}"), Opened(bytes([2]) * 32, b'{"a": 1}'))
COMMITMENT = commit(PARTS)
FETCH = Fetch(COMMITMENT, bytes(32), "h", "", bytes(16), 1, "ed25519", b"k")


def answer(index: int, count: int = 2, fetch: int = 0, **changes) -> rpb.FetchRecordResponse:
    part = record_pb2.RecordPart(salt=PARTS[index].salt, content=PARTS[index].content)
    return rpb.FetchRecordResponse(
        **{"fetch": fetch, "index": index, "count": count, "part": part, **changes}
    )


def test_what_was_fetched_is_checked() -> None:
    liar = Liar()
    leaf = part_leaf(0, 2, PARTS[0].salt, PARTS[0].content)
    other = record_pb2.RecordPart(salt=PARTS[1].salt, content=b'{"a": 2}')
    with served(liar) as node:
        liar.fetched = [answer(0), answer(1)]
        assert list(node.fetch_records([FETCH])) == [Fetched(COMMITMENT, PARTS)]
        liar.fetched = [answer(0, part=None, leaf=leaf), answer(1)]
        (shown,) = node.fetch_records([FETCH])
        assert isinstance(shown, Fetched)
        assert shown.parts == (Hidden(leaf), PARTS[1])
        for lie, error, reason in (
            ([answer(0), answer(1, part=other)], Invalid, Reason.RECORD_MISMATCH),
            ([answer(0, count=1)], Invalid, Reason.RECORD_MISMATCH),
            ([answer(1), answer(0)], Malformed, Reason.MALFORMED),
            ([answer(0)], Malformed, Reason.MALFORMED),
            ([], Malformed, Reason.MALFORMED),
            ([answer(0, fetch=1), answer(1, fetch=1)], Malformed, Reason.MALFORMED),
            ([answer(0), answer(1, fetch=1)], Malformed, Reason.MALFORMED),
            ([answer(0), answer(1, count=3)], Malformed, Reason.MALFORMED),
            ([answer(0), answer(1, reason="NO_GRANT")], Malformed, Reason.MALFORMED),
            ([answer(0, count=513)], Malformed, Reason.MALFORMED),
            ([answer(0, leaf=leaf), answer(1)], Malformed, Reason.MALFORMED),
        ):
            liar.fetched = lie
            with pytest.raises(error) as err:
                list(node.fetch_records([FETCH]))
            assert err.value.reason == reason


def test_results_are_those_of_the_deliveries() -> None:
    liar = Liar()
    done = packet_pb2.Submission(outcome=packet_pb2.OUTCOME_DONE)
    item = Item(Step.RECEIVE, Packet(1, "a", "b", 1, ()))
    with served(liar) as node:
        for results in (
            [],
            [packet_pb2.DeliveryResult(headers=done)],
            [packet_pb2.DeliveryResult(headers=done, items=[done, done])],
            [packet_pb2.DeliveryResult(items=[done])],
        ):
            liar.delivered = packet_service_pb2.DeliverResponse(results=results)
            with pytest.raises(Malformed) as err:
                node.deliver([Delivery("c", (), 1, b"p", (item,))])
            assert err.value.reason == Reason.MALFORMED


def test_errors_that_are_not_ours_are_errors_all_the_same() -> None:
    liar = Liar()
    with served(liar) as node:
        for code, error, reason in (
            (code_pb2.PERMISSION_DENIED, Denied, Reason.NOT_PERMITTED),
            (code_pb2.UNAUTHENTICATED, Denied, Reason.NOT_PERMITTED),
            (code_pb2.UNAVAILABLE, Unavailable, Reason.CHAIN_UNREACHABLE),
            (code_pb2.DEADLINE_EXCEEDED, Unavailable, Reason.CHAIN_UNREACHABLE),
            (code_pb2.RESOURCE_EXHAUSTED, Exhausted, Reason.LIMIT_EXCEEDED),
            (code_pb2.UNIMPLEMENTED, NotFound, Reason.PORT_NOT_FOUND),
            (code_pb2.FAILED_PRECONDITION, LianqiaoError, Reason.INTERNAL),
            (code_pb2.NOT_FOUND, LianqiaoError, Reason.INTERNAL),
        ):
            liar.status = status_pb2.Status(code=code, message="not one of ours")
            with pytest.raises(LianqiaoError) as foreign:
                node.steps("c", 0, 1)
            assert (type(foreign.value), foreign.value.reason) == (error, reason)
        with pytest.raises(LianqiaoError) as fault:
            node.packet("c", 1, Direction.IN)
        assert fault.value.reason == Reason.INTERNAL
        assert "see the log of what runs there" in fault.value.hint


def test_the_face_is_frozen() -> None:
    """What hospital systems build on: a name goes only with a new major version."""
    assert face.__all__ == ["DEFAULT_TIMEOUT_SECONDS", "NodeClient", "connect"]
    names = {name for name in dir(NodeClient) if not name.startswith("_")}
    assert names >= {
        "access_log", "address", "amend", "announce", "attest", "bundle", "bundle_of", "card",
        "client", "clients", "close", "consistency", "count_outcomes", "create_client", "decision",
        "decisions", "deliver", "fetch_records", "find_records", "grants", "head", "headers",
        "lanes", "load_policy", "outcomes", "packet", "packets", "policies", "policy", "prove",
        "recognition", "recognitions", "record", "records", "register_counterparty",
        "register_institution", "register_lane", "report_outcome", "request_recognition", "resend",
        "retract", "status", "steps", "submit_misbehaviour", "trace", "trust", "watch",
    }  # fmt: skip


@pytest.mark.parametrize("words", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n"])
def test_a_port_that_another_program_has_is_not_a_node_to_be_started(words: bytes) -> None:
    """Whoever reads `start it` starts a second node."""
    ended = threading.Event()

    def answer(listening: socket.socket) -> None:
        held = []
        while not ended.is_set():
            with suppress(OSError):
                taken, _ = listening.accept()
                held.append(taken)
                taken.sendall(words)
        for taken in held:
            taken.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        try:
            port = listening.getsockname()[1]
            with (
                connect(f"127.0.0.1:{port}", timeout=10) as node,
                pytest.raises(Unavailable) as err,
            ):
                node.status()
        finally:
            ended.set()
            thread.join()
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
    assert "does not speak gRPC" in err.value.detail
    assert "check the port" in err.value.hint
    with connect("127.0.0.1:9") as nobody, pytest.raises(Unavailable) as gone:
        nobody.status()
    assert "start it" in gone.value.hint
