"""The entry point `lianqiao.engines: cometbft`: makes, founds, opens and serves a replica."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import grpc

from adapters.cometbft.engine.beside import Beside, program
from adapters.cometbft.engine.home import (
    Join,
    Ports,
    check_chain_id,
    config_toml,
    decode_join,
    encode_join,
    genesis_json,
    write_keys,
)
from adapters.cometbft.engine.local_rpc import LocalRpc
from adapters.cometbft.engine.node import Operator, ReplicatedNode
from adapters.cometbft.engine.service import AbciServicer, serve_abci
from adapters.cometbft.engine.snapshots import DEFAULT_INTERVAL, Snapshots
from adapters.cometbft.light.validators import SECP256K1, address
from relay.config import Config
from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.fsck import Finding, check
from relay.keys import SigningKey
from relay.light.types import ClientType
from relay.node import Node
from relay.registry import client_types, contracts_on
from relay.server import RunningServer
from relay.server import start as start_server
from relay.store import Store
from relay.store.migrate import migrate

SETTINGS = {"abci", "rpc", "p2p", "binary", "snapshot_interval", "pace"}


class CometEngine:
    """See the module docstring; `relay.engine.Engine` says what each is for."""

    def init_text(self, name: str, settings: Mapping[str, str]) -> list[str]:
        """Lines of a new node's config.toml that this engine needs."""
        known = {"abci": "127.0.0.1:26658", "rpc": "127.0.0.1:26657", "p2p": "0.0.0.0:26656"}
        chosen = {**known, "binary": "cometbft", **settings}
        unknown = sorted(set(chosen) - SETTINGS)
        if unknown:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"the engine cometbft knows no setting {unknown[0][:64]!r}",
                hint=f"it knows {', '.join(sorted(SETTINGS))}",
            )
        lines = ["", "[engine_settings]"]
        return lines + [f"{key} = {json.dumps(chosen[key])}" for key in sorted(chosen)]

    def init(self, config: Config, peer_address: str, now: int) -> Path:
        """Makes the database, the keys of CometBFT, and the file to give to the others; its path.

        Raises Malformed, Refused(CONFIG_INVALID).
        """
        origin = f"{config.chain_id}/{config.epoch}"
        check_chain_id(origin)
        operator = _operator(config)
        store = Store(config.database_url)
        try:
            migrate(store.engine)
        finally:
            store.close()
        validator, node_id = write_keys(_home(config), (os.urandom(32), os.urandom(32)))
        join = Join(
            origin,
            config.role,
            operator.name,
            f"{operator.key.algorithm}:{operator.key.public.hex()}",
            validator,
            node_id,
            peer_address,
            now,
        )
        path = _home(config).parent / "join.json"
        path.write_bytes(encode_join(join))
        return path

    def found(
        self,
        config: Config,
        joins: Sequence[bytes],
        quorum: int = 0,
        sync: Mapping[str, str] | None = None,
    ) -> str:
        """Writes genesis.json and CometBFT's config.toml out of everybody's join files; the
        SHA-256 of the genesis, which all compare. `quorum` 0: more than 2/3 of the operators.

        With `sync` the chain runs already: the genesis that its founders made stays as it is.
        """
        settings = _settings(config)
        _check_sync(sync or {})
        decoded = [_join(raw, number) for number, raw in enumerate(joins, 1)]
        own = decode_join((_home(config).parent / "join.json").read_bytes())
        if sync is None and own not in decoded:
            raise Malformed(
                "the join file of this institution is not among those given",
                hint=f"give {_home(config).parent / 'join.json'} too",
            )
        path = _home(config) / "config/genesis.json"
        if sync is None:
            path.write_bytes(genesis_json(decoded, quorum or 2 * len(decoded) // 3 + 1))
        elif not path.is_file():
            raise NotFound(
                Reason.NOT_FOUND, f"no {path}", hint="copy it from any founder, and compare hashes"
            )
        peers = [f"{j.node_id}@{j.peer_address}" for j in decoded if j.name != own.name]
        text = config_toml(
            own.name,
            Ports(settings["abci"], settings["rpc"], settings["p2p"]),
            peers,
            tick_seconds=config.tick_seconds,
            pace=settings.get("pace", "250ms"),
            sync=sync,
        )
        (_home(config) / "config/config.toml").write_text(text)
        return sha256(path.read_bytes()).hexdigest()

    def open_node(self, config: Config, clock: Callable[[], int]) -> ReplicatedNode:
        """The replica of a configuration; empty until its CometBFT brings the genesis."""
        settings = _settings(config)
        store = Store(config.database_url)
        try:
            return ReplicatedNode(
                chain_id=config.chain_id,
                role=config.role,
                store=store,
                operator=_operator(config),
                rpc=LocalRpc(settings["rpc"]),
                client_types=_every_type(),
                contracts=contracts_on(config.ports),
                clock=clock,
                random=os.urandom,
                epoch=config.epoch,
            )
        except BaseException:
            store.close()
            raise

    def serve(self, config: Config, node: ReplicatedNode, **how: Any) -> RunningReplica:
        """Serves ABCI and the node's own API, and runs CometBFT where `binary` names it.

        Raises NotFound(NOT_FOUND) before `found`, Refused(CONFIG_INVALID) where there is no such
        program, or a port is taken.
        """
        settings = _settings(config)
        _check_founded(_home(config))
        binary = program(settings.get("binary", ""))

        def findings(connection: Any) -> list[Finding]:
            return check(connection, node.client_types, node.origin, contracts=node.contracts)[1]

        snapshots = Snapshots(
            node.store,
            config.data / "snapshots",
            int(settings.get("snapshot_interval", DEFAULT_INTERVAL)),
            findings,
            config.chain_id,
        )
        abci, _ = serve_abci(AbciServicer(node.application, snapshots), settings["abci"])
        try:
            # What the services ask of a node is what relay.ways and this engine's node give.
            server = start_server(cast(Node, node), **how)
        except BaseException:
            abci.stop(0)
            raise
        child = Beside(binary, _home(config)) if binary else None
        return RunningReplica(server, abci, child)


class RunningReplica:
    """relay.server.RunningServer with what stands behind it."""

    def __init__(self, server: RunningServer, abci: grpc.Server, child: Beside | None) -> None:
        self.port = server.port
        self._server = server
        self._abci = abci
        self._child = child

    def stop(self, grace: float = 5.0) -> None:
        """CometBFT first, so that it does not find its application gone."""
        self._server.stop(grace)
        if self._child is not None:
            self._child.stop()
        self._abci.stop(1).wait()


def _every_type() -> Mapping[str, ClientType]:
    """All client types, loaded before anything is judged. A type brings its signature algorithms
    and their rules for keys: a replica that had not come across one yet, or lacks what it needs,
    would take keys that the others refuse, and go on with another state.

    Raises Refused(CONFIG_INVALID).
    """
    types = client_types()
    try:
        address(SECP256K1, bytes(33))  # by RIPEMD-160, which not every OpenSSL has
        return {name: types.named(name) for name in types}
    except LianqiaoError as error:
        raise Refused(
            Reason.CONFIG_INVALID,
            f"a replica needs every client type that its chain may use: {error.detail}",
            hint=error.hint,
        ) from error


def _check_sync(sync: Mapping[str, str]) -> None:
    """Raises Malformed for what CometBFT would end with at its start."""
    if sync and len({one for one in sync["rpc_servers"].split(",") if ":" in one}) < 2:
        raise Malformed(
            "a snapshot is verified by the RPC of two nodes at least",
            hint="--sync-from 10.1.0.1:26657,10.2.0.1:26657, of two institutions",
        )
    if sync and not re.fullmatch("[0-9A-Fa-f]{64}", sync["trust_hash"]):
        raise Malformed(
            "--sync-hash is the hash of a header, 64 hexadecimal digits",
            hint="curl -s RPC/commit?height=H: signed_header.commit.block_id.hash, and compare",
        )


def _join(raw: bytes, number: int) -> Join:
    """Raises Malformed, saying which of the files it is."""
    try:
        return decode_join(raw)
    except Malformed as error:
        raise Malformed(f"file {number}: {error.detail}") from None


def _check_founded(home: Path) -> None:
    """Raises NotFound(NOT_FOUND) where CometBFT would find nothing to begin with."""
    if not all((home / "config" / name).is_file() for name in ("genesis.json", "config.toml")):
        config = home.parent / "config.toml"
        raise NotFound(
            Reason.NOT_FOUND,
            "this chain is not founded yet",
            hint=f"lianqiao found --config {config} JOIN..., with the join.json of everybody",
        )


def _home(config: Config) -> Path:
    return config.data / "cometbft"


def _settings(config: Config) -> dict[str, str]:
    settings = {key: str(value) for key, value in config.engine_settings.items()}
    unknown = sorted(set(settings) - SETTINGS)
    missing = sorted({"abci", "rpc", "p2p"} - set(settings))
    if unknown or missing:
        raise Malformed(
            f"[engine_settings] {(unknown or missing)[0]}: "
            + ("unknown" if unknown else "missing"),
            reason=Reason.CONFIG_INVALID,
            hint=f"the engine cometbft knows {', '.join(sorted(SETTINGS))}",
        )
    return settings


def _operator(config: Config) -> Operator:
    if len(config.validators) != 1 or len(config.validators[0].keys) != 1:
        raise Malformed(
            "a replica of a CometBFT chain has one operator with one key in [[validators]]",
            reason=Reason.CONFIG_INVALID,
            hint="the other institutions have theirs",
        )
    ((_, path),) = config.validators[0].keys.items()
    return Operator(config.validators[0].name, SigningKey.load(path))


ENGINE = CometEngine()
