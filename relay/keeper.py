"""Runs one program that ends with whoever started it: nothing is left behind, even by kill -9.

    keeper = keep(["/usr/bin/program", "argument"], told=log)
    end(keeper, seconds=10)

Between the two stands a small process, this module run as a script. Its standard input is a pipe
whose other end the owner holds, so it learns in every case that the owner is gone: it then asks the
program to end (SIGTERM) and, since a program that waits for its owner may never hear it, kills it
after GRACE_SECONDS. Keeper and program form a session of their own: Ctrl-C in a terminal reaches
the owner alone, which ends them in order. A program that ends by itself ends its keeper, with the
same code (128 + the number where a signal ended it).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL for a program whose owner is gone."""
ORDER_SECONDS = 60.0
"""The same for a program that its owner ends, who has less patience of his own."""
NOT_STARTED = 127


def keep(
    command: Sequence[str], *, told: IO[bytes] | int | None, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program, its output and errors to `told`. Raises OSError without an interpreter."""
    return subprocess.Popen(  # noqa: S603 - whoever calls names it
        [sys.executable, "-I", __file__, *command],
        stdin=subprocess.PIPE,
        stdout=told,
        stderr=told,
        env=env,
        start_new_session=True,
    )


def end(keeper: subprocess.Popen[bytes], seconds: float) -> int:
    """Ends a program in order, after so many seconds at once; its exit code."""
    keeper.terminate()
    try:
        return keeper.wait(seconds)
    except subprocess.TimeoutExpired:
        return kill(keeper)


def kill(keeper: subprocess.Popen[bytes]) -> int:
    """kill -9 of a program and its keeper; the exit code."""
    with suppress(ProcessLookupError):
        os.killpg(keeper.pid, signal.SIGKILL)
    code = keeper.wait()
    if keeper.stdin is not None:
        keeper.stdin.close()
    return code


def main() -> int:
    """Starts the program of the command line and waits for it, or for the owner's end."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    try:
        program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603
    except OSError as err:
        print(f"{sys.argv[1]}: {err.strerror}", file=sys.stderr)
        return NOT_STARTED
    seconds = _watch(program, woken)
    program.terminate()  # nothing, where it has ended
    try:
        code = program.wait(seconds)
    except subprocess.TimeoutExpired:
        program.kill()
        code = program.wait()
    return 128 - code if code < 0 else code


def _watch(program: subprocess.Popen[bytes], woken: int) -> float:
    """Returns when the program has ended, is to end, or has lost its owner: with how long it may
    take to end."""
    owner = sys.stdin.fileno()
    while program.poll() is None:
        ready, _, _ = select.select([owner, woken], [], [])
        if woken in ready and signal.SIGTERM in os.read(woken, 64):
            return ORDER_SECONDS
        if owner in ready and not os.read(owner, 64):
            return GRACE_SECONDS
    return GRACE_SECONDS


if __name__ == "__main__":
    sys.exit(main())
