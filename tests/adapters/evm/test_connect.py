"""`lianqiao connect --chain FILE` for an EVM ledger: what is pinned is compared and told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.evm.light import CLIENT
from relay.server import start
from tests.adapters.evm.ledger import EvmLedger, install
from tests.echo import ECHO

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvmLedger]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        made = EvmLedger(tmp_path_factory.mktemp("evm"), [ECHO])
        yield made
        made.close()


def file_of(ledger: EvmLedger, path: Path, **changed: str) -> Path:
    height = ledger.chain.latest_height()
    header = CLIENT.decode_header(ledger.chain.headers(0, height)[-1])
    named = {**dict(ledger.state.parameters), **changed}
    path.write_text(
        f"""
adapter = "evm"
address = "{ledger.anvil.address}"
chain_id = "sz-money/0"
algorithm = "qbft-seal"
tree_hash = "keccak256"
proof_kind = "mpt"
threshold = {{ numerator = 2, denominator = 3, strict = false }}
trust_level = {{ numerator = 1, denominator = 3, strict = true }}
trusted_height = {height}
trusted_hash = "{changed.pop("hash", header.hash.hex())}"
trusting_days = 14
assurance = "{ledger.state.assurance}"
lane = false
[parameters]
{chr(10).join(f'{k} = "{v}"' for k, v in named.items() if k != "hash")}
[settings]
{chr(10).join(f'{k} = "{v}"' for k, v in ledger.settings.items() if k != "address")}
"""
    )
    return path


def connect(file: Path, port: int) -> subprocess.CompletedProcess[str]:
    program = "from relay.cli import main; main()"
    command = [sys.executable, "-c", program, "connect", "--chain", str(file)]
    return subprocess.run(
        [*command, "--relay", f"127.0.0.1:{port}", "--json"], capture_output=True, text=True
    )


def test_a_relay_is_joined_to_an_evm_ledger(ledger: EvmLedger, tmp_path: Path) -> None:
    server = start(ledger.hub, clock=ledger.world.clock)
    try:
        done = connect(file_of(ledger, tmp_path / "sz.toml"), server.port)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert not told["made"]  # the very client that the ledger was joined by
        false = connect(file_of(ledger, tmp_path / "sz.toml", hash="00" * 32), server.port)
        assert "HEAD_CONFLICT" in false.stderr
        elsewhere = connect(
            file_of(ledger, tmp_path / "sz.toml", validators="header:7"), server.port
        )
        assert "VALIDATOR_SET_MISMATCH" in elsewhere.stderr
    finally:
        server.stop(0)
