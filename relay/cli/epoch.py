"""Goes on after entries that were signed are lost for good: relay.epoch says what that means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from relay.cli import output
from relay.cli.options import ConfigFile, Json
from relay.errors import Malformed, Reason

if TYPE_CHECKING:
    from pathlib import Path

    from relay.config import Config

app = typer.Typer(no_args_is_help=True)


@app.callback()
def epochs() -> None:
    """Epochs of a node's journal."""


@app.command("open")
def open_(config: ConfigFile, as_json: Json = False) -> None:
    """Opens the next epoch on a stopped node whose newest signed entries are lost for good.

    Example: lianqiao epoch open --config ./zj/config.toml
    """
    from relay.cli.opening import only_process, open_node, open_store
    from relay.config import load
    from relay.epoch import open_epoch
    from relay.light.checkpoint import make_origin
    from relay.signing import HighWaterMark

    loaded = load(config)
    with only_process(loaded):
        store = open_store(loaded)
        try:
            store.check(loaded.chain_id)
            _check_not_open(store.meta("epoch"), loaded, config)
            origin = make_origin(loaded.chain_id, loaded.epoch)
            opening = open_epoch(store, origin, HighWaterMark(loaded.mark_file), int(time.time()))
        finally:
            store.close()
        # Opening the node once signs the first head, as `serve` would.
        following = loaded.model_copy(update={"epoch": loaded.epoch + 1})
        node = open_node(following, lambda: int(time.time()))
        head = node.head
        node.close()
    if as_json:
        output.print_json({"opening": opening, "origin": opening.next_origin, "size": head.size})
        return
    say = output.say
    say(f"{opening.next_origin} continues {origin} from size {opening.size}")
    say(f"  root {opening.root.hex()}")
    say(f"  {origin} had signed up to size {opening.signed} and signs nothing more")
    say(f"next: write epoch = {following.epoch} in {config}, then lianqiao serve")
    say("  each counterparty recovers its client: lianqiao clients recover, on its own node")
    say("  sequences that were used in what is lost are passed over: lianqiao clients skip")


def _check_not_open(written: str | None, config: Config, file: Path) -> None:
    if written == str(config.epoch + 1):
        raise Malformed(
            f"epoch {written} is open already",
            reason=Reason.CONFIG_INVALID,
            hint=f"write epoch = {written} in {file}, then lianqiao serve",
        )
