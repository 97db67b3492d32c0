"""The gRPC server around a node: services, health, reflection, limits, an orderly end.

A clock is given to this module and to the CLI alone; everything below gets `now`. Until
certificates and roles exist it listens on loopback and refuses anything else.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from relay.chain import Chain
from relay.disclosure.desk import Desk
from relay.disclosure.nonces import Nonces
from relay.errors import LianqiaoError, Reason, Refused
from relay.node import Node
from relay.record.audit import AuditStore
from relay.record.vault import Vault
from relay.service.arriving import Arriving
from relay.service.boundary import Boundary
from relay.service.parts import Lanes, Parts, Source, no_remote
from relay.service.registration import register_services
from relay.views import WitnessView
from relay.witness import Witness

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
MAX_STREAMS = 128
"""Concurrent calls of one connection."""
THREADS = 24
"""Answers in progress, watches included; more wait in line, up to MAX_WAITING."""
MAX_WAITING = 256
REQUEST_SECONDS = 5.0
"""How soon a request must follow its call, once half of the threads wait for one."""
GRACE_SECONDS = 5.0
HEALTH_SECONDS = 5.0
"""How often health looks at the database by itself."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server takes on at a time."""

    message_bytes: int = MAX_MESSAGE_BYTES
    streams: int = MAX_STREAMS
    threads: int = THREADS
    waiting: int = MAX_WAITING
    request_seconds: float = REQUEST_SECONDS

    def options(self) -> list[tuple[str, int]]:
        """The same as gRPC channel arguments."""
        return [
            ("grpc.max_receive_message_length", self.message_bytes),
            ("grpc.max_send_message_length", self.message_bytes),
            ("grpc.max_concurrent_streams", self.streams),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # Two nodes on one port would each get half of the calls, and neither would notice.
            ("grpc.so_reuseport", 0),
        ]


class RunningServer:
    """A server that listens. `stop()` ends it: first unhealthy, then no new calls, then gone."""

    def __init__(
        self, server: grpc.Server, port: int, parts: Parts, health_servicer: Health
    ) -> None:
        self.port = port
        self._server = server
        self._parts = parts
        self._health = health_servicer

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Idempotent. Calls in progress get `grace` seconds to end. The node stays open."""
        self._parts.stopping.set()
        self._health.stop()
        self._server.stop(grace).wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the server has stopped; whether it has."""
        return not self._server.wait_for_termination(timeout)


class Health(health.HealthServicer):  # type: ignore[misc]
    """SERVING where the database answers and its schema and chain id are this program's.

    A chain that cannot be reached makes no gateway unhealthy; it shows in GetClient.
    """

    def __init__(self, node: Node, services: tuple[str, ...]) -> None:
        super().__init__()
        self._node = node
        self._services = ("", *services)
        self._stopped = threading.Event()
        self.refresh()
        self._thread = threading.Thread(target=self._watch, name="health", daemon=True)
        self._thread.start()

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Looks before it answers."""
        self.refresh()
        return super().Check(request, context)

    def refresh(self) -> None:
        """Asks the database and tells everyone who watches."""
        if self._stopped.is_set():
            return
        try:
            self._node.store.check(self._node.chain_id)
        except LianqiaoError:
            self._tell(NOT_SERVING)
        else:
            self._tell(SERVING)

    def stop(self) -> None:
        """NOT_SERVING from here on."""
        self._stopped.set()
        self.enter_graceful_shutdown()
        self._thread.join()

    def _tell(self, state: int) -> None:
        for service in self._services:
            self.set(service, state)

    def _watch(self) -> None:
        while not self._stopped.wait(HEALTH_SECONDS):
            self.refresh()


def now() -> int:
    """The machine's clock: integer seconds since 1970 UTC."""
    return int(time.time())


def check_listen(listen: str) -> str:
    """An address of this machine's loopback interface, `host:port`.

    Raises Refused(CONFIG_INVALID) for anything else.
    """
    host, colon, port = listen.rpartition(":")
    plain = host.removeprefix("[").removesuffix("]")
    try:
        loopback = plain == "localhost" or ipaddress.ip_address(plain).is_loopback
    except ValueError:
        loopback = False
    if not (colon and loopback and port.isascii() and port.isdigit() and int(port) < 65536):
        raise Refused(
            Reason.CONFIG_INVALID,
            f"a node listens on loopback only, and not on {listen!r}",
            hint="use 127.0.0.1:PORT; reach it from elsewhere through an SSH tunnel or a proxy "
            "that authenticates its callers",
            listen=listen,
        )
    return listen


def start(
    node: Node,
    *,
    listen: str = "127.0.0.1:0",
    clock: Callable[[], int] = now,
    vault: Vault | None = None,
    audit: AuditStore | None = None,
    limits: Limits | None = None,
    reflect: bool = True,
    lanes: Lanes | None = None,
    remote: Callable[[str], Chain | None] = no_remote,
    witness: Witness | None = None,
    witnesses: Callable[[], Sequence[WitnessView]] = tuple,
) -> RunningServer:
    """Serves `node` until `stop()`. Port 0 takes a free one, told by `RunningServer.port`.

    `vault` and `audit` are where a ledger keeps the originals of its records and who read them
    (relay.record); without both the services of records are not served. `lanes` are those that a
    relay runs, `remote` gives the chain behind a client for shorter bundles; `witness` co-signs the
    heads of others, `witnesses` tells how it stands with those who co-sign ours. Raises
    Refused(CONFIG_INVALID) where the address is not loopback or is taken.
    """
    check_listen(listen)
    limits = limits or Limits()
    parts = Parts(node, clock, lanes=lanes, remote=remote, witness=witness, witnesses=witnesses)
    source = None
    if vault is not None and audit is not None:
        source = Source(vault, audit, Desk(node, vault, audit, Nonces(clock())))
    arriving = Arriving(limits.threads // 2, limits.request_seconds, time.monotonic)
    server = grpc.server(
        ThreadPoolExecutor(limits.threads, thread_name_prefix="rpc"),
        interceptors=[Boundary(time.monotonic, arriving)],
        options=limits.options(),
        maximum_concurrent_rpcs=limits.threads + limits.waiting,
    )
    services = register_services(server, parts, source)
    health_servicer = Health(node, services)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if reflect:
        names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as err:
        health_servicer.stop()
        raise Refused(
            Reason.CONFIG_INVALID,
            f"cannot listen on {listen}",
            hint="another program has the port; choose another or stop it",
            listen=listen,
        ) from err
    server.start()
    return RunningServer(server, port, parts, health_servicer)
