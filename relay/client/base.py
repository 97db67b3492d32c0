"""What every group of calls shares: the connection, and paging."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from relay.client.connection import Connection

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
    ) -> Iterator[_T]:
        """Every item of a listing, fetched page by page as it is read."""
        request.page_size = PAGE
        while True:
            response = self._connection.call(method, request)
            for item in getattr(response, field):
                yield decode(item)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token
