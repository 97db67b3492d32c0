"""One `lianqiao` command in a process of its own that ends with whoever started it, with a clock
that a test can turn: `python -m tests.e2e.child CLOCK_FILE serve …`.

The file holds the seconds by which the clock is wrong, `-` stands for none. The program reads time
in one place (`relay.cli.serve.wall_clock`) and hands it on, so that is what is turned.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Runs the command that the arguments name."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    shift = Path(sys.argv.pop(1))
    from relay.cli import main as command
    from relay.cli import serve

    if str(shift) != "-":
        serve.wall_clock = lambda: time.time() + float(shift.read_text() or 0)
    command()


if __name__ == "__main__":
    main()
