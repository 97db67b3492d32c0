"""`lianqiao epoch open`: a node whose newest entries are lost goes on under the next epoch."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from relay.cli.opening import open_node
from relay.config import load
from relay.errors import LianqiaoError, Reason
from relay.light.types import ClientState
from relay.local import LocalChain
from tests.cli.conftest import Run, make


def _start(config: Path) -> None:
    """What `serve` does first."""
    open_node(load(config), lambda: int(time.time())).close()


def test_a_lost_journal_goes_on(tmp_path: Path, run: Run) -> None:
    directory = make(tmp_path / "hub", "hub", "relay")
    config, file, old = directory / "config.toml", directory / "node.db", tmp_path / "old.db"
    assert run("epoch", "open", "--config", config).reason == Reason.CONFLICT
    shutil.copy(file, old)
    node = open_node(load(config), lambda: int(time.time()) + 3600)
    assert node.tick()
    node.close()
    shutil.copy(old, file)
    with pytest.raises(LianqiaoError) as err:
        _start(config)
    assert err.value.reason is Reason.STALE_RESTORE
    assert "lianqiao epoch open" in err.value.hint

    done = run("epoch", "open", "--config", config, "--json")
    assert done.json["origin"] == "hub/1"
    assert done.json["opening"]["size"] == 1
    assert done.json["opening"]["signed"] == 2
    again = run("epoch", "open", "--config", config)
    assert again.reason == Reason.CONFIG_INVALID
    assert "epoch = 1" in again.err
    with pytest.raises(LianqiaoError) as err:
        _start(config)
    assert err.value.reason is Reason.CONFIG_INVALID
    config.write_text(config.read_text().replace("role =", "epoch = 1\nrole =", 1))
    _start(config)
    assert run("fsck", "--config", config).code == 0
    assert (directory / "keys" / "hub.0.mark").exists()
    assert (directory / "keys" / "hub.1.mark").exists()


def test_the_steps_after_it_are_told_in_their_order(tmp_path: Path, run: Run) -> None:
    """A sequence that was used in what is lost must be passed over before anything is sent."""
    directory = make(tmp_path / "hub", "hub", "relay")
    other = make(tmp_path / "zj", "zj", "ledger")
    config = directory / "config.toml"
    there = open_node(load(other / "config.toml"), lambda: int(time.time()))
    here = open_node(load(config), lambda: int(time.time()))
    header = LocalChain(there).headers(0, there.head.size)[-1]
    client = here.create_client(ClientState("checkpoint", there.origin), header)
    here.register_counterparty(client, "checkpoint-7")
    here.close()
    there.close()
    done = run("epoch", "open", "--forked", "--config", config)
    assert done.code == 0
    lines = done.out.splitlines()
    steps = [
        next(i for i, line in enumerate(lines) if said in line)
        for said in (
            "next: write epoch = 1",
            f"before anything is sent: lianqiao clients skip {client} NEXT --node ",
            "NEXT is above the greatest N in checkpoint-7/N/in",
            "lianqiao packets list --client checkpoint-7 --node ADDRESS (of zj)",
            "then each counterparty, on its own node: lianqiao clients recover",
        )
    ]
    assert steps == sorted(steps)
