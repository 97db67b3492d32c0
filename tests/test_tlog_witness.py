"""The C2SP witness protocol over HTTP: its texts, and a real server asked by raw bytes."""

from __future__ import annotations

import http.client
import socket
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.chain import Delivery, Outcome
from relay.client.http_witness import HttpWitness
from relay.config import sections
from relay.cosigning import Cosigning
from relay.errors import Exhausted, Reason
from relay.evidence import Evidence
from relay.light.checkpoint import encode_body, parse_body, sign_body
from relay.light.note import Note, decode_note, encode_note, sort_signatures
from relay.query import list_clients
from relay.service.http_witness import HttpWitnessServer
from relay.store import CheckpointRow
from relay.tlog_witness import (
    MAX_LINES,
    MAX_PROOF,
    MAX_REQUEST_BYTES,
    SIZE_TYPE,
    AddCheckpoint,
    decode_answer,
    decode_request,
    decode_size,
    encode_answer,
    encode_request,
    encode_size,
)
from relay.witness import Witness
from tests.refusals import refused, refusing
from tests.test_witness import _forged
from tests.witnessing import HUB, ZJ, hub_world, pinned, put, witness_of
from tests.world import World, keys_of, set_of

HASHES = (bytes(32), b"\xff" * 32)
NOTE = b"origin\n1\nroot\n\n\xe2\x80\x94 name AAAA\n"

# --- texts


@pytest.mark.parametrize("hashes", [(), HASHES, HASHES[:1] * MAX_PROOF])
@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_a_request_reads_as_it_was_written(size: int, hashes: tuple[bytes, ...]) -> None:
    given = AddCheckpoint(size, hashes, NOTE)
    raw = encode_request(given)
    assert raw.startswith(b"old %d\n" % size)
    assert decode_request(raw) == given


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        NOTE[:14],
        b"old 1\n",
        b"old 1\n\n",
        b"old 01\n\n" + NOTE,
        b"old +1\n\n" + NOTE,
        b"old 1_0\n\n" + NOTE,
        b"old \n\n" + NOTE,
        b"old 9223372036854775808\n\n" + NOTE,
        b"old 1 \n\n" + NOTE,
        b"new 1\n\n" + NOTE,
        b"old 1\r\n\n" + NOTE,
        b"old 1\n" + b64encode(bytes(31)) + b"\n\n" + NOTE,
        b"old 1\n" + b64encode(bytes(32))[:-1] + b"\n\n" + NOTE,
        b"old 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n\n" + NOTE,
        b"old 1\n\xff\n\n" + NOTE,
        b"old 1\n" + (b64encode(bytes(32)) + b"\n") * (MAX_PROOF + 1) + b"\n" + NOTE,
        b"old 1\n\n" + b"x" * MAX_REQUEST_BYTES,
    ],
)
def test_what_is_no_request_is_malformed(raw: bytes) -> None:
    refused(Reason.MALFORMED, decode_request, raw)


def test_answers_read_as_they_were_written() -> None:
    lines = ("— a AAAAAAAA\n".encode(), "— b AAAAAAAA\n".encode())
    assert decode_answer(encode_answer(lines)) == lines
    assert encode_size(70) == b"70\n"
    assert decode_size(b"70") == 70


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", "— a AAAAAAAA".encode(), b"a AAAA\n", "— a AAAAAAAA\n".encode() * (MAX_LINES + 1)],
)
def test_what_is_no_answer_is_malformed(raw: bytes) -> None:
    refused(Reason.MALFORMED, decode_answer, raw)


# --- a server


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = hub_world(tmp_path / "world")
    yield world
    world.close()


@pytest.fixture
def witness(world: World) -> Witness:
    return witness_of(world, ZJ)


@pytest.fixture
def port(world: World, witness: Witness) -> Iterator[int]:
    server = HttpWitnessServer(witness, "127.0.0.1:0", world.clock)
    yield server.port
    server.stop()


Answered = tuple[int, str, bytes]


def call(port: int, body: bytes, path: str = "/add-checkpoint", method: str = "POST") -> Answered:
    """(status, content type, body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    finally:
        connection.close()


def shown(world: World, old: int, row: CheckpointRow | None = None, note: bytes = b"") -> bytes:
    """The request for a head of the relay, its newest, with the true proof from `old`."""
    hub = world.nodes[HUB]
    row = row or hub.head
    proof = []
    if 0 < old < row.size:
        proof = Evidence(hub.store, hub.tiles).consistency(old, row.size)
    return encode_request(AddCheckpoint(old, tuple(proof), note or row.note.encode()))


def test_a_log_that_knows_nothing_asks_from_zero_and_then_gets_its_lines(
    world: World, port: int
) -> None:
    base = world.nodes[HUB].head.size
    head = put(world.nodes[HUB], "a")
    assert call(port, shown(world, 0)) == (409, SIZE_TYPE, b"%d\n" % base)
    status, _, body = call(port, shown(world, base))
    assert status == 200
    (line,) = decode_answer(body)
    assert line.startswith("— zj ".encode())
    assert call(port, shown(world, base)) == (409, SIZE_TYPE, b"%d\n" % head.size)
    assert call(port, shown(world, head.size))[0] == 200, "the same head is signed again"


def _strangers(world: World, row: CheckpointRow) -> bytes:
    """The head, signed by other keys of the same names."""
    keys = keys_of("stranger", len(world.signers[HUB]))
    lines = [sign_body(f"{HUB}-{i}", key, row.body) for i, key in enumerate(keys)]
    return encode_note(Note(row.body, sort_signatures(lines)))


def _damaged(row: CheckpointRow) -> bytes:
    """The head, each line with its last byte changed."""
    note = decode_note(row.note.encode())
    lines = [replace(s, value=s.value[:-1] + b"\0") for s in note.signatures]
    return encode_note(replace(note, signatures=tuple(lines)))


def _of_another(world: World, row: CheckpointRow) -> bytes:
    body = encode_body(replace(parse_body(row.body), origin="other/0"))
    lines = [sign_body(f"{HUB}-{i}", key, body) for i, key in enumerate(world.signers[HUB])]
    return encode_note(Note(body, sort_signatures(lines)))


def test_refusals_have_the_status_of_the_specification(world: World, port: int) -> None:
    hub = world.nodes[HUB]
    base = hub.head.size
    head = put(hub, "a")
    before = put(hub, "b")
    honest = AddCheckpoint(base, (), head.note.encode())
    true = decode_request(shown(world, base, head))
    cases: list[tuple[int, Reason, bytes]] = [
        (404, Reason.CLIENT_NOT_FOUND, shown(world, base, note=_of_another(world, head))),
        (403, Reason.QUORUM_NOT_REACHED, shown(world, base, head, _strangers(world, head))),
        (403, Reason.QUORUM_NOT_REACHED, shown(world, 0, head, _strangers(world, head))),
        (403, Reason.INVALID_SIGNATURE, shown(world, base, head, _damaged(head))),
        (403, Reason.INVALID_SIGNATURE, shown(world, 0, head, _damaged(head))),
        (400, Reason.MALFORMED, encode_request(replace(honest, old_size=before.size + 1))),
        (400, Reason.MALFORMED, b"old 1\n\nno note"),
        (422, Reason.INVALID_CONSISTENCY, encode_request(replace(true, proof=(bytes(32),)))),
    ]
    for status, reason, raw in cases:
        got, _, body = call(port, raw)
        assert (got, body.split(b":")[0].decode()) == (status, reason.value)
    assert call(port, b"", "/")[0] == call(port, b"", "/add-checkpoint/")[0] == 404
    assert call(port, b"", method="GET")[0] == 405
    assert call(port, b"x" * (MAX_REQUEST_BYTES + 1))[0] == 413
    assert call(port, shown(world, base))[0] == 200, "nothing of it was remembered"


def test_two_bodies_of_one_size_are_a_conflict_and_then_forbidden(
    world: World, port: int, witness: Witness
) -> None:
    base = world.nodes[HUB].head.size
    head = put(world.nodes[HUB], "a")
    assert call(port, shown(world, base))[0] == 200
    other = _forged(world, head, root=bytes(32)).note.encode()
    status, kind, body = call(port, shown(world, head.size, note=other))
    assert (status, kind == SIZE_TYPE) == (409, False)
    assert body.startswith(b"HEAD_CONFLICT")
    status, _, body = call(port, shown(world, head.size))
    assert (status, body.split(b":")[0]) == (403, b"CLIENT_FROZEN")


def test_faults_are_told_by_their_kind_alone(
    world: World, port: int, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Any:
        raise KeyError("a secret")

    def full(*_: object, **__: object) -> Any:
        raise Exhausted(Reason.LIMIT_EXCEEDED, "no room")

    monkeypatch.setattr(witness, "add_checkpoint", fails)
    assert call(port, shown(world, 0))[::2] == (500, b"INTERNAL\n")
    monkeypatch.setattr(witness, "add_checkpoint", full)
    assert call(port, shown(world, 0))[::2] == (503, b"LIMIT_EXCEEDED: no room\n")


def test_one_connection_serves_many_calls_and_a_silent_one_holds_nobody_up(
    world: World, port: int
) -> None:
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for one in silent:
        one.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 100\r\n\r\nold")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(2):
        connection.request("POST", "/add-checkpoint", shown(world, 0))
        assert connection.getresponse().read()
    connection.close()
    for one in silent:
        one.close()


# --- as one that is asked


def cosigning(world: World, port: int) -> Cosigning:
    address = f"http://127.0.0.1:{port}/"
    return Cosigning(world.nodes[HUB], pinned(ZJ)[0], address, HttpWitness(address, 10))


def test_a_relay_is_cosigned_over_http(world: World, port: int) -> None:
    asking = cosigning(world, port)
    for key in "ab":
        head = put(world.nodes[HUB], key)
        assert asking.tick(world.clock.now)
        assert asking.view().size == head.size


def test_a_set_change_is_followed_without_a_preimage(world: World, port: int) -> None:
    """The announcement is signed by the set that is known; the next head by the one that the
    witness's client has learnt from the chain meanwhile."""
    hub, asking, keys = world.nodes[HUB], cosigning(world, port), keys_of("hub-next")
    hub.announce_set(set_of(keys, "hub-next"))
    change = hub.head.size
    hub._heads.signer._signers += [(f"hub-next-{i}", key) for i, key in enumerate(keys)]
    put(hub, "a")
    assert asking.tick(world.clock.now)
    assert (asking.view().size, asking.view().reason) == (change, Reason.NOT_PERMITTED.value)
    (client,) = list_clients(world.nodes[ZJ].store)
    headers = world.chain(HUB).headers(client.latest.height, hub.head.size)
    (told,) = world.nodes[ZJ].deliver([Delivery(client.client_id, tuple(headers))])
    assert told.headers.outcome is Outcome.DONE
    world.clock.advance(120)
    put(hub, "b")
    assert asking.tick(world.clock.now)
    assert asking.view().size == hub.head.size


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 no\r\nContent-Length: 2\r\n\r\nno", Reason.CLIENT_NOT_FOUND),
        (b"HTTP/1.1 403 no\r\nContent-Length: 2\r\n\r\nno", Reason.NOT_PERMITTED),
        (b"HTTP/1.1 409 no\r\nContent-Length: 2\r\n\r\n70", Reason.HEAD_CONFLICT),
        (b"HTTP/1.1 422 no\r\nContent-Length: 0\r\n\r\n", Reason.INVALID_CONSISTENCY),
        (b"HTTP/1.1 400 no\r\nContent-Length: 0\r\n\r\n", Reason.MALFORMED),
        (b"HTTP/1.1 301 no\r\nLocation: http://localhost/\r\n\r\n", Reason.CHAIN_UNREACHABLE),
        (b"HTTP/1.1 500 no\r\nContent-Length: 1\r\n\r\n\x1b", Reason.CHAIN_UNREACHABLE),
        (b"HTTP/1.1 200 ok\r\nContent-Length: 3\r\n\r\nyes", Reason.MALFORMED),
        (
            b"HTTP/1.1 409 no\r\nContent-Type: text/x.tlog.size\r\nContent-Length: 2\r\n\r\n-1",
            Reason.MALFORMED,
        ),
        (b"HTTP/1.1 200 ok\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99_999, Reason.MALFORMED),
        (b"SSH-2.0-server\r\n", Reason.CHAIN_UNREACHABLE),
    ],
)
def test_what_a_stranger_answers_has_a_reason(answer: bytes, reason: Reason) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, refusing(reason):
        port = server.getsockname()[1]
        _answering(server, answer)
        HttpWitness(f"http://127.0.0.1:{port}", 5).add_checkpoint(0, (), NOTE, b"")


def _answering(server: socket.socket, answer: bytes) -> None:
    def run() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("127.0.0.1:7101", True),
        ("https://witness.example/lianqiao", True),
        ("http://127.0.0.1:7301", True),
        ("http://[::1]:7301/", True),
        ("ftp://witness.example", False),
        ("https://", False),
        ("https://user@witness.example", False),
        ("https://witness.example/?a=b", False),
        ("https://witness.example:99999", False),
        ("https://witness.example/a b", False),
        ("witness.example", False),
    ],
)
def test_where_a_witness_can_be(address: str, good: bool) -> None:
    given = {"name": "zj", "address": address, "key": "ed25519:" + "00" * 32}
    make: Callable[[], object] = lambda: sections.WitnessPeerConfig.model_validate(given)  # noqa: E731
    if good:
        assert make()
    else:
        with pytest.raises(ValueError, match="address"):
            make()
