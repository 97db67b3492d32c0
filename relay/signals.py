"""SIGTERM and SIGINT as an event that a program waits for."""

from __future__ import annotations

import os
import signal
import threading


def stop_on_signals(stop: threading.Event) -> None:
    """Sets `stop` at the first of them, however many come; called once, by the main thread.

    By a thread: a handler runs amid whatever the main thread does, and where that is to wait for
    `stop`, or to handle the signal before, setting it there would wait for ever.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(told, 1)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
