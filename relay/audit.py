"""Asks the contracts of a node whether their own records agree with themselves; part of `fsck`.

What `fsck` proves of every contract alike is that its records are on the journal and its packets
were proven. Whether books add up is known to their contract alone (relay.contract.Audited).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from relay.contract import Audited, Contract
from relay.host import last_record, scan_records
from relay.paths import record_path
from relay.store import Transaction


class Records:
    """The records of one port, read from the journal: relay.contract.Reader."""

    def __init__(self, reading: Callable[[], Transaction], port: str) -> None:
        """`reading` gives a new transaction each time: one remembers what it has read, and a whole
        journal is too much to remember."""
        self._reading = reading
        self._port = port

    def get(self, key: bytes) -> bytes | None:
        """See relay.contract.State."""
        return self._reading().get(record_path(self._port, key))

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """See relay.contract.State."""
        return scan_records(self._reading(), self._port, prefix, after, limit)

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """See relay.contract.State."""
        return last_record(self._reading(), self._port, prefix)


def audited(
    reading: Callable[[], Transaction], contracts: Mapping[str, Contract]
) -> dict[str, Audited]:
    """Every contract that has written here and can be asked, by its port."""
    return {
        port: contract
        for port, contract in sorted(contracts.items())
        if isinstance(contract, Audited) and Records(reading, port).scan(b"", limit=1)
    }


def audit(
    reading: Callable[[], Transaction], contracts: Mapping[str, Contract], chain_id: str
) -> Iterator[tuple[str, str]]:
    """(port, what is wrong) of each of them."""
    for port, contract in audited(reading, contracts).items():
        for detail in contract.audit(Records(reading, port), chain_id):
            yield port, detail
