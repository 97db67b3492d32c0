"""What one contract has written, by key, as its node's journal tells it."""

from __future__ import annotations

from bisect import insort

from relay import books

ESCROW, SETTLEMENT = "escrow", "settlement"
PORTS = (ESCROW, SETTLEMENT)


class Records(books.Records):
    """A relay.contract.Reader, filled from outside."""

    def __init__(self) -> None:
        super().__init__({})
        self.fresh: list[tuple[bytes, bytes, int]] = []
        """(key, value, time of the entry) since they were taken last."""

    def add(self, key: bytes, value: bytes, time: int) -> None:
        """One record more; the journal has each key once."""
        self._records[key] = value
        self.fresh.append((key, value, time))
        insort(self._keys, key)

    def take(self) -> list[tuple[bytes, bytes, int]]:
        """What is new."""
        fresh, self.fresh = self.fresh, []
        return fresh
