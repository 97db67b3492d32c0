"""Settlement through a relay: instruct; then list, show, position, and asking again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import bills, clearing, itemised, output, preparing, quoting, rates
from relay.cli.named import find
from relay.cli.options import Json, Node, node_at, read_file

if TYPE_CHECKING:
    from relay.money_views import Shown

app = typer.Typer(no_args_is_help=True)
app.command("quote")(quoting.quote)
app.command("sign-bill")(bills.sign_bill)
app.command("prepare")(preparing.prepare)
app.command("sign")(preparing.sign)
app.command("return")(preparing.give_back)
app.command("pause")(clearing.pause)
app.command("resume")(clearing.resume)
app.add_typer(clearing.window, name="window", help="Netting windows: open, cut off, list.")
app.add_typer(rates.app, name="rates", help="Rate policies, and what their sources publish.")

Settlement = Annotated[
    str, typer.Argument(metavar="SETTLEMENT", help="Its id in hex, or its UETR.")
]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="Each as `settlement sign` left it.")
]


@app.command()
def instruct(files: Files, node: Node, as_json: Json = False) -> None:
    """Hands signed instructions to a relay, which has every ledger lock, and decides.

    Several are one commit; each stands or falls by itself, and the command ends with 1 where one
    was refused. What was accepted before is answered as then.

    Example: lianqiao settlement instruct instruction.json --node 127.0.0.1:7000
    """
    from relay.contracts.payloads import SignedInstruction

    for file in files:
        preparing.check_signed(file)
    signed = [SignedInstruction.decode(read_file(f, preparing.MAX_FILE_BYTES)) for f in files]
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        if len(signed) == 1:
            shown = peer.instruct(signed[0])
            if as_json:
                output.print_json(_plain(shown))
                return
            _table([shown])
            output.say(f"lianqiao settlement show {shown.settlement.hex()} --node {node}")
            return
        results = [
            result
            for start in range(0, len(signed), MAX_AT_ONCE)
            for result in peer.instruct_each(signed[start : start + MAX_AT_ONCE])
        ]
    refused = [(f, r) for f, r in zip(files, results, strict=True) if r.shown is None]
    accepted = [r.shown for r in results if r.shown is not None]
    if as_json:
        told = [{"detail": r.detail, "file": f, "reason": r.reason} for f, r in refused]
        output.print_json({"refused": told, "settlements": [_plain(one) for one in accepted]})
    else:
        if accepted:
            _table(accepted)
        for file, result in refused:
            output.note(f"{result.reason}: {file}: {result.detail}")
        if refused:
            output.note(f"hint: {len(accepted)} accepted; relay/README.md explains every reason")
    if refused:
        raise typer.Exit(output.REFUSED)


MAX_AT_ONCE = 256
"""relay.service.settlement.MAX_INSTRUCTIONS, which start-up does without."""


# --- what became of it


@app.command("list")
def list_settlements(
    node: Node,
    open_only: Annotated[bool, typer.Option("--open", help="Only what is not closed.")] = False,
    as_json: Json = False,
) -> None:
    """Lists settlements and where each stands.

    Example: lianqiao settlement list --open --node 127.0.0.1:7000
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        found = [s for s in peer.settlements() if not (open_only and s.view.closed)]
    if as_json:
        output.print_json({"settlements": [_plain(one) for one in found]})
        return
    _table(found)


def _table(found: list[Shown]) -> None:
    from relay.money import format_amount

    def row(one: Shown) -> tuple[object, ...]:
        quote = one.view.signed.instruction.quote
        reason = one.view.decision.reason if one.view.decision else None
        return (
            output.short(one.settlement),
            one.view.status.value + (f" ({reason})" if reason else ""),
            f"{format_amount(quote.bill.amount, quote.bill.currency)} {quote.bill.currency}",
            f"{format_amount(quote.payable.amount, quote.payable.currency)} "
            f"{quote.payable.currency}",
            output.moment(one.view.accepted),
            output.moment(one.view.closed),
            one.view.signed.instruction.uetr,
        )

    output.table(
        ("settlement", "state", "bill", "paid", "accepted", "closed", "UETR"),
        [row(one) for one in sorted(found, key=lambda s: s.view.accepted)],
        "no settlements; lianqiao settlement instruct FILE begins one",
    )


def _plain(one: Shown) -> dict[str, Any]:
    view = one.view
    lines, quote = view.signed.instruction.itemised, view.signed.instruction.quote
    return {
        "accepted": view.accepted,
        "answers": [a.to_json() for a in view.answers],
        "closed": view.closed,
        "decision": None if view.decision is None else view.decision.to_json(),
        "done": [d.to_json() for d in view.done],
        "itemised": None if lines is None else itemised.as_json(lines, quote),
        "packets": output.plain(one.packets),
        "settlement": one.settlement.hex(),
        "signed": view.signed.to_json(),
        "state": view.status.value,
        "under": view.under.hex(),
        "uetr": view.signed.instruction.uetr,
    }


@app.command()
def show(settlement: Settlement, node: Node, as_json: Json = False) -> None:
    """What happened to it: every step with its time, where it is written, and how to prove it.

    Example: lianqiao settlement show 4f0c… --node 127.0.0.1:7000
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        one = find(peer, settlement)
        relay = peer.status().chain_id
    if as_json:
        output.print_json(_plain(one))
        return
    view, instruction = one.view, one.view.signed.instruction
    output.fields(
        [
            ("settlement", one.settlement.hex()),
            ("UETR", instruction.uetr),
            ("state", view.status.value),
            *([("gives back", instruction.returns)] if instruction.returns else []),
            *([("window", _window(one))] if instruction.window else []),
            ("bill (salted)", instruction.subject.hex() or "-"),
            *quoting.quote_fields(instruction.quote),
        ]
    )
    output.say()
    quoting.print_legs(instruction)
    if instruction.itemised is not None:
        done = _difference(one)
        itemised.print_lines("bill", instruction.itemised, instruction.quote, done)
    output.table(("step", "when", "where", "what", "proof"), _steps(one, relay), "")
    if not view.closed:
        _say_what_it_waits_for(one, node)


def _difference(one: Shown) -> str:
    """What to call the rounding difference, by what became of it."""
    from relay.contracts.quotes import itemised as itemised_of
    from relay.contracts.settlement import SettlementStatus as Status

    found = itemised_of(one.view.signed.instruction)
    if one.view.status is not Status.SETTLED or found is None or not found.difference:
        return "rounding difference"
    netted = one.view.signed.instruction.window
    return "rounding difference, netted" if netted else "rounding difference, posted"


def _window(one: Shown) -> str:
    instruction = one.view.signed.instruction
    name = f"{instruction.window}, deadline {output.moment(instruction.deadline)}"
    if one.view.under == one.settlement:
        return name
    return f"{name}; settles with it under {one.view.under.hex()}"


def _say_what_it_waits_for(one: Shown, node: str) -> None:
    """Of an open settlement: which ledger has not answered, and what an operator can do."""
    from relay.contracts.settlement import SettlementStatus as Status

    view, instruction = one.view, one.view.signed.instruction
    if view.status is Status.WINDOW:
        output.say(f"it waits for the cut-off of window {instruction.window}")
        return
    answered = view.answers if view.status is Status.LOCKING else view.done
    missing = set(instruction.ledgers) - {a.ledger for a in answered}
    output.say(f"it waits for {', '.join(sorted(missing)) or 'the rest of its window'}")
    again = f"lianqiao settlement retry {one.settlement.hex()} --node {node}"
    output.say(f"where that ledger is up and has answered (packets trace): {again}")


def _steps(one: Shown, relay: str) -> list[tuple[object, ...]]:
    """Every step in order of time, with the record of it."""
    view, name = one.view, one.view.under.hex()
    packets = {p.ledger: f"packets trace {p.client_id}/{p.sequence}/out" for p in one.packets}
    steps: list[tuple[int, str, str, str, str]] = [
        (view.accepted, "accepted", relay, f"signed by {len(view.signed.signatures)} debtors",
         f"instruction/{one.settlement.hex()}")
    ]  # fmt: skip
    for answer in view.answers:
        what = "everything is locked" if answer.accepted else f"refused: {answer.reason}"
        steps.append((answer.time, "lock", answer.ledger, what, packets.get(answer.ledger, "-")))
    if view.decision is not None:
        reason = f", {view.decision.reason}" if view.decision.reason else ""
        what = f"{view.decision.ruling.value}{reason}"
        steps.append((view.decision.decided, "decision", relay, what, f"decision/{name}"))
    for done in view.done:
        steps.append(
            (done.time, "done", done.ledger, done.ended.value, f"done/{name}/{done.ledger}")
        )
    if view.closed:
        steps.append((view.closed, "closed", relay, "proven on every ledger", f"closed/{name}"))
    return [(s[1], output.moment(s[0]), *s[2:]) for s in steps]


@app.command()
def retry(settlement: Settlement, node: Node, as_json: Json = False) -> None:
    """Asks again for what is missing of a settlement that does not move on: locks, or its end.

    For an answer that came and was not taken, by a fault or a mistake; a ledger that is away
    answers by itself when it is back. Safe at any time: nothing is locked or moved twice.

    Example: lianqiao settlement retry 4f0c9a1e-6a51-4c4e-9d0c-6a1f4b1c7d11 --node 127.0.0.1:7000
    """
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        one = find(peer, settlement)
        done = peer.retry(one.settlement)
    if as_json:
        output.print_json(done)
        return
    output.table(
        ("asked to lock again", "packet"),
        [(p.ledger, f"{p.client_id}/{p.sequence}/out") for p in done.packets],
        f"told the decision again: {done.told} ledgers",
    )
    output.say(f"lianqiao settlement show {one.settlement.hex()} --node {node}")


@app.command()
def position(node: Node, as_json: Json = False) -> None:
    """What each account has paid and been paid through a relay, and what is still open.

    Example: lianqiao settlement position --node 127.0.0.1:7000
    """
    from relay.money import format_amount

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        totals = positions(list(peer.settlements()))
    rows = [
        {"ledger": k[0], "account": k[1], "currency": k[2], "in": v[0], "out": v[1], "open": v[2]}
        for k, v in sorted(totals.items())
    ]
    if as_json:
        output.print_json({"positions": rows})
        return
    output.table(
        ("ledger", "account", "currency", "in", "out", "net", "open"),
        [
            (
                r["ledger"], r["account"], r["currency"],
                format_amount(int(str(r["in"])), str(r["currency"])),
                format_amount(int(str(r["out"])), str(r["currency"])),
                format_amount(int(str(r["in"])) - int(str(r["out"])), str(r["currency"])),
                format_amount(int(str(r["open"])), str(r["currency"])),
            )
            for r in rows
        ],
        "no settlements",
    )  # fmt: skip


def positions(found: list[Shown]) -> dict[tuple[str, str, str], list[int]]:
    """[paid in, paid out, still open as net] in minor units by (ledger, account, currency)."""
    from relay.contracts.settlement import SettlementStatus as Status

    totals: dict[tuple[str, str, str], list[int]] = {}

    def add(ledger: str, account: str, currency: str, place: int, amount: int) -> None:
        totals.setdefault((ledger, account, currency), [0, 0, 0])[place] += amount

    for one in found:
        status = one.view.status
        if status in (Status.ABORTED, Status.RETURNED):
            continue
        settled = status is Status.SETTLED
        for leg in one.view.signed.instruction.legs:
            moves = [(leg.creditor, leg.amount)]
            moves += [(leg.fee.account, leg.fee.amount)] if leg.fee else []
            for account, amount in moves:
                add(leg.ledger, account, leg.currency, 0 if settled else 2, amount)
            place, sign = (1, 1) if settled else (2, -1)
            add(leg.ledger, leg.debtor, leg.currency, place, sign * leg.total)
    return totals
