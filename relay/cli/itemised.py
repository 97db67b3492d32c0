"""The lines of a bill in what is paid: what is shown before it is signed, and what was posted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.cli import output
from relay.errors import Invalid, Reason

if TYPE_CHECKING:
    from relay.contracts.payloads import BillLines, Quote
    from relay.record.bill import Bill


def lines_of(bill: Bill) -> BillLines | None:
    """What of a bill goes into an instruction: the amounts of its lines; None where it has none.

    Raises Invalid(LIMIT_EXCEEDED) for more lines than an instruction takes.
    """
    from relay.contracts.payloads import BillLines
    from relay.contracts.payloads.itemised import MAX_LINES

    if len(bill.lines) > MAX_LINES:
        raise Invalid(
            Reason.LIMIT_EXCEEDED,
            f"the bill has {len(bill.lines)} lines, and an instruction takes {MAX_LINES}",
            hint="--total-only settles the total without them",
        )
    return BillLines(bill.adjustment, bill.lines) if bill.lines else None


def as_json(lines: BillLines, quote: Quote) -> dict[str, object]:
    """total = sum of lines - adjustment + difference, minor units of what is paid."""
    from relay.contracts.quotes import convert_lines

    found = convert_lines(lines, quote)
    return {
        "adjustment": {"bill": lines.adjustment, "payable": found.less},
        "difference": found.difference,
        "lines": [
            {"bill": of, "payable": to} for of, to in zip(lines.lines, found.lines, strict=True)
        ],
        "total": {"bill": quote.bill.amount, "payable": found.total},
    }


def print_lines(title: str, lines: BillLines, quote: Quote, difference: str) -> None:
    """Line by line, each rounded by itself, and the difference to what is payable."""
    from relay.contracts.quotes import convert_lines
    from relay.money import format_amount

    code, other = quote.payable.currency, quote.bill.currency
    found = convert_lines(lines, quote)

    def pair(of: int, to: int) -> tuple[str, str]:
        return format_amount(of, other), format_amount(to, code)

    rows = [
        (f"line {n}", *pair(of, to))
        for n, (of, to) in enumerate(zip(lines.lines, found.lines, strict=True), 1)
    ]
    if lines.adjustment:
        rows.append(("adjustment", *pair(-lines.adjustment, -found.less)))
    rows.append((difference, "", format_amount(found.difference, code)))
    rows.append(("payable", *pair(quote.bill.amount, found.total)))
    output.table((title, other, code), rows, "")
