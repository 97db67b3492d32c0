"""The stage with a relay that four institutions replicate: `demo --chains cometbft,lianqiao`.

The ledgers are as ever; the relay is four replicas with their CometBFT, made and founded by the
commands that institutions would type. Every call goes to the first replica, which runs the lanes.
With a quorum of one operator: here one person plays all four.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.demo.ports import free_ports
from relay.demo.stage import ROLES, Command, Stage
from relay.errors import Reason, Refused, Unavailable
from relay.registry import client_types

REPLICAS = 4
BINARY = "cometbft"
BLOCK_SECONDS = 120.0
"""A bound for what hangs; no measure of speed."""


class ReplicatedStage(Stage):
    """A Stage whose relay is a chain of four replicas."""

    replicated = True

    def __init__(self, directory: Path, keep: bool, roles: Mapping[str, str] = ROLES) -> None:
        """Raises Refused(CONFIG_INVALID) where there is no CometBFT, and
        NotFound(CLIENT_TYPE_UNKNOWN) without what a replica needs of every client type."""
        super().__init__(directory, keep, roles)
        (self._relay,) = [name for name, role in roles.items() if role == "relay"]
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lianqiao/bin"
        found = shutil.which(BINARY, path=f"{cache}{os.pathsep}{os.environ.get('PATH', '')}")
        if found is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"no program {BINARY} is installed",
                hint=f"GOBIN={cache} go install github.com/cometbft/cometbft/cmd/cometbft@v0.38.25",
            )
        types = client_types()
        for name in types:
            types.named(name)  # told before anything is made: no replica serves without
        self._binary = found
        self._replicas: dict[str, tuple[Path, str, Command]] = {}

    @property
    def others(self) -> Sequence[str]:
        """See Stage."""
        return [name for name in self._replicas if name != self._relay]

    def begin(self) -> None:
        """See Stage: two ledgers and four replicas."""
        nodes = self.directory / "nodes"
        ledgers = [name for name in self.roles if name != self._relay]
        ports = free_ports(len(ledgers) + 4 * REPLICAS)
        for name in ledgers:
            address = f"127.0.0.1:{ports.pop()}"
            arguments = ["--chain-id", name, "--role", self.roles[name], "--listen", address]
            init = self.begin_command(["init", str(nodes / name), *arguments])
            self._made[name] = (nodes / name, address, init)
        for number in range(REPLICAS):
            listen, abci, rpc, p2p = (f"127.0.0.1:{ports.pop()}" for _ in range(4))
            name = self._relay if not number else f"{self._relay}-{number + 1}"
            settings = {"abci": abci, "rpc": rpc, "p2p": p2p, "binary": self._binary}
            init = self.begin_command(
                [
                    *("init", str(nodes / name), "--chain-id", self._relay, "--role", "relay"),
                    *("--engine", "cometbft", "--name", f"institution-{number + 1}"),
                    *("--listen", listen, "--peer", p2p, "--set", "pace=100ms"),
                    *(p for key, value in settings.items() for p in ("--set", f"{key}={value}")),
                ]
            )
            self._replicas[name] = (nodes / name, listen, init)

    def start(self) -> None:
        """See Stage; the replicas have made their first block when it returns."""
        if not self._made:
            self.begin()
        for name, (_, _, init) in self._replicas.items():
            self.end_command(f"init {name}", init)
        joins = [str(where / "join.json") for where, _, _ in self._replicas.values()]
        self.commands(
            *(
                ["found", "--config", str(where / "config.toml"), "--quorum", "1", *joins]
                for where, _, _ in self._replicas.values()
            )
        )
        for name, (where, address, _) in self._replicas.items():
            self.processes[name] = self._serve(name, where, address)
        super().start()
        self._wait_for_blocks()

    def _wait_for_blocks(self) -> None:
        """Until every replica has a block. Raises Unavailable(CHAIN_UNREACHABLE)."""
        end = time.monotonic() + BLOCK_SECONDS
        for name in self._replicas:
            self._wait_serving(name)
            while self.node(name).status().head is None:
                self.check()
                if time.monotonic() > end:
                    raise Unavailable(
                        Reason.CHAIN_UNREACHABLE,
                        f"{name} has no block after {BLOCK_SECONDS:.0f} seconds",
                        hint=f"CometBFT says why: {self._replicas[name][0]}/cometbft/cometbft.log",
                    )
                time.sleep(0.1)
