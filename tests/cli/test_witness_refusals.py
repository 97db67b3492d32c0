"""What cannot be a witness, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.cli.status import key_text
from relay.cli.witness import required
from relay.errors import NotFound, Reason
from relay.keys import SigningKey
from relay.light.types import Witness
from relay.views import WitnessView
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


def test_a_witness_that_is_asked_under_another_key(hub: nodes.Running) -> None:
    """It was told to be asked by the hint, and not to be asked by the error."""
    pinned = Witness("wz", "ed25519", SigningKey.generate().public)
    view = WitnessView(pinned, "127.0.0.1:1", 0)
    status = replace(hub.client.status(), witnesses=(view,), witness_quorum=1)
    assert required(status, ["wz"]) == required(status, [f"wz={key_text(pinned)}"]) == (pinned,)
    for name, says in (("wz=ed25519:00", "asks wz under another key"), ("wx", "no witness wx")):
        with pytest.raises(NotFound) as refused:
            required(status, [name])
        assert refused.value.reason is Reason.NOT_FOUND
        assert says in refused.value.detail
