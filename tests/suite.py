"""`python -m tests.suite`: the everyday suite on another database, or where commits fail.

    python -m tests.suite --on postgresql
    python -m tests.suite --conflicts
    python -m tests.suite --on postgresql --conflicts tests/store

The tests are the same: `--on` changes the database of every node in them, `--conflicts` has each
transaction of the product fail twice before it succeeds (tests/conflicts.py). What else is given
goes to pytest. Tests of what an attempt costs are skipped with `--conflicts`, and nothing else is.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from tests.databases import KINDS

ATTEMPTS = 3
"""Of each transaction with `--conflicts`; so much longer a test may take."""
TIMEOUT_S = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs pytest in a process of its own, with what it needs to be told."""
    parser = argparse.ArgumentParser(prog="python -m tests.suite", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--on", choices=KINDS, default=KINDS[0], help="the database of the nodes")
    parser.add_argument("--conflicts", action="store_true", help="each transaction fails twice")
    options, rest = parser.parse_known_args(arguments)
    asked = {
        "LIANQIAO_TEST_DATABASES": options.on,
        "LIANQIAO_TEST_CONFLICTS": str(int(options.conflicts)),
    }
    limit = f"--timeout={TIMEOUT_S * (ATTEMPTS if options.conflicts else 1)}"
    command = [sys.executable, "-m", "pytest", limit, *rest]
    return subprocess.run(command, env={**os.environ, **asked}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
