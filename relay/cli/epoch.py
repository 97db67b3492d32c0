"""Goes on after entries that were signed are lost for good: relay.epoch says what that means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import ConfigFile, Json
from relay.errors import Malformed, Reason

if TYPE_CHECKING:
    from pathlib import Path

    from relay.config import Config
    from relay.views import ClientView

app = typer.Typer(no_args_is_help=True)


@app.callback()
def epochs() -> None:
    """Epochs of a node's journal."""


@app.command("open")
def open_(
    config: ConfigFile,
    forked: Annotated[
        bool,
        typer.Option(
            "--forked",
            help="Nothing is missing here, but another history was signed under this epoch.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Opens the next epoch on a stopped node whose newest signed entries are lost for good.

    Example: lianqiao epoch open --config ./zj/config.toml
    """
    from relay.cli.opening import only_process, open_node, open_store
    from relay.config import load
    from relay.epoch import open_epoch
    from relay.light.checkpoint import make_origin
    from relay.query import list_clients
    from relay.signing import HighWaterMark

    loaded = load(config)
    with only_process(loaded):
        store = open_store(loaded)
        try:
            store.check(loaded.chain_id)
            _check_not_open(store.meta("epoch"), loaded, config)
            origin = make_origin(loaded.chain_id, loaded.epoch)
            mark = HighWaterMark(loaded.mark_file)
            opening = open_epoch(store, origin, mark, int(time.time()), forked=forked)
        finally:
            store.close()
        # Opening the node once signs the first head, as `serve` would.
        following = loaded.model_copy(update={"epoch": loaded.epoch + 1})
        node = open_node(following, lambda: int(time.time()))
        head, clients = node.head, list_clients(node.store)
        node.close()
    if as_json:
        output.print_json({"opening": opening, "origin": opening.next_origin, "size": head.size})
        return
    say = output.say
    say(f"{opening.next_origin} continues {origin} from size {opening.size}")
    say(f"  root {opening.root.hex()}")
    say(f"  {origin} had signed up to size {opening.signed} and signs nothing more")
    say(f"next: write epoch = {following.epoch} in {config}, then lianqiao serve")
    _say_skips(clients, loaded.listen)
    say("then each counterparty, on its own node: lianqiao clients recover CLIENT --from this node")


def _say_skips(clients: list[ClientView], listen: str) -> None:
    """Sequences of what is lost come before all else: one that is used again is refused there."""
    for view in clients:
        if not view.counterparty_client_id:
            continue
        output.say(
            f"before anything is sent: lianqiao clients skip {view.client_id} NEXT --node {listen}"
        )
        output.say(f"  NEXT is above the greatest N in {view.counterparty_client_id}/N/in of")
        output.say(
            f"  lianqiao packets list --client {view.counterparty_client_id} --node ADDRESS "
            f"(of {view.chain})"
        )


def _check_not_open(written: str | None, config: Config, file: Path) -> None:
    if written == str(config.epoch + 1):
        raise Malformed(
            f"epoch {written} is open already",
            reason=Reason.CONFIG_INVALID,
            hint=f"write epoch = {written} in {file}, then lianqiao serve",
        )
