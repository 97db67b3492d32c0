"""A real EVM (anvil) with an endpoint, re-sealed by test validators, beside a real relay.

anvil does not seal, so a small server stands before it: it forwards every question, and answers
`debug_getRawHeader` with anvil's own roots under a header that test validators have sealed. Block
times follow the clock of the test.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.deploy import Deployed, deploy, deploy_endpoint
from adapters.evm.light import CLIENT
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.chain import Chain
from relay.light.checkpoint_client import CHECKPOINT
from relay.registry import connect_chain
from tests.adapters.evm.sealing import EPOCH, QBFT, Sealer, hash_of, header, ring, state_of
from tests.world import Clock, World, keys_of

ANVIL = "1.7.1"
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""The first of anvil's own test keys."""


def anvil_binary() -> str:
    """The binary, from LIANQIAO_ANVIL, the path, or the cache; skips, visibly, where it is not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lianqiao" / "npm"
    kept = cache / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    found = os.environ.get("LIANQIAO_ANVIL") or shutil.which("anvil")
    if found is None and not kept.exists() and shutil.which("npm"):
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--no-save", "--ignore-scripts", f"@foundry-rs/anvil@{ANVIL}"],
            cwd=cache, capture_output=True, check=False, timeout=300,
        )  # fmt: skip
    if found is None and kept.exists():
        found = str(kept)
    if found is None:
        if os.environ.get("LIANQIAO_NEVER_SKIP"):
            pytest.fail("anvil is absent", pytrace=False)
        pytest.skip(f"anvil is absent: npm install @foundry-rs/anvil@{ANVIL} in {cache}")
    return found


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class SealedAnvil:
    """anvil behind the sealing server; `address` is what an adapter is told."""

    def __init__(self, clock: Any, variant: str = QBFT, sealers: Sequence[Sealer] = ()) -> None:
        self.clock, self.variant = clock, variant
        self.sealers = list(sealers) or ring(4)
        self._sealed: dict[int, bytes] = {}
        self._lock = threading.RLock()
        self.last = 0
        port = free_port()
        self._inner = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [anvil_binary(), "--port", str(port), "--silent", "--gas-limit", "60000000",
             "--timestamp", str(clock.now), "--chain-id", "20253"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for _ in range(200):
            try:
                self.ask("eth_chainId")
                break
            except OSError:
                time.sleep(0.05)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                said = json.dumps(outer.answer(asked)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def ask(self, method: str, *params: Any) -> Any:
        """anvil itself."""
        return self._forward({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})[
            "result"
        ]

    def _forward(self, asked: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._inner, json.dumps(asked).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as said:
            found: dict[str, Any] = json.loads(said.read())
            return found

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """As a node of a sealed chain answers."""
        if asked["method"] == "debug_getRawHeader":
            try:
                raw = self.sealed(int(asked["params"][0], 16))
            except (TypeError, ValueError, KeyError):
                return {"jsonrpc": "2.0", "id": asked["id"], "error": {"message": "no block"}}
            return {"jsonrpc": "2.0", "id": asked["id"], "result": "0x" + raw.hex()}
        if asked["method"] == "eth_sendRawTransaction":
            with self._lock:
                self.tick()
                return self._forward(asked)
        return self._forward(asked)

    def tick(self) -> None:
        """The next block gets the clock's time; the clock follows where there are many blocks."""
        latest = int(self.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        self.clock.now = max(self.clock.now, latest + 1)
        self.ask("evm_setNextBlockTimestamp", hex(self.clock.now))

    def mine(self) -> int:
        """An empty block at the clock's time; its number."""
        self.tick()
        self.ask("evm_mine")
        return int(self.ask("eth_blockNumber"), 16)

    def sealed(self, number: int) -> bytes:
        """anvil's roots under a header sealed by the validators."""
        with self._lock:
            for n in range(1, number + 1):
                if n not in self._sealed:
                    block = self.ask("eth_getBlockByNumber", hex(n), False)
                    parent = hash_of(self.variant, self._sealed[n - 1]) if n > 1 else bytes(32)
                    self._sealed[n] = header(
                        self.variant, self.sealers, number=n, parent=parent,
                        time=int(block["timestamp"], 16),
                        root=bytes.fromhex(block["stateRoot"][2:]),
                    )  # fmt: skip
            return self._sealed[number]

    def close(self) -> None:
        """Ends the server and anvil."""
        self._server.shutdown()
        self._server.server_close()
        self._process.terminate()
        self._process.wait(10)


class EvmLedger:
    """An EVM ledger with the registry, joined to the relay `hub`."""

    def __init__(self, path: Path, contracts: Sequence[Any], variant: str = QBFT) -> None:
        self.world = World(path, Clock(int(time.time())))
        self.world.signers["hub"] = keys_of("hub", algorithm="secp256k1")
        self.hub = self.world.node("hub", "relay", contracts)
        self.anvil = SealedAnvil(self.world.clock, variant)
        key = path / "sender.hex"
        key.write_text(KEY)
        self.rpc, self.sender = Rpc([self.anvil.address]), Sender(key, 10**12)
        local = self.world.chain("hub")
        raw = local.headers(0, local.latest_height(), "secp256k1")[-1]
        self.anchor = CHECKPOINT.decode_header(raw)
        self.endpoint: Deployed = deploy_endpoint(self.rpc, self.sender, "sz-money", self.anchor)
        self.registry = deploy(
            self.rpc, self.sender, "Registry", "0x" + self.endpoint.address.hex()
        )
        self.settings = {
            "address": self.anvil.address,
            "endpoint": "0x" + self.endpoint.address.hex(),
            "variant": variant,
            "validators": f"header:{EPOCH}",
            "key": str(key),
            "from_block": "1",
        }
        self.chain: Chain = connect_chain("evm", self.settings)
        self.state = state_of(
            variant,
            endpoint="0x" + self.endpoint.address.hex(),
            code="0x" + self.endpoint.code_hash.hex(),
        )
        self.anvil.mine()
        head = self.chain.headers(0, self.chain.latest_height(), variant)[-1]
        self.on_hub = self.hub.create_client(self.state, head)
        self.hub.register_counterparty(self.on_hub, "checkpoint-0")
        self.transact("Endpoint", "registerCounterparty", self.on_hub)
        self.transact("Endpoint", "registerApp", "registry", "0x" + self.registry.address.hex())
        me = "0x" + self.sender.address.hex()
        self.transact("Registry", "registerInstitution", me, True)

    def data(self, contract: str, name: str, *arguments: Any) -> bytes:
        """The data of a call of either contract."""
        from adapters.evm.sdk import Web3

        abi = calls.artifacts()[contract]["abi"]
        fixed = [
            Web3.to_checksum_address(a)
            if isinstance(a, str) and len(a) == 42 and a[:2] == "0x"
            else a
            for a in arguments
        ]
        return bytes.fromhex(Web3().eth.contract(abi=abi).encode_abi(name, args=fixed)[2:])

    def transact(self, contract: str, name: str, *arguments: Any) -> dict[str, Any]:
        """Calls a contract as the operator; the receipt of a call that succeeded."""
        at = self.endpoint if contract == "Endpoint" else self.registry
        receipt = self.sender.send(self.rpc, at.address, self.data(contract, name, *arguments))
        assert receipt["status"] == "0x1", (name, receipt)
        return receipt

    def reverts(
        self, contract: str, name: str, *arguments: Any, sender: bytes | None = None
    ) -> str:
        """The reason for which a call is refused; empty where it is not."""
        at = self.endpoint if contract == "Endpoint" else self.registry
        data = self.data(contract, name, *arguments)
        done = self.rpc.call(at.address, data, sender=sender or self.sender.address)
        return calls.reason_of(done.data) if done.reverted else ""

    def close(self) -> None:
        """Ends everything."""
        self.anvil.close()
        self.world.close()


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nodes of a test world judge EVM chains."""
    monkeypatch.setitem(__import__("tests.world", fromlist=["TYPES"]).TYPES, "evm", CLIENT)
