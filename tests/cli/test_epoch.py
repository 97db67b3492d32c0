"""`lianqiao epoch open`: a node whose newest entries are lost goes on under the next epoch."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from relay.cli.opening import open_node
from relay.config import load
from relay.errors import LianqiaoError, Reason
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
