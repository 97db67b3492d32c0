"""Records that the demonstration does not make itself: the user's files, or Synthea's patients.

Both go through the door like anything received. Synthea is the extra `[samples]`; it runs in a
process of its own, since it draws in numpy, pandas and more that nothing else here needs. Its files
are named after its patients, so they are renamed before anything can print them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from relay.errors import Malformed, NotFound, Reason, Unavailable
from relay.record.door import MAX_SOURCE_BYTES, Source

MAX_FILES = 10_000
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
MAX_PATIENTS = 1000
_SUFFIXES = (".json", ".ndjson", ".jsonl")
_SECONDS_PER_PATIENT = 30


def load_sources(path: Path) -> list[Source]:
    """The file at `path`, or every *.json, *.ndjson, *.jsonl below it, in order of name.

    Raises NotFound(NOT_FOUND), Malformed (MALFORMED where it cannot be read, LIMIT_EXCEEDED).
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    else:
        found = [path]
    if len(found) > MAX_FILES:
        raise Malformed(f"{path} holds more than {MAX_FILES} files", reason=Reason.LIMIT_EXCEEDED)
    if not found or not found[0].exists():
        raise NotFound(
            Reason.NOT_FOUND,
            f"no records at {path}",
            hint="name a FHIR R4 file (.json, .ndjson) or a folder of them",
        )
    sources, total = [], 0
    for file in found:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_SOURCE_BYTES + 1)
        except OSError as error:
            raise Malformed(f"{file} cannot be read: {error.strerror}") from None
        total += len(data)
        if total > MAX_TOTAL_BYTES:
            raise Malformed(
                f"{path} holds more than {MAX_TOTAL_BYTES} bytes", reason=Reason.LIMIT_EXCEEDED
            )
        sources.append(Source(str(file.relative_to(path) if path.is_dir() else file.name), data))
    return sources


def synthea_sources(patients: int, seed: int, now: int) -> list[Source]:
    """Bundles of `patients` invented Americans, one each, as of the day of `now` (seconds).

    Raises NotFound(NOT_FOUND) where the extra is not installed, Malformed(LIMIT_EXCEEDED), and
    Unavailable(INTERNAL) where Synthea fails.
    """
    if find_spec("synthea") is None:
        raise NotFound(
            Reason.NOT_FOUND,
            "Synthea is not installed",
            hint="pip install 'lianqiao[samples]', or leave the option out: "
            "the demonstration makes records of its own",
        )
    if not 1 <= patients <= MAX_PATIENTS:
        raise Malformed(f"1 to {MAX_PATIENTS} patients", reason=Reason.LIMIT_EXCEEDED)
    today = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "synthea.cli", "generate", "-p", str(patients)]
        command += ["-s", str(seed), "-r", today, "-o", folder]
        try:
            subprocess.run(  # noqa: S603 (nothing in the command comes from outside)
                command,
                check=True,
                capture_output=True,
                cwd=folder,
                timeout=60 + _SECONDS_PER_PATIENT * patients,
            )
        except (OSError, subprocess.SubprocessError) as error:
            kind = type(error).__name__
        else:
            found = sorted(Path(folder, "fhir").glob("*.json"))
            return [
                Source(f"synthea-{number}.json", file.read_bytes())
                for number, file in enumerate(found, 1)
            ]
    raise Unavailable(Reason.INTERNAL, f"Synthea failed ({kind})", hint="try python -m synthea.cli")
