"""The server: health, reflection, limits, loopback, an orderly end; and what every RPC owes."""

from __future__ import annotations

import ast
import random
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import structlog
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from relay.client import connect
from relay.errors import Exhausted, Malformed, NotFound, Reason, Refused, Unavailable
from relay.server import Limits, check_listen, start
from tests.refusals import refusing
from tests.service.nodes import Running, run
from tests.service.region import Region

ROOT = Path(__file__).parents[2]


def services(running: Running) -> list[str]:
    """Full names of the services that the node reflects."""
    channel = running.client._connection.channel
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=5)
    return [s.name for s in answer.list_services_response.service]


def methods(running: Running) -> Iterator[tuple[str, object]]:
    """(path, method descriptor) of every RPC of ours that the node serves."""
    from google.protobuf.descriptor_pool import Default

    for name in services(running):
        if name.startswith("lianqiao."):
            for method in Default().FindServiceByName(name).methods:
                yield f"/{name}/{method.name}", method


def invoke(running: Running, path: str, method, request: Message, timeout: float | None):
    channel = running.client._connection.channel
    answer = GetMessageClass(method.output_type).FromString
    if method.server_streaming:
        call = channel.unary_stream(
            path, type(request).SerializeToString, answer, _registered_method=False
        )
        return next(call(request, timeout=timeout), None)
    call = channel.unary_unary(path, type(request).SerializeToString, answer)
    return call(request, timeout=timeout)


def test_every_rpc_wants_a_deadline(one) -> None:
    paths = []
    for path, method in methods(one):
        with pytest.raises(grpc.RpcError) as err:
            invoke(one, path, method, GetMessageClass(method.input_type)(), None)
        error = one.client._connection.error(err.value)
        assert isinstance(error, Malformed)
        assert error.reason == Reason.DEADLINE_MISSING, path
        paths.append(path)
    assert len(paths) > 15


def test_bytes_that_do_not_decode_are_the_callers_own(one) -> None:
    channel = one.client._connection.channel
    for path, method in methods(one):
        for raw in (b"\xff\xff\xff", b"\x0a\x05ab"):
            with pytest.raises(grpc.RpcError) as err:
                if method.server_streaming:
                    next(channel.unary_stream(path)(raw, timeout=5))
                else:
                    channel.unary_unary(path)(raw, timeout=5)
            error = one.client._connection.error(err.value)
            assert isinstance(error, Malformed), path
            assert (error.reason, bool(error.hint)) == (Reason.MALFORMED, True), path


def test_a_deadline_beyond_a_day_is_none(one) -> None:
    with pytest.raises(Malformed) as err:
        next(one.client.watch("checkpoint-0", timeout=25 * 3600))
    assert err.value.reason == Reason.DEADLINE_MISSING


def scramble(message: Message, rng: random.Random, depth: int = 0) -> Message:
    """Fills a message with hostile values."""
    words = [
        "",
        "x",
        "checkpoint-0",
        "zj-h1",
        "sh-medical",
        "连桥",
        "a" * 5000,
        "../..",
        "0",
        "\x00",
    ]
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.3:
            continue
        makers = {
            field.TYPE_STRING: lambda: rng.choice(words),
            field.TYPE_BYTES: lambda: rng.choice([b"", b"{}", bytes(32), rng.randbytes(40)]),
            field.TYPE_UINT64: lambda: rng.choice([0, 1, 7, 2**63 - 1, 2**63, 2**64 - 1]),
            field.TYPE_UINT32: lambda: rng.choice([0, 1, 2**32 - 1]),
            field.TYPE_INT32: lambda: rng.choice([-1, 0, 1, 2**31 - 1]),
            field.TYPE_BOOL: lambda: rng.random() < 0.5,
            field.TYPE_ENUM: lambda: rng.choice([0, 1, 2, 3, 99]),
        }
        if field.type == field.TYPE_MESSAGE:
            if depth > 3:
                continue
            if field.is_repeated:
                for _ in range(rng.randrange(3)):
                    scramble(getattr(message, field.name).add(), rng, depth + 1)
            else:
                child = getattr(message, field.name)
                child.SetInParent()
                scramble(child, rng, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(makers[field.type]() for _ in range(3))
        else:
            setattr(message, field.name, makers[field.type]())
    return message


def scrambled(running: Running, rng: random.Random) -> None:
    """Every RPC, thirty scrambled requests: an answer or a typed error, never INTERNAL."""
    for path, method in methods(running):
        for _ in range(30):
            request = scramble(GetMessageClass(method.input_type)(), rng)
            watching = path.endswith("/WatchPackets")
            try:
                invoke(running, path, method, request, 0.05 if watching else 5)
            except grpc.RpcError as err:
                error = running.client._connection.error(err)
                if watching and error.reason == Reason.CHAIN_UNREACHABLE:
                    continue  # it was right, and waited
                unwanted = (Reason.INTERNAL, Reason.CHAIN_UNREACHABLE)
                assert error.reason not in unwanted, (path, request, error)


@pytest.mark.slow
def test_no_request_is_a_fault(region: Region) -> None:
    region.granted()
    rng = random.Random(20260101)
    for running in (region.zj, region.relay):
        size = running.client.head().size
        scrambled(running, rng)
        assert running.client.head().size >= size
    assert {s for r in (region.zj, region.relay) for s in services(r)} >= {
        "lianqiao.relay.v1.ClientService",
        "lianqiao.relay.v1.PacketService",
        "lianqiao.relay.v1.EvidenceService",
        "lianqiao.relay.v1.OperatorService",
        "lianqiao.relay.v1.RecognitionService",
        "lianqiao.ledger.v1.RegistryService",
        "lianqiao.ledger.v1.RecordService",
    }


def test_every_rpc_has_a_client_method_and_a_test() -> None:
    protos = (ROOT / "proto").rglob("*_service.proto")
    rpcs = {r for p in protos for r in re.findall(r"^  rpc (\w+)\(", p.read_text(), re.M)}
    tests = "".join(p.read_text() for p in Path(__file__).parent.glob("*.py"))
    served: dict[str, set[str]] = {rpc: set() for rpc in rpcs}
    for path in (ROOT / "relay" / "client").glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Attribute) and node.attr in rpcs:
                        served[node.attr].add(function.name)
    assert not [rpc for rpc, names in served.items() if not names]
    untested = [
        rpc for rpc, names in served.items() if not any(f"client.{n}(" in tests for n in names)
    ]
    assert not untested


def test_reflection_can_be_off(tmp_path) -> None:
    running = run(tmp_path / "n", "quiet", reflect=False)
    with pytest.raises(grpc.RpcError) as err:
        services(running)
    assert err.value.code() is grpc.StatusCode.UNIMPLEMENTED
    running.stop()


def health(running: Running, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(running.client._connection.channel)
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_is_the_databases(one, monkeypatch) -> None:
    for service in ("", *(s for s in services(one) if s.startswith("lianqiao."))):
        assert health(one, service) == SERVING
    with pytest.raises(grpc.RpcError):
        health(one, "lianqiao.relay.v1.NoService")
    with monkeypatch.context() as broken:
        broken.setattr(one.node, "chain_id", "another-chain")
        assert health(one) == NOT_SERVING
    assert health(one) == SERVING


def test_health_goes_first_at_the_end(one) -> None:
    stub = health_pb2_grpc.HealthStub(one.client._connection.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == SERVING
    stopper = threading.Thread(target=one.server.stop, args=(5,))
    stopper.start()
    assert next(watch).status == NOT_SERVING
    watch.cancel()
    stopper.join()
    with pytest.raises(Unavailable) as err:
        one.client.status()
    assert err.value.reason == Reason.CHAIN_UNREACHABLE
    assert "lianqiao serve" in err.value.hint
    one.server.stop(0)


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:7000", "[::]:7000", "192.168.1.5:7000", "example.org:1", "127.0.0.1", "127.0.0.1:x",
     "127.0.0.1:70000", ":7000", "unix:/tmp/x:1", ""],
)  # fmt: skip
def test_only_loopback_is_listened_on(listen) -> None:
    with pytest.raises(Refused) as err:
        check_listen(listen)
    assert err.value.reason == Reason.CONFIG_INVALID
    assert err.value.hint


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:7000", "[::1]:7000", "127.9.9.9:1"])
def test_loopback_is(listen) -> None:
    assert check_listen(listen) == listen


def test_a_taken_port_is_said(one) -> None:
    with pytest.raises(Refused) as err:
        start(one.node, listen=one.address, clock=one.clock)
    assert err.value.reason == Reason.CONFIG_INVALID


def test_too_large_requests_are_refused(tmp_path) -> None:
    running = run(tmp_path / "n", "small", limits=Limits(message_bytes=10_000))
    with pytest.raises(Exhausted) as err:
        running.client.prove([bytes(1000)] * 20, 1)
    assert err.value.reason == Reason.LIMIT_EXCEEDED
    assert running.client.status().chain_id == "small"
    running.stop()


def test_nobody_there() -> None:
    with connect("127.0.0.1:1", timeout=5) as client, pytest.raises(Unavailable) as err:
        client.status()
    assert err.value.reason == Reason.CHAIN_UNREACHABLE
    assert err.value.data == {"address": "127.0.0.1:1"}


def test_a_service_of_another_role_is_said(one) -> None:
    call = one.client._connection.channel.unary_unary("/lianqiao.relay.v1.No/No")
    with pytest.raises(grpc.RpcError) as err:
        call(b"", timeout=5)
    error = one.client._connection.error(err.value)
    assert isinstance(error, NotFound)
    assert error.reason == Reason.PORT_NOT_FOUND


def test_one_line_an_rpc(one) -> None:
    with structlog.testing.capture_logs() as lines:
        one.client.status()
        with refusing(Reason.CLIENT_NOT_FOUND):
            one.client.client("checkpoint-3")
    # The call of another test's node in this process may end meanwhile, and has a line too.
    asked = ("OperatorService/GetStatus", "ClientService/GetClient")
    first, second = (line for line in lines if line.get("method") in asked)
    assert first["method"] == "OperatorService/GetStatus"
    assert (first["code"], first["reason"], first["caller"]) == ("OK", "", "anonymous")
    assert (second["code"], second["reason"]) == ("NOT_FOUND", "CLIENT_NOT_FOUND")
    assert set(second) <= {
        "event",
        "log_level",
        "method",
        "caller",
        "code",
        "reason",
        "milliseconds",
    }


def _silent(running: Running, path: str, said: threading.Event) -> grpc.Future:
    """A call whose one request, of no bytes, is sent when `said` is set; without that, never."""

    def requests() -> Iterator[bytes]:
        said.wait()
        yield b""

    channel = running.client._connection.channel
    answer: grpc.Future = channel.stream_unary(path).future(requests(), timeout=3600)
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/lianqiao.relay.v1.OperatorService/GetStatus",
        "/lianqiao.relay.v1.PacketService/WatchPackets",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_calls_without_a_request_keep_nobody_out(tmp_path: Path, path: str) -> None:
    """Each holds a thread, and there are more of them than threads."""
    limits = Limits(threads=4, request_seconds=0.1)
    running, said = run(tmp_path / "n", "patient", limits=limits), threading.Event()
    calls = [_silent(running, path, said) for _ in range(10)]
    assert running.client.status().chain_id == "patient"
    said.set()
    for call in calls:
        call.cancel()
    running.stop()


def test_a_call_may_take_its_time_while_there_is_room(tmp_path: Path) -> None:
    limits = Limits(threads=4, request_seconds=0.0)
    running, said = run(tmp_path / "n", "patient", limits=limits), threading.Event()
    call = _silent(running, "/lianqiao.relay.v1.OperatorService/GetStatus", said)
    assert running.client.status().chain_id == "patient"
    said.set()
    assert b"patient" in call.result(timeout=10)
    running.stop()


def test_a_call_that_ends_without_a_request_is_malformed(one) -> None:
    channel = one.client._connection.channel
    call = channel.stream_unary("/lianqiao.relay.v1.OperatorService/GetStatus")
    with pytest.raises(grpc.RpcError) as err:
        call(iter(()), timeout=5)
    assert one.client._connection.error(err.value).reason is Reason.MALFORMED
    with pytest.raises(grpc.RpcError) as err:
        channel.stream_unary("/grpc.health.v1.Health/Check")(iter(()), timeout=5)
    assert err.value.code() is grpc.StatusCode.INVALID_ARGUMENT
