"""anvil behind a small server that seals its headers.

anvil does not seal: the server forwards every question, and answers `debug_getRawHeader` with
anvil's own roots under a header that the validators of this process have sealed. Blocks come by
themselves, or, where a test gives its clock, with each call and at the clock's time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from adapters.evm.light.header import QBFT
from adapters.evm.practice.seals import Sealer, hash_of, header, ring
from relay.demo.ports import free_ports
from relay.errors import Malformed, Reason, Refused, Unavailable
from relay.keeper import end, keep, kill

ANVIL = "1.7.1"
KEYS = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
)
"""The first of anvil's own keys, which everybody knows."""
KEY = KEYS[0]
NUMBER = 20253
EPOCH = 30_000
VALIDATORS = 4
START_SECONDS = 20.0
MAX_QUESTION = 4 * 1024 * 1024


class Clock(Protocol):
    """A test's clock."""

    now: int


def npm_prefix() -> Path:
    """Where anvil is looked for beside the path."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "lianqiao" / "npm"


def find_anvil() -> str:
    """The program. Raises Refused(CONFIG_INVALID), saying how to install it."""
    kept = npm_prefix() / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    found = os.environ.get("LIANQIAO_ANVIL") or shutil.which("anvil")
    if found is None and kept.exists():
        found = str(kept)
    if found is None:
        raise Refused(
            Reason.CONFIG_INVALID,
            "no program anvil is installed, the EVM to practise on",
            hint=f"npm install --prefix {npm_prefix()} --no-save --ignore-scripts "
            f"@foundry-rs/anvil@{ANVIL}; or put one on the path",
        )
    return found


class SealedAnvil:
    """anvil behind the sealing server, told by `address`. `close()` when done."""

    def __init__(
        self,
        binary: str,
        clock: Clock | None = None,
        variant: str = QBFT,
        sealers: Sequence[Sealer] = (),
        *,
        port: int = 0,
        block_seconds: int = 1,
    ) -> None:
        """Raises Unavailable(CHAIN_UNREACHABLE) where anvil does not start, Malformed where the
        port is taken."""
        self.clock, self.variant = clock, variant
        self.sealers = list(sealers) or ring(VALIDATORS)
        self.signers = self.sealers
        """Who seals: all, unless told."""
        self._sealed: dict[int, bytes] = {}
        self._lock = threading.RLock()
        (inner,) = free_ports(1)
        self._inner = f"http://127.0.0.1:{inner}"
        timed = (
            ["--timestamp", str(clock.now)]
            if clock is not None
            else ["--block-time", str(block_seconds)]
        )
        self._server = _serve(self, port)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._process = keep(
            [binary, "--port", str(inner), "--silent", "--gas-limit", "60000000",
             "--chain-id", str(NUMBER), *timed],
            told=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _wait(self) -> None:
        limit = time.monotonic() + START_SECONDS
        while time.monotonic() < limit and self._process.poll() is None:
            try:
                self.ask("eth_chainId")
                return
            except OSError:
                time.sleep(0.05)
        self._server.server_close()
        kill(self._process)
        raise Unavailable(Reason.CHAIN_UNREACHABLE, "anvil does not start")

    def ask(self, method: str, *params: Any) -> Any:
        """anvil itself."""
        return self._forward({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})[
            "result"
        ]

    def _forward(self, asked: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own child, over loopback
            self._inner, json.dumps(asked).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as said:  # noqa: S310
            found: dict[str, Any] = json.loads(said.read())
            return found

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """As a node of a sealed chain answers."""
        method = asked.get("method")
        if method == "debug_getRawHeader":
            try:
                raw = self.sealed(int(asked["params"][0], 16))
            except (TypeError, ValueError, LookupError):
                return {"jsonrpc": "2.0", "id": asked.get("id"), "error": {"message": "no block"}}
            return {"jsonrpc": "2.0", "id": asked.get("id"), "result": "0x" + raw.hex()}
        if method == "eth_sendRawTransaction" and self.clock is not None:
            with self._lock:
                self.tick()
                return self._forward(asked)
        return self._forward(asked)

    def tick(self) -> None:
        """The next block gets the clock's time; the clock follows where there are many blocks."""
        assert self.clock is not None, "blocks come by themselves"
        latest = int(self.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
        self.clock.now = max(self.clock.now, latest + 1)
        self.ask("evm_setNextBlockTimestamp", hex(self.clock.now))

    def mine(self) -> int:
        """An empty block at the clock's time; its number."""
        self.tick()
        self.ask("evm_mine")
        return int(self.ask("eth_blockNumber"), 16)

    def sealed(self, number: int) -> bytes:
        """anvil's roots under a header sealed by the validators. Raises KeyError for block 0,
        TypeError past the newest."""
        with self._lock:
            for n in range(1, number + 1):
                if n not in self._sealed:
                    block = self.ask("eth_getBlockByNumber", hex(n), False)
                    parent = hash_of(self.variant, self._sealed[n - 1]) if n > 1 else bytes(32)
                    self._sealed[n] = self.seal(
                        n,
                        parent,
                        int(block["timestamp"], 16),
                        bytes.fromhex(block["stateRoot"][2:]),
                    )
            return self._sealed[number]

    def seal(self, number: int, parent: bytes, at: int, root: bytes) -> bytes:
        """One header. Tests seal otherwise."""
        return header(
            self.variant, self.sealers, number=number, parent=parent, time=at, root=root,
            signers=self.signers,
        )  # fmt: skip

    def close(self) -> None:
        """Ends the server and anvil."""
        self._server.shutdown()
        self._server.server_close()
        end(self._process, 10.0)


def _serve(chain: SealedAnvil, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 60

        def do_POST(self) -> None:
            length = min(int(self.headers.get("content-length") or 0), MAX_QUESTION)
            try:
                said = json.dumps(chain.answer(json.loads(self.rfile.read(length)))).encode()
            except (ValueError, AttributeError, OSError):
                self.send_error(400)
                return
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            return None

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as err:
        raise Malformed(
            f"127.0.0.1:{port}: {err.strerror}", hint="another program has the port"
        ) from err
