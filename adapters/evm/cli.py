"""`lianqiao evm …`: what an operator of an EVM ledger does beside the commands of every chain.

A group by the entry point `lianqiao.commands`. Everything heavy is loaded when it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.evm.cli_money import add_money_commands
from adapters.evm.cli_owner import add_owner_commands
from adapters.evm.cli_parts import (
    ChainArgument,
    Currencies,
    KeyFile,
    LaneKey,
    OwnerKey,
    RpcAddress,
    TrustingDays,
    Validators,
    Variant,
    Witnesses,
    WitnessQuorum,
    node_of,
    owner_key,
    reached,
    read_chain,
    relay_head,
    require_extra,
    sender_of,
    write,
)
from relay.errors import Malformed, NotFound, Reason, Refused
from relay.signals import stop_on_signals

if TYPE_CHECKING:
    from adapters.evm.deploy import Ledger
    from relay.light.types import Header

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="EVM ledgers: their contracts, their accounts."
)

CLIENT_ID = "checkpoint-0"


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
    variant: Variant = "qbft-seal",
    validators: Validators = "header:30000",
    trusting_days: TrustingDays = 90,
    witness: Witnesses = None,
    witness_quorum: WitnessQuorum = 0,
    currency: Currencies = None,
    lane_key: LaneKey = None,
) -> None:
    """Puts the endpoint and the registry on a chain, and writes the file that `connect` takes.

    With --currency also the escrow. Whoever holds --key owns the endpoint: he admits institutions,
    opens currencies and accounts. The relay's lane pays with the same key unless it has another.

    Example: lianqiao evm deploy --relay 127.0.0.1:7100 --rpc 127.0.0.1:8545 --key sz.hex
    --chain-id sz-medical -o sz.toml
    """
    require_extra()
    from adapters.evm.deploy import Wanted, deploy_ledger, read_currencies
    from adapters.evm.light.parameters import read_source_text
    from adapters.evm.settings import read_witnesses

    read_source_text(validators)
    if lane_key is not None:
        sender_of(lane_key)
    named = ",".join(witness or ())
    nodes, sender = reached(rpc), sender_of(key)
    currencies = read_currencies(currency or ())
    wanted = Wanted(chain_id, trusting_days, read_witnesses(named), witness_quorum, currencies)
    anchor = relay_head(relay)
    made = deploy_ledger(nodes, sender, anchor, wanted)
    settings = {
        "endpoint": made.endpoint, "registry": made.registry,
        "variant": variant, "validators": validators,
        "key": str((lane_key or key).absolute()), "from_block": str(made.block),
    } | ({"witnesses": named} if named else {})  # fmt: skip
    parameters = {"endpoint": made.endpoint, "code": made.code, "validators": validators}
    if made.escrow:
        settings["escrow"] = parameters["escrow"] = made.escrow
        parameters["escrow-code"] = made.escrow_code
    pinned = _newest(rpc, settings, variant)
    write(out, _chain_file(rpc, chain_id, variant, pinned, parameters, settings))
    _say_deployed(out, anchor, made, pinned, sender.address)
    _say_next(out, relay, chain_id, rpc, settings)


def _say_deployed(
    out: Path, anchor: Header, made: Ledger, pinned: tuple[int, str], account: bytes
) -> None:
    say, (height, digest) = typer.echo, pinned
    say(f"the endpoint is at {made.endpoint}, the registry at {made.registry}")
    say(f"  owner of both, and admitted to the registry: 0x{account.hex()}")
    if made.escrow:
        say(f"the escrow is at {made.escrow}; {out} pins its code {made.escrow_code}")
    say(f"  they believe heads of {anchor.chain_id} that follow size {anchor.height},")
    say(f"    root {anchor.root.hex()}: compare it with the relay's operator")
    say(f"  {out} pins block {height}, hash {digest}:")
    say("    compare it with the chain's operators")


def _say_next(out: Path, relay: str, chain_id: str, rpc: str, settings: dict[str, str]) -> None:
    say = typer.echo
    names = ("endpoint", "registry", "escrow", "from_block", "variant", "validators")
    told = " ".join(f"--set {name}={settings[name]}" for name in names if name in settings)
    say(f"next: lianqiao connect --chain {out} --relay {relay}")
    say(f"      lianqiao evm join {out} --relay {relay}")
    say(
        f"      lianqiao init DIR --chain-id {chain_id} --role ledger --engine evm --set rpc={rpc} "
        f"{told} --set key=KEYFILE"
    )
    say("  KEYFILE: of an account of the institution's own, told to the registry by")
    say(f"      lianqiao evm admit {out} KEYFILE")


@app.command()
def join(
    chain: ChainArgument,
    relay: Annotated[str, typer.Option("--relay", metavar="ADDRESS", help="The relay.")],
    key: OwnerKey = None,
) -> None:
    """Tells the endpoint which client of the relay follows its chain, once and for ever.

    Example: lianqiao evm join sz.toml --relay 127.0.0.1:7100
    """
    require_extra()
    from adapters.evm import deploy as deploying

    named = read_chain(chain)
    with node_of(relay) as node:
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
    nodes, sender = reached(named["address"]), sender_of(owner_key(named, key))
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
    key: OwnerKey = None,
) -> None:
    """Lets an institution's account post to the registry of a ledger, or ends that.

    Example: lianqiao evm admit sz.toml 0x70997970c51812dc3a010c7d01b50e0d17dc79c8
    """
    require_extra()
    from adapters.evm import deploy as deploying
    from adapters.evm.light.parameters import hexadecimal

    named = read_chain(chain)
    settings = named["settings"]
    where = hexadecimal(str(settings.get("registry", "")).lower(), 20)
    is_file = not account.startswith("0x")
    who = sender_of(Path(account)).address if is_file else hexadecimal(account.lower(), 20)
    deploying.transact(
        reached(named["address"]), sender_of(owner_key(named, key)), where,
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
    require_extra()
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
    token: Annotated[
        list[str] | None,
        typer.Option("--token", metavar="CODE", help="Deploy a token of play money in it; repeat."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only find out whether it could run.")
    ] = False,
) -> None:
    """Runs a chain to practise on until Ctrl-C: a real EVM (anvil), sealed by four test validators.

    Example: lianqiao evm practise --port 8545 --key sz.hex --token CNY
    """
    require_extra()
    from adapters.evm.light.header import VARIANTS
    from adapters.evm.practice.chain import KEYS, SealedAnvil, find_anvil

    if variant not in VARIANTS:
        raise Malformed(f"--variant is one of {', '.join(VARIANTS)}")
    anvil = find_anvil()
    if check:
        typer.echo(f"a chain to practise on would run by {anvil}")
        return
    stop = threading.Event()
    stop_on_signals(stop)
    chain = SealedAnvil(anvil, variant=variant, port=port)
    try:
        for file, known in zip(key or (), KEYS, strict=False):
            write(file, known + "\n", private=True)
        tokens = _play_money(chain.address, token or ())
        typer.echo(f"a chain to practise on answers at {chain.address}; nothing of it is kept")
        for one in tokens:
            typer.echo(f"  play money, as evm deploy --currency takes it: {one}")
        typer.echo(f"  the keys of its {len(chain.sealers)} validators are in this one process:")
        for sealer in chain.sealers:
            typer.echo(f"    0x{sealer.address.hex()}")
        stop.wait()
    finally:
        chain.close()


# --- small things


def _play_money(address: str, codes: Sequence[str]) -> list[str]:
    """A token of each currency, of which every known account has plenty: CODE=0xTOKEN."""
    import tempfile

    from adapters.evm.deploy import deploy_play_money
    from adapters.evm.practice.chain import KEYS
    from relay.money import check_currency

    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / str(number) for number in range(len(KEYS))]
        for file, known in zip(files, KEYS, strict=True):
            write(file, known, private=True)
        senders, rpc = [sender_of(file) for file in files], reached(address)
        holders = [sender.address for sender in senders]
        return [
            f"{check_currency(code)}=0x{deploy_play_money(rpc, senders[0], holders).hex()}"
            for code in codes
        ]


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


add_money_commands(app)
add_owner_commands(app)
