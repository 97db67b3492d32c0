"""The passes of a measurement: one that counts, some that are timed, then records one by one.

Every pass starts from empty databases and does the same work. A stage's wall time and CPU time are
taken outside of everything that counts.
"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from relay.chain import Step
from tests.bench.count import Counts, counting
from tests.bench.flow import ASKING, RELAY, SOURCE, Case, Flow

STAGES = {
    "deposit": "door, salts, commitment, signature, vault",
    "attest": "row 1 on the source ledger",
    "relay": "row 1 to the relay, acknowledgement back",
    "sign": "consent and request signed",
    "request": "row 2 on the requesting ledger",
    "decide": "row 2 to the relay, decision, grant to the source, acknowledgements",
}
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    records: int
    batch: int
    """Records in one call to a ledger."""
    share: float
    """Of records that are spoiled."""
    runs: int
    singles: int
    remote: str
    directory: Path


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds."""

    wall: float
    cpu: float


Run = dict[str, Spent]
"""Stage -> what it took."""


@contextmanager
def opened(options: Options) -> Iterator[Flow]:
    """A fresh network in a directory that is gone afterwards."""
    with TemporaryDirectory(prefix="lianqiao-bench-", dir=options.directory) as folder:
        flow = Flow(Path(folder), remote=options.remote)
        try:
            yield flow
        finally:
            flow.close()


def whole_flow(
    flow: Flow, options: Options, around: Callable[[str, Callable[[], Any]], Any]
) -> list[Case]:
    """The stages for all records in batches; each stage of each batch runs through `around`.

    Raises AssertionError where an answer is not the one that the generator's oracle gives.
    """
    made = flow.generate(options.records, options.share)
    done: list[Case] = []
    for start in range(0, len(made), options.batch):
        part = made[start : start + options.batch]
        cases: list[Case] = around("deposit", lambda part=part: flow.deposit(part))
        around("attest", lambda cases=cases: flow.attest(cases))
        around("relay", flow.settle)
        cases = around("sign", lambda cases=cases: flow.sign(cases))
        around("request", lambda cases=cases: flow.request(cases))
        around("decide", flow.settle)
        done += cases
    flow.check(done)
    return done


def counted(options: Options) -> dict[str, Counts]:
    """Stage -> what it did, for all records."""
    found: dict[str, list[Counts]] = {stage: [] for stage in STAGES}
    with opened(options) as flow:
        engines = {name: node.store.engine for name, node in flow.world.nodes.items()}

        def around(stage: str, run: Callable[[], Any]) -> Any:
            with counting(engines) as counts:
                answer = run()
            found[stage].append(counts)
            return answer

        whole_flow(flow, options, around)
    return {stage: merged(parts) for stage, parts in found.items()}


def merged(parts: Sequence[Counts]) -> Counts:
    """The sum of several counts."""
    total = Counts()
    for part in parts:
        total.hashes += part.hashes
        total.signed += part.signed
        total.verified += part.verified
        total.synced += part.synced
        total.lines += part.lines
        for node, sizes in part.commits.items():
            total.commits.setdefault(node, []).extend(sizes)
        for into, of in ((total.statements, part.statements), (total.rows, part.rows)):
            for node, counter in of.items():
                into[node] = into[node] + counter if node in into else counter.copy()
    return total


def timed(flow: Flow, options: Options) -> Run:
    """Stage -> what it took, for all records."""
    spent = {stage: Spent(0.0, 0.0) for stage in STAGES}

    def around(stage: str, run: Callable[[], Any]) -> Any:
        wall, cpu = perf_counter(), process_time()
        answer = run()
        so_far = spent[stage]
        spent[stage] = Spent(so_far.wall + perf_counter() - wall, so_far.cpu + process_time() - cpu)
        return answer

    whole_flow(flow, options, around)
    return spent


# --- one record alone


@dataclass
class Alone:
    """Seconds of each record that had the nodes for itself."""

    hop: list[float] = field(default_factory=list)
    """From the attestation's commit on the source to its receipt on the relay."""
    whole: list[float] = field(default_factory=list)
    """From the call that attests to the grant on the source, the relayer driven without a pause."""
    paced: list[float] = field(default_factory=list)
    """The same with the relayer's lanes at their own pace, in threads, as `serve` runs them."""


class _Seen:
    """Notes when a chain has received a packet."""

    def __init__(self, flow: Flow, name: str) -> None:
        self.chain = flow.chains[name]
        self.received = threading.Event()
        self.at = 0.0

    def __enter__(self) -> _Seen:
        self.chain.submitted.clear()
        self.chain.on_submit = self._look
        return self

    def __exit__(self, *_: object) -> None:
        self.chain.on_submit = lambda: None

    def _look(self) -> None:
        delivered = (item.step for one in self.chain.submitted for item in one.items)
        if not self.received.is_set() and Step.RECEIVE in delivered:
            self.at = perf_counter()
            self.received.set()


def alone(flow: Flow, options: Options) -> Alone:
    """Records one by one, on journals that hold what the pass before has written."""
    found = Alone()
    for _ in range(options.singles):
        cases = flow.sign(flow.deposit(flow.generate(1, 0.0)))
        begin = perf_counter()
        flow.attest(cases)
        committed = perf_counter()
        with _Seen(flow, RELAY) as relay:
            _until(flow, relay)
        found.hop.append(relay.at - committed)
        found.whole.append(_finish(flow, cases, lambda seen: _until(flow, seen)) - begin)
        flow.settle()
    with _running(flow):
        for _ in range(options.singles):
            cases = flow.sign(flow.deposit(flow.generate(1, 0.0)))
            begin = perf_counter()
            with _Seen(flow, RELAY) as relay:
                flow.attest(cases)
                _wait(relay)
            found.paced.append(_finish(flow, cases, _wait) - begin)
    return found


def _finish(flow: Flow, cases: Sequence[Case], until: Callable[[_Seen], None]) -> float:
    """Asks, and waits for the grant on the source; when that was there."""
    with _Seen(flow, SOURCE) as granted:
        flow.request(cases)
        until(granted)
    return granted.at


def _until(flow: Flow, seen: _Seen) -> None:
    for _ in range(100):
        if seen.received.is_set():
            return
        flow.relayer.tick(flow.now)
    raise AssertionError("a packet did not arrive")


def _wait(seen: _Seen) -> None:
    if not seen.received.wait(PATIENCE):
        raise AssertionError("a packet did not arrive")


@contextmanager
def _running(flow: Flow) -> Iterator[None]:
    relay, stop = flow.node(RELAY), threading.Event()

    def pause(seconds: float) -> object:
        return relay.wait(relay.head.size, seconds)

    thread = threading.Thread(
        target=flow.relayer.run, args=(stop, flow.world.clock, pause), daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """(p50, p99); of less than two measurements the only one."""
    if len(seconds) < 2:
        return (seconds[0], seconds[0]) if seconds else (0.0, 0.0)
    return statistics.median(seconds), statistics.quantiles(seconds, n=100, method="inclusive")[98]


__all__ = [
    "ASKING",
    "RELAY",
    "SOURCE",
    "STAGES",
    "Alone",
    "Options",
    "Run",
    "Spent",
    "alone",
    "counted",
    "opened",
    "quantiles",
    "timed",
]
