"""`lianqiao evm …`: what an operator of an EVM ledger does beside the commands of every chain.

A group by the entry point `lianqiao.commands`. Everything heavy is loaded when it is used.
"""

from __future__ import annotations

import signal
import threading
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused

if TYPE_CHECKING:
    from adapters.evm.deploy import Ledger
    from adapters.evm.rpc import Rpc
    from adapters.evm.sender import Sender
    from relay.light.types import Header

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="EVM ledgers: their contracts, their accounts."
)

DEFAULT_GAS_PRICE = 10**12
CLIENT_ID = "checkpoint-0"

RpcAddress = Annotated[
    str, typer.Option("--rpc", metavar="ADDRESS", help="HOST:PORT of a JSON-RPC node of the chain.")
]
KeyFile = Annotated[
    Path,
    typer.Option("--key", metavar="FILE", help="The private key that pays, in hex, mode 0600."),
]
ChainArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The chain file that `evm deploy` wrote.")
]


@app.command()
def deploy(
    relay: Annotated[str, typer.Option("--relay", metavar="ADDRESS", help="The relay.")],
    rpc: RpcAddress,
    key: KeyFile,
    chain_id: Annotated[
        str, typer.Option("--chain-id", metavar="ID", help="Global id of this ledger, for ever.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The chain file to write.")
    ],
    variant: Annotated[
        str, typer.Option("--variant", help="Its seals: qbft-seal, ibft2-seal or ibft1-seal.")
    ] = "qbft-seal",
    validators: Annotated[
        str,
        typer.Option(
            "--validators", help="Where sets are kept: header:EPOCH or contract:0xADDRESS:SLOT."
        ),
    ] = "header:30000",
    trusting_days: Annotated[
        int,
        typer.Option("--trusting-days", min=1, max=3650, help="How long a head can be built upon."),
    ] = 90,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            "--witness", metavar="NAME=secp256k1:HEX", help="Who must co-sign the relay's heads."
        ),
    ] = None,
    witness_quorum: Annotated[
        int, typer.Option("--witness-quorum", min=0, max=16, help="How many of them.")
    ] = 0,
) -> None:
    """Puts the endpoint and the registry on a chain, and writes the file that `connect` takes.

    Example: lianqiao evm deploy --relay 127.0.0.1:7100 --rpc 127.0.0.1:8545 --key sz.hex
    --chain-id sz-medical -o sz.toml
    """
    _require_extra()
    from adapters.evm.deploy import Wanted, deploy_ledger
    from adapters.evm.light.parameters import read_source_text
    from adapters.evm.settings import read_witnesses

    read_source_text(validators)
    named = ",".join(witness or ())
    nodes, sender = _reached(rpc), _sender(key)
    wanted = Wanted(chain_id, trusting_days, read_witnesses(named), witness_quorum)
    anchor = _relay_head(relay)
    made = deploy_ledger(nodes, sender, anchor, wanted)
    settings = {
        "endpoint": made.endpoint, "registry": made.registry,
        "variant": variant, "validators": validators,
        "key": str(key.absolute()), "from_block": str(made.block),
    } | ({"witnesses": named} if named else {})  # fmt: skip
    parameters = {"endpoint": made.endpoint, "code": made.code, "validators": validators}
    pinned = _newest(rpc, settings, variant)
    _write(out, _chain_file(rpc, chain_id, variant, pinned, parameters, settings))
    _say_deployed(out, anchor, made, pinned, sender.address)
    typer.echo(f"next: lianqiao connect --chain {out} --relay {relay}")
    typer.echo(f"      lianqiao evm join {out} --relay {relay}")
    typer.echo(
        f"      lianqiao init DIR --chain-id {chain_id} --role ledger --engine evm --set rpc={rpc} "
        f"--set endpoint={made.endpoint} --set registry={made.registry} "
        f"--set from_block={made.block} --set key=KEYFILE"
    )
    typer.echo("  KEYFILE: of an account of the institution's own, told to the registry by")
    typer.echo(f"      lianqiao evm admit {out} KEYFILE")


def _say_deployed(
    out: Path, anchor: Header, made: Ledger, pinned: tuple[int, str], account: bytes
) -> None:
    say, (height, digest) = typer.echo, pinned
    say(f"the endpoint is at {made.endpoint}, the registry at {made.registry}")
    say(f"  owner of both, and admitted to the registry: 0x{account.hex()}")
    say(f"  they believe heads of {anchor.chain_id} that follow size {anchor.height},")
    say(f"    root {anchor.root.hex()}: compare it with the relay's operator")
    say(f"  {out} pins block {height}, hash {digest}:")
    say("    compare it with the chain's operators")


@app.command()
def join(
    chain: ChainArgument,
    relay: Annotated[str, typer.Option("--relay", metavar="ADDRESS", help="The relay.")],
) -> None:
    """Tells the endpoint which client of the relay follows its chain, once and for ever.

    Example: lianqiao evm join sz.toml --relay 127.0.0.1:7100
    """
    _require_extra()
    from adapters.evm import deploy as deploying

    named = _read(chain)
    with _node(relay) as node:
        found = [
            view
            for view in node.clients()
            if view.state.chain_id == named["chain_id"]
            and dict(view.state.parameters) == named["parameters"]
        ]
        for view in found[:1]:
            node.register_counterparty(view.client_id, CLIENT_ID)
    if not found:
        raise NotFound(
            Reason.CLIENT_NOT_FOUND,
            f"the relay has no client of {named['chain_id']}",
            hint=f"lianqiao connect --chain {chain} --relay {relay}",
        )
    nodes, sender = _reached(named["address"]), _sender(Path(named["settings"]["key"]))
    endpoint = bytes.fromhex(named["settings"]["endpoint"][2:])
    client_id = found[0].client_id
    if deploying.view(nodes, endpoint, "counterparty") != client_id:
        deploying.transact(nodes, sender, endpoint, "registerCounterparty", [client_id])
    typer.echo(f"{named['chain_id']} and the relay know each other: {client_id}, {CLIENT_ID}")


@app.command()
def admit(
    chain: ChainArgument,
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="0x and 40 hex digits, or a key file.")
    ],
    end: Annotated[bool, typer.Option("--end", help="Admit it no longer.")] = False,
) -> None:
    """Lets an institution's account post to the registry of a ledger, or ends that.

    Example: lianqiao evm admit sz.toml 0x70997970c51812dc3a010c7d01b50e0d17dc79c8
    """
    _require_extra()
    from adapters.evm import deploy as deploying
    from adapters.evm.light.parameters import hexadecimal

    named = _read(chain)
    settings = named["settings"]
    where = hexadecimal(str(settings.get("registry", "")).lower(), 20)
    is_file = not account.startswith("0x")
    who = _sender(Path(account)).address if is_file else hexadecimal(account.lower(), 20)
    deploying.transact(
        _reached(named["address"]), _sender(Path(settings["key"])), where,
        "registerInstitution", ["0x" + who.hex(), not end], "Registry",
    )  # fmt: skip
    typer.echo(f"0x{who.hex()} {'is admitted no longer' if end else 'is admitted'}")


@app.command()
def reread(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The node's config.toml.")
    ],
) -> None:
    """Drops the tables of a node before an EVM ledger: `serve` reads the chain from the start.

    Originals, and who read them, are in the vault and stay. The node must be stopped.

    Example: lianqiao evm reread --config sz/config.toml
    """
    _require_extra()
    from adapters.evm.engine.start import ENGINE
    from relay.config import load

    loaded = load(config)
    if loaded.engine != "evm":
        raise Refused(
            Reason.NOT_PERMITTED, "this node's journal is its ledger, and nothing makes it again"
        )
    ENGINE.reread(loaded)
    typer.echo(f"next: lianqiao serve --config {config}")


@app.command()
def practise(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="On loopback. 0: a free one.")
    ] = 8545,
    variant: Annotated[str, typer.Option("--variant", help="As for deploy.")] = "qbft-seal",
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key", metavar="FILE", help="Where to write a key that has money there; repeat."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only find out whether it could run.")
    ] = False,
) -> None:
    """Runs a chain to practise on until Ctrl-C: a real EVM (anvil), sealed by four test validators.

    Example: lianqiao evm practise --port 8545 --key sz.hex
    """
    _require_extra()
    from adapters.evm.light.header import VARIANTS
    from adapters.evm.practice.chain import KEYS, SealedAnvil, find_anvil

    if variant not in VARIANTS:
        raise Malformed(f"--variant is one of {', '.join(VARIANTS)}")
    anvil = find_anvil()
    if check:
        typer.echo(f"a chain to practise on would run by {anvil}")
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    chain = SealedAnvil(anvil, variant=variant, port=port)
    try:
        for file, known in zip(key or (), KEYS, strict=False):
            _write(file, known + "\n", private=True)
        typer.echo(f"a chain to practise on answers at {chain.address}; nothing of it is kept")
        typer.echo(f"  the keys of its {len(chain.sealers)} validators are in this one process:")
        for sealer in chain.sealers:
            typer.echo(f"    0x{sealer.address.hex()}")
        stop.wait()
    finally:
        chain.close()


# --- small things


def _require_extra() -> None:
    """Raises Refused(CONFIG_INVALID) without the extra `evm`."""
    for name in ("web3", "coincurve", "sha3"):
        if find_spec(name) is None:
            raise Refused(
                Reason.CONFIG_INVALID,
                f"this needs the package {name!r}, which is not installed",
                hint="pip install 'lianqiao[evm]'",
            )


def _reached(rpc: str) -> Rpc:
    _require_extra()
    from adapters.evm.rpc import Rpc

    return Rpc([rpc])


def _sender(key: Path) -> Sender:
    from adapters.evm.sender import Sender

    return Sender(key, DEFAULT_GAS_PRICE)


def _node(address: str) -> Any:
    from relay.client import connect

    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and len(port) < 6):
        raise Malformed(f"{address[:100]!r} is not an address", hint="such as 127.0.0.1:7100")
    return connect(address)


def _relay_head(address: str) -> Header:
    """The relay's newest head, signed by its own set with secp256k1."""
    import time

    from relay.light.client import anchor
    from relay.light.types import ClientState
    from relay.registry import client_types

    with _node(address) as node:
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


def _newest(rpc: str, settings: dict[str, str], variant: str) -> tuple[int, str]:
    """(height, hash in hex) of a header to pin."""
    from adapters.evm.chain import connect
    from adapters.evm.light import CLIENT

    chain = connect({**settings, "address": rpc})
    raw = chain.headers(0, chain.latest_height(), variant)[-1]
    header = CLIENT.decode_header(raw)
    return header.height, header.hash.hex()


def _chain_file(
    rpc: str,
    chain_id: str,
    variant: str,
    pinned: tuple[int, str],
    parameters: dict[str, str],
    settings: dict[str, str],
) -> str:
    import json

    def lines(values: dict[str, Any]) -> list[str]:
        return [f"{name} = {json.dumps(value)}" for name, value in values.items()]

    whole: dict[str, Any] = {
        "adapter": "evm",
        "address": rpc,
        "chain_id": f"{chain_id}/0",
        "algorithm": variant,
        "tree_hash": "keccak256",
        "proof_kind": "mpt",
        "trusted_height": pinned[0],
        "trusted_hash": pinned[1],
        "trusting_days": 14,
        "assurance": f"sealed by ceil(2N/3) of the validators of {chain_id}",
        "counterparty": CLIENT_ID,
    }
    return "\n".join(
        [
            "# Compare trusted_hash with the chain's operators by other means.",
            *lines(whole),
            "threshold = { numerator = 2, denominator = 3, strict = false }",
            "trust_level = { numerator = 1, denominator = 3, strict = true }",
            "",
            "[parameters]",
            *lines(parameters),
            "",
            "[settings]",
            *lines(settings),
            "",
        ]
    )


def _read(path: Path) -> dict[str, Any]:
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


def _write(path: Path, text: str, *, private: bool = False) -> None:
    try:
        path.touch(mode=0o600 if private else 0o644)
        path.write_text(text)
    except OSError as error:
        raise Malformed(f"{path}: {error.strerror}", hint="choose another file") from error
