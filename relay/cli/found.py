"""Founds a chain that several institutions replicate: the step between `init` and `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relay.cli import output
from relay.cli.options import ConfigFile
from relay.errors import Denied, Malformed, Reason

MAX_FILE_BYTES = 64 * 1024


def found(
    config: ConfigFile,
    joins: Annotated[
        list[Path], typer.Argument(metavar="JOIN...", help="Everybody's join.json, one's own too.")
    ],
    quorum: Annotated[
        int,
        typer.Option(
            "--quorum", min=0, max=100, help="Operators who must agree. [default: over 2/3]"
        ),
    ] = 0,
    sync_from: Annotated[
        str,
        typer.Option("--sync-from", metavar="RPC,RPC", help="Begin from a snapshot: two RPCs."),
    ] = "",
    sync_height: Annotated[int, typer.Option("--sync-height", min=0, help="A trusted height.")] = 0,
    sync_hash: Annotated[str, typer.Option("--sync-hash", help="The hash of its header.")] = "",
) -> None:
    """Prepares the start of a chain that several institutions replicate together.

    Example: lianqiao found --config ./zj/config.toml zj.json sh.json js.json ah.json
    """
    from relay.config import load
    from relay.engine import Engine
    from relay.registry import engines

    loaded = load(config)
    engine = engines().named(loaded.engine)
    if not isinstance(engine, Engine):
        raise Denied(
            Reason.NOT_PERMITTED,
            f"the engine {loaded.engine} is one institution's own",
            hint="lianqiao init --engine cometbft makes a node of several",
        )
    if bool(sync_from) != bool(sync_height) or bool(sync_from) != bool(sync_hash):
        raise Malformed("--sync-from, --sync-height and --sync-hash go together")
    sync = None
    if sync_from:
        sync = {
            "rpc_servers": sync_from,
            "trust_height": str(sync_height),
            "trust_hash": sync_hash,
        }
    digest = engine.found(loaded, [_read(path) for path in joins], quorum, sync)
    output.say(f"genesis {digest}")
    output.say("compare that hash with the other institutions by other means")
    output.say(f"next: lianqiao serve --config {config}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise output.unreadable(path, error) from None
