"""`lianqiao connect --chain FILE`: a chain that a file describes, joined through its adapter.

The chain here is a lianqiao node reached as if it were foreign, so that the command is tested for
every adapter; what is particular to a family is tested beside its adapter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.lianqiao.light import CLIENT
from relay.cli.lanes import Lanes
from relay.errors import Malformed, Reason
from relay.light.types import DAY
from relay.registry import chains
from relay.views import LaneView
from tests.cli.conftest import Run
from tests.service.nodes import Clock, Running
from tests.service.nodes import run as run_node


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Running, Running]]:
    """(a chain, a relay), at the time of this machine's clock."""
    clock = Clock(int(time.time()))
    relay = run_node(
        tmp_path / "hub", "hub", "relay", clock=clock, lanes=Lanes(tmp_path / "lanes.json", ())
    )
    chain = run_node(tmp_path / "zj", "zj", "ledger", clock=clock)
    yield chain, relay
    relay.stop()
    chain.stop()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What an adapter of this test's own is told."""
    heard: dict[str, str] = {}
    monkeypatch.setitem(chains()._points, "listening", [])
    monkeypatch.setitem(chains()._loaded, "listening", heard.update)
    return heard


def write(path: Path, chain: Running, **changed: object) -> Path:
    """The file for a chain; a value of None leaves a key out."""
    head = chain.client.head()
    header = CLIENT.decode_header(chain.client.headers(0, head.size)[-1])
    keys: dict[str, object] = {
        "adapter": "lianqiao",
        "client_type": "checkpoint",
        "address": chain.address,
        "chain_id": "zj/0",
        "algorithm": "ed25519",
        "proof_kind": "rfc6962",
        "trusted_height": head.size,
        "trusted_hash": header.hash.hex(),
        "trusting_days": 9,
        "node": chain.address,
    }
    keys |= changed
    lines = [
        f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"'
        for key, value in keys.items()
        if value is not None
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_chain_of_a_file_is_joined_once(
    pair: tuple[Running, Running], run: Run, tmp_path: Path
) -> None:
    chain, relay = pair
    file = write(tmp_path / "zj.toml", chain)
    done = run("connect", "--chain", file, "--relay", relay.address)
    assert done.code == 0, done.err
    for said in ("What is trusted", "9 days", "rfc6962", "ed25519", "zj-0, zj-1", "hash "):
        assert said in done.out
    (ours,) = relay.client.clients()
    (theirs,) = chain.client.clients()
    assert ours.counterparty_client_id == theirs.client_id
    assert theirs.counterparty_client_id == ours.client_id
    assert (ours.state.chain_id, ours.state.trusting_period) == ("zj/0", 9 * DAY)
    assert list(relay.client.lanes()) == [LaneView(ours.client_id, "lianqiao", chain.address)]
    again = run("connect", "--chain", file, "--relay", relay.address, "--json")
    # The nodes of this process write their log to its standard output as well.
    assert json.loads(again.out[again.out.index("\n{") :])["made"] is False
    assert len(list(relay.client.clients())) == len(list(chain.client.clients())) == 1


def test_a_chain_that_is_only_followed(
    pair: tuple[Running, Running], run: Run, tmp_path: Path
) -> None:
    chain, relay = pair
    file = write(tmp_path / "zj.toml", chain, node=None)
    file.write_text(file.read_text() + "lane = false\n")
    done = run("connect", "--chain", file, "--relay", relay.address)
    assert "no counterparty is named" in done.out
    assert not list(relay.client.lanes())
    assert not list(chain.client.clients())


def test_a_header_that_is_not_the_pinned_one(
    pair: tuple[Running, Running], run: Run, tmp_path: Path
) -> None:
    chain, relay = pair
    file = write(tmp_path / "zj.toml", chain, trusted_hash="00" * 32)
    done = run("connect", "--chain", file, "--relay", relay.address)
    assert (done.code, done.reason) == (1, "HEAD_CONFLICT")
    assert not list(relay.client.clients())


@pytest.mark.parametrize(
    ("changed", "code", "reason"),
    [
        ({"chain_id": "sh/0"}, 1, "CHAIN_ID_MISMATCH"),
        ({"algorithm": "p256"}, 1, "ALGORITHM_NOT_PINNED"),
        ({"trusted_height": 9999}, 1, "HEIGHT_NOT_FOUND"),
        ({"adapter": "steam"}, 2, "CONFIG_INVALID"),
        ({"client_type": "steam"}, 1, "CLIENT_TYPE_UNKNOWN"),
        ({"trusted_hash": "abc"}, 2, "CONFIG_INVALID"),
        ({"proof_kind": None}, 2, "CONFIG_INVALID"),
        ({"colour": "red"}, 2, "CONFIG_INVALID"),
        ({"counterparty": "checkpoint-7"}, 2, "CONFIG_INVALID"),
        ({"address": "nowhere"}, 2, "CONFIG_INVALID"),
    ],
)
def test_files_that_do_not_fit(
    pair: tuple[Running, Running],
    run: Run,
    tmp_path: Path,
    changed: dict[str, object],
    code: int,
    reason: str,
) -> None:
    chain, relay = pair
    file = write(tmp_path / "zj.toml", chain, **changed)
    done = run("connect", "--chain", file, "--relay", relay.address)
    assert (done.code, done.reason) == (code, reason), done.err
    assert not list(relay.client.clients())


def test_settings_reach_the_adapter_and_stay(tmp_path: Path, told: dict[str, str]) -> None:
    path = tmp_path / "lanes.json"
    settings = (("rpc", "b:2,c:3"), ("zone", "north east"))
    lane = LaneView("listening-0", "listening", "a:1", settings=settings)
    Lanes(path, ()).add(lane)
    assert told == {"address": "a:1", **dict(settings)}
    assert Lanes(path, ()).list() == [lane]


@pytest.mark.parametrize(
    ("name", "value"), [("address", "b:2"), ("RPC", "b"), ("rpc", ""), ("rpc", "a\nb"), ("", "b")]
)
def test_settings_that_a_configuration_would_not_take(
    tmp_path: Path, told: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(Malformed) as err:
        Lanes(tmp_path / "lanes.json", ()).add(
            LaneView("listening-0", "listening", "a:1", settings=((name, value),))
        )
    assert err.value.reason is Reason.MALFORMED
    assert not told
