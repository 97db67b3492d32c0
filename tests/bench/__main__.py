"""`python -m tests.bench`: the rate of the whole flow, how far above its floor. See README.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from rich.console import Console

from tests.bench import floor
from tests.bench.passes import STAGES, Options, alone, counted, opened, timed
from tests.bench.report import Measured, disk, figures, resident, show

NO_DISK = {"tmpfs", "ramfs"}


def main(arguments: list[str] | None = None) -> int:
    """Measures and prints; 2 where the directory is no disk."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["cometbft"]:
        from tests.bench import cometbft

        return cometbft.main(arguments[1:])
    if arguments[:1] == ["settlement"]:
        from tests.bench import settlement

        return settlement.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--records", type=_positive, default=1000, help="in the whole flow (1000)")
    parser.add_argument("--batch", type=_positive, default=500, help="records in one call (500)")
    parser.add_argument("--share", type=float, default=0.0, help="of spoiled records, 0 to 1 (0)")
    parser.add_argument(
        "--runs", type=_positive, default=3, help="timed runs, the median counts (3)"
    )
    parser.add_argument("--singles", type=_positive, default=100, help="records one by one (100)")
    parser.add_argument("--grpc", action="store_true", help="reach the ledgers over loopback")
    parser.add_argument("--dir", type=Path, default=Path("/var/tmp"), help="on the disk to measure")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(arguments)
    if disk(given.dir) in NO_DISK:
        print(f"{given.dir} is memory and no disk: name another by --dir", file=sys.stderr)
        return 2
    options = Options(
        records=given.records,
        batch=min(given.batch, 1000),
        share=given.share,
        runs=given.runs,
        singles=given.singles,
        remote="grpc" if given.grpc else "local",
        directory=given.dir,
    )
    found = figures(measure(options))
    if given.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show(found, Console(width=max(140, Console().width) if sys.stdout.isatty() else 160))
    return 0


def measure(options: Options) -> Measured:
    """Counts, times, then measures the floor of what was counted."""
    before = resident()
    with TemporaryDirectory(prefix="lianqiao-bench-", dir=options.directory) as name:
        folder = Path(name)
        with (folder / "log").open("w") as log:
            structlog.configure(
                processors=[
                    structlog.processors.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.JSONRenderer(),
                ],
                logger_factory=structlog.WriteLoggerFactory(log),
            )
            counts = counted(options)
            runs, floors, peak = [], [], 0
            for number in range(options.runs):
                with opened(options) as flow:
                    runs.append(timed(flow, options))
                    if number + 1 == options.runs:
                        single = alone(flow, options)
                peak = resident()
                # Between the runs: what disturbs the machine disturbs both.
                floors.append({s: floor.measure(counts[s], folder) for s in STAGES})
            structlog.reset_defaults()
    least = {stage: floor.median([each[stage] for each in floors]) for stage in STAGES}
    return Measured(options, counts, runs, least, single, (before, peak))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
