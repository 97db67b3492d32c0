"""What an instruction must satisfy whoever looks at it: amounts, sides, lines, maker, expiry.

Pure arithmetic over the instruction alone, done by the relay and by each ledger again, so that no
ledger takes a relay's word for an amount.
"""

from __future__ import annotations

from relay.contracts.payloads import BillLines, Instruction, Leg, Quote, Side
from relay.errors import Invalid, Reason, Refused
from relay.money import MAX_AMOUNT, Converted, Itemised, check_conversion, check_rounding, itemise


def check_amounts(instruction: Instruction) -> None:
    """Checks that both amounts follow from the rate by the rounding rule, and legs from both.

    Raises Invalid: UNSUPPORTED_VERSION for another rounding rule, RATE_INVALID, AMOUNT_INVALID,
    CURRENCY_MISMATCH.
    """
    quote = instruction.quote
    check_rounding(instruction.rounding)
    check_conversion(
        quote.bill.amount,
        quote.bill.currency,
        quote.payable.currency,
        quote.rate,
        Converted(quote.payable.amount, quote.residue),
    )
    for side, due in ((Side.BILL, quote.bill), (Side.PAY, quote.payable)):
        legs = [leg for leg in instruction.legs if leg.side is side]
        if any(leg.currency != due.currency for leg in legs):
            raise Invalid(
                Reason.CURRENCY_MISMATCH, f"a {side} leg is not in {due.currency}", side=side
            )
        if sum(leg.amount for leg in legs) != due.amount:
            raise Invalid(
                Reason.AMOUNT_INVALID,
                f"the {side} legs do not add up to the quote's amount",
                side=side,
                due=due.amount,
            )
    _check_itemised(instruction)


def itemised(instruction: Instruction) -> Itemised | None:
    """The lines of an itemised bill in what is paid, each rounded by itself at the quote's rate,
    and the difference to what is payable; None where no lines were signed.

    Raises Invalid(AMOUNT_INVALID).
    """
    bill = instruction.itemised
    return None if bill is None else convert_lines(bill, instruction.quote)


def convert_lines(bill: BillLines, quote: Quote) -> Itemised:
    """Lines at a quote's rate. Raises Invalid(AMOUNT_INVALID)."""
    return itemise(
        bill.lines,
        quote.bill.currency,
        quote.payable.currency,
        quote.rate,
        less=bill.adjustment,
    )


def _check_itemised(instruction: Instruction) -> None:
    """Checks that signed lines are those of the bill, and leave something to post.

    One leg pays, since the lines are one payer's. Raises Invalid(AMOUNT_INVALID).
    """
    bill = instruction.itemised
    if bill is None:
        return
    if sum(bill.lines) - bill.adjustment != instruction.quote.bill.amount:
        raise Invalid(
            Reason.AMOUNT_INVALID,
            "lines and adjustment do not come to the quote's bill",
            due=instruction.quote.bill.amount,
        )
    if sum(leg.side is Side.PAY for leg in instruction.legs) != 1:
        raise Invalid(Reason.AMOUNT_INVALID, "an itemised bill is paid by one leg")
    found = convert_lines(bill, instruction.quote)
    if not 1 <= found.summed <= MAX_AMOUNT:
        raise Invalid(
            Reason.AMOUNT_INVALID,
            "lines that come to no amount when each is rounded",
            hint="sign the total alone",
        )


def check_unexpired(instruction: Instruction, now: int) -> None:
    """Raises Refused(QUOTE_EXPIRED) where now is the quote's expiry or later."""
    if now >= instruction.quote.expires:
        raise Refused(
            Reason.QUOTE_EXPIRED,
            "the quote has expired",
            now=now,
            expires=instruction.quote.expires,
        )


def maker_account(instruction: Instruction, leg: Leg) -> str:
    """Which account of a leg is the maker's: who is paid on the pay side, who pays the bill.

    In a return it is the other way round.
    """
    pays = (leg.side is Side.BILL) is (instruction.returns == "")
    return leg.debtor if pays else leg.creditor


def check_maker(instruction: Instruction, leg: Leg, owner: str) -> None:
    """Checks the owner of `maker_account`. Raises Refused(QUOTE_FOREIGN)."""
    if owner != instruction.quote.maker:
        raise Refused(
            Reason.QUOTE_FOREIGN,
            "the quote is of a maker who owns no account of this leg",
            maker=instruction.quote.maker,
            owner=owner,
        )
