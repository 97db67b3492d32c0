"""`python -m tests.bench cometbft`: throughput and latency of four replicas on real CometBFT.

Four validators, each with its application in a process of its own, on this machine. *Alone*: one
operator's action at a time, from the call to the answer, which comes when its block is committed.
*Together*: many callers at all four replicas. *Records*: attestations of a single-node ledger,
delivered to the replicated relay and acknowledged.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from relay.contracts.catalogue import shipped
from relay.demo.generator import generate
from relay.demo.stage import RELAY, SOURCE
from relay.demo.story import attest_all, cases_of_generated, introduce
from tests.adapters.engine.network import eventually
from tests.adapters.engine.test_network import Replicated
from tests.bench.passes import quantiles


def main(arguments: list[str]) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench cometbft", description=__doc__)
    parser.add_argument("--singles", type=int, default=50, help="actions one by one (50)")
    parser.add_argument("--together", type=int, default=400, help="actions of many callers (400)")
    parser.add_argument("--callers", type=int, default=32, help="callers at a time (32)")
    parser.add_argument("--records", type=int, default=500, help="attestations delivered (500)")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="on the disk to measure")
    given = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="lianqiao-bench-", dir=given.dir) as name:
        stage = Replicated(Path(name) / "demo", keep=True)
        stage.prepare()
        with stage:
            stage.start()
            try:
                found = _measure(stage, given)
            finally:
                del stage.processes[RELAY]
                stage.network.stop()
    print(json.dumps(found, indent=2))
    return 0


def _measure(stage: Replicated, given: argparse.Namespace) -> dict[str, object]:
    first = stage.network.validators[0]
    stage.command("connect", "--node", stage.processes[SOURCE].address, "--relay", first.address)
    nodes = [one.client() for one in stage.network.validators]
    singles = []
    before = stage.network.head(first)
    for _ in range(given.singles):
        start = time.perf_counter()
        nodes[0].pause_lane(SOURCE, True)  # ordered and executed, whether it is paused or not
        singles.append(time.perf_counter() - start)
    blocks = stage.network.head(first) - before
    assert blocks >= given.singles, "one after the other, each is in a block of its own"
    start = time.perf_counter()
    with ThreadPoolExecutor(given.callers) as pool:
        asked = [
            pool.submit(nodes[i % len(nodes)].pause_lane, SOURCE, True)
            for i in range(given.together)
        ]
        for one in asked:
            one.result()
    together = time.perf_counter() - start
    now = int(time.time())
    introduce(stage, now)
    made = generate(json.loads(shipped()), seed=9, now=now, count=given.records, share=0)
    cases = cases_of_generated(made)
    source = stage.node(SOURCE)
    start = time.perf_counter()
    attest_all(stage, cases, now, lambda *_: None)
    eventually(lambda: not source.status().packets_open, 600)
    records = time.perf_counter() - start
    p50, p99 = quantiles(singles)
    return {
        "replicas": len(nodes),
        "alone": {
            "actions": given.singles,
            "p50_ms": round(p50 * 1000),
            "p99_ms": round(p99 * 1000),
        },
        "together": {
            "actions": given.together,
            "callers": given.callers,
            "per_second": round(given.together / together, 1),
        },
        "records": {
            "attested, delivered, acknowledged": given.records,
            "per_second": round(given.records / records, 1),
        },
    }
