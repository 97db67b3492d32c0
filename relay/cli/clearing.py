"""What a relay's operator sets for settlement: lanes and netting windows."""

from __future__ import annotations

from typing import Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at
from relay.errors import Malformed

window = typer.Typer(no_args_is_help=True)

Ledger = Annotated[str, typer.Argument(metavar="LEDGER", help="Chain id of the ledger.")]


def pause(ledger: Ledger, node: Node, as_json: Json = False) -> None:
    """Takes nothing new for a ledger. What is decided is carried out all the same.

    Example: lianqiao settlement pause sz-money --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        peer.pause_lane(ledger, True)
    if as_json:
        output.print_json({"ledger": ledger, "paused": True})
        return
    output.say(f"nothing new is taken for {ledger}; decisions go on")


def resume(ledger: Ledger, node: Node, as_json: Json = False) -> None:
    """Takes instructions for a ledger again.

    Example: lianqiao settlement resume sz-money --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        peer.pause_lane(ledger, False)
    if as_json:
        output.print_json({"ledger": ledger, "paused": False})
        return
    output.say(f"instructions for {ledger} are taken again")


Window = Annotated[str, typer.Argument(metavar="WINDOW", help="Its name, used once.")]


@window.command("open")
def open_window(
    name: Window,
    node: Node,
    hours: Annotated[int, typer.Option("--hours", min=1, max=23, help="Until its deadline.")] = 8,
    minutes: Annotated[
        int,
        typer.Option(
            "--cut-off-before",
            min=0,
            max=1_380,
            metavar="MINUTES",
            help="So long before its deadline it is cut off by itself; 0: only by hand.",
        ),
    ] = 30,
    as_json: Json = False,
) -> None:
    """Opens a netting window; instructions that name it settle with it, at its cut-off.

    Between cut-off and deadline its ledgers must lock; what is not locked by then is given up.
    With `prepare --window NAME` an instruction is made for it.

    Example: lianqiao settlement window open 20261030 --hours 8 --node 127.0.0.1:7000
    """
    import time

    now = int(time.time())
    deadline = now + hours * 3600
    due = deadline - minutes * 60
    if minutes >= hours * 60:
        raise Malformed("it would be cut off at once", hint="give more --hours, or fewer minutes")
    with node_at(node) as peer:
        peer.open_window(name, deadline, due if minutes else 0)
    if as_json:
        output.print_json({"deadline": deadline, "due": due, "window": name})
        return
    output.say(f"window {name}, cut-off {_due(due, deadline)}, deadline {output.moment(deadline)}")
    output.say(f"lianqiao settlement prepare QUOTE --window {name} --node {node} …")


def _due(due: int, deadline: int) -> str:
    return output.moment(due) if due < deadline else "by hand"


@window.command("cut-off")
def cut_off(name: Window, node: Node, as_json: Json = False) -> None:
    """Cuts a window off: its members are journaled and their net set is locked, all or nothing.

    Example: lianqiao settlement window cut-off 20261030 --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        record = peer.cut_off(name)
    if as_json:
        output.print_json({"cut_off": record.to_json()})
        return
    output.say(f"{len(record.members)} instructions, settlement {record.settlement.hex()}")


@window.command("list")
def list_windows(node: Node, as_json: Json = False) -> None:
    """Lists netting windows.

    Example: lianqiao settlement window list --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        found = list(peer.windows())
    if as_json:
        output.print_json({"windows": found})
        return
    output.table(
        ("window", "opened", "due", "deadline", "cut off", "instructions"),
        [
            (
                w.window,
                output.moment(w.opened),
                _due(w.due, w.deadline),
                output.moment(w.deadline),
                output.moment(w.cut_off.time) if w.cut_off else "open",
                len(w.cut_off.members) if w.cut_off else "-",
            )
            for w in found
        ],
        "no windows",
    )
