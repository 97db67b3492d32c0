"""A program ends at the first signal, amid whatever it came and however many come."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = """
import signal, sys, threading
from relay.signals import stop_on_signals
stop = threading.Event()
stop_on_signals(stop)
number = signal.Signals[sys.argv[1]]
with stop._cond:  # as within stop.wait(), or within stop.set() for the signal before
    signal.raise_signal(number)
    signal.raise_signal(number)
assert stop.wait(60)
signal.raise_signal(number)
print("ends")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_amid_anything(name: str) -> None:
    """Where the handler itself told the main thread, it would wait for that thread for ever: seen
    on a replica that a service manager's SIGTERM reached twice."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr
