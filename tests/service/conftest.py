"""Two nodes that follow each other, served on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.nodes import Clock, Running, join, run
from tests.service.region import Region


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Running, Running, str, str]]:
    """(ledger, relay, the ledger's client, the relay's client)."""
    clock = Clock()
    ledger = run(tmp_path / "ledger", "zj-medical", "ledger", clock=clock)
    relay = run(tmp_path / "relay", "east", "relay", clock=clock)
    here, there = join(ledger, relay)
    yield ledger, relay, here, there
    ledger.stop()
    relay.stop()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Running]:
    """One node without clients."""
    running = run(tmp_path / "node", "zj-medical", "ledger")
    yield running
    running.stop()


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    """Two ledgers and a relay with their contracts."""
    found = Region(tmp_path)
    yield found
    found.stop()
