"""Money as whole numbers: currencies, amounts, rates, rounding, allocation, netting.

Pure: no float, no Decimal, no clock, no file. Contracts use it, so that every node computes the
same. An amount is an int of minor units beside an ISO 4217 code and is never more than
`MAX_AMOUNT`. README.md states each rule with its source.
"""

from relay.money.allocate import Itemised, allocate, itemise
from relay.money.amount import MAX_AMOUNT, check_amount, format_amount, parse_amount
from relay.money.currency import TABLE, TABLE_VERSION, check_currency, exponent
from relay.money.netting import Obligation, Transfer, net, positions
from relay.money.rate import (
    EXACT,
    MAX_RATE,
    ROUNDING,
    Converted,
    Rate,
    Residue,
    check_conversion,
    check_rounding,
    convert,
    cross,
    format_rate,
    parse_rate,
    within_collar,
)

__all__ = [
    "EXACT",
    "MAX_AMOUNT",
    "MAX_RATE",
    "ROUNDING",
    "TABLE",
    "TABLE_VERSION",
    "Converted",
    "Itemised",
    "Obligation",
    "Rate",
    "Residue",
    "Transfer",
    "allocate",
    "check_amount",
    "check_conversion",
    "check_currency",
    "check_rounding",
    "convert",
    "cross",
    "exponent",
    "format_amount",
    "format_rate",
    "itemise",
    "net",
    "parse_amount",
    "parse_rate",
    "positions",
    "within_collar",
]
