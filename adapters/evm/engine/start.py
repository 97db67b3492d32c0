"""The entry point `lianqiao.engines: evm`: makes, opens and serves a node before an EVM ledger.

Settings: `rpc` (HOST:PORT of a JSON-RPC node of the institution's own; more of them, by commas),
`endpoint`, `registry` (addresses), `escrow` (address, where the ledger keeps money), `key` (file
with the private key in hex of an account that the registry admits; without it nothing is posted),
`max_gas_price` (wei), `from_block` (where the endpoint was deployed), `variant` and `validators`
(as the chain file has them: with both the node can prove the books of the escrow).
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.evm import calls
from adapters.evm.chain import EvmChain
from adapters.evm.engine.node import LedgerNode
from adapters.evm.light.parameters import hexadecimal
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from adapters.evm.settings import read_settings
from relay.config import Config
from relay.contracts.payloads import ESCROW_PORT, REGISTRY_PORT
from relay.errors import Denied, Malformed, Reason, Refused
from relay.keys import SigningKey
from relay.light.types import Validator
from relay.light.validators import validator_set
from relay.node import create
from relay.registry import client_types, contracts_on
from relay.server import RunningServer
from relay.server import start as start_server
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store
from relay.store.migrate import migrate

NEEDED = ("rpc", "endpoint", "registry")
SETTINGS = {
    *NEEDED, "escrow", "key", "max_gas_price", "from_block", "variant", "validators",
}  # fmt: skip
DEFAULT_GAS_PRICE = 10**12


class EvmEngine:
    """See the module; `relay.engine.Engine` says what each is for."""

    alone = True
    """A node of one institution: nobody else takes part in it."""

    def init_text(self, name: str, settings: Mapping[str, str]) -> list[str]:
        """See Engine. Raises Refused(CONFIG_INVALID)."""
        _check(settings)
        lines = ["", "[engine_settings]"]
        return lines + [f"{key} = {json.dumps(settings[key])}" for key in sorted(settings)]

    def init(self, config: Config, peer_address: str, now: int) -> Path:
        """See Engine: the database; there is nothing to give to others. Its path."""
        store = Store(config.database_url)
        try:
            migrate(store.engine)
            signers = _signers(config)
            validators = validator_set(
                [Validator(name, 1, ((key.algorithm, key.public),)) for name, key in signers]
            )
            create(store, config.chain_id, config.role, validators, epoch=config.epoch, now=now)
        finally:
            store.close()
        assert config.database_file is not None
        return config.database_file

    def reread(self, config: Config) -> None:
        """Makes the tables anew, empty. Raises Refused(CONFLICT) where the node runs."""
        file = config.database_file
        assert file is not None, "the tables of this engine are a file"
        with (config.data / "node.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as err:
                raise Refused(
                    Reason.CONFLICT, f"a process serves {config.data}", hint="stop it first"
                ) from err
            for path in (file, *file.parent.glob(f"{file.name}-*"), config.mark_file):
                path.unlink(missing_ok=True)
            self.init(config, "", int(time.time()))

    def found(
        self,
        config: Config,
        joins: Sequence[bytes],
        quorum: int = 0,
        sync: Mapping[str, str] | None = None,
    ) -> str:
        """See Engine: never, the chain is there. Raises Denied(NOT_PERMITTED)."""
        raise Denied(
            Reason.NOT_PERMITTED,
            "a node before an EVM ledger founds nothing: the chain is there",
            hint="lianqiao evm deploy puts the contracts on it",
        )

    def open_node(self, config: Config, clock: Callable[[], int]) -> LedgerNode:
        """See Engine. Raises Malformed(CONFIG_INVALID), Unavailable, Refused(WRONG_CHAIN)."""
        settings = {key: str(value) for key, value in config.engine_settings.items()}
        _check(settings)
        rpc = Rpc([one for one in settings["rpc"].split(",") if one])
        endpoint, registry = (_address(settings, name) for name in ("endpoint", "registry"))
        relay = _checked(rpc, endpoint, config.chain_id)
        sender = None
        if "key" in settings:
            price = int(settings.get("max_gas_price", DEFAULT_GAS_PRICE))
            sender = Sender(config.data / settings["key"], price)
        escrow = _address(settings, "escrow") if "escrow" in settings else None
        chain = _proving(settings)
        store = Store(config.database_url)
        try:
            mark = HighWaterMark(config.mark_file)
            return LedgerNode(
                rpc=rpc,
                endpoint=endpoint,
                registry=registry,
                relay=relay,
                sender=sender,
                from_block=int(settings.get("from_block", 0)),
                escrow=escrow,
                chain=chain,
                chain_id=config.chain_id,
                role=config.role,
                store=store,
                signer=CheckpointSigner(_signers(config), mark),
                client_types=client_types(),
                contracts=contracts_on(
                    (REGISTRY_PORT,) if escrow is None else (REGISTRY_PORT, ESCROW_PORT)
                ),
                clock=clock,
                epoch=config.epoch,
                tick_seconds=config.tick_seconds,
            )
        except BaseException:
            store.close()
            raise

    def serve(self, config: Config, node: LedgerNode, **how: Any) -> RunningServer:
        """See Engine. What the chain tells is read by `LedgerNode.tick`."""
        node.read()
        return start_server(node, **how)


def _signers(config: Config) -> list[tuple[str, SigningKey]]:
    """The key of the node's own tables, which nobody else follows."""
    if len(config.validators) != 1 or len(config.validators[0].keys) != 1:
        raise Malformed(
            "a node before an EVM ledger has one key in [[validators]]",
            reason=Reason.CONFIG_INVALID,
        )
    ((_, path),) = config.validators[0].keys.items()
    return [(config.validators[0].name, SigningKey.load(path))]


def _check(settings: Mapping[str, str]) -> None:
    unknown = sorted(set(settings) - SETTINGS)
    missing = [name for name in NEEDED if name not in settings]
    numbers = [n for n in ("max_gas_price", "from_block") if n in settings]
    wrong = [n for n in numbers if not settings[n].isascii() or not settings[n].isdecimal()]
    if unknown or missing or wrong:
        told = "unknown" if unknown else "missing" if missing else "not a decimal number"
        raise Malformed(
            f"[engine_settings] {(unknown or missing or wrong)[0][:64]}: {told}",
            reason=Reason.CONFIG_INVALID,
            hint=f"the engine evm knows {', '.join(sorted(SETTINGS))}",
        )
    for name in ("endpoint", "registry", "escrow"):
        if name in settings:
            _address(settings, name)
    _proving(settings)


def _proving(settings: Mapping[str, str]) -> EvmChain | None:
    """The chain as a lane sees it, whose headers and proofs show what was read; None where the
    settings do not say how it is sealed. Raises Malformed(CONFIG_INVALID)."""
    names = ("variant", "validators")
    if not all(name in settings for name in names):
        return None
    first, *more = [one for one in settings["rpc"].split(",") if one]
    asked = {name: settings[name] for name in ("endpoint", *names)}
    try:
        return EvmChain(*read_settings({**asked, "address": first, "rpc": ",".join(more)}))
    except Refused as err:
        raise Malformed(f"[engine_settings] {err.detail}", reason=Reason.CONFIG_INVALID) from err


def _address(settings: Mapping[str, str], name: str) -> bytes:
    try:
        return hexadecimal(settings[name].lower(), 20)
    except Malformed as err:
        raise Malformed(
            f"[engine_settings] {name}: {err.detail}", reason=Reason.CONFIG_INVALID
        ) from err


def _checked(rpc: Rpc, endpoint: bytes, chain_id: str) -> str:
    """The origin of the relay that the endpoint follows. Raises Refused(WRONG_CHAIN)."""

    def view(name: str) -> Any:
        done = rpc.call(endpoint, calls.encode(name, []))
        if done.reverted or not done.data:
            raise Refused(
                Reason.WRONG_CHAIN,
                "no endpoint lies at that address of the chain",
                hint="`endpoint` and `rpc` in [engine_settings] name it",
            )
        return calls.decode(name, done.data)[0]

    found = bytes(view("NAME")).rstrip(b"\0").decode("ascii", "replace")
    if found != chain_id:
        raise Refused(
            Reason.WRONG_CHAIN,
            f"the endpoint is of the ledger {found[:64]}, the configuration says {chain_id}",
        )
    return str(view("origin"))


ENGINE = EvmEngine()
