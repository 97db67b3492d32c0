"""The steps of an endpoint out of the chain's logs, in order; of old ones only where they are.

The endpoint numbers its steps from 1, so of each only the block is kept: eight bytes. The youngest
are kept whole, up to KEPT_BYTES; older ones are asked for again, of the blocks that hold them. So
what applications send, who may send much and for nothing on many of these chains, fills no memory.
A question that is too much for one answer is asked for fewer blocks.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

from adapters.evm import calls
from adapters.evm.rpc import Rpc
from relay.chain import PacketStep
from relay.errors import Malformed, Unavailable
from relay.steps import item_bytes, item_of

LOG_BLOCKS = 2_000
"""Blocks in one question for logs, at most."""
KEPT, KEPT_BYTES = 5_000, 32 * 1024 * 1024
"""Steps that are kept whole, and about how many bytes of them."""


class Span:
    """How many blocks one question is for: fewer after one that was too much for an answer."""

    def __init__(self, most: int = LOG_BLOCKS) -> None:
        self._most = self._now = most

    def end(self, first: int, last: int) -> int:
        """The last block of a question that begins with `first`."""
        return min(last, first + self._now - 1)

    def shrink(self, error: Malformed) -> None:
        """The question failed. Raises `error` where it was for one block."""
        if self._now == 1:
            raise error
        self._now = max(1, self._now // 4)

    def grow(self) -> None:
        """The question was answered."""
        self._now = min(self._most, 2 * self._now)


class StepLog:
    """What was read of one endpoint. Used by one thread at a time."""

    def __init__(self, rpc: Rpc, endpoint: bytes, first: int, count: Callable[[int], int]) -> None:
        """`first`: the block that the endpoint is in; `count` says how many steps it had at one."""
        self._rpc = rpc
        self._address = "0x" + endpoint.hex()
        self._first, self._read_to = first, first - 1
        self._count = count
        self._span = Span()
        self._blocks = array("Q")
        """Of each step the block, in order of cursors."""
        self._kept: list[PacketStep] = []
        """The youngest of them."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._blocks)

    def read(self, head: int) -> None:
        """Reads on to block `head`. Raises Malformed, Unavailable where a step is missing."""
        while self._read_to < head:
            first, last = max(self._read_to + 1, 0), self._span.end(self._read_to + 1, head)
            try:
                found = self._ask(first, last)
            except Malformed as error:
                self._span.shrink(error)
                continue
            due = len(self) + len(found)
            if [step.cursor for step in found] != list(range(len(self) + 1, due + 1)):
                raise self._unlike("left out steps of the endpoint")
            if any(not first <= step.height <= last for step in found):
                raise self._unlike("shows logs of blocks that were not asked for")
            if self._count(last) != due:
                raise self._unlike("left out the newest steps of the endpoint")
            self._keep(found)
            self._read_to = last
            self._span.grow()

    def after(self, cursor: int, limit: int) -> list[PacketStep]:
        """Up to `limit` of the steps that were read, with greater cursors; one at least, where
        there is one. Raises as `read`."""
        end = min(cursor + limit, len(self))
        kept_from = len(self) - len(self._kept)
        if cursor >= kept_from:
            return self._kept[cursor - kept_from : end - kept_from]
        while True:
            first = self._blocks[cursor]
            last = self._span.end(first, self._blocks[end - 1])
            try:
                found = self._ask(first, last)
            except Malformed as error:
                self._span.shrink(error)
                continue
            found = [step for step in found if cursor < step.cursor <= end]
            shown = [(step.cursor, step.height) for step in found]
            due = [(at + 1, self._blocks[at]) for at in range(cursor, cursor + max(len(found), 1))]
            if shown != due:
                raise self._unlike("left out steps of the endpoint that it had shown")
            self._span.grow()
            return found

    def _ask(self, first: int, last: int) -> list[PacketStep]:
        asked = {
            "address": self._address,
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": [calls.STEP_TOPICS],
        }
        return calls.read_steps(self._rpc.ask("eth_getLogs", [asked]))

    def _keep(self, found: list[PacketStep]) -> None:
        self._blocks.extend(step.height for step in found)
        self._kept += found
        self._bytes += sum(map(_size, found))
        drop = 0
        while len(self._kept) - drop > KEPT or self._bytes > KEPT_BYTES:
            self._bytes -= _size(self._kept[drop])
            drop += 1
        del self._kept[:drop]

    def _unlike(self, why: str) -> Unavailable:
        """The nodes tell different things, and who has invented a step is not known: everything is
        read again, of the next one."""
        self._read_to, self._bytes, self._kept, self._blocks = self._first - 1, 0, [], array("Q")
        return self._rpc.distrust(why)


def _size(step: PacketStep) -> int:
    return item_bytes(item_of(step))
