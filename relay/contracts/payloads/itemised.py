"""The lines of a bill in an instruction: what makes the rounding difference anybody's to compute.

Amounts and nothing else, in the order of the bill: neither what was done nor for whom. An
instruction without them has no such member, and its bytes are what they always were. That lines and
adjustment come to the quote's bill is the contracts' to check (relay.contracts.quotes).
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.canonical import Json
from relay.contracts.payloads import fields
from relay.money import MAX_AMOUNT

MAX_LINES = 1000


@dataclass(frozen=True, slots=True)
class BillLines:
    """An itemised bill: the sum of `lines` less `adjustment` is billed. Minor units."""

    adjustment: int
    lines: tuple[int, ...]
    """Benefit of each line; 0 where it was denied."""

    def to_json(self) -> dict[str, Json]:
        """The members of the payload."""
        return {"adjustment": self.adjustment, "lines": list(self.lines)}

    @classmethod
    def from_json(cls, value: Json) -> BillLines:
        """Raises Malformed."""
        body = fields.members(value, ("adjustment", "lines"), "itemised")

        def line(amount: Json) -> int:
            return fields.integer({"lines": amount}, "lines", 0, MAX_AMOUNT)

        return cls(
            fields.integer(body, "adjustment", 0, MAX_AMOUNT),
            fields.sequence(body, "lines", line, MAX_LINES, low=1),
        )
