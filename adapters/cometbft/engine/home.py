"""The files of the CometBFT process beside a replica: keys, genesis, configuration.

Written here and not by `cometbft init`, so that an institution can make its keys before the binary
is there, and because every setting that a replica needs is then in one place.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adapters.cometbft.engine.asked import MAX_TX_BYTES
from adapters.cometbft.engine.genesis import Genesis, encode_genesis
from relay.errors import Malformed, Reason, Refused
from relay.light.types import Validator
from relay.light.validators import validator_set
from relay.nesting import loads

POWER = 10
MAX_BLOCK_BYTES = 4 * 1024 * 1024
MAX_JOIN_BYTES = 4096
MAX_CHAIN_ID = 50
"""CometBFT's own limit, epoch included."""


@dataclass(frozen=True, slots=True)
class Join:
    """What an institution tells the others before the chain begins. Nothing in it is secret."""

    chain_id: str
    role: str
    name: str
    operator_key: str
    """`ed25519:<hex>`: by which it asks for actions."""
    validator_key: str
    """Hex of the Ed25519 key by which it makes blocks."""
    node_id: str
    peer_address: str
    """`host:port` where the others reach its CometBFT."""
    time: int


def write_keys(home: Path, seeds: tuple[bytes, bytes]) -> tuple[str, str]:
    """Writes the keys of a new CometBFT process; (validator's public key in hex, node id)."""
    validator, node = (_pair(seed) for seed in seeds)
    (home / "config").mkdir(parents=True, mode=0o700)
    (home / "data").mkdir(mode=0o700)
    address = sha256(validator[1]).hexdigest()[:40].upper()
    private = {
        "address": address,
        "pub_key": {"type": "tendermint/PubKeyEd25519", "value": _base64(validator[1])},
        "priv_key": {
            "type": "tendermint/PrivKeyEd25519",
            "value": _base64(validator[0] + validator[1]),
        },
    }
    _write_secret(home / "config/priv_validator_key.json", private)
    value = _base64(node[0] + node[1])
    key = {"priv_key": {"type": "tendermint/PrivKeyEd25519", "value": value}}
    _write_secret(home / "config/node_key.json", key)
    state = {"height": "0", "round": 0, "step": 0}
    _write_secret(home / "data/priv_validator_state.json", state)
    return validator[1].hex(), sha256(node[1]).hexdigest()[:40]


def genesis_json(joins: Sequence[Join], quorum: int) -> bytes:
    """The genesis file, the same for all who found the chain with the same joins.

    Raises Malformed where they do not fit together.
    """
    ordered = sorted(joins, key=lambda join: join.name)
    _check_joins(ordered, quorum)
    operators = []
    for join in ordered:
        algorithm, _, key = join.operator_key.partition(":")
        operators.append(Validator(join.name, 1, ((algorithm, bytes.fromhex(key)),)))
    state = Genesis(ordered[0].role, validator_set(operators), quorum)
    moment = datetime.fromtimestamp(max(join.time for join in ordered), UTC)
    validators = [
        {
            "address": sha256(bytes.fromhex(join.validator_key)).hexdigest()[:40].upper(),
            "pub_key": {
                "type": "tendermint/PubKeyEd25519",
                "value": _base64(bytes.fromhex(join.validator_key)),
            },
            "power": str(POWER),
            "name": join.name,
        }
        for join in ordered
    ]
    genesis = {
        "genesis_time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "chain_id": ordered[0].chain_id,
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(MAX_BLOCK_BYTES), "max_gas": "-1"},
            "evidence": {
                "max_age_num_blocks": "1000000",
                "max_age_duration": str(90 * 86_400 * 10**9),
                "max_bytes": "1048576",
            },
            "validator": {"pub_key_types": ["ed25519"]},
            "version": {"app": "1"},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": validators,
        "app_hash": "",
        "app_state": json.loads(encode_genesis(state)),
    }
    return json.dumps(genesis, indent=2).encode() + b"\n"


def _check_joins(ordered: Sequence[Join], quorum: int) -> None:
    """Raises Malformed where they cannot found one chain together."""
    first = ordered[0]
    for other in ordered:
        if (other.chain_id, other.role) != (first.chain_id, first.role):
            raise Malformed(
                f"{first.name} founds the {first.role} {first.chain_id}, and {other.name} the "
                f"{other.role} {other.chain_id}",
                hint="all run `lianqiao init` with the same --chain-id and --role",
            )
    for field in ("name", "operator_key", "validator_key", "node_id", "peer_address"):
        seen: set[str] = set()
        for join in ordered:
            value = getattr(join, field)
            if value in seen:
                raise Malformed(
                    f"two of these files have the same {field}: {value[:64]}",
                    hint="one file of each institution, each made by its own `lianqiao init`",
                )
            seen.add(value)
    if quorum > len(ordered):
        raise Malformed(
            f"a quorum of {quorum} where there are {len(ordered)} institutions",
            hint="give the join files of all of them, one's own too",
        )


@dataclass(frozen=True, slots=True)
class Ports:
    """Where one replica's CometBFT listens and finds its application."""

    abci: str
    rpc: str
    p2p: str


def config_toml(
    name: str,
    ports: Ports,
    peers: Sequence[str],
    *,
    tick_seconds: int,
    pace: str = "250ms",
    sync: Mapping[str, str] | None = None,
) -> str:
    """CometBFT's config.toml; what is not in it keeps CometBFT's defaults.

    `pace`: how long a block waits for late votes. `sync`: `rpc_servers`, `trust_height` and
    `trust_hash` where the replica begins from a snapshot.
    """
    quote = json.dumps
    lines = [
        f'proxy_app = "{ports.abci}"',
        'abci = "grpc"',
        f"moniker = {quote(name)}",
        'log_level = "error"',
        "[rpc]",
        f'laddr = "tcp://{ports.rpc}"',
        f"max_body_bytes = {2 * MAX_TX_BYTES}",
        "[p2p]",
        f'laddr = "tcp://{ports.p2p}"',
        f"persistent_peers = {quote(','.join(peers))}",
        "addr_book_strict = false",
        "allow_duplicate_ip = true",
        "pex = false",
        "[mempool]",
        f"max_tx_bytes = {MAX_TX_BYTES}",
        "[consensus]",
        f"timeout_commit = {quote(pace)}",
        "create_empty_blocks = false",
        f'create_empty_blocks_interval = "{tick_seconds}s"',
        "[tx_index]",
        'indexer = "null"',
    ]
    if sync is not None:
        lines += ["[statesync]", "enable = true", 'trust_period = "168h0m0s"']
        lines += [f"rpc_servers = {quote(sync['rpc_servers'])}"]
        lines += [f"trust_height = {int(sync['trust_height'])}"]
        lines += [f"trust_hash = {quote(sync['trust_hash'])}"]
    return "\n".join(lines) + "\n"


def encode_join(join: Join) -> bytes:
    """The file that is given to the others."""
    value = {field.name: getattr(join, field.name) for field in fields(join)}
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def decode_join(raw: bytes) -> Join:
    """Raises Malformed."""
    try:
        value = loads(raw, 8) if len(raw) <= MAX_JOIN_BYTES else None
        names = {field.name for field in fields(Join)}
        if not isinstance(value, dict) or set(value) != names:
            raise ValueError
        time = value.pop("time")
        if type(time) is not int or not all(isinstance(v, str) for v in value.values()):
            raise ValueError
        if len(bytes.fromhex(value["validator_key"])) != 32:
            raise ValueError
        return Join(time=time, **value)
    except (ValueError, TypeError, RecursionError):
        raise Malformed("this is no file that `lianqiao init --engine cometbft` made") from None


def check_chain_id(origin: str) -> None:
    """Raises Malformed for a chain id that CometBFT does not take."""
    if len(origin) > MAX_CHAIN_ID:
        raise Malformed(
            f"the chain id of a CometBFT chain has at most {MAX_CHAIN_ID - 2} characters",
            field="chain_id",
        )


def _pair(seed: bytes) -> tuple[bytes, bytes]:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    return seed, public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _write_secret(path: Path, value: Any) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused(
            Reason.CONFIG_INVALID, f"{path} exists: a key file is never overwritten"
        ) from None
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=2)
