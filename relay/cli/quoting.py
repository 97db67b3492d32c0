"""Quotes under a relay's rate policies, and what of an instruction people read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import output
from relay.cli.options import Json, Node, node_at, write_file
from relay.errors import Malformed, NotFound, Reason

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.contracts.payloads import Instruction, Leg, Quote
    from relay.contracts.settlement import RatePolicy
    from relay.money import Rate

OutputFile = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to.")]


def quote(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Of the bill, such as 1180.00.")],
    currency: Annotated[str, typer.Argument(metavar="CURRENCY", help="Of the bill, such as CNY.")],
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="Rate policy in force.")],
    maker: Annotated[str, typer.Option("--maker", metavar="ID", help="Who quotes.")],
    file: OutputFile,
    node: Node,
    day: Annotated[
        str,
        typer.Option("--date", metavar="DAY", help="Of the rate: YYYY-MM-DD; of a factor YYYY-MM."),
    ] = "",
    rate: Annotated[
        str, typer.Option("--rate", metavar="DECIMAL", help="Under a firm policy, not --date.")
    ] = "",
    seconds: Annotated[
        int, typer.Option("--for", min=1, max=86_400, help="Good for seconds.")
    ] = 120,
    as_json: Json = False,
) -> None:
    """Makes a quote under a relay's rate policy: exact rate, one rounding, residue kept.

    Under a firm policy the rate is --rate, or the ECB's fixing of --date; under a fixing or a
    monthly factor it is what the relay has loaded for --date.

    Example: lianqiao settlement quote 1180.00 CNY --policy cny-hkd --maker maker-1
    --date 2026-10-30 -o quote.json --node 127.0.0.1:7000
    """
    import os
    import time

    from relay.canonical import encode
    from relay.contracts.payloads import Money
    from relay.money import parse_amount
    from relay.settling import make_quote

    bill = Money(currency, parse_amount(amount, currency))
    with node_at(node) as peer:
        rule = policy_in_force(peer, policy)
        chosen, of = _rate(peer, rule, day, rate)
    made = make_quote(
        bill,
        rule,
        chosen,
        id=f"q-{os.urandom(8).hex()}",
        maker=maker,
        expires=int(time.time()) + seconds,
        day=of,
    )
    write_file(file, encode(made.to_json()))
    if as_json:
        output.print_json({"quote": made.to_json()})
        return
    output.fields(quote_fields(made))
    output.note(f"wrote {file}")


def policy_in_force(peer: NodeClient, name: str) -> RatePolicy:
    """The version of a rate policy that is in force now. Raises NotFound(POLICY_NOT_FOUND)."""
    import time

    now = int(time.time())
    found = [p for p in peer.rate_policies() if p.name == name and p.effective_from <= now]
    if not found:
        raise NotFound(
            Reason.POLICY_NOT_FOUND,
            f"no rate policy {name[:64]!r} is in force",
            hint="lianqiao settlement rates policies lists them",
        )
    return found[-1]


def _rate(peer: NodeClient, rule: RatePolicy, day: str, rate: str) -> tuple[Rate, str]:
    """(rate, day it is of; empty for the maker's own). Raises Malformed, NotFound, Refused."""
    from relay.contracts.payloads import Mode
    from relay.fixings import fixing
    from relay.money import parse_rate

    if bool(day) is bool(rate):
        raise Malformed("give --date or --rate, one of them")
    if rule.mode is not Mode.FIRM:
        if rate:
            raise Malformed(f"{rule.name} is a {rule.mode} policy: its rate is that of a --date")
        known = {one.day: one.rate for one in peer.rates(rule.name)}
        if day not in known:
            raise NotFound(
                Reason.RATE_NOT_FOUND,
                f"no rate of {day[:20]} is loaded for {rule.name}",
                hint=f"lianqiao settlement rates load {rule.name} --date {day[:20]}, at the relay",
            )
        return known[day], day
    if rate:
        return parse_rate(rate), ""
    found = fixing(rule.bill, rule.payable, day, rule.max_age_days)
    return found.rate, found.day


def quote_fields(quote: Quote) -> list[tuple[str, object]]:
    """A quote as people read it."""
    from relay.money import format_amount, format_rate

    rate, residue, bill, due = quote.rate, quote.residue, quote.bill, quote.payable
    return [
        ("bill", f"{format_amount(bill.amount, bill.currency)} {bill.currency}"),
        ("to pay", f"{format_amount(due.amount, due.currency)} {due.currency}"),
        (
            "rate",
            f"{format_rate(rate)} {due.currency} for 1 {bill.currency}"
            f" = {rate.numerator}/{rate.denominator} exactly",
        ),
        ("residue", f"{residue.numerator}/{residue.denominator} of a minor unit"),
        ("source", f"{quote.source} {quote.day}".strip()),
        ("quote", f"{quote.id} by {quote.maker}, policy {quote.policy}@{quote.version}"),
        ("good until", output.moment(quote.expires)),
    ]


def print_legs(instruction: Instruction) -> None:
    """Who pays whom on which ledger, and to whom a fee goes: what a signature lets be debited."""
    from relay.money import format_amount

    def fee(leg: Leg) -> str:
        if leg.fee is None:
            return "-"
        return f"{format_amount(leg.fee.amount, leg.currency)} to {leg.fee.account}"

    output.table(
        ("leg", "ledger", "from", "to", "amount", "fee"),
        [
            (
                leg.side.value,
                leg.ledger,
                leg.debtor,
                leg.creditor,
                f"{format_amount(leg.amount, leg.currency)} {leg.currency}",
                fee(leg),
            )
            for leg in instruction.legs
        ],
        "",
    )
