"""kill -9 of real processes under load; the hundred is `python -m tests.e2e.kills --count 100`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from relay.cli.opening import load_signers
from relay.client import connect
from relay.config import load
from relay.contracts.policy.values import DatedKey
from relay.demo.ports import free_ports
from relay.errors import LianqiaoError
from relay.fsck import fsck
from relay.keys import SigningKey
from relay.node import Node
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store
from tests.e2e.conftest import ROOT, command, environment
from tests.e2e.kills import run
from tests.world import TYPES


def _judge(figures: dict[str, object], kills: int) -> None:
    struck = figures["kills"]
    assert isinstance(struck, dict)
    assert sum(struck.values()) == kills
    assert figures["records"] == figures["recognised"] != 0
    assert figures["fsck"] == "clean"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_one_node_is_killed_between_calls(tmp_path: Path) -> None:
    """The day's small version: one ledger, twice; what was answered is there, once, and whole."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    node, log = tmp_path / "zj", (tmp_path / "log").open("ab")
    init = command("init", node, "--chain-id", "zj", "--role", "ledger", "--listen", address)
    subprocess.run(init, check=True, env=environment(), stdout=log, timeout=60)
    serve = [sys.executable, "-m", "tests.e2e.child", "-", "serve", "--config"]
    answered: list[str] = []
    key = SigningKey.generate()
    for turn in range(2):
        running = subprocess.Popen(
            [*serve, str(node / "config.toml")],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment(),
        )  # fmt: skip
        threading.Timer(0.3, lambda of=running: _kill_when(of, answered, 6)).start()
        end = time.monotonic() + 60
        while running.poll() is None and time.monotonic() < end:
            name = f"h{turn}-{len(answered)}"
            dated = DatedKey(key.algorithm, key.public, 0, 2**40)
            with suppress(LianqiaoError), connect(address, 5) as client:
                client.register_institution(name, 1, [dated])
                answered.append(name)
        running.wait(30)
    store = Store.at(node / "node.db")
    with store.read() as connection:
        paths = [bytes(p) for (p,) in connection.exec_driver_sql("SELECT path FROM entry")]
    for name in answered:
        assert sum(name.encode() in path for path in paths) == 1, name
    assert len(answered) >= 12
    Node(  # what was committed last is signed by the next start
        chain_id="zj", role="ledger", store=store, client_types=TYPES, contracts={},
        signer=CheckpointSigner(
            load_signers(load(node / "config.toml")), HighWaterMark(node / "keys" / "zj.0.mark")
        ),
        clock=lambda: int(time.time()),
    )  # fmt: skip
    assert fsck(store, TYPES, "zj/0")[1] == []
    store.close()
    log.close()


def _kill_when(running: subprocess.Popen[bytes], answered: list[str], more: int) -> None:
    """kill -9 once so many more calls were answered, in the middle of a further one."""
    target = len(answered) + more
    while len(answered) < target and running.poll() is None:
        time.sleep(0.001)
    running.kill()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_kills_without_a_database_server(tmp_path: Path) -> None:
    _judge(run(tmp_path, 2, 1, postgresql=False), 2)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dozen_kills_the_database_server_too(place: Path) -> None:
    seed = int.from_bytes(os.urandom(3), "big")
    print(f"seed {seed}: python -m tests.e2e.kills --count 12 --seed {seed}")
    figures = run(place, 12, seed, say=print)
    _judge(figures, 12)
    assert figures["kills"].keys() >= {"postgresql", "relay"}  # type: ignore[attr-defined]
