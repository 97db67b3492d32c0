"""What every group of calls shares: the connection, and paging."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from relay.client.connection import Connection
from relay.errors import Reason, Unavailable

PAGE = 500
_T = TypeVar("_T")


class Calls:
    """A group of calls over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _pages(
        self,
        method: Callable[..., Any],
        request: Any,
        field: str,
        decode: Callable[[Any], _T],
        seconds: float | None = None,
    ) -> Iterator[_T]:
        """Every item of a listing, fetched page by page as it is read.

        `seconds`: for all of it, given where the node is not trusted: its pages may have no end.
        Raises Unavailable(CHAIN_UNREACHABLE).
        """
        until = None if seconds is None else time.monotonic() + seconds
        request.page_size = PAGE
        while True:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE,
                    f"{self._connection.address} did not end its listing in time",
                    address=self._connection.address,
                )
            response = self._connection.call(method, request, left)
            for item in getattr(response, field):
                yield decode(item)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token
