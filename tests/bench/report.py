"""What was measured, as one value, and as a table for people."""

from __future__ import annotations

import os
import platform
import resource
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.count import Counts
from tests.bench.floor import Floor
from tests.bench.passes import STAGES, Alone, Options, Run, quantiles


@dataclass(frozen=True, slots=True)
class Measured:
    """All figures of one command."""

    options: Options
    counts: Mapping[str, Counts]
    runs: Sequence[Run]
    floors: Mapping[str, Floor]
    alone: Alone
    resident: tuple[int, int]
    """Bytes: before any node was there, and the peak."""


def resident() -> int:
    """Peak resident memory of this process, bytes."""
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes * (1 if platform.system() == "Darwin" else 1024)


def disk(path: Path) -> str:
    """The file system that holds `path`, as Linux names its type; `unknown` elsewhere."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    best = ("", "unknown")
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if path.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, right.split()[0])
    return best[1]


def figures(measured: Measured) -> dict[str, Any]:
    """Everything, for programs: seconds, counts, bytes."""
    records = measured.options.records
    stages = {stage: _stage(measured, stage) for stage in STAGES}
    total = statistics.median(sum(s.wall for s in run.values()) for run in measured.runs)
    floor = sum(f.total for f in measured.floors.values())
    cpu = statistics.median(sum(s.cpu for s in run.values()) for run in measured.runs)
    floor_cpu = sum(f.cpu for f in measured.floors.values())
    names = ("hop", "whole", "paced")
    return {
        "machine": {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "file_system": disk(measured.options.directory),
            "system": f"{platform.system()} {platform.release()}",
        },
        "records": records,
        "batch": measured.options.batch,
        "spoiled_share": measured.options.share,
        "runs": len(measured.runs),
        "relay_reaches_ledgers": measured.options.remote,
        "seconds": total,
        "records_per_second": records / total,
        "floor_seconds": floor,
        "ratio_to_floor": total / floor,
        "share_above_floor": 1 - floor / total,
        "cpu_seconds": cpu,
        "floor_cpu_seconds": floor_cpu,
        "cpu_ratio_to_floor": cpu / floor_cpu,
        "stages": stages,
        "alone_seconds": {
            name: dict(zip(("p50", "p99"), quantiles(getattr(measured.alone, name)), strict=True))
            for name in names
        },
        "alone_records": measured.options.singles,
        "resident_bytes": {"before": measured.resident[0], "peak": measured.resident[1]},
    }


def _stage(measured: Measured, stage: str) -> dict[str, Any]:
    counts, floor = measured.counts[stage], measured.floors[stage]
    wall = statistics.median(run[stage].wall for run in measured.runs)
    return {
        "what": STAGES[stage],
        "seconds": wall,
        "cpu_seconds": statistics.median(run[stage].cpu for run in measured.runs),
        "records_per_second": measured.options.records / wall if wall else 0.0,
        "hashes": counts.hashes.total(),
        "signatures_made": counts.signed.total(),
        "signatures_verified": counts.verified.total(),
        "commits": sum(len(sizes) for sizes in counts.commits.values()),
        "other_flushes": counts.synced,
        "statements": sum(c.total() for c in counts.statements.values()),
        "rows": sum(c.total() for c in counts.rows.values()),
        "log_lines": len(counts.lines),
        "floor_seconds": floor.total,
        "floor_cpu_seconds": floor.cpu,
        "floor": {
            "hashes": floor.hashes,
            "signatures": floor.signatures,
            "commits": floor.commits,
        },
        "ratio_to_floor": wall / floor.total if floor.total else 0.0,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def show(found: Mapping[str, Any], console: Console) -> None:
    """The table."""
    machine, records = found["machine"], found["records"]
    console.print(
        f"{records} records in calls of {found['batch']}, median of {found['runs']} runs; the relay"
        f" reaches the ledgers by {found['relay_reaches_ledgers']}; {machine['processor']}, "
        f"{machine['cores']} cores, Python {machine['python']}, {machine['file_system']}, "
        f"{machine['date']}"
    )
    table = Table(title="The whole flow 1-3: from bytes at the door to the grant on the source")
    table.add_column("stage")
    for name in (
        "s", "CPU s", "records/s", "floor s", "CPU s", "ratio", "hashes", "signed", "verified",
        "commits", "flushes", "SQL", "rows", "log",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for stage, row in found["stages"].items():
        table.add_row(
            stage,
            f"{row['seconds']:.3f}",
            f"{row['cpu_seconds']:.3f}",
            f"{row['records_per_second']:,.0f}",
            f"{row['floor_seconds']:.3f}",
            f"{row['floor_cpu_seconds']:.3f}",
            f"{row['ratio_to_floor']:.1f}",
            *(
                f"{row[name]:,}"
                for name in (
                    "hashes", "signatures_made", "signatures_verified", "commits", "other_flushes",
                    "statements", "rows", "log_lines",
                )
            ),
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "all",
        f"{found['seconds']:.3f}",
        f"{found['cpu_seconds']:.3f}",
        f"{found['records_per_second']:,.0f}",
        f"{found['floor_seconds']:.3f}",
        f"{found['floor_cpu_seconds']:.3f}",
        f"{found['ratio_to_floor']:.1f}",
    )
    console.print(table)
    for stage, what in STAGES.items():
        console.print(f"  {stage}: {what}", highlight=False)
    share = found["share_above_floor"]
    console.print(
        f"time above the floor: {share:.0%} of all; {found['ratio_to_floor']:.1f} times the floor "
        f"by the clock, {found['cpu_ratio_to_floor']:.1f} times by processor time",
        style="bold",
    )
    words = {
        "hop": "one record alone, one hop (commit on the source to receipt on the relay)",
        "whole": "one record alone, attested to granted, relayer driven without a pause",
        "paced": "one record alone, attested to granted, lanes at their own pace",
    }
    for name, what in words.items():
        p50, p99 = (1000 * found["alone_seconds"][name][q] for q in ("p50", "p99"))
        console.print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms", highlight=False)
    before, peak = (found["resident_bytes"][name] / 2**20 for name in ("before", "peak"))
    console.print(f"memory: {before:.0f} MiB before the first node, {peak:.0f} MiB at the peak")
