"""What is signed for a settlement: the one instruction, its signatures; and a return."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relay.cli import bills, itemised, output
from relay.cli.keys import load_key
from relay.cli.options import Json, Node, node_at, read_file, time_of, write_file
from relay.cli.quoting import print_legs, quote_fields
from relay.errors import Invalid, Malformed, Reason

if TYPE_CHECKING:
    from relay.contracts.payloads import Fee, Instruction, Quote

File = Annotated[Path, typer.Argument(metavar="FILE", help="As `settlement prepare` wrote it.")]
OutputFile = Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to.")]
MAX_FILE_BYTES = 256 * 1024


Payer = Annotated[str, typer.Option("--payer", metavar="LEDGER/ACCOUNT", help="Pays.")]
MakerIn = Annotated[
    str, typer.Option("--maker-in", metavar="LEDGER/ACCOUNT", help="Where the maker is paid.")
]
MakerOut = Annotated[
    str, typer.Option("--maker-out", metavar="LEDGER/ACCOUNT", help="Where the maker pays.")
]
Payee = Annotated[str, typer.Option("--payee", metavar="LEDGER/ACCOUNT", help="Is paid.")]
FeeOf = Annotated[
    str,
    typer.Option(
        "--fee", metavar="ACCOUNT=AMOUNT", help="The payer's, beside; such as hk-fees=12.00."
    ),
]
Window = Annotated[
    str, typer.Option("--window", metavar="NAME", help="Settles with this netting window.")
]
Deadline = Annotated[
    str, typer.Option("--deadline", metavar="TIME", help="The window's, instead of asking --node.")
]
TotalOnly = Annotated[
    bool,
    typer.Option(
        "--total-only",
        help="Leave the amounts of the bill's lines out of what lies on ledgers.",
    ),
]
RelayNode = Annotated[
    str,
    typer.Option(
        "--node", envvar="LIANQIAO_NODE", metavar="ADDRESS", help="The relay: for --window."
    ),
]


def prepare(
    quote: Annotated[Path, typer.Argument(metavar="QUOTE", help="As `settlement quote` wrote it.")],
    relay: Annotated[str, typer.Option("--relay", metavar="CHAIN", help="The relay's chain id.")],
    payer: Payer,
    maker_in: MakerIn,
    maker_out: MakerOut,
    payee: Payee,
    file: OutputFile,
    fee: FeeOf = "",
    window: Window = "",
    deadline: Deadline = "",
    node: RelayNode = "",
    bill: bills.BillFile = None,
    bill_signature: bills.SignatureFile = None,
    insurer_key: bills.InsurerKey = "",
    payer_node: bills.PayerNode = "",
    total_only: TotalOnly = False,
    as_json: Json = False,
) -> None:
    """Makes the one instruction that every debtor signs; of a bill its salted hash is in it and the
    amounts of its lines, whose rounding difference is posted by itself.

    A bill must be signed by the insurer: under --insurer-key, or a key of the payer's account as
    its ledger (--payer-node) has it. Into a netting window: --window 20261030 --node RELAY.

    Example: lianqiao settlement prepare quote.json --relay hub --payer hk-money/insurer
    --maker-in hk-money/maker-hkd --maker-out sz-money/maker-cny --payee sz-money/hospital
    --bill bill.json --payer-node 127.0.0.1:7001 --window 20261030 --node 127.0.0.1:7000
    -o instruction.json
    """
    import os

    from relay.canonical import decode
    from relay.contracts.payloads import Quote
    from relay.contracts.quotes import check_amounts
    from relay.settling import Party, make_instruction, uuid4_of

    offer, pays = Quote.from_json(decode(read_file(quote, MAX_FILE_BYTES))), Party.parse(payer)
    until = _deadline(window, deadline, node)
    taken = None
    if bill is not None:
        taken = bills.take(bill, bill_signature, insurer_key, payer_node, pays, offer)
    lines = None if taken is None or total_only else itemised.lines_of(taken.bill)
    made = make_instruction(
        offer,
        relay=relay,
        payer=pays,
        maker_in=Party.parse(maker_in),
        maker_out=Party.parse(maker_out),
        payee=Party.parse(payee),
        settlement=os.urandom(32),
        uetr=uuid4_of(os.urandom(16)),
        subject=b"" if taken is None else taken.subject,
        fee=_fee(fee, offer),
        window=window,
        deadline=until,
        itemised=lines,
    )
    check_amounts(made)
    _write_draft(file, {"cosignatures": [], "instruction": made.to_json(), "signatures": []})
    insurer = "" if taken is None else taken.insurer
    if as_json:
        told = None if lines is None else itemised.as_json(lines, offer)
        output.print_json({"instruction": made.to_json(), "insurer": insurer, "itemised": told})
        return
    if lines is not None:
        itemised.print_lines(f"bill, signed by {insurer}", lines, offer, "rounding difference")
    _print_made(made, file)


def _deadline(window: str, deadline: str, node: str) -> int:
    """The deadline of the window that is named; 0 without one. Raises Malformed, WINDOW_CLOSED."""
    if not window:
        if deadline:
            raise Malformed("--deadline belongs to --window: without one it is the quote's expiry")
        return 0
    if deadline:
        return time_of(deadline, "--deadline")
    if not node:
        raise Malformed(
            "the deadline of the window is not known",
            hint="give the relay's address by --node, or the deadline by --deadline",
        )
    with node_at(node) as peer:
        found = [w for w in peer.windows() if w.window == window and w.cut_off is None]
    if not found:
        raise Invalid(
            Reason.WINDOW_CLOSED,
            f"no window {window[:32]!r} is open",
            hint=f"lianqiao settlement window list --node {node}",
        )
    return found[0].deadline


def _fee(text: str, offer: Quote) -> Fee | None:
    """ACCOUNT=AMOUNT, in what is paid. Raises Malformed, Invalid(AMOUNT_INVALID)."""
    from relay.contracts.payloads import Fee
    from relay.money import parse_amount

    if not text:
        return None
    account, equals, amount = text.partition("=")
    if not (account and equals):
        raise Malformed(f"--fee: {text[:80]!r} is not ACCOUNT=AMOUNT", hint="such as hk-fees=12.00")
    return Fee(account, parse_amount(amount, offer.payable.currency))


def _print_made(made: Instruction, file: Path) -> None:
    output.say(f"settlement {made.settlement.hex()}")
    output.say(f"UETR {made.uetr}")
    if made.window:
        output.say(f"window {made.window}, deadline {output.moment(made.deadline)}")
    print_legs(made)
    _print_unsigned(made, set(), file)


def _print_unsigned(made: Instruction, signed: set[tuple[str, str]], file: Path) -> None:
    """Who must sign yet, and the command; then the one that comes after."""
    missing = [debtor for debtor in made.debtors if debtor not in signed]
    for ledger, account in missing:
        output.say(
            f"to be signed: lianqiao settlement sign {file} --as {ledger}/{account} --key KEY"
        )
    if not missing:
        output.say(f"signed by every debtor: lianqiao settlement instruct {file} --node RELAY")


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
    for name in ("signatures", "cosignatures"):
        if type(body[name]) is not list:
            fields.refuse(name, "must be an array")
    return body, Instruction.from_json(body["instruction"])


def check_signed(file: Path) -> None:
    """Raises Malformed, with the command, where a debtor has not signed an instruction file."""
    body, instruction = _read_draft(file)
    signed = {(s.get("ledger"), s.get("account")) for s in body["signatures"] if type(s) is dict}
    for ledger, account in instruction.debtors:
        if (ledger, account) not in signed:
            raise Malformed(
                f"{file}: {ledger}/{account} has not signed",
                hint=f"lianqiao settlement sign {file} --as {ledger}/{account} --key KEY",
            )


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
    as_json: Json = False,
) -> None:
    """Adds a signature or a co-signature to an instruction file. Look at it first.

    Example: lianqiao settlement sign instruction.json --as hk-money/insurer --key insurer.pem
    """
    from relay.contracts.payloads import OfficerRole
    from relay.settling import Party, cosign, sign_part

    if sum(map(bool, (as_account, officer, regulator))) != 1:
        raise Malformed("say one of --as, --officer or --regulator")
    body, instruction = _read_draft(file)
    signer = load_key(key)
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
    if as_json:
        output.print_json(body)
        return
    output.fields([("relay", instruction.relay), *quote_fields(instruction.quote)])
    print_legs(instruction)
    if instruction.itemised is not None:
        itemised.print_lines(
            "signed line by line", instruction.itemised, instruction.quote, "rounding difference"
        )
    _print_unsigned(instruction, {(s["ledger"], s["account"]) for s in body["signatures"]}, file)


def _put(signatures: list[Any], made: Any, names: tuple[str, str]) -> None:
    def place(one: Any) -> tuple[str, str]:
        return one[names[0]], one[names[1]]

    signatures[:] = sorted([*(s for s in signatures if place(s) != place(made)), made], key=place)


def give_back(
    settlement: Annotated[
        str, typer.Argument(metavar="SETTLEMENT", help="What is given back: its id, or its UETR.")
    ],
    file: OutputFile,
    node: Node,
    amount: Annotated[
        str, typer.Option("--amount", metavar="AMOUNT", help="Of the bill; all of it by default.")
    ] = "",
    seconds: Annotated[
        int, typer.Option("--for", min=1, max=86_400, help="Good for seconds.")
    ] = 600,
    as_json: Json = False,
) -> None:
    """Makes the instruction that gives a settlement back: the other way, at the rate of then.

    It cites the UETR of what it gives back (pacs.004); fees stay. Whoever was paid signs it, then
    it is instructed as any other.

    Example: lianqiao settlement return 4f0c9a1e-6a51-4c4e-9d0c-6a1f4b1c7d11 --amount 100.00
    -o return.json --node 127.0.0.1:7000
    """
    import os
    import time

    from relay.cli.named import find
    from relay.money import parse_amount
    from relay.settling import make_return, uuid4_of

    with node_at(node) as peer, output.working(f"asking {node}", quiet=as_json):
        first = find(peer, settlement).view.signed.instruction
    made = make_return(
        first,
        id=f"r-{os.urandom(8).hex()}",
        settlement=os.urandom(32),
        uetr=uuid4_of(os.urandom(16)),
        expires=int(time.time()) + seconds,
        bill=parse_amount(amount, first.quote.bill.currency) if amount else 0,
    )
    _write_draft(file, {"cosignatures": [], "instruction": made.to_json(), "signatures": []})
    if as_json:
        output.print_json({"instruction": made.to_json()})
        return
    output.say(f"gives back {first.uetr}")
    output.fields(quote_fields(made.quote))
    _print_made(made, file)
