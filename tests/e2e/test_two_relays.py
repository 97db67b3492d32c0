"""Two processes of one operator serve one relay: one database, one directory of keys.

Both run lanes for the same clients, both answer callers. Nothing is doubled, the journal stays one,
and the death of either holds nothing up. What only one process may have is refused to the second.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.client import connect
from relay.demo.ports import free_ports
from relay.demo.stage import RELAY, SOURCE
from relay.errors import LianqiaoError
from tests.e2e.conftest import ROOT, command, environment
from tests.e2e.load import Load
from tests.e2e.network import Network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _second(network: Network, name: str, directory: Path) -> tuple[Path, str]:
    """A directory for another process on the same journal, with the same keys; and its address."""
    first = network.config(name)
    directory.mkdir()
    address = f"127.0.0.1:{free_ports(1)[0]}"
    text = first.read_text().replace('"keys/', f'"{first.parent}/keys/')
    text = text.replace(network.stage.processes[name].address, address)
    text = text.replace('"vault"', f'"{first.parent}/vault"')
    text = text.replace('"node.db"', f'"{first.parent}/node.db"')
    own = text.partition("[witness]")[0] if name == RELAY else text
    (directory / "config.toml").write_text(own)
    lanes = first.parent / "lanes.json"
    if lanes.exists():
        (directory / "lanes.json").write_text(lanes.read_text())
    return directory / "config.toml", address


def _begin(config: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.child", "-", "serve", "--config", str(config)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env=environment(),
        )


def _wait(address: str, log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            with connect(address, 10) as client:
                client.status()
                return
        except LianqiaoError:
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


def test_two_relays_on_one_database(place: Path) -> None:
    with Network(place, on_server=RELAY) as network:
        load = Load(network, 8)
        load.prepare()
        config, address = _second(network, RELAY, place / "second")
        log = place / "second.log"
        second = _begin(config, log)
        try:
            _wait(address, log)
            load.start()
            time.sleep(4)
            second.kill()  # the first one goes on alone
            second.wait()
            time.sleep(2)
            second = _begin(config, log)
            _wait(address, log)
            network.kill(RELAY)  # and now the second one
            time.sleep(3)
            before = len(load.requests)
            load.until(SOURCE, lambda _: len(load.requests) > before)
            network.start(RELAY)
            network.wait_serving(RELAY)
            time.sleep(3)
            load.end()
            load.drain()
            with network.client(RELAY) as one, connect(address, 20) as other:
                assert one.status().packets_open == other.status().packets_open == 0
            counts = load.judge()
            assert counts["records"] > 4
        finally:
            load.end()
            second.kill()
            second.wait()
        assert "STALE_RESTORE" not in log.read_text()
        for told in network.fsck().values():
            assert "all is as it should be" in told


def test_what_one_process_alone_may_have(tmp_path: Path) -> None:
    """A ledger's vault, and what a witness has signed."""
    with Network(tmp_path, postgresql=False) as network:
        config, _ = _second(network, SOURCE, tmp_path / "second")
        for text, what in (
            (config.read_text(), "has the vault"),
            (config.read_text().replace('/vault"', '/other"'), "what this witness has signed"),
        ):
            config.write_text(text)
            told = subprocess.run(
                command("serve", "--config", config),
                capture_output=True,
                text=True,
                env=environment(),
                timeout=60,
            )
            assert told.returncode == 1
            assert "CONFLICT: another process" in told.stderr
            assert what in told.stderr
