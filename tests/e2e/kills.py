"""kill -9 under load: `python -m tests.e2e.kills --count 100 --seed 7`.

Two ledgers, a relay, and the PostgreSQL server of one ledger, in processes of their own. Each in
turn is killed and started again at moments that the seed chooses, now and then while the last one
is still starting. Then everything must drain: each record that was attested is recognised exactly
once, no packet was both acknowledged and timed out, both sides count the same, and `lianqiao fsck`
finds nothing on any node. Prints the seed first and the figures last; exit 1 where anything is
not as it should be, with everything left in the directory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from relay.demo.stage import ROLES
from tests.e2e.load import Load
from tests.e2e.network import Network

STILL_STARTING = 0.25
"""Of the kills, how many come before the last one has come back."""


def strike(
    network: Network, load: Load, random: Random, count: int, say: Callable[[str], None]
) -> Counter[str]:
    """Kills `count` times; how often each."""
    kills: Counter[str] = Counter()
    turn: list[str] = []
    for number in range(count):
        if not turn:
            turn = random.sample(network.names, len(network.names))
        name = turn.pop()
        time.sleep(random.uniform(0.1, 2.0))
        if load.failed:
            raise load.failed[0]
        network.kill(name)
        time.sleep(random.uniform(0, 1.0))
        network.start(name)
        kills[name] += 1
        if random.random() > STILL_STARTING:
            for each in ROLES:
                network.wait_serving(each)
        say(f"{number + 1}/{count} {name}, {len(load.attested)} attested")
    return kills


def run(
    directory: Path,
    count: int,
    seed: int,
    *,
    postgresql: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, object]:
    """The whole of it; the figures. Raises AssertionError."""
    random, begun = Random(seed), time.monotonic()
    with Network(directory, postgresql=postgresql) as network:
        load = Load(network, seed)
        load.prepare()
        load.start()
        try:
            kills = strike(network, load, random, count, say)
        finally:
            load.end()
        say("draining")
        struck = time.monotonic()
        load.drain()
        drained = time.monotonic()
        counts = load.judge()
        checks = network.fsck()
        for name, told in checks.items():
            assert "all is as it should be" in told, f"{name}: {told}"
        return {
            "seed": seed,
            "kills": dict(kills),
            **counts,
            "repeated calls": dict(load.repeated),
            "ended by themselves": dict(network.ended),
            "seconds": round(time.monotonic() - begun),
            "seconds of draining": round(drained - struck, 1),
            "fsck": "clean",
        }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--dir", type=Path, default=None)
    args = parser.parse_args()
    directory = args.dir or Path(tempfile.mkdtemp(prefix="lianqiao-kills-"))
    print(
        f"seed {args.seed}, in {directory}: the same again by "
        f"python -m tests.e2e.kills --count {args.count} --seed {args.seed}",
        flush=True,
    )
    figures = run(directory, args.count, args.seed, say=lambda line: print(line, flush=True))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
