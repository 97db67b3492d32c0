"""`python -m tests.bench settlement`: settlements a second, alone and many, above their floor.

Two money ledgers and a relay, real nodes with databases on a disk, the API over loopback gRPC and
the relay's own relayer, all in this process. Many are handed over 256 to a call, which is one
commit of the relay. A settlement counts from the call to its proven end on both ledgers: six
packets' worth of hops (two locks, two decisions, and their acknowledgements). The floor is what the
same hashes, signatures and durable commits cost by themselves, in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from relay.contracts.payloads import SignedInstruction
from relay.contracts.settlement import SettlementStatus
from tests.bench import floor
from tests.bench.count import counting
from tests.bench.passes import quantiles
from tests.bench.report import disk, resident
from tests.contracts.money_world import instruction, signed
from tests.service.clearing import Clearing
from tests.service.nodes import Running

AT_ONCE = 256
"""Instructions in one call."""


def main(arguments: Sequence[str]) -> int:
    """Measures and prints; 2 where the directory is no disk."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench settlement", description=__doc__)
    parser.add_argument("--settlements", type=int, default=200, help="all at once (200)")
    parser.add_argument("--singles", type=int, default=50, help="one by one (50)")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="on the disk to measure")
    given = parser.parse_args(list(arguments))
    if disk(given.dir) in {"tmpfs", "ramfs"}:
        print(f"{given.dir} is memory and no disk: name another by --dir", file=sys.stderr)
        return 2
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        with TemporaryDirectory(prefix="lianqiao-bench-", dir=given.dir) as name:
            found = measure(Path(name), given.settlements, given.singles)
    finally:
        structlog.reset_defaults()
    print(json.dumps(found, indent=2))
    return 0


def measure(folder: Path, many: int, singles: int) -> dict[str, object]:
    """The figures, JSON; seconds, bytes, and settlements a second."""
    before = resident()
    with TemporaryDirectory(dir=folder) as name:
        clearing = Clearing(Path(name) / "nodes")
        try:
            engines = {n.node.chain_id: n.node.store.engine for n in _nodes(clearing)}
            with counting(engines) as counts:
                _settle(clearing, _signed("counted", many))
            alone = [_settle(clearing, _signed(f"alone-{n}", 1)) for n in range(singles)]
            given = _signed("timed", many)
            seconds, cpu = _timed(lambda: _settle(clearing, given))
        finally:
            clearing.stop()
        ground = floor.measure(counts, Path(name))
    p50, p99 = quantiles(alone)
    return {
        "alone_seconds": {"p50": p50, "p99": p99},
        "commits": {node: len(sizes) for node, sizes in sorted(counts.commits.items())},
        "cpu_seconds": cpu,
        "floor_cpu_seconds": ground.cpu,
        "floor_seconds": ground.total,
        "ratio_to_floor": seconds / ground.total,
        "resident_bytes": {"before": before, "peak": resident()},
        "seconds": seconds,
        "settlements": many,
        "settlements_per_second": many / seconds,
        "signatures_verified": sum(counts.verified.values()),
    }


def _nodes(clearing: Clearing) -> list[Running]:
    return [*clearing.ledgers.values(), clearing.hub]


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _signed(name: str, count: int) -> list[SignedInstruction]:
    return [signed(instruction(f"{name}-{n}", bill=1_000 + n)) for n in range(count)]


def _settle(clearing: Clearing, given: Sequence[SignedInstruction]) -> float:
    """Seconds until all are closed. A settlement that did not settle is no measurement."""
    begin = time.perf_counter()
    for start in range(0, len(given), AT_ONCE):
        for result in clearing.hub.client.instruct_each(given[start : start + AT_ONCE]):
            assert result.shown is not None, result.reason
    while True:
        clearing.settle()
        last = clearing.hub.client.settlement(given[-1].instruction.settlement)
        if last.view.closed:
            break
    spent = time.perf_counter() - begin
    for one in given:
        view = clearing.hub.client.settlement(one.instruction.settlement).view
        assert view.status is SettlementStatus.SETTLED
    return spent
