"""Steps of an escrow on the chain, done again by the contract that every other ledger runs.

The chain is the ledger: what it refused is not done here, and what it did that this contract would
not is told as a difference and not written. There must be none. One is foreseen: the chain refuses
a lock with FUNDS_MISSING where its token holds less than is booked, of which nothing is known here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapters.evm.books.steps import BookStep, read_call
from adapters.evm.light.state import CLIENT_ID
from relay import canonical
from relay.contract import CONTRACT_FAILURES, Head, State
from relay.contracts.accounts import find_terms
from relay.contracts.escrow import QUIET, pay_out
from relay.contracts.payloads import (
    ENCODING,
    ESCROW_PORT,
    ESCROW_VERSION,
    SETTLEMENT_PORT,
    DecisionNotice,
    LockAnswer,
    decision_key,
    fields,
)
from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.packet import Packet, Payload
from relay.paths import record_path


def shown_with(step: BookStep) -> dict[bytes, bytes]:
    """The entries of the relay that were proven to the chain beside a step: it answers a decision
    only with its record, and takes nothing else with one."""
    try:
        decision = DecisionNotice.decode(step.data).decision
    except LianqiaoError:
        return {}
    return {record_path(SETTLEMENT_PORT, decision_key(decision.settlement)): decision.encode()}


@dataclass(frozen=True, slots=True)
class Difference:
    """What the chain did otherwise than this contract."""

    said: str
    foreseen: bool = False
    """The token held less than was booked: no fault of the books."""


def do(step: BookStep, state: State) -> Difference | None:
    """Does a step again on `state`. Where it is different here, nothing of it may stay: the caller
    undoes it. Raises nothing."""
    try:
        if step.answer is not None:
            return _receive(step, step.answer, state)
        _call(step, state)
    except CONTRACT_FAILURES as err:
        said = str(err.reason) if isinstance(err, LianqiaoError) else type(err).__name__
        return Difference(f"done on the chain, and refused here: {said}")
    return None


def _call(step: BookStep, state: State) -> None:
    call = read_call(step)
    if "reference" in call.body:
        terms = find_terms(state, fields.identifier(call.body, "account"))
        if terms is None:
            raise NotFound(Reason.ACCOUNT_NOT_FOUND, "no such account")
        call.body["currency"] = terms.currency
    body = canonical.encode(call.body)
    if call.method == "withdraw":
        pay_out(body, state, step.time)
    else:
        QUIET.call(call.method, body, state, step.time)


def _receive(step: BookStep, there: bytes, state: State) -> Difference | None:
    payload = Payload(SETTLEMENT_PORT, ESCROW_PORT, ESCROW_VERSION, ENCODING, step.data)
    packet = Packet(1, "of-the-relay", CLIENT_ID, 1, (payload,))
    here = QUIET.receive(packet, payload, state, step.time)
    if here == there:
        return None
    uncovered = _refused_for(there) is Reason.FUNDS_MISSING and b'"accepted":true' in here
    said = f"the chain answers {_said(there)}, this contract {_said(here)}"
    return Difference(said, foreseen=uncovered)


def _refused_for(answer: bytes) -> Reason | None:
    try:
        return LockAnswer.decode(answer).reason
    except Malformed:
        return None


def _said(answer: bytes) -> str:
    return answer[:200].decode("ascii", "replace")


def relay_of(data: bytes) -> str:
    """The relay that a packet's payload names: the chain takes it from no other."""
    try:
        return str(fields.document(data).get("relay", ""))
    except LianqiaoError:
        return ""


class Memory:
    """A contract's keys in memory, with a way back: `relay.contract.State` for what an escrow asks.

    It sends nothing and follows nobody."""

    def __init__(self, chain_id: str) -> None:
        self.chain_id = chain_id
        self.records: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        self._fresh: list[bytes] = []
        self._relay = ""
        self._proven: Mapping[bytes, bytes] = {}

    def begin(self, relay: str, proven: Mapping[bytes, bytes]) -> None:
        """A step begins: what comes from `relay`, with what was proven beside it."""
        self._relay, self._proven = relay, proven
        self._fresh = []

    def undo(self) -> None:
        """Takes back what was written since `begin`."""
        for key in self._fresh:
            del self.records[key]
            del self._keys[bisect_left(self._keys, key)]
        self._fresh = []

    def get(self, key: bytes) -> bytes | None:
        """See State."""
        return self.records.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes = b"", limit: int = 1000
    ) -> Sequence[tuple[bytes, bytes]]:
        """See State."""
        return list(self._scan(prefix, after, limit))

    def _scan(self, prefix: bytes, after: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        start = bisect_left(self._keys, prefix)
        if after:
            start = max(start, bisect_right(self._keys, after))
        for key in self._keys[start : start + limit]:
            if not key.startswith(prefix):
                return
            yield key, self.records[key]

    def last(self, prefix: bytes) -> tuple[bytes, bytes] | None:
        """See State."""
        place = bisect_left(self._keys, prefix + b"\xff") - 1
        if place < 0 or not self._keys[place].startswith(prefix):
            return None
        return self._keys[place], self.records[self._keys[place]]

    def put(self, key: bytes, value: bytes) -> None:
        """See State."""
        held = self.records.get(key)
        if held is None:
            self.records[key] = value
            insort(self._keys, key)
            self._fresh.append(key)
        elif held != value:
            raise Refused(Reason.PATH_WRITTEN, "another value is written there")

    def proven(self, path: bytes) -> bytes | None:
        """See State."""
        return self._proven.get(path)

    def head(self, client_id: str) -> Head:
        """See State: the chain has verified it, and is asked for nothing but its name."""
        return Head(client_id, self._relay, 0, 0, 0)

    def send(self, client_id: str, payload: Payload, timeout_timestamp: int) -> int:
        """See State: an escrow sends nothing."""
        raise Refused(Reason.NOT_PERMITTED, "nothing is sent from here")

    def acknowledge(self, client_id: str, sequence: int, acknowledgement: bytes) -> None:
        """See State: an escrow defers nothing."""
        raise Refused(Reason.NOT_PERMITTED, "nothing is deferred here")

    def client_of(self, chain_id: str) -> str:
        """See State."""
        raise NotFound(Reason.CLIENT_NOT_FOUND, "nobody is followed here")

    def verify_membership(
        self, client_id: str, height: int, path: bytes, value: bytes, proof: bytes
    ) -> None:
        """See State."""
        raise NotFound(Reason.CLIENT_NOT_FOUND, "nobody is followed here")


def fold(chain_id: str, steps: Sequence[BookStep]) -> tuple[Memory, list[str]]:
    """All steps done again in memory; the records, and what was different."""
    state, findings = Memory(chain_id), []
    for number, step in enumerate(steps, 1):
        state.begin(relay_of(step.data), shown_with(step))
        found = do(step, state)
        if found is not None:
            state.undo()
            if not found.foreseen:
                findings.append(f"step {number}: {found.said}")
    return state, findings
