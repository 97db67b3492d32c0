"""Runs one `lianqiao` command that ends with whoever started it: `python -m relay.demo.child …`.

Standard input is a pipe whose other end the demonstration holds. When that closes, even because the
demonstration was killed, the command is asked to end as by SIGTERM, so that no node is left behind;
where it does not in time, it ends at once.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

END_SECONDS = 15.0


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Runs the command that the arguments name."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("relay.cli", run_name="__main__")


if __name__ == "__main__":
    main()
