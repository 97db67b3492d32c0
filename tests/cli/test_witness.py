"""Two ledgers witness their common relay, one over gRPC and one over HTTP: real commands, real
processes, one line of configuration each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from relay.cli.witness import config_line
from relay.demo.ports import free_ports
from relay.errors import Reason
from relay.keys import SigningKey
from relay.light.types import Witness
from tests.cli.conftest import Run, Served, make
from tests.cli.test_nodes import _prepare, command

pytestmark = pytest.mark.slow
"""Longer than a day's run should take; .ci/run has it."""

SECONDS = 20


def _until(ready: Callable[[], bool], what: str) -> None:
    end = monotonic() + SECONDS
    while not ready():
        assert monotonic() < end, what
        sleep(0.1)


def _ask_witnesses(config: Path, lines: list[str], quorum: int) -> None:
    """Adds witnesses to a configuration, as its operator would."""
    asked = ['database = "node.db"', "tick_seconds = 1", f"witness_quorum = {quorum}"]
    asked += ["witnesses = [", *lines, "]", ""]
    text = config.read_text().replace('database = "node.db"\n', "\n".join(asked))
    config.write_text(text)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path


def test_two_ledgers_witness_their_relay(base: Path, run: Run) -> None:
    source, report = _prepare(base)
    zj = Served(make(base / "zj", "zj-medical", "ledger"))
    made, (port,) = make(base / "sh", "sh-medical", "ledger"), free_ports(1)
    config = made / "config.toml"
    http = f'[witness]\nhttp = "127.0.0.1:{port}"\n'
    config.write_text(config.read_text().replace("[witness]\n", http))
    sh = Served(made)
    hub = Served(make(base / "hub", "hub", "relay"))

    lines = []
    for ledger, at in ((zj, zj.address), (sh, f"http://127.0.0.1:{port}")):
        done = run("witness", "--node", ledger.address, "--relay", hub.address, "--address", at)
        assert done.code == 0, done.err
        lines.append(done.out.splitlines()[-1])
        again = run("witness", "--node", ledger.address, "--relay", hub.address, "--json").json
        assert not again["made"]
    assert hub.stop() == 0
    _ask_witnesses(hub.config, lines, 2)
    hub = Served(hub.config.parent)

    def status() -> Any:
        return run("status", "--node", hub.address, "--json").json

    _until(lambda: status()["head"] is not None, "no head is shown")
    assert [w["witness"]["name"] for w in status()["witnesses"]] == ["zj-medical", "sh-medical"]
    both = ["--require-witness", "zj-medical", "--require-witness", "sh-medical"]
    done = run("connect", "--node", zj.address, "--relay", hub.address, *both)
    assert done.code == 0, done.err
    assert "no head of hub is believed without sh-medical" in done.out
    assert run("connect", "--node", sh.address, "--relay", hub.address, *both).code == 0
    refused = run("connect", "--node", sh.address, "--relay", hub.address,
                  "--require-witness", "nobody")  # fmt: skip
    assert refused.reason == Reason.NOT_FOUND

    clients = run("clients", "list", "--node", zj.address, "--json").json["clients"]
    (client,) = [c["client_id"] for c in clients if c["counterparty_client_id"]]
    shown = run("clients", "show", client, "--node", zj.address).out
    assert "2 of 2 must have signed" in shown
    assert "witness sh-medical" in shown
    before = run("clients", "show", client, "--node", zj.address, "--json").json

    # a packet there and back: its acknowledgement comes under a head that both have co-signed
    command("institutions", "register", source, "--key", base / f"{source}.pem",
            "--node", zj.address)  # fmt: skip
    command("attest", report, "--institution", source, "--key", base / f"{source}.pem",
            "--cards", base / "cards", "--node", zj.address)  # fmt: skip

    def open_packets() -> int:
        return int(run("status", "--node", zj.address, "--json").json["packets_open"])

    _until(lambda: open_packets() == 0, "the packet was not acknowledged")
    after = run("clients", "show", client, "--node", zj.address, "--json").json
    assert after["latest"]["height"] > before["latest"]["height"]

    # a witness that is gone is told of, and holds up what is shown, not what is signed
    assert sh.stop() == 0

    def lost() -> bool:
        return bool(status()["witnesses"][1]["reason"] == Reason.CHAIN_UNREACHABLE)

    _until(lost, "the lost witness is not told of")
    view = status()
    assert view["signed_size"] > view["head"]["size"]
    assert "CHAIN_UNREACHABLE" in run("status", "--node", hub.address).out
    for node in (zj, hub):
        assert node.stop() == 0
    assert run("fsck", "--config", hub.config).code == 0


def test_a_relay_that_asks_too_few_cannot_be_required(base: Path, run: Run) -> None:
    hub = make(base / "hub", "hub", "relay")
    line = config_line(
        Witness("zj-medical", "ed25519", SigningKey.generate().public), "127.0.0.1:1"
    )
    _ask_witnesses(hub / "config.toml", [json.dumps(line)], 0)
    served = Served(hub)
    zj = Served(make(base / "zj", "zj-medical", "ledger"))
    args = ["connect", "--node", zj.address, "--relay", served.address, "--require-witness"]
    assert run(*args, "zj-medical").reason == Reason.WITNESS_MISSING
    assert run(*args, "zj-medical=ed25519:00").reason == Reason.NOT_FOUND
    served.stop()
    zj.stop()
