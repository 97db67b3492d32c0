"""What one contract has written, by key, as its node's journal tells it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field

ESCROW, SETTLEMENT = "escrow", "settlement"
PORTS = (ESCROW, SETTLEMENT)


@dataclass(slots=True)
class Records:
    """A relay.contract.Reader, filled from outside."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    fresh: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    """(key, value, time of the entry) since they were taken last."""
    _keys: list[bytes] = field(default_factory=list)

    def add(self, key: bytes, value: bytes, time: int) -> None:
        """One record more; the journal has each key once."""
        self.values[key] = value
        self.fresh.append((key, value, time))
        insort(self._keys, key)

    def take(self) -> list[tuple[bytes, bytes, int]]:
        """What is new."""
        fresh, self.fresh = self.fresh, []
        return fresh

    def get(self, key: bytes) -> bytes | None:
        """See relay.contract.Reader."""
        return self.values.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """See relay.contract.Reader."""
        start = bisect_left(self._keys, prefix)
        if after:
            start = max(start, bisect_right(self._keys, after))
        found = []
        for key in self._keys[start : start + limit]:
            if not key.startswith(prefix):
                break
            found.append((key, self.values[key]))
        return found

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """See relay.contract.Reader."""
        found = self._keys[bisect_left(self._keys, prefix + b"\xff") - 1 :][:1]
        if not found or not found[0].startswith(prefix):
            return None
        return found[0], self.values[found[0]]
