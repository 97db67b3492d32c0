"""What the endpoint and the applications of an EVM ledger tell, in the order of the chain.

The endpoint numbers its steps, and the escrow hashes what was done to it into one word: a node of
the chain that leaves something out is noticed and asked last. What the registry alone tells (ends
of packets, records) is as complete as that node is honest: an institution asks a node of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapters.evm import calls
from adapters.evm.books.steps import EMPTY, BookStep
from adapters.evm.rpc import Rpc, decode_hex, decode_number
from relay.chain import PacketStep, Step
from relay.contracts.payloads import ESCROW_PORT, REGISTRY_PORT
from relay.errors import Malformed
from relay.packet import ERROR_ACKNOWLEDGEMENT

ANSWERED, LAPSED = calls.topic("Answered", "Registry"), calls.topic("Lapsed", "Registry")
RECORDED, ATTESTED = calls.topic("Recorded", "Registry"), calls.topic("Attested", "Registry")
CALLED = calls.topic("Called", "Escrow")
_TOPICS = [*calls.STEP_TOPICS, ANSWERED, LAPSED, RECORDED, CALLED]


@dataclass(frozen=True, slots=True)
class Answered:
    """A packet of the ledger was acknowledged."""

    sequence: int
    acknowledgement: bytes


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A packet of the ledger was proven never to have been received."""

    sequence: int
    again: int
    """The sequence under which the registry sent it again; 0 where it did not."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record that no packet carries."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Called:
    """A call that changed the books of the escrow."""

    by: bytes
    """The address that called."""
    data: bytes


Told = PacketStep | Answered | Lapsed | Recorded | Called


@dataclass(frozen=True, slots=True)
class Block:
    """One block's logs, in order."""

    number: int
    time: int
    """Seconds."""
    told: tuple[Told, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """How far the logs were read."""

    block: int
    steps: int = 0
    """Of the endpoint."""
    history: bytes = EMPTY
    """The escrow's word."""


class Logs:
    """The logs of one endpoint and its applications."""

    def __init__(
        self, rpc: Rpc, endpoint: bytes, registry: bytes, escrow: bytes | None = None
    ) -> None:
        self._rpc = rpc
        self._addresses = ["0x" + endpoint.hex(), "0x" + registry.hex()]
        self._endpoint, self._escrow = endpoint, escrow
        if escrow is not None:
            self._addresses.append("0x" + escrow.hex())

    def head(self) -> int:
        """The number of the newest block. Raises Unavailable."""
        return self._rpc.number("eth_blockNumber", [])

    def read(self, first: int, last: int, before: Place) -> tuple[list[Block], Place]:
        """The blocks from `first` to `last` in which something was told, those up to `before`
        having been read, and how far that is. Raises Malformed, Unavailable where one is
        missing."""
        asked = {
            "address": self._addresses,
            "fromBlock": hex(first),
            "toBlock": hex(last),
            "topics": [_TOPICS],
        }
        try:
            found = sorted(
                (decode_number(log["blockNumber"]), decode_number(log["logIndex"]), self._told(log))
                for log in self._rpc.ask("eth_getLogs", [asked])
                if isinstance(log, dict)
            )
        except (KeyError, TypeError, ValueError, IndexError) as err:
            raise Malformed("the node's logs have another form") from err
        if any(not first <= number <= last for number, *_ in found):
            raise self._rpc.distrust("shows logs of blocks that were not asked for")
        cursors = [told.cursor for *_, told in found if isinstance(told, PacketStep)]
        steps = before.steps + len(cursors)
        if cursors != list(range(before.steps + 1, steps + 1)):
            raise self._rpc.distrust("left out steps of the endpoint")
        if self._steps(last) != steps:
            raise self._rpc.distrust("left out the newest steps of the endpoint")
        numbers = sorted({number for number, *_ in found})
        blocks = [
            Block(n, self._time(n), tuple(told for number, _, told in found if number == n))
            for n in numbers
        ]
        return blocks, Place(last, steps, self._history(blocks, last, before.history))

    def _history(self, blocks: Sequence[Block], last: int, history: bytes) -> bytes:
        """The escrow's word at `last`. Raises Unavailable where the logs come to another."""
        if self._escrow is None:
            return history
        for block in blocks:
            for told in block.told:
                step = book_step(told, block.time, self._endpoint)
                history = history if step is None else step.after(history)
        done = self._rpc.call(self._escrow, calls.encode("history", [], "Escrow"), height=last)
        if done.reverted or len(done.data) not in (0, 32):
            raise self._rpc.distrust("has no escrow at that address")
        if (done.data or EMPTY) != history:  # it has no code yet
            error = self._rpc.distrust("left out something that was done to the escrow")
            error.hint = "where the setting `escrow` is new: lianqiao evm reread"
            raise error
        return history

    def _steps(self, height: int) -> int:
        done = self._rpc.call(self._endpoint, calls.encode("steps", []), height=height)
        if done.reverted or not done.data:
            raise self._rpc.distrust("has no endpoint at that address")
        return int(calls.decode("steps", done.data)[0])

    def _time(self, number: int) -> int:
        block = self._rpc.ask("eth_getBlockByNumber", [hex(number), False])
        return decode_number(block.get("timestamp") if isinstance(block, dict) else None)

    def _told(self, log: dict[str, Any]) -> Told:
        topics = log["topics"]
        if topics[0] in calls.STEP_TOPICS:
            if str(log["address"]).lower() != self._addresses[0]:
                raise Malformed("the node shows a step of another contract")
            return calls.read_step(log)
        data = decode_hex(log["data"], "log")
        if topics[0] == CALLED:
            if str(log["address"]).lower() != self._addresses[-1] or self._escrow is None:
                raise Malformed("the node shows a call of another contract")
            by = decode_hex(topics[2], "topic")[-20:]
            return Called(by, calls.decode_as(["bytes"], data)[0])
        if str(log["address"]).lower() != self._addresses[1]:
            raise Malformed("the node shows a log of another contract")
        if topics[0] == RECORDED:
            return Recorded(calls.decode_as(["bytes"], data)[0])
        sequence = decode_number(topics[1])
        if topics[0] == ANSWERED:
            return Answered(sequence, calls.decode_as(["bytes"], data)[0])
        if topics[0] == LAPSED:
            return Lapsed(sequence, calls.decode_as(["uint64"], data)[0])
        raise Malformed("the node shows logs that were not asked for")


def book_step(told: Told, time: int, endpoint: bytes) -> BookStep | None:
    """What was told as a step of the escrow's books; None where it is none."""
    if isinstance(told, Called):
        return BookStep(time, told.by, told.data)
    if not isinstance(told, PacketStep) or not is_of(told, ESCROW_PORT):
        return None
    if told.step is not Step.RECEIVE or told.acknowledgements[0] == ERROR_ACKNOWLEDGEMENT:
        return None  # what the application reverted has changed nothing
    return BookStep(time, endpoint, told.packet.payloads[0].value, told.acknowledgements[0])


def is_of(told: Told, port: str) -> bool:
    """Whether it is about the contract on `port`: an endpoint has others."""
    if isinstance(told, Called):
        return port == ESCROW_PORT
    if not isinstance(told, PacketStep):
        return port == REGISTRY_PORT
    payload = told.packet.payloads[0]
    return (payload.source_port if told.step is Step.SEND else payload.destination_port) == port


def sequences_of(receipts: Sequence[dict[str, Any]]) -> list[int]:
    """The sequences of what calls have posted, in order. Raises Malformed."""
    try:
        return [
            int(calls.decode_as(["uint64"], decode_hex(log["data"], "log"))[0])
            for receipt in receipts
            for log in receipt["logs"]
            if log["topics"][0] == ATTESTED
        ]
    except (KeyError, TypeError, IndexError) as err:
        raise Malformed("a receipt has another form") from err
