"""Load on the demonstration's network while it is disturbed, and the judgement afterwards.

One thread attests records on the source, two at a time; another has each of them recognised on the
asking ledger once the relay knows it. Callers repeat what got no answer, with the same content, as
real ones do; whatever else is answered fails the run. A request that was decided while the source
was away is refused as HEAD_STALE, and is made anew. Afterwards `drain` waits until nothing is on
its way, and `judge` compares what all three nodes say.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from relay.client import NodeClient
from relay.contracts.catalogue import shipped
from relay.contracts.codes import Code
from relay.contracts.payloads import Decision
from relay.demo.generator import generate
from relay.demo.stage import ASKING, RELAY, SOURCE
from relay.demo.story import (
    Case,
    _deposit,
    _sign,
    build_request,
    cases_of_generated,
    introduce,
    known_codes,
)
from relay.errors import Conflict, Exhausted, LianqiaoError, Unavailable
from relay.ledger_views import RecognitionState
from relay.views import Direction, PacketState
from tests.e2e.network import Network

WAIT_SECONDS = 240
TOGETHER = 2
"""Records in one call."""
AGAIN = 5
PAUSE = 0.15
"""Seconds between two calls, so that the run is about kills and not about volume."""
_T = TypeVar("_T")


@dataclass
class Load:
    """What was asked for, and how often it had to be repeated."""

    network: Network
    seed: int
    transient: tuple[type[LianqiaoError], ...] = (Unavailable, Conflict, Exhausted)
    """What a caller takes for "ask again"."""
    attested: list[Case] = field(default_factory=list)
    requests: dict[bytes, Case] = field(default_factory=dict)
    """By request, the record that it asks for."""
    repeated: Counter[str] = field(default_factory=Counter)
    """By reason: calls that were asked again."""
    failed: list[BaseException] = field(default_factory=list)
    _asked: set[bytes] = field(default_factory=set)
    """Requests that were refused, and made anew."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _ready: queue.Queue[list[Case]] = field(default_factory=queue.Queue)
    _threads: list[threading.Thread] = field(default_factory=list)

    def prepare(self) -> None:
        """Joins the nodes, and tells them their institutions and rules."""
        stage = self.network.stage
        relay = stage.processes[RELAY].address
        for name in (SOURCE, ASKING):
            stage.command("connect", "--node", stage.processes[name].address, "--relay", relay)
        introduce(stage, int(time.time()))

    def start(self, most: int = 10**6) -> None:
        """Begins; at most `most` records."""
        self._stop.clear()
        self._threads.clear()
        for work in (lambda: self._attest(most), self._request):
            thread = threading.Thread(target=self._run, args=(work,))
            thread.start()
            self._threads.append(thread)

    def end(self) -> None:
        """No new records; what was begun is finished. Raises what failed."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.failed:
            raise self.failed[0]

    @property
    def attesting(self) -> bool:
        """Whether records are still attested."""
        return self._threads[0].is_alive()

    def until(self, name: str, what: Callable[[NodeClient], _T | None]) -> _T:
        """What a node answers, once it answers and its answer is not empty."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            try:
                with self.network.client(name) as client:
                    found = what(client)
                if found:
                    return found
            except self.transient as err:
                self.repeated[err.reason.value] += 1
            time.sleep(0.05)
        raise AssertionError(f"{name} did not come to that in time; repeated: {self.repeated}")

    # --- the threads

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as err:
            self.failed.append(err)
            self._stop.set()
        finally:
            if work != self._request:
                self._ready.put([])

    def _attest(self, most: int) -> None:
        catalogue = json.loads(shipped())
        while not self._stop.is_set() and len(self.attested) < most:
            now, seed = int(time.time()), self.seed * 10_000 + len(self.attested)
            made = generate(catalogue, seed=seed, now=now, count=TOGETHER, share=0)
            cases = cases_of_generated(made)
            for case in cases:
                case.attested = _sign(self.network.stage, case, case.record, now, known_codes())
            deposits = [_deposit(case.attested) for case in cases]
            self.until(SOURCE, lambda c, d=deposits: c.attest(d, [RELAY]))  # type: ignore[misc]
            self.attested += cases
            self._ready.put(cases)
            self._stop.wait(PAUSE)

    def _request(self) -> None:
        while cases := self._ready.get():
            for case in cases:
                assert case.attested is not None
                commitment = case.attested.attestation.commitment
                self.until(SOURCE, lambda c, of=commitment: _known(c, of))  # type: ignore[misc]
            self._ask(cases)

    def _ask(self, cases: list[Case]) -> None:
        made = [build_request(self.network.stage, case, int(time.time())) for case in cases]
        self.requests |= {r.request: case for r, case in zip(made, cases, strict=True)}
        self.until(ASKING, lambda c: c.request_recognition(made))

    # --- afterwards

    def drain(self) -> None:
        """Until every request is decided and no packet is on its way."""
        for _ in range(AGAIN):
            self.until(ASKING, lambda c: len(_decided(c)) == len(self.requests))
            decided = self.until(ASKING, _decided)
            stale = [r for r, d in decided.items() if not d.recognised and r not in self._asked]
            if not stale:
                break
            self._asked.update(stale)
            for start in range(0, len(stale), 50):
                self._ask([self.requests[r] for r in stale[start : start + 50]])
        for name in (SOURCE, ASKING, RELAY):
            self.until(name, lambda c: not c.status().packets_open)

    def judge(self) -> dict[str, int]:
        """Compares the three nodes; the counts that agree. Raises AssertionError."""
        network = self.network
        with (
            network.client(SOURCE) as source,
            network.client(RELAY) as relay,
            network.client(ASKING) as asking,
        ):
            records = [record.commitment for record in source.records()]
            wanted = [c.attested.attestation.commitment for c in self.attested if c.attested]
            assert sorted(records) == sorted(set(wanted)) == sorted(wanted)
            decided = _decided(asking)
            assert decided.keys() == self.requests.keys()
            made = [view.decision for view in relay.decisions()]
            assert len(made) == len(decided)
            assert {decision.request: decision for decision in made} == decided
            good = [decision for decision in made if decision.recognised]
            assert Counter(d.commitment for d in good) == Counter(wanted)
            refused = [d.reason.code for d in made if not d.recognised and d.reason]
            assert set(refused) <= {Code.HEAD_STALE}
            assert len(good) + len(refused) == len(made)
            grants = sorted(notice.grant for notice in source.grants())
            assert grants == sorted(decision.grant for decision in good)
            packets = sum(_same_packets(ledger, relay) for ledger in (source, asking))
        return {
            "records": len(records),
            "recognised": len(good),
            "refused as HEAD_STALE and asked anew": len(refused),
            "packets": packets,
        }


def _known(source: NodeClient, commitment: bytes) -> bool:
    return [a.accepted for a in source.record(commitment).announcements] == [True]


def _decided(asking: NodeClient) -> dict[bytes, Decision]:
    views = [v for v in asking.recognitions() if v.state is RecognitionState.DECIDED]
    return {v.request.request: v.decision for v in views if v.decision is not None}


def _same_packets(ledger: NodeClient, relay: NodeClient) -> int:
    """Of every packet one end sent it and the other received it, once and without a gap, and it
    was acknowledged and never timed out; how many."""
    (view,) = [v for v in ledger.clients() if v.counterparty_client_id]
    here, there = view.client_id, view.counterparty_client_id
    count = 0
    for sender, receiver, ours, theirs in (
        (ledger, relay, here, there),
        (relay, ledger, there, here),
    ):
        sent = [p for p in sender.packets(client_id=ours) if p.direction is Direction.OUT]
        received = [p for p in receiver.packets(client_id=theirs) if p.direction is Direction.IN]
        numbers = [p.packet.sequence for p in sent]
        assert numbers == list(range(1, len(numbers) + 1))
        assert {p.state for p in sent} <= {PacketState.ACKNOWLEDGED}
        assert {p.state for p in received} <= {PacketState.RECEIVED}
        assert sorted(p.packet.sequence for p in received) == numbers
        assert {p.packet for p in sent} == {p.packet for p in received}
        count += len(numbers)
    return count
