"""Commands that open a node's own files: init, migrate."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from relay.cli import output
from relay.cli.options import ConfigFile, Json
from relay.errors import Malformed, Reason, Refused

if TYPE_CHECKING:
    from relay.config import Config

MAX_VALIDATORS = 100
_PORTS = {"ledger": "7101", "relay": "7100"}


def register(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.command("init")(init)
    app.command("migrate")(migrate)


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
    chain_id: Annotated[
        str, typer.Option("--chain-id", metavar="ID", help="Global id of the chain, for ever.")
    ],
    role: Annotated[
        Literal["ledger", "relay"],
        typer.Option("--role", help="ledger keeps records; relay decides and carries packets."),
    ],
    validators: Annotated[
        int, typer.Option("--validators", min=1, max=MAX_VALIDATORS, help="Keys that sign heads.")
    ] = 4,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="ADDR", help="Loopback address to serve on.", show_default=False
        ),
    ] = "",
    algorithm: Annotated[
        list[str] | None,
        typer.Option("--algorithm", help="Of the keys; repeat for more. [default: ed25519]"),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="What extends the journal.")
    ] = "journal",
    name: Annotated[
        str, typer.Option("--name", help="Of this institution, on a chain of several.")
    ] = "",
    peer: Annotated[
        str, typer.Option("--peer", metavar="ADDR", help="Where the others reach its validator.")
    ] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="One setting of the engine."),
    ] = None,
) -> None:
    """Makes the directory of a new node: configuration, keys, database.

    Example: lianqiao init ./zj --chain-id zj-medical --role ledger
    """
    algorithms = tuple(dict.fromkeys(algorithm or ["ed25519"]))
    listen = listen or f"127.0.0.1:{_PORTS[role]}"
    _check_new(directory, chain_id, listen)
    building = directory.absolute().parent / f".{directory.absolute().name}.new"
    try:
        building.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output.unreadable(building.parent, error) from None
    try:
        building.mkdir(mode=0o700)
    except FileExistsError:
        raise Refused(
            Reason.CONFLICT,
            f"{building} exists: another init runs, or one was interrupted",
            hint=f"if none runs: rm -r {building}",
        ) from None
    except OSError as error:
        raise output.unreadable(building, error) from None
    try:
        names = [f"{chain_id}-{number}" for number in range(1, validators + 1)]
        if engine != "journal":
            own = name or (chain_id if _alone(engine) else "")
            shared = _Shared(engine, own, peer, tuple(setting or ()))
            _build_shared(building, chain_id, role, listen, shared)
        else:
            _build(building, chain_id, role, names, listen, algorithms)
        os.replace(building, directory)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _say_made(directory, chain_id, role, engine, validators)


def _say_made(directory: Path, chain_id: str, role: str, engine: str, validators: int) -> None:
    config = directory / "config.toml"
    if engine != "journal" and _alone(engine):
        output.say(f"made {directory}: {role} {chain_id}, by the engine {engine}")
        output.say(f"next: lianqiao serve --config {config}")
        return
    if engine != "journal":
        output.say(f"made {directory}: {role} {chain_id}, replicated by the engine {engine}")
        output.say(f"give {directory / 'join.json'} to the others, take theirs, and then:")
        output.say(f"next: lianqiao found --config {config} JOIN...")
        return
    many = "1 validator key" if validators == 1 else f"{validators} validator keys"
    output.say(f"made {directory}: {role} {chain_id}, {many}, all of them in this directory")
    output.say(f"next: lianqiao serve --config {config}")


def _check_new(directory: Path, chain_id: str, listen: str) -> None:
    from relay.config import check_id, check_listen

    try:
        check_id(f"{chain_id}-{MAX_VALIDATORS}")
    except ValueError as error:
        raise Malformed(
            f"--chain-id {error}",
            hint="such as zj-medical; at most 60 characters",
            field="chain_id",
        ) from None
    try:
        check_listen(listen)
    except ValueError as error:
        raise Malformed(
            f"--listen: {error}",
            reason=Reason.CONFIG_INVALID,
            hint="such as 127.0.0.1:7101; port 0 takes a free one",
            field="listen",
        ) from None
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise Refused(
                Reason.CONFLICT,
                f"{directory} is not empty",
                hint="choose a new directory; nothing was changed in this one",
            )
    except OSError as error:
        raise output.unreadable(directory, error) from None


def _build(
    directory: Path,
    chain_id: str,
    role: str,
    names: list[str],
    listen: str,
    algorithms: tuple[str, ...],
) -> None:
    """Everything of a new node in `directory`, the configuration read back as `serve` will."""
    from relay.cli.opening import load_signers, open_node, set_of
    from relay.config import load
    from relay.keys import SigningKey
    from relay.record.seal import create_key

    (directory / "keys").mkdir(mode=0o700)
    text = config_text(chain_id, role, names, listen, algorithms)
    (directory / "config.toml").write_text(text, encoding="utf-8")
    for name in names:
        for algorithm in algorithms:
            SigningKey.generate(algorithm).save(directory / key_file(name, algorithm))
    for algorithm in algorithms:
        SigningKey.generate(algorithm).save(directory / key_file("witness", algorithm))
    if role == "ledger":
        create_key(directory / "keys/vault.key", os.urandom)
    config = load(directory / "config.toml")
    _create_database(config, set_of(config.validators, load_signers(config)))
    # Opening it once signs the first head, and finds out now what `serve` would find out later.
    open_node(config, _clock).close()


@dataclass(frozen=True)
class _Shared:
    """What a node of a replicated chain needs beside others."""

    engine: str
    name: str
    peer: str
    settings: tuple[str, ...]


def _build_shared(directory: Path, chain_id: str, role: str, listen: str, shared: _Shared) -> None:
    """Everything of a new replica; its chain begins with `found`."""
    from relay.config import check_address, check_id, load
    from relay.engine import Engine
    from relay.keys import SigningKey
    from relay.record.seal import create_key
    from relay.registry import engines

    engine = engines().named(shared.engine)
    pairs = [text.partition("=") for text in shared.settings]
    try:
        if not shared.name:
            raise ValueError("each institution has a name of its own")
        check_id(shared.name)
        if shared.peer or not _alone(shared.engine):
            check_address(shared.peer)
        if not isinstance(engine, Engine) or not all(sign for _, sign, _ in pairs):
            raise ValueError(f"the engine {shared.engine} is not made so")
    except ValueError as error:
        raise Malformed(
            f"--name, --peer and --set: {error}",
            hint="such as --name zj --peer 10.1.2.3:26656 --set rpc=127.0.0.1:26657",
        ) from None
    lines = config_text(chain_id, role, [shared.name], listen, ("ed25519",)).splitlines()
    lines = lines[: lines.index("[witness]") - 1]
    lines.insert(5, f"engine = {json.dumps(shared.engine)}")
    lines += engine.init_text(shared.name, {key: value for key, _, value in pairs})
    (directory / "keys").mkdir(mode=0o700)
    (directory / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    SigningKey.generate("ed25519").save(directory / key_file(shared.name, "ed25519"))
    if role == "ledger":
        create_key(directory / "keys/vault.key", os.urandom)
    engine.init(load(directory / "config.toml"), shared.peer, _clock())


def _alone(engine: str) -> bool:
    """Whether its nodes are of one institution each, before a chain that is there."""
    from relay.registry import engines

    return bool(getattr(engines().named(engine), "alone", False))


def _create_database(config: Config, validators: object) -> None:
    from relay.node import create
    from relay.store import Store
    from relay.store.migrate import migrate as migrate_schema

    store = Store(config.database_url)
    try:
        migrate_schema(store.engine)
        create(
            store,
            config.chain_id,
            config.role,
            validators,  # type: ignore[arg-type]
            epoch=config.epoch,
            now=_clock(),
        )
    finally:
        store.close()


def _clock() -> int:
    return int(time.time())


def key_file(name: str, algorithm: str) -> str:
    """Where `init` puts a validator's key, relative to its directory."""
    return f"keys/{name}.{algorithm}.pem"


def config_text(
    chain_id: str, role: str, names: list[str], listen: str, algorithms: tuple[str, ...]
) -> str:
    """The config.toml of a new node."""
    quote = json.dumps  # a JSON string of printable ASCII is a TOML string
    lines = [
        "# Every key is explained in deploy/*.example.toml. An unknown key is an error.",
        f"chain_id = {quote(chain_id)}",
        f"role = {quote(role)}",
        f"listen = {quote(listen)}",
        'database = "node.db"',
    ]
    if role == "ledger":
        lines += ["", "[vault]", 'directory = "vault"', 'key = "keys/vault.key"']
    for name in names:
        lines += [
            "",
            "[[validators]]",
            f"name = {quote(name)}",
            "power = 1",
            _keys_line(name, algorithms),
        ]
    lines += ["", "[witness]", f"name = {quote(chain_id)}", _keys_line("witness", algorithms)]
    return "\n".join(lines) + "\n"


def _keys_line(name: str, algorithms: tuple[str, ...]) -> str:
    keys = ", ".join(f"{a} = {json.dumps(key_file(name, a))}" for a in algorithms)
    return f"keys = {{ {keys} }}"


def migrate(config: ConfigFile, as_json: Json = False) -> None:
    """Brings a node's database to the schema of this program. Stop the node and back it up first.

    Example: lianqiao migrate --config ./zj/config.toml
    """
    from relay.cli.opening import only_process, open_store
    from relay.config import load
    from relay.store.migrate import SCHEMA
    from relay.store.store import newer_schema

    loaded = load(config)
    with only_process(loaded):
        store = open_store(loaded)
        try:
            if (found := store.schema()) > SCHEMA:
                raise newer_schema(found)
            with output.working("migrating", quiet=as_json):
                before, after = store.migrate()
            store.check(loaded.chain_id)
        finally:
            store.close()
    if as_json:
        output.print_json({"before": before, "after": after})
    elif before == after:
        output.say(f"nothing to do: the schema is {after}")
    else:
        output.say(f"migrated from {before or 'none'} to {after}")
