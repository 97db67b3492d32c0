"""What the commands of EVM ledgers have in common. Everything heavy is loaded when it is used."""

from __future__ import annotations

import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.errors import LianqiaoError, Malformed, Reason, Refused

if TYPE_CHECKING:
    from adapters.evm.escrow import EscrowCalls
    from adapters.evm.rpc import Rpc
    from adapters.evm.sender import Sender
    from relay.light.types import Header

DEFAULT_GAS_PRICE = 10**12

RpcAddress = Annotated[
    str, typer.Option("--rpc", metavar="ADDRESS", help="HOST:PORT of a JSON-RPC node of the chain.")
]
KeyFile = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", help="The private key that pays, in hex, mode 0600."),
]
OwnerKey = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", help="Key of the endpoint's owner, where the lane has another."
    ),
]
Variant = Annotated[
    str, typer.Option("--variant", help="Its seals: qbft-seal, ibft2-seal or ibft1-seal.")
]
Validators = Annotated[
    str,
    typer.Option(
        "--validators", help="Where sets are kept: header:EPOCH or contract:0xADDRESS:SLOT."
    ),
]
TrustingDays = Annotated[
    int,
    typer.Option("--trusting-days", min=1, max=3650, help="How long a head can be built upon."),
]
Witnesses = Annotated[
    list[str] | None,
    typer.Option(
        "--witness", metavar="NAME=secp256k1:HEX", help="Who must co-sign the relay's heads."
    ),
]
WitnessQuorum = Annotated[
    int, typer.Option("--witness-quorum", min=0, max=16, help="How many of them.")
]
Currencies = Annotated[
    list[str] | None,
    typer.Option(
        "--currency", metavar="CODE=0xTOKEN", help="Keep money in it, over an ERC-20; repeat."
    ),
]
LaneKey = Annotated[
    Path | None,
    typer.Option(
        "--lane-key", metavar="FILE", help="The key with which the relay's lane will pay."
    ),
]
ChainArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The chain file that `evm deploy` wrote.")
]


def require_extra() -> None:
    """Raises Refused(CONFIG_INVALID) without the extra `evm`."""
    for name in ("web3", "coincurve", "sha3"):
        if find_spec(name) is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"this needs the package {name!r}, which is not installed",
                hint="pip install 'lianqiao[evm]', or '.[evm]' in a clone",
            )


def reached(rpc: str) -> Rpc:
    """The nodes of a chain that answer at an address."""
    require_extra()
    from adapters.evm.rpc import Rpc

    return Rpc([rpc])


def sender_of(key: Path) -> Sender:
    """The key in a file. Raises Malformed(CONFIG_INVALID)."""
    from adapters.evm.sender import Sender

    return Sender(key, DEFAULT_GAS_PRICE)


def node_of(address: str) -> Any:
    """A client of a lianqiao node. Raises Malformed."""
    from relay.client import connect

    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and len(port) < 6):
        raise Malformed(f"{address[:100]!r} is not an address", hint="such as 127.0.0.1:7100")
    return connect(address)


def read_chain(path: Path) -> dict[str, Any]:
    """A chain file of this adapter. Raises Malformed(CONFIG_INVALID)."""
    try:
        found = tomllib.loads(path.read_text())
        for name in ("chain_id", "address", "parameters", "settings"):
            found[name]
        if not {"key", "endpoint"} <= found["settings"].keys():
            raise KeyError("settings")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Malformed(
            f"{path}: is no chain file of an EVM ledger",
            reason=Reason.CONFIG_INVALID,
            hint="lianqiao evm deploy writes one",
        ) from error
    return found


def write(path: Path, text: str, *, private: bool = False) -> None:
    """Writes a file, of mode 0600 where it is `private`. Raises Malformed."""
    try:
        path.touch(mode=0o600 if private else 0o644)
        path.write_text(text)
    except OSError as error:
        raise Malformed(f"{path}: {error.strerror}", hint="choose another file") from error


def relay_head(address: str) -> Header:
    """The relay's newest head, signed by its own set with secp256k1.

    Raises Invalid, with a hint, for one that no EVM can verify.
    """
    import time

    from relay.light.client import anchor
    from relay.light.types import ClientState
    from relay.registry import client_types

    with node_of(address) as node:
        status = node.status()
        raw = node.headers(0, status.signed_size, "secp256k1")[-1]
    client_type = client_types().named("checkpoint")
    header = client_type.decode_header(raw)
    state = ClientState("checkpoint", header.chain_id, algorithm="secp256k1")
    try:
        anchor(client_type, state, raw, int(time.time()))
    except LianqiaoError as error:
        error.hint = error.hint or (
            "an EVM verifies secp256k1: lianqiao init --algorithm ed25519 --algorithm secp256k1"
        )
        raise
    return header


def owner_key(named: dict[str, Any], key: Path | None) -> Path:
    """The file with the owner's key: the lane's, where no other is named."""
    return key or Path(named["settings"]["key"])


def escrow_of(chain: Path, key: Path | None) -> EscrowCalls:
    """The escrow of a chain file, called with a key. Raises Malformed(CONFIG_INVALID)."""
    require_extra()
    from adapters.evm.escrow import EscrowCalls
    from adapters.evm.light.parameters import hexadecimal

    named = read_chain(chain)
    if "escrow" not in named["settings"]:
        raise Malformed(
            f"{chain}: this ledger keeps no money",
            reason=Reason.CONFIG_INVALID,
            hint="lianqiao evm deploy --currency CODE=0xTOKEN makes one that does",
        )
    where = hexadecimal(str(named["settings"]["escrow"]).lower(), 20)
    return EscrowCalls(reached(named["address"]), sender_of(owner_key(named, key)), where)


def address_of(text: str, option: str) -> bytes:
    """An address of the chain. Raises Malformed."""
    from adapters.evm.light.parameters import hexadecimal

    try:
        return hexadecimal(text.lower(), 20)
    except Malformed as error:
        raise Malformed(f"{option}: {error.detail}") from error
