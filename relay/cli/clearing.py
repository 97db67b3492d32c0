"""What a relay's operator sets for settlement: lanes, netting windows, rate policies."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at

window = typer.Typer(no_args_is_help=True)
rates = typer.Typer(no_args_is_help=True)

Ledger = Annotated[str, typer.Argument(metavar="LEDGER", help="Chain id of the ledger.")]


def pause(ledger: Ledger, node: Node) -> None:
    """Takes nothing new for a ledger. What is decided is carried out all the same.

    Example: lianqiao settlement pause sz-money --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        peer.pause_lane(ledger, True)
    output.say(f"nothing new is taken for {ledger}; decisions go on")


def resume(ledger: Ledger, node: Node) -> None:
    """Takes instructions for a ledger again.

    Example: lianqiao settlement resume sz-money --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        peer.pause_lane(ledger, False)
    output.say(f"instructions for {ledger} are taken again")


Window = Annotated[str, typer.Argument(metavar="WINDOW", help="Its name, used once.")]


@window.command("open")
def open_window(
    name: Window,
    node: Node,
    hours: Annotated[int, typer.Option("--hours", min=1, max=23, help="Until its deadline.")] = 8,
) -> None:
    """Opens a netting window; instructions that name it wait for its cut-off.

    Example: lianqiao settlement window open 20261030 --hours 8 --node 127.0.0.1:7000
    """
    import time

    deadline = int(time.time()) + hours * 3600
    with node_at(node) as peer:
        peer.open_window(name, deadline)
    output.say(f"window {name}, deadline {output.moment(deadline)} ({deadline})")


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
        ("window", "opened", "deadline", "cut off", "instructions"),
        [
            (
                w.window,
                output.moment(w.opened),
                output.moment(w.deadline),
                output.moment(w.cut_off.time) if w.cut_off else "open",
                len(w.cut_off.members) if w.cut_off else "-",
            )
            for w in found
        ],
        "no windows",
    )


@rates.command("policy")
def load_policy(
    bill: Annotated[str, typer.Argument(metavar="BILL", help="Currency of bills, such as CNY.")],
    payable: Annotated[str, typer.Argument(metavar="PAYABLE", help="Paid in, such as HKD.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the policy.")],
    day: Annotated[str, typer.Option("--date", metavar="YYYY-MM-DD", help="Reference: ECB of.")],
    node: Node,
    collar: Annotated[
        int, typer.Option("--collar", min=0, max=1_000_000, help="Millionths from the last rate.")
    ] = 10_000,
) -> None:
    """Loads the first version of a firm-quote policy, its reference the ECB's fixing of a day.

    Example: lianqiao settlement rates policy CNY HKD --name cny-hkd --date 2026-10-30
    --node 127.0.0.1:7000
    """
    from relay.canonical import encode
    from relay.fixings import MAX_AGE_DAYS, fixing
    from relay.settling import policy_document

    found = fixing(bill, payable, day)
    document: Any = policy_document(found, name=name, collar=collar, max_age_days=MAX_AGE_DAYS)
    with node_at(node) as peer:
        peer.load_rate_policy(encode(document))
    output.say(f"{name}@1: {found.rate.numerator}/{found.rate.denominator}, ECB {found.day}")


@rates.command("policies")
def list_policies(node: Node, as_json: Json = False) -> None:
    """Lists rate policies, every version.

    Example: lianqiao settlement rates policies --node 127.0.0.1:7000
    """
    from relay.money import format_rate

    with node_at(node) as peer:
        found = list(peer.rate_policies())
    if as_json:
        output.print_json({"policies": found})
        return
    output.table(
        ("policy", "mode", "pair", "source", "collar", "max age", "reference"),
        [
            (
                f"{p.name}@{p.version}",
                p.mode.value,
                f"{p.payable} for {p.bill}",
                p.source,
                f"{p.collar} millionths",
                f"{p.max_age_days} days",
                format_rate(p.reference),
            )
            for p in found
        ],
        "no rate policies; lianqiao settlement rates policy loads one",
    )
