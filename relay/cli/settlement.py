"""Settlement through a relay: quote, prepare, sign, instruct; then list, show, position."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import clearing, output
from relay.cli.options import Json, Node, node_at, read_file, write_file
from relay.errors import Malformed, NotFound, Reason

if TYPE_CHECKING:
    from relay.client import NodeClient
    from relay.contracts.payloads import Instruction
    from relay.contracts.settlement import RatePolicy
    from relay.money import Rate
    from relay.money_views import Shown

app = typer.Typer(no_args_is_help=True)
app.command("pause")(clearing.pause)
app.command("resume")(clearing.resume)
app.add_typer(clearing.window, name="window", help="Netting windows: open, cut off, list.")
app.add_typer(clearing.rates, name="rates", help="Rate policies and what they hold to.")

Settlement = Annotated[
    str, typer.Argument(metavar="SETTLEMENT", help="Its id in hex, or its UETR.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="As `settlement prepare` wrote it.")]
OutputFile = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to.")]
MAX_FILE_BYTES = 256 * 1024


# --- before it is instructed


@app.command()
def quote(
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="Of the bill, such as 1180.00.")],
    currency: Annotated[str, typer.Argument(metavar="CURRENCY", help="Of the bill, such as CNY.")],
    policy: Annotated[str, typer.Option("--policy", metavar="NAME", help="Rate policy in force.")],
    maker: Annotated[str, typer.Option("--maker", metavar="ID", help="Who quotes.")],
    file: OutputFile,
    node: Node,
    day: Annotated[
        str, typer.Option("--date", metavar="YYYY-MM-DD", help="ECB fixing of that day.")
    ] = "",
    rate: Annotated[
        str, typer.Option("--rate", metavar="DECIMAL", help="A firm rate, instead of --date.")
    ] = "",
    seconds: Annotated[
        int, typer.Option("--for", min=1, max=86_400, help="Good for seconds.")
    ] = 120,
    as_json: Json = False,
) -> None:
    """Makes a quote under a relay's rate policy: exact rate, one rounding, residue kept.

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
        rule = _policy(peer, policy)
    chosen, of = _rate(rule, day, rate)
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
    output.fields(_quote_fields(made))
    output.note(f"wrote {file}")


def _policy(peer: NodeClient, name: str) -> RatePolicy:
    found = [p for p in peer.rate_policies() if p.name == name]
    if not found:
        raise NotFound(
            Reason.POLICY_NOT_FOUND,
            f"no rate policy {name[:64]!r}",
            hint="lianqiao settlement rates policies lists them",
        )
    return found[-1]


def _rate(rule: RatePolicy, day: str, rate: str) -> tuple[Rate, str]:
    from relay.fixings import fixing
    from relay.money import parse_rate

    if bool(day) is bool(rate):
        raise Malformed("give --date or --rate, one of them")
    if rate:
        return parse_rate(rate), ""
    found = fixing(rule.bill, rule.payable, day, rule.max_age_days)
    return found.rate, found.day


def _quote_fields(quote: Any) -> list[tuple[str, object]]:
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


@app.command()
def prepare(
    quote: Annotated[Path, typer.Argument(metavar="QUOTE", help="As `settlement quote` wrote it.")],
    relay: Annotated[str, typer.Option("--relay", metavar="CHAIN", help="The relay's chain id.")],
    payer: Annotated[str, typer.Option("--payer", metavar="LEDGER/ACCOUNT", help="Pays.")],
    maker_in: Annotated[
        str, typer.Option("--maker-in", metavar="LEDGER/ACCOUNT", help="Where the maker is paid.")
    ],
    maker_out: Annotated[
        str, typer.Option("--maker-out", metavar="LEDGER/ACCOUNT", help="Where the maker pays.")
    ],
    payee: Annotated[str, typer.Option("--payee", metavar="LEDGER/ACCOUNT", help="Is paid.")],
    file: OutputFile,
    bill: Annotated[
        Path | None,
        typer.Option(
            "--bill", metavar="FILE", help="The ClaimResponse; its salt is kept in FILE.salt."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Makes the one instruction that every debtor signs; of a bill only a salted hash is in it.

    Example: lianqiao settlement prepare quote.json --relay hub --payer hk-money/insurer
    --maker-in hk-money/maker-hkd --maker-out sz-money/maker-cny --payee sz-money/hospital
    --bill bill.json -o instruction.json
    """
    import os

    from relay.canonical import decode
    from relay.contracts.payloads import Quote
    from relay.settling import Party, make_instruction, uuid4_of

    offer = Quote.from_json(decode(read_file(quote, MAX_FILE_BYTES)))
    subject = b"" if bill is None else _subject(bill, offer)
    made = make_instruction(
        offer,
        relay=relay,
        payer=Party.parse(payer),
        maker_in=Party.parse(maker_in),
        maker_out=Party.parse(maker_out),
        payee=Party.parse(payee),
        settlement=os.urandom(32),
        uetr=uuid4_of(os.urandom(16)),
        subject=subject,
    )
    _write_draft(file, {"cosignatures": [], "instruction": made.to_json(), "signatures": []})
    if as_json:
        output.print_json({"instruction": made.to_json()})
        return
    output.say(f"settlement {made.settlement.hex()}")
    output.say(f"UETR {made.uetr}")
    for ledger, account in made.debtors:
        output.say(
            f"to be signed: lianqiao settlement sign {file} --as {ledger}/{account} --key KEY"
        )


def _subject(bill: Path, offer: Any) -> bytes:
    import os

    from relay.errors import Invalid
    from relay.record.bill import MAX_BILL_BYTES, subject, take_bill

    raw = read_file(bill, MAX_BILL_BYTES)
    found = take_bill(raw, str(bill))
    if (found.currency, found.amount) != (offer.bill.currency, offer.bill.amount):
        raise Invalid(Reason.BILL_INVALID, "the quote is for another amount than the bill's")
    salt = os.urandom(32)
    write_file(bill.with_name(bill.name + ".salt"), salt.hex().encode(), private=True)
    return subject(raw, salt)


def _write_draft(path: Path, value: Any) -> None:
    from relay.canonical import encode

    write_file(path, encode(value))


def _read_draft(path: Path) -> tuple[dict[str, Any], Instruction]:
    from relay.contracts.payloads import Instruction, fields

    body = fields.members(
        fields.document(read_file(path, MAX_FILE_BYTES)),
        fields.names("instruction signatures cosignatures"),
        "instruction file",
    )
    return body, Instruction.from_json(body["instruction"])


@app.command()
def sign(
    file: File,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Your key (PEM).")],
    as_account: Annotated[
        str, typer.Option("--as", metavar="LEDGER/ACCOUNT", help="The debtor that you sign for.")
    ] = "",
    officer: Annotated[
        str, typer.Option("--officer", metavar="ID", help="Co-sign as this second officer.")
    ] = "",
    regulator: Annotated[
        str, typer.Option("--regulator", metavar="ID", help="Co-sign as this regulator.")
    ] = "",
) -> None:
    """Adds a signature or a co-signature to an instruction file. Look at it first.

    Example: lianqiao settlement sign instruction.json --as hk-money/insurer --key insurer.pem
    """
    from relay.contracts.payloads import OfficerRole
    from relay.keys import SigningKey
    from relay.settling import Party, cosign, sign_part

    if sum(map(bool, (as_account, officer, regulator))) != 1:
        raise Malformed("say one of --as, --officer or --regulator")
    body, instruction = _read_draft(file)
    signer = SigningKey.load(key)
    if as_account:
        party = Party.parse(as_account)
        if (party.ledger, party.account) not in instruction.debtors:
            raise Malformed(f"{as_account} pays nothing in this instruction")
        made: Any = sign_part(instruction, party.ledger, party.account, signer).to_json()
        _put(body["signatures"], made, ("ledger", "account"))
    else:
        role = OfficerRole.OFFICER if officer else OfficerRole.REGULATOR
        made = cosign(instruction, role, officer or regulator, signer).to_json()
        _put(body["cosignatures"], made, ("role", "officer"))
    _write_draft(file, body)
    for name, value in _quote_fields(instruction.quote):
        output.say(f"{name}: {value}")
    output.note(f"signed {file}")


def _put(signatures: list[Any], made: Any, names: tuple[str, str]) -> None:
    def place(one: Any) -> tuple[str, str]:
        return one[names[0]], one[names[1]]

    signatures[:] = sorted([*(s for s in signatures if place(s) != place(made)), made], key=place)


@app.command()
def instruct(file: File, node: Node, as_json: Json = False) -> None:
    """Hands a signed instruction to a relay, which has every ledger lock, and decides.

    Example: lianqiao settlement instruct instruction.json --node 127.0.0.1:7000
    """
    from relay.contracts.payloads import SignedInstruction

    signed = SignedInstruction.decode(read_file(file, MAX_FILE_BYTES))
    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        shown = peer.instruct(signed)
    if as_json:
        output.print_json(_plain(shown))
        return
    _table([shown])
    output.say(f"lianqiao settlement show {shown.settlement.hex()} --node {node}")


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
    return {
        "accepted": view.accepted,
        "answers": [a.to_json() for a in view.answers],
        "closed": view.closed,
        "decision": None if view.decision is None else view.decision.to_json(),
        "done": [d.to_json() for d in view.done],
        "packets": output.plain(one.packets),
        "settlement": one.settlement.hex(),
        "signed": view.signed.to_json(),
        "state": view.status.value,
        "under": view.under.hex(),
        "uetr": view.signed.instruction.uetr,
    }


def find(peer: NodeClient, name: str) -> Shown:
    """A settlement by its id in hex or its UETR. Raises Malformed, NotFound(NOT_FOUND)."""
    if "-" in name:
        return peer.settlement(uetr=name)
    try:
        return peer.settlement(bytes.fromhex(name))
    except ValueError:
        raise Malformed(
            f"{name[:80]!r} is no settlement", hint="give its id in hex, or its UETR"
        ) from None


@app.command()
def show(settlement: Settlement, node: Node, as_json: Json = False) -> None:
    """What happened to it: every step with its time, where it is written, and how to prove it.

    Example: lianqiao settlement show 4f0c… --node 127.0.0.1:7000
    """
    from relay.money import format_amount

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
            ("bill (salted)", instruction.subject.hex() or "-"),
            *_quote_fields(instruction.quote),
        ]
    )
    output.say()
    output.table(
        ("leg", "ledger", "from", "to", "amount", "fee"),
        [
            (
                leg.side.value,
                leg.ledger,
                leg.debtor,
                leg.creditor,
                f"{format_amount(leg.amount, leg.currency)} {leg.currency}",
                format_amount(leg.fee.amount, leg.currency) if leg.fee else "-",
            )
            for leg in instruction.legs
        ],
        "",
    )
    output.table(("step", "when", "where", "what", "proof"), _steps(one, relay), "")


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
