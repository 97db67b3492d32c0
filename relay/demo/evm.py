"""The stage with a ledger on an EVM chain: `demo --chains evm,lianqiao`.

The chain is the one to practise on that the adapter brings, a real EVM that is sealed by test
validators of one process. Contracts, client, lane and the ledger's node are made by the commands
that operators would type; nothing here knows the adapter but by these. The account of a ledger's
node owns its contracts, and the relay's lane has an account of its own.
"""

from __future__ import annotations

import re
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

from relay.demo.ports import free_ports
from relay.demo.stage import ROLES, SOURCE, Process, Stage, spawn
from relay.errors import LianqiaoError, Reason, Refused, Unavailable

CHAIN = "chain"
TOLD = ("endpoint", "registry", "escrow", "from_block", "variant", "validators")
"""Settings of a chain file that the node before the chain takes too."""
START_SECONDS = 60
CHECK_SECONDS = 60


class EvmStage(Stage):
    """A Stage of which some ledgers are nodes before EVM ledgers."""

    on_chain: tuple[str, ...] = (SOURCE,)
    """Which of the ledgers lie on the chain; `foreign` is the first."""
    currencies: tuple[str, ...] = ()
    """In which they keep money, each over a token of play money."""

    def __init__(self, directory: Path, keep: bool, roles: Mapping[str, str] = ROLES) -> None:
        """Raises Refused(CONFIG_INVALID) where the adapter or its EVM is not installed."""
        others = {n: role for n, role in roles.items() if n not in self.on_chain}
        super().__init__(directory, keep, others)
        (self._relay,) = [name for name, role in roles.items() if role == "relay"]
        self._listen: list[str] = []
        self._settings: dict[str, str] = {}
        _check_installed()

    @property
    def foreign(self) -> Mapping[str, str]:
        """See Stage."""
        return self._settings

    def begin(self) -> None:
        """See Stage: ledgers, a relay whose heads an EVM can verify, the chain."""
        self._listen = [
            f"127.0.0.1:{port}" for port in free_ports(len(self.roles) + len(self.on_chain) + 1)
        ]
        for name, address in zip(self.roles, self._listen, strict=False):
            where = self.directory / "nodes" / name
            arguments = ["--chain-id", name, "--role", self.roles[name], "--listen", address]
            if name == self._relay:
                arguments += ["--algorithm", "ed25519", "--algorithm", "secp256k1"]
            init = self.begin_command(["init", str(where), *arguments])
            self._made[name] = (where, address, init)
        log = self.directory / "nodes" / f"{CHAIN}.log"
        with log.open("ab") as file:
            practise = ["evm", "practise", "--port", self._rpc.rpartition(":")[2]]
            keys = [part for name in self._accounts for part in ("--key", str(self._key(name)))]
            tokens = [part for code in self.currencies for part in ("--token", code)]
            running = spawn([*practise, *keys, *tokens], file, file)
        self.processes[CHAIN] = Process(self.directory / "nodes", self._rpc, running, log)

    @property
    def _rpc(self) -> str:
        return self._listen[-1]

    @property
    def _accounts(self) -> tuple[str, ...]:
        """Who has an account: one key is used by one program."""
        return (self._relay, *self.on_chain)

    def _key(self, name: str) -> Path:
        return self.directory / "keys" / f"{name}.account.hex"

    def start(self) -> None:
        """See Stage; the contracts are deployed and every ledger serves when it returns."""
        super().start()
        self._wait_for_chain()
        for name, address in zip(self.on_chain, self._listen[len(self.roles) :], strict=False):
            self._put_on_chain(name, address)

    def _put_on_chain(self, name: str, listen: str) -> None:
        file, relay = self.directory / "nodes" / f"{name}.toml", self.processes[self._relay].address
        owner = ("--key", str(self._key(name)))
        self.command(
            *("evm", "deploy", "--relay", relay, "--rpc", self._rpc, *owner),
            *("--lane-key", str(self._key(self._relay)), "--chain-id", name, "-o", str(file)),
            *(part for token in self._tokens() for part in ("--currency", token)),
        )
        self.command("connect", "--chain", str(file), "--relay", relay)
        self.command("evm", "join", str(file), "--relay", relay, *owner)
        told = tomllib.loads(file.read_text())
        if name == self.on_chain[0]:
            self._settings = {**told["settings"], "address": told["address"]}
        settings = {"rpc": self._rpc, "key": str(self._key(name))} | {
            key: told["settings"][key] for key in TOLD if key in told["settings"]
        }
        where = file.with_suffix("")
        self.command(
            *("init", str(where), "--chain-id", name, "--role", "ledger", "--engine", "evm"),
            *("--listen", listen),
            *(part for key, value in settings.items() for part in ("--set", f"{key}={value}")),
        )
        self.processes[name] = self._serve(name, where, listen)
        self._wait_serving(name)

    def _tokens(self) -> list[str]:
        """What `evm practise` said of its play money, as `evm deploy` takes it."""
        if not self.currencies:
            return []
        told = self.processes[CHAIN].log.read_text()
        return re.findall(r"\b[A-Z]{3}=0x[0-9a-f]{40}\b", told)

    def _wait_for_chain(self) -> None:
        chain = self.processes[CHAIN]
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and chain.running.poll() is None:
            if b"validators are in" in chain.log.read_bytes():
                return
            time.sleep(0.05)
        raise Unavailable(
            Reason.CHAIN_UNREACHABLE,
            "the chain to practise on does not start",
            hint=f"its log says why: {chain.log}",
        )

    def join(self) -> None:
        """See Stage: those on the chain were joined by their chain files."""
        relay = self.processes[self._relay].address
        for name in set(self.roles) - {self._relay}:
            self.command("connect", "--node", self.processes[name].address, "--relay", relay)


def _check_installed() -> None:
    """Asks the adapter whether it could run a chain. Raises its refusal, hint included."""
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as errors:
        code = spawn(["evm", "practise", "--check"], told, errors).wait(CHECK_SECONDS)
        if not code:
            return
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()[-2:]
    first, hint = (*lines, "", "")[:2]
    reason, _, detail = first.partition(": ")
    known = reason if reason in set(Reason) else Reason.CONFIG_INVALID
    raised: LianqiaoError = Refused(
        Reason(known), detail or first, hint=hint.removeprefix("hint: ")
    )
    raise raised
