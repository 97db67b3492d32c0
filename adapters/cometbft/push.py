"""New blocks as a node tells of them by its websocket, with polling as the watchdog.

A push saves waiting and is believed in nothing: whoever was told asks for the header and verifies
it. Where the websocket cannot be had, closes or stays silent, the height is polled.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from relay.errors import LianqiaoError

POLL_SECONDS = 5.0
"""The height is asked for after so long a silence, whatever the websocket says."""
OPEN_SECONDS = 5.0
MAX_PUSH_BYTES = 4 * 1024 * 1024
_SUBSCRIBE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "subscribe",
    "params": {"query": "tm.event='NewBlockHeader'"},
}


class Blocks:
    """Waits for the next block of one node. Not thread-safe: one waits at a time."""

    def __init__(
        self,
        address: str,
        height: Callable[[], int],
        *,
        tls: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`height` polls the newest height."""
        self._url = f"{'wss' if tls else 'ws'}://{address}/websocket"
        self._height = height
        self._clock = clock
        self._sleep = sleep
        self._connection: ClientConnection | None = None
        self._open = ExitStack()
        self.pushes = 0
        """How often the websocket told of a block."""

    def wait(self, after: int, seconds: float) -> bool:
        """Whether there is a height above `after`, once there is, or after `seconds`."""
        until = self._clock() + seconds
        while self._newest() <= after:
            left = until - self._clock()
            if left <= 0:
                return False
            self._listen(min(left, POLL_SECONDS))
        return True

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError, WebSocketException):
            self._open.close()
        self._connection = None

    def _newest(self) -> int:
        with suppress(LianqiaoError):
            return self._height()
        return 0

    def _listen(self, seconds: float) -> None:
        """Returns when something was heard, or after `seconds`."""
        started = self._clock()
        try:
            if self._connection is None:
                opening = connect(
                    self._url,
                    open_timeout=min(seconds, OPEN_SECONDS),
                    close_timeout=1,
                    max_size=MAX_PUSH_BYTES,
                )
                self._connection = self._open.enter_context(opening)
                self._connection.send(json.dumps(_SUBSCRIBE))
                self._connection.recv(timeout=min(seconds, OPEN_SECONDS))
            self._connection.recv(timeout=max(seconds - (self._clock() - started), 0.01))
            self.pushes += 1
        except TimeoutError:
            return
        except (OSError, ValueError, WebSocketException):
            self.close()
            self._sleep(max(min(seconds, 1.0) - (self._clock() - started), 0))
