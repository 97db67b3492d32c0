"""Every published vector of CometBFT, IBC and logs is read by a test, or named here with why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.vectors_dir import ROOT, vectors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FOLDERS = (("ibc",), ("chains", "cometbft"), ("chains", "tlog"))
TESTS = (
    "tests/light/test_merkle.py", "tests/light/test_note.py", "tests/light/test_keys.py",
    "tests/test_packet.py", "tests/adapters/cometbft/test_vectors.py",
)  # fmt: skip
UNUSED = {
    "subtreeinclusion": "subtrees are no part of RFC 9162: no checkpoint or proof here has one",
    "subtreeconsistency": "the same",
    "README": "prose",
    "LICENSE": "prose",
}
"""What no test reads, by a part of its path, and why."""


def test_every_vector_is_read(tmp_path: Path) -> None:
    files = {
        Path(os.path.realpath(path))
        for folder in FOLDERS
        for path in vectors(*folder).rglob("*")
        if path.is_file()
    }
    assert len(files) > 300
    report = tmp_path / "read"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "tests.vectors_read",
         "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT, capture_output=True, text=True, timeout=500,
        env={**os.environ, "LIANQIAO_READ": str(report)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    read = {Path(line) for line in report.read_text().splitlines()}
    left = sorted(
        str(path) for path in files - read if not any(part in str(path) for part in UNUSED)
    )
    assert left == []
