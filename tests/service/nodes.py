"""Real nodes behind real servers on loopback, with a contract of the tests' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from relay.chain import Delivery, DeliveryResult, Item, Step
from relay.client import NodeClient, connect
from relay.contract import Contract, Deferred, HeadNeed, State
from relay.errors import Invalid, LianqiaoError, Reason
from relay.keys import SigningKey
from relay.light.checkpoint import encode_body, parse_body, sign_body
from relay.light.checkpoint_client import CHECKPOINT, encode_header
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.light.note import Note, decode_note, encode_note, sort_signatures
from relay.light.types import ClientState, Validator, ValidatorSet
from relay.node import Node, create
from relay.packet import Packet, Payload, acknowledgement_path, commitment_path
from relay.server import Limits, RunningServer, start
from relay.signing import CheckpointSigner, HighWaterMark
from tests.databases import everyday_url, new_store

START = 1_800_000_000
ECHO = "echo"


class Clock:
    """Time that a test moves."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class Echo(Contract):
    """Acknowledges what it receives; `call` sends a packet, or keeps the value it is given."""

    port = ECHO

    def receive(self, packet: Packet, payload: Payload, state: State, now: int) -> bytes | Deferred:
        return b"heard " + payload.value

    def acknowledge(
        self, packet: Packet, payload: Payload, acknowledgement: bytes, state: State, now: int
    ) -> None:
        pass

    def timeout(self, packet: Packet, payload: Payload, state: State, now: int) -> None:
        pass

    def call(self, method: str, body: bytes, state: State, now: int) -> bytes:
        if method == "fault":
            raise ZeroDivisionError(body.decode())
        if method != "send":
            raise Invalid(Reason.MALFORMED, "no such method")
        client_id, _, value = body.decode().partition(" ")
        payload = Payload(ECHO, ECHO, "1", "text", value.encode())
        return str(state.send(client_id, payload, now + 600)).encode()

    def heads_needed(
        self, packet: Packet, payload: Payload, state: State, now: int
    ) -> Iterable[HeadNeed]:
        return ()


@dataclass
class Running:
    """A node, its server and a client of it."""

    node: Node
    server: RunningServer
    client: NodeClient
    clock: Clock
    validators: ValidatorSet
    keys: list[tuple[str, SigningKey]]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def stop(self) -> None:
        self.client.close()
        self.server.stop(0)
        self.node.close()


def rpc_refusal(running: Running, method: Any, request: Any) -> LianqiaoError:
    """The typed error that a client reads from this node's answer to a request."""
    with pytest.raises(grpc.RpcError) as err:
        method(request, timeout=5)
    return running.client._connection.error(err.value)


def make_node(
    folder: Path, chain_id: str, role: str, contracts: Mapping[str, Contract], clock: Clock
) -> tuple[Node, ValidatorSet, list[tuple[str, SigningKey]]]:
    """A fresh node with four validators."""
    keys = [(f"{chain_id}-{n}", SigningKey.generate()) for n in range(4)]
    validators = ValidatorSet(
        tuple(Validator(name, 1, ((key.algorithm, key.public),)) for name, key in keys)
    )
    folder.mkdir()
    store = new_store(everyday_url(folder / "node.db"))
    create(store, chain_id, role, validators, epoch=0, now=clock())
    node = Node(
        chain_id=chain_id,
        role=role,
        store=store,
        signer=CheckpointSigner(keys, HighWaterMark(folder / "mark")),
        client_types={"checkpoint": CHECKPOINT},
        contracts=contracts,
        clock=clock,
    )
    return node, validators, keys


def run(
    folder: Path,
    chain_id: str,
    role: str = "relay",
    contracts: Mapping[str, Contract] | None = None,
    clock: Clock | None = None,
    limits: Limits | None = None,
    **more: object,
) -> Running:
    """A fresh node, served."""
    clock = clock or Clock()
    contracts = {ECHO: Echo()} if contracts is None else contracts
    node, validators, keys = make_node(folder, chain_id, role, contracts, clock)
    server = start(node, clock=clock, limits=limits, **more)  # type: ignore[arg-type]
    client = connect(f"127.0.0.1:{server.port}", timeout=10)
    return Running(node, server, client, clock, validators, keys)


def pin(other: Running) -> str:
    """The client state by which anyone follows `other`."""
    return ClientState("checkpoint", f"{other.node.chain_id}/0")


def follow(one: Running, other: Running) -> str:
    """Creates a client of `other` on `one`, anchored at its newest head."""
    head = other.client.head()
    (anchor,) = other.client.headers(0, head.size)
    return one.client.create_client(pin(other), anchor)


def join(one: Running, other: Running) -> tuple[str, str]:
    """Clients on both sides that name each other."""
    here, there = follow(one, other), follow(other, one)
    one.client.register_counterparty(here, there)
    other.client.register_counterparty(there, here)
    return here, there


def send(source: Running, client_id: str, value: str) -> int:
    """Sends an echo packet; its sequence."""
    return int(source.node.call(ECHO, "send", f"{client_id} {value}".encode()))


def carry(source: Running, target: Running, client_id: str, after: int = 0) -> DeliveryResult:
    """Delivers every send of `source` after a cursor to `target`, by the API alone."""
    steps = [s for s in source.client.steps(client_id, after, 1000) if s.step is Step.SEND]
    return deliver(source, target, [Item(Step.RECEIVE, s.packet) for s in steps])


def deliver(source: Running, target: Running, items: list[Item]) -> DeliveryResult:
    """Delivers items to `target` under the newest head of `source`."""
    packet, height = items[0].packet, source.client.head().size
    incoming = items[0].step is Step.RECEIVE
    there = packet.destination_client if incoming else packet.source_client
    paths = [
        commitment_path(i.packet.source_client, i.packet.sequence)
        if i.step is Step.RECEIVE
        else acknowledgement_path(i.packet.destination_client, i.packet.sequence)
        for i in items
    ]
    trusted = target.client.client(there).latest.height
    headers = source.client.headers(trusted, height) if height > trusted else []
    proof = source.client.prove(paths, height)
    delivery = Delivery(there, tuple(headers), height, proof, tuple(items))
    (result,) = target.client.deliver([delivery])
    return result


def fork(of: Running) -> bytes:
    """Evidence that the validators of a node signed two heads of one size."""
    head = of.client.head()
    (header,) = of.client.headers(0, head.size)
    forked = replace(parse_body(decode_note(head.note).text), root=bytes(32))
    body = encode_body(forked)
    lines = sort_signatures([sign_body(name, key, body) for name, key in of.keys])
    second = encode_header(encode_note(Note(body, lines)), of.validators, 0, ())
    return encode_evidence(Evidence(header, second))
