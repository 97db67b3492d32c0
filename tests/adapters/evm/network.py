"""A real network of GoQuorum validators that seal by QBFT or IBFT, on loopback.

The program is `geth` of GoQuorum, named by LIANQIAO_QUORUM or found on the path as `quorum-geth`.
No registry that CI reaches has it, so without it these tests are skipped, visibly.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import coincurve
import pytest

from adapters.evm import calls
from adapters.evm.light.crypto import address_of
from adapters.evm.light.header import MIX_HASH, QBFT
from adapters.evm.light.validators import array_slots
from adapters.evm.practice.chain import KEYS
from adapters.evm.practice.seals import Sealer, extra, ring
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.demo.ports import free_ports
from relay.errors import LianqiaoError

NUMBER = 20254
EPOCH = 30_000
VALIDATOR_CONTRACT = "0x000000000000000000000000000000000000aaaa"
ACCOUNTS = tuple(
    "0x" + address_of(coincurve.PrivateKey(bytes.fromhex(key)).public_key.format(False)).hex()
    for key in KEYS
)
_GAS_LIMIT = 60_000_000
_FORKS = (
    "homestead", "eip150", "eip155", "eip158", "byzantium", "constantinople", "petersburg",
    "istanbul", "berlin",
)  # fmt: skip


def binary() -> str:
    """The path of the real program; skips the calling test where there is none."""
    found = os.environ.get("LIANQIAO_QUORUM") or shutil.which("quorum-geth")
    if found and Path(found).exists():
        return found
    pytest.skip("no GoQuorum: LIANQIAO_QUORUM names its geth", allow_module_level=True)


class Network:
    """Validators, each a process of its own; `close()` when done.

    `variant` is qbft-seal or ibft1-seal; `contract`: where a contract keeps the validators its code
    and storage are part of the genesis block, and headers list nobody. `spare`: nodes beside, that
    follow the chain without being validators.
    """

    def __init__(
        self,
        folder: Path,
        variant: str = QBFT,
        validators: int = 4,
        *,
        spare: int = 0,
        contract: bool = False,
    ) -> None:
        self.variant, self.folder = variant, folder
        self.sealers: list[Sealer] = ring(validators + spare, "quorum")
        count = len(self.sealers)
        ports = free_ports(2 * count)
        self.addresses = [f"127.0.0.1:{port}" for port in ports[:count]]
        self.homes = [folder / f"node{n}" for n in range(count)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count
        genesis = folder / "genesis.json"
        genesis.write_text(json.dumps(_genesis(variant, self.sealers[:validators], contract)))
        peers = [
            f"enode://{s.key.public_key.format(compressed=False)[1:].hex()}@127.0.0.1:{port}"
            for s, port in zip(self.sealers, ports[count:], strict=True)
        ]
        for n, home in enumerate(self.homes):
            (home / "geth").mkdir(parents=True)
            (home / "geth/nodekey").write_text(self.sealers[n].key.secret.hex())
            (home / "geth/nodekey").chmod(0o600)
            (home / "config.toml").write_text(_config(home, ports[n], ports[count + n], peers))
            subprocess.run(
                [binary(), "--datadir", str(home), "init", str(genesis)],
                check=True, capture_output=True, timeout=60, env=_environment(),
            )  # fmt: skip
        for n in range(count):
            self.start(n)
        self.rpc = Rpc(self.addresses)

    def start(self, number: int) -> None:
        """Starts a node; validators mine, and the others would if they became one."""
        home = self.homes[number]
        with (home / "log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [binary(), "--config", str(home / "config.toml"), "--mine", "--miner.threads", "1",
                 "--miner.gaslimit", str(_GAS_LIMIT), "--emitcheckpoints", "--nat", "none",
                 "--syncmode", "full", "--gcmode", "archive", "--networkid", str(NUMBER)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment(),
            )  # fmt: skip

    def stop(self, number: int) -> None:
        """Ends a node."""
        process = self._processes[number]
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self._processes[number] = None

    def close(self) -> None:
        """Ends all of them."""
        for number in range(len(self._processes)):
            self.stop(number)

    def height(self, number: int = 0) -> int:
        """The newest block of a node."""
        return Rpc([self.addresses[number]]).number("eth_blockNumber", [])

    def wait_height(self, height: int, number: int = 0, seconds: float = 180.0) -> int:
        """Waits for a height; the newest one then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                newest = self.height(number)
            except LianqiaoError:
                newest = 0
            if newest >= height:
                return newest
            time.sleep(0.2)
        log = (self.homes[number] / "log").read_text(errors="replace")[-3000:]
        raise AssertionError(f"no height {height} after {seconds} s: {log}")

    def propose(self, subject: Sealer, add: bool, by: Sequence[int]) -> None:
        """Has nodes vote for a validator or against it, each in the headers that it proposes."""
        for number in by:
            answer = Rpc([self.addresses[number]])._raw(
                "istanbul_propose", ["0x" + subject.address.hex(), add]
            )
            assert "error" not in answer, answer

    def sender(self, account: int = 0) -> Sender:
        """One of the accounts that the genesis block gives money."""
        file = self.folder / f"account{account}.hex"
        file.write_text(KEYS[account])
        return Sender(file, 10**12)


def _environment() -> dict[str, str]:
    return {**os.environ, "PRIVATE_CONFIG": "ignore"}


def _genesis(variant: str, validators: Sequence[Sealer], contract: bool) -> dict[str, object]:
    listed = [] if contract else [s.address for s in validators]
    config: dict[str, object] = {f"{fork}Block": 0 for fork in _FORKS}
    config |= {
        "chainId": NUMBER, "isQuorum": True, "txnSizeLimit": 64,
        "maxCodeSizeConfig": [{"block": 0, "size": 24}],
    }  # fmt: skip
    kind: dict[str, object] = {
        "epochlength": EPOCH, "blockperiodseconds": 1, "requesttimeoutseconds": 4,
        "policy": 0, "ceil2Nby3Block": 0,
    }  # fmt: skip
    alloc: dict[str, object] = {address: {"balance": hex(10**24)} for address in ACCOUNTS}
    if contract:
        kind |= {
            "validatorcontractaddress": VALIDATOR_CONTRACT, "validatorselectionmode": "contract",
        }  # fmt: skip
        alloc[VALIDATOR_CONTRACT] = _validator_contract([s.address for s in validators])
    config["qbft" if variant == QBFT else "ibft"] = kind
    return {
        "config": config,
        "nonce": "0x0",
        "timestamp": "0x0",
        "extraData": "0x" + extra(variant, listed, None, []).hex(),
        "gasLimit": hex(_GAS_LIMIT),
        "difficulty": "0x1",
        "mixHash": "0x" + MIX_HASH.hex(),
        "coinbase": "0x" + bytes(20).hex(),
        "alloc": alloc,
    }


def _validator_contract(addresses: Sequence[bytes]) -> dict[str, object]:
    """`Validators` of Harness.sol as it lies on a chain: `address[]` at slot 0."""
    created = calls.artifacts()["Validators"]["bytecode"]
    code = created.removeprefix("0x").partition("fdfe")[2]  # behind what makes it
    storage = {0: len(addresses)}
    for slot, address in zip(array_slots(0, len(addresses))[1:], addresses, strict=True):
        storage[slot] = int.from_bytes(address, "big")
    return {
        "balance": "0x0",
        "code": "0x" + code,
        "storage": {f"0x{slot:064x}": f"0x{word:064x}" for slot, word in storage.items()},
    }


def _config(home: Path, rpc: int, p2p: int, peers: Sequence[str]) -> str:
    """Everything on loopback, nobody looked for."""
    return f"""[Node]
DataDir = {json.dumps(str(home))}
IPCPath = ""
HTTPHost = "127.0.0.1"
HTTPPort = {rpc}
HTTPModules = ["eth", "net", "debug", "istanbul"]

[Node.P2P]
MaxPeers = 25
NoDiscovery = true
StaticNodes = {json.dumps(list(peers))}
ListenAddr = "127.0.0.1:{p2p}"
"""
