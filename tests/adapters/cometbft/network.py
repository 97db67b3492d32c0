"""A real network of CometBFT validators with the example application `kvstore`.

The binary is `cometbft` of LIANQIAO_COMETBFT, of ~/.cache/lianqiao/bin, or of the path; that of the
0.40 line is of LIANQIAO_COMETBFT_40 or of ~/.cache/lianqiao/bin40. Without it the tests are
skipped, visibly, and fail where LIANQIAO_NEVER_SKIP is set.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adapters.cometbft.rpc import Endpoint
from relay.demo.ports import free_ports
from relay.keeper import end, keep

LINES = {"0.38": "v0.38.25", "0.40": "v0.40.0"}
"""Lines that are maintained, and the version of each that is tried."""
_INSTALL = "go install github.com/cometbft/cometbft/cmd/cometbft@"


def binary(line: str = "0.38") -> str:
    """The path of the real program; skips the calling test where there is none."""
    cache = Path.home() / ".cache/lianqiao"
    places = {
        "0.38": ("LIANQIAO_COMETBFT", cache / "bin/cometbft", shutil.which("cometbft")),
        "0.40": ("LIANQIAO_COMETBFT_40", cache / "bin40/cometbft", None),
    }
    variable, *others = places[line]
    for found in (os.environ.get(str(variable)), *others):
        if found and Path(found).exists():
            return str(found)
    install = f"no cometbft {line}: {_INSTALL}{LINES[line]}"
    if os.environ.get("LIANQIAO_NEVER_SKIP"):
        pytest.fail(install, pytrace=False)
    pytest.skip(install, allow_module_level=True)


class Network:
    """Validators, each a process of its own, on loopback."""

    def __init__(
        self,
        folder: Path,
        validators: int = 4,
        chain_id: str = "kv-chain",
        line: str = "0.38",
        secp256k1: bool = False,
    ) -> None:
        """`line`: of CometBFT; `secp256k1`: the kind of all validators' keys, else Ed25519."""
        self.chain_id = chain_id
        self.homes = [folder / f"node{n}" for n in range(validators)]
        self._program = program = binary(line)
        command = [program, "testnet", "--v", str(validators), "--o", str(folder)]
        subprocess.run(
            [*command, "--populate-persistent-peers=false"], check=True, capture_output=True
        )
        ports = [f"127.0.0.1:{port}" for port in free_ports(2 * validators)]
        self.rpc, p2p = ports[:validators], ports[validators:]
        ids = [
            subprocess.run(
                [program, "show-node-id", "--home", str(home)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()[-1]
            for home in self.homes
        ]
        peers = ",".join(f"{node}@{at}" for node, at in zip(ids, p2p, strict=True))
        genesis = json.loads((self.homes[0] / "config/genesis.json").read_text())
        genesis["chain_id"] = chain_id
        if secp256k1:
            genesis["consensus_params"]["validator"]["pub_key_types"] = ["secp256k1"]
            for home, named in zip(self.homes, genesis["validators"], strict=True):
                _rekey(home / "config/priv_validator_key.json", named)
        for home, rpc, at in zip(self.homes, self.rpc, p2p, strict=True):
            (home / "config/genesis.json").write_text(json.dumps(genesis))
            _configure(home / "config/config.toml", rpc, at, peers)
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * validators
        for number in range(validators):
            self.start(number)
        self.nodes = [Endpoint(rpc, seconds=20.0) for rpc in self.rpc]

    def start(self, number: int) -> None:
        """Starts a validator."""
        home = self.homes[number]
        with (home / "log").open("ab") as log:
            self._processes[number] = keep(
                [self._program, "start", "--home", str(home), "--proxy_app", "kvstore"], told=log
            )

    def stop(self, number: int) -> None:
        """Ends a validator."""
        process = self._processes[number]
        if process is not None:
            end(process, 10.0)
        self._processes[number] = None

    def close(self) -> None:
        """Ends all of them."""
        for number in range(len(self._processes)):
            self.stop(number)

    def wait_height(self, height: int, number: int = 0, seconds: float = 90.0) -> int:
        """Waits for a height; the newest one then."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                newest = self.nodes[number].status()[1]
            except Exception:
                newest = 0
            if newest >= height:
                return newest
            time.sleep(0.1)
        log = (self.homes[number] / "log").read_text()[-2000:]
        raise AssertionError(f"no height {height} after {seconds} s: {log}")

    def send(self, tx: bytes, number: int = 0) -> int:
        """Has a transaction executed; the height of its block."""
        encoded = b64encode(tx).decode()
        result = self.nodes[number].call("broadcast_tx_commit", tx=encoded)
        assert not result["check_tx"].get("code"), result
        assert not result["tx_result"].get("code"), result
        return int(result["height"])

    def set_power(self, number: int, power: int) -> int:
        """Changes a validator's power by a transaction of kvstore; its height."""
        return self.send(f"val=ed25519!{self.key(number)['pub_key']['value']}!{power}".encode())

    def key(self, number: int) -> Any:
        """The private key file of a validator."""
        return json.loads((self.homes[number] / "config/priv_validator_key.json").read_text())


def _rekey(path: Path, named: dict[str, Any]) -> None:
    """Gives a validator a secp256k1 key, in its file and in the genesis."""
    secret = ec.generate_private_key(ec.SECP256K1())
    public = secret.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    number = secret.private_numbers().private_value.to_bytes(32, "big")
    key = {
        "address": hashlib.new("ripemd160", sha256(public).digest()).hexdigest().upper(),
        "pub_key": {
            "type": "tendermint/PubKeySecp256k1",
            "value": b64encode(public).decode(),
        },
    }
    named.update(key)
    private = {"type": "tendermint/PrivKeySecp256k1", "value": b64encode(number).decode()}
    path.write_text(json.dumps({**key, "priv_key": private}))


def _configure(path: Path, rpc: str, p2p: str, peers: str) -> None:
    text = path.read_text()
    changes = [
        (r'(?m)^laddr = "tcp://[^"]*:26657"', f'laddr = "tcp://{rpc}"'),
        (r'(?m)^laddr = "tcp://[^"]*:26656"', f'laddr = "tcp://{p2p}"'),
        (r"(?m)^pprof_laddr = .*$", 'pprof_laddr = ""'),
        (r"(?m)^persistent_peers = .*$", f'persistent_peers = "{peers}"'),
        (r"(?m)^addr_book_strict = .*$", "addr_book_strict = false"),
        (r"(?m)^allow_duplicate_ip = .*$", "allow_duplicate_ip = true"),
        (r"(?m)^timeout_commit = .*$", 'timeout_commit = "100ms"'),
        (r"(?m)^log_level = .*$", 'log_level = "error"'),
    ]
    for pattern, value in changes:
        text, count = re.subn(pattern, value, text)
        assert count == 1, pattern
    path.write_text(text)
