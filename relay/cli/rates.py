"""Rate policies of a relay, version by version, and what their sources publish day after day."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at, time_of
from relay.cli.proposal import ask_alike
from relay.errors import Malformed, NotFound, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.client import NodeClient
    from relay.contracts.settlement import RatePolicy

app = typer.Typer(no_args_is_help=True)


class RateMode(StrEnum):
    """relay.contracts.payloads.Mode, which start-up does without."""

    FIRM = "firm"
    FIXING = "fixing"
    FACTOR = "factor"


Name = Annotated[str, typer.Argument(metavar="POLICY", help="Name of the rate policy.")]
Rate = Annotated[
    str, typer.Option("--rate", metavar="DECIMAL", help="PAYABLE for one BILL, as published.")
]


Collar = Annotated[
    int, typer.Option("--collar", min=0, max=1_000_000, help="Millionths from the last rate.")
]


@app.command("policy")
def load_policy(
    bill: Annotated[str, typer.Argument(metavar="BILL", help="Currency of bills, such as CNY.")],
    payable: Annotated[str, typer.Argument(metavar="PAYABLE", help="Paid in, such as HKD.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the policy.")],
    node: Node,
    mode: Annotated[
        RateMode,
        typer.Option("--mode", help="firm: the maker's; fixing: of a day; factor: of a month."),
    ] = RateMode.FIRM,
    day: Annotated[
        str, typer.Option("--date", metavar="YYYY-MM-DD", help="Reference: the ECB's of that day.")
    ] = "",
    rate: Annotated[
        str, typer.Option("--rate", metavar="DECIMAL", help="Reference, where it is not the ECB's.")
    ] = "",
    source: Annotated[
        str, typer.Option("--source", metavar="ID", help="Who publishes the rates.")
    ] = "ECB",
    provenance: Annotated[
        str, typer.Option("--provenance", metavar="TEXT", help="Where the reference is from.")
    ] = "",
    collar: Collar = 10_000,
    max_age_days: Annotated[
        int | None,
        typer.Option(
            "--max-age-days", min=0, max=366, help="Of a rate; default: 5, of a factor 31."
        ),
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="In force from then on. Default: now.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Loads the next version of a rate policy; the ones before stay on the journal.

    The reference stands for the last rate until the source has published one.

    Example: lianqiao settlement rates policy CNY HKD --name cny-hkd --date 2026-10-30
    --node 127.0.0.1:7000
    """
    from relay.canonical import encode

    if max_age_days is None:
        max_age_days = 31 if mode is RateMode.FACTOR else 5
    reference, said = _reference(bill, payable, day, rate)
    with node_at(node) as peer:
        versions = [p.version for p in peer.rate_policies() if p.name == name]
        begin = time_of(start, "--from") if start else _now() if versions else 0
        document: Any = {
            "bill": bill,
            "collar": collar,
            "effective_from": begin,
            "max_age_days": max_age_days,
            "mode": mode.value,
            "name": name,
            "payable": payable,
            "provenance": provenance or said,
            "reference": {"denominator": reference.denominator, "numerator": reference.numerator},
            "source": source,
            "version": max(versions, default=0) + 1,
        }
        ask_alike(lambda: peer.load_rate_policy(encode(document)), "--from", str(begin))
    if as_json:
        output.print_json({"policy": document})
        return
    output.say(
        f"{name}@{document['version']}, {mode}: {payable} for {bill} by {source},"
        f" reference {reference.numerator}/{reference.denominator}"
    )


def _now() -> int:
    import time

    return int(time.time())


def _reference(bill: str, payable: str, day: str, rate: str) -> tuple[Any, str]:
    """(rate, where it is from). Raises Malformed, and what fixing and parse_rate raise."""
    from relay.fixings import fixing
    from relay.money import parse_rate

    if bool(day) is bool(rate):
        raise Malformed("give --date for the ECB's reference, or --rate, one of them")
    if rate:
        return parse_rate(rate), "given by the operator"
    found = fixing(bill, payable, day)
    return found.rate, f"ECB euro foreign exchange reference rates, fixing of {found.day}"


@app.command("load")
def load_rate(
    name: Name,
    node: Node,
    day: Annotated[
        str,
        typer.Option("--date", metavar="DAY", help="YYYY-MM-DD of a fixing, YYYY-MM of a factor."),
    ],
    rate: Rate = "",
    as_json: Json = False,
) -> None:
    """Loads what a policy's source published; held to the collar, and never changed afterwards.

    Without --rate it is the ECB's fixing of the day, for a policy whose source is ECB.

    Example: lianqiao settlement rates load cny-hkd --date 2026-10-30 --node 127.0.0.1:7000
    """
    from relay.fixings import SOURCE, fixing
    from relay.money import parse_rate

    with node_at(node) as peer:
        versions = _versions(peer, name)
        rule = versions[-1]
        if not rate and rule.source != SOURCE:
            raise Malformed(
                f"what {rule.source} published is not known here", hint="give it by --rate"
            )
        # A day without a fixing has none: the one before it counts by itself.
        found = parse_rate(rate) if rate else fixing(rule.bill, rule.payable, day, 0).rate
        ask_alike(lambda: peer.load_rate(name, day, found))
    if as_json:
        output.print_json({"day": day, "policy": name, "rate": found})
        return
    output.say(f"{name}, {day}: {found.numerator}/{found.denominator} by {rule.source}")


def _versions(peer: NodeClient, name: str) -> list[RatePolicy]:
    """Every version of a policy, ascending. Raises NotFound(POLICY_NOT_FOUND)."""
    found = [p for p in peer.rate_policies() if p.name == name]
    if not found:
        raise NotFound(
            Reason.POLICY_NOT_FOUND,
            f"no rate policy {name[:64]!r}",
            hint="lianqiao settlement rates policies lists them",
        )
    return found


@app.command("show")
def show(name: Name, node: Node, as_json: Json = False) -> None:
    """Shows every version of a policy, and every rate that its source published.

    Example: lianqiao settlement rates show cny-hkd --node 127.0.0.1:7000
    """
    from relay.money import format_rate

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        versions, published = _versions(peer, name), list(peer.rates(name))
    if as_json:
        output.print_json({"policies": versions, "rates": published})
        return
    _table(versions)
    output.table(
        ("day", "rate", "exactly", "loaded"),
        [
            (
                one.day,
                format_rate(one.rate),
                f"{one.rate.numerator}/{one.rate.denominator}",
                output.moment(one.loaded),
            )
            for one in published
        ],
        f"no rates yet: lianqiao settlement rates load {name} --date DAY --node {node}",
    )


@app.command("policies")
def list_policies(node: Node, as_json: Json = False) -> None:
    """Lists rate policies, every version.

    Example: lianqiao settlement rates policies --node 127.0.0.1:7000
    """
    with node_at(node) as peer:
        found = list(peer.rate_policies())
    if as_json:
        output.print_json({"policies": found})
        return
    _table(found)


def _table(found: Sequence[RatePolicy]) -> None:
    from relay.money import format_rate

    output.table(
        ("policy", "in force from", "mode", "pair", "source", "collar", "max age", "reference"),
        [
            (
                f"{p.name}@{p.version}",
                output.moment(p.effective_from),
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
