"""A witness that is not ours: `litewitness` of filippo.io/torchwood, an implementation of C2SP's.

Its program is named by LIANQIAO_LITEWITNESS (.ci/run installs it); without it the tests are
skipped, visibly. It signs by an SSH agent, so one is played here that holds one key.
"""

from __future__ import annotations

import os
import socket
import socketserver
import sqlite3
import struct
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from relay.client.http_witness import HttpWitness
from relay.cosigning import Cosigning
from relay.errors import Reason
from relay.keys import SigningKey
from relay.light.note import checkpoint_key_id
from relay.light.types import Witness
from relay.store.cosignatures import Shown, cosignatures
from tests.refusals import refused
from tests.test_witness import _forged
from tests.witnessing import HUB, hub_world, put
from tests.world import Clock, World

PROGRAM = os.environ.get("LIANQIAO_LITEWITNESS", "")
NAME, SECONDS = "witness.example", 20.0
ORIGIN = f"{HUB}/0"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="no litewitness: LIANQIAO_LITEWITNESS names it"),
]


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


class Agent(socketserver.BaseRequestHandler):
    """draft-ietf-sshm-ssh-agent: lists one Ed25519 key, and signs by it."""

    key: SigningKey

    def handle(self) -> None:
        blob = _string(b"ssh-ed25519") + _string(self.key.public)
        while head := self.request.recv(4, socket.MSG_WAITALL):
            said = self.request.recv(struct.unpack(">I", head)[0], socket.MSG_WAITALL)
            if said[0] == 11:
                answer = b"\x0c" + struct.pack(">I", 1) + _string(blob) + _string(b"")
            else:
                assert said[0] == 13
                data = said[1 + 4 + len(blob) :]
                signature = self.key.sign(data[4 : 4 + struct.unpack(">I", data[:4])[0]])
                answer = b"\x0e" + _string(_string(b"ssh-ed25519") + _string(signature))
            self.request.sendall(_string(answer))


@dataclass
class Lite:
    """The program, running."""

    folder: Path
    port: int
    pinned: Witness

    @property
    def asked(self) -> HttpWitness:
        return HttpWitness(f"http://127.0.0.1:{self.port}", SECONDS)

    def add_log(self, origin: str, name: str, public: bytes) -> None:
        """What its operator does with `witnessctl`."""
        key_id = checkpoint_key_id(name, "ed25519", public).hex()
        key = f"{name}+{key_id}+{b64encode(bytes([1]) + public).decode()}"
        empty = b64encode(sha256(b"").digest()).decode()
        with closing(sqlite3.connect(self.folder / "witness.db")) as database, database:
            database.execute("INSERT INTO log VALUES (?, 0, ?)", (origin, empty))
            database.execute("INSERT INTO key VALUES (?, ?)", (origin, key))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Lite]:
    key, port, agent = SigningKey.generate(), _free_port(), str(tmp_path / "agent")
    handler: Any = type("Held", (Agent,), {"key": key})
    with socketserver.ThreadingUnixStreamServer(agent, handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [PROGRAM, "-name", NAME, "-key", sha256(key.public).hexdigest()]
        command += ["-db", str(tmp_path / "witness.db"), "-ssh-agent", agent]
        command += ["-listen", f"127.0.0.1:{port}"]
        with (tmp_path / "log").open("wb") as log:
            program = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _await(port, tmp_path / "log")
            yield Lite(tmp_path, port, Witness(NAME, "ed25519", key.public))
        finally:
            program.kill()
            program.wait()
            server.shutdown()


def _await(port: int, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = hub_world(tmp_path / "world", Clock(int(time.time())))
    yield world
    world.close()


def test_a_witness_that_is_not_ours_cosigns_our_heads(world: World, lite: Lite) -> None:
    hub, now = world.nodes[HUB], world.clock.now
    hub.shown = Shown((lite.pinned,), 1)
    asking = Cosigning(hub, lite.pinned, lite.asked.address, lite.asked)
    assert not asking.tick(now)
    assert asking.view().reason == Reason.NOT_PERMITTED.value, "it does not know this log"
    lite.add_log(ORIGIN, f"{HUB}-0", world.signers[HUB][0].public)
    world.clock.advance(1)
    for key in "abc":
        head = put(hub, key)
        assert asking.tick(world.clock.now)
        assert asking.view().size == head.size
        with hub.store.read() as connection:
            (kept,) = cosignatures(connection, head.size, (lite.pinned,))
            assert hub.shown.newest(connection) == head.size
        assert kept.witness == lite.pinned


def test_it_refuses_what_ours_refuses(world: World, lite: Lite) -> None:
    hub = world.nodes[HUB]
    lite.add_log(ORIGIN, f"{HUB}-0", world.signers[HUB][0].public)
    head = put(hub, "a")
    ask = lite.asked.add_checkpoint
    assert ask(0, [], head.note.encode(), b"").lines
    assert ask(0, [], head.note.encode(), b"").size == head.size
    other = _forged(world, head, root=bytes(32)).note.encode()
    reasons = (Reason.INVALID_CONSISTENCY, Reason.HEAD_CONFLICT)
    refused(reasons, ask, head.size, [], other, b"")
    put(hub, "b")
    note = hub.head.note.encode()
    refused(Reason.INVALID_CONSISTENCY, ask, head.size, [bytes(32)], note, b"")
    refused(Reason.MALFORMED, ask, hub.head.size + 1, [], note, b"")
