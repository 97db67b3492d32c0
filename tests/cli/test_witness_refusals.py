"""What cannot be a witness, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.service import nodes


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[nodes.Running]:
    running = nodes.run(tmp_path / "hub", "hub", "relay")
    yield running
    running.stop()


def test_nobody_is_his_own_witness(hub: nodes.Running, run: Run) -> None:
    """It made a client of itself, and said nothing."""
    done = run("witness", "--node", hub.address, "--relay", hub.address)
    assert (done.code, done.reason) == (1, "CHAIN_ID_MISMATCH")
    assert "nobody is his own witness" in done.err
    assert list(hub.client.clients()) == []


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:0", "ftp://witness", "http://a:x"])
def test_an_address_that_no_configuration_takes(run: Run, address: str) -> None:
    args = ("--node", "127.0.0.1:9", "--relay", "127.0.0.1:9")
    done = run("witness", *args, "--address", address)
    assert (done.code, done.reason) == (2, "MALFORMED")
    assert f"--address {address!r}" in done.err
