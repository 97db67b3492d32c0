"""What a replica asks of the CometBFT process beside it: to spread a transaction, and for headers.

JSON-RPC over HTTP on loopback, standard library alone. Every answer is bounded.
"""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from relay.errors import Malformed, Reason, Unavailable
from relay.nesting import loads

MAX_ANSWER_BYTES = 16 * 1024 * 1024
MAX_NESTING = 64
TIMEOUT_SECONDS = 10.0
VALIDATORS_PER_PAGE = 100
MAX_PAGES = 3


class LocalRpc:
    """The RPC of the local CometBFT, `host:port`. Thread-safe: a connection for each call."""

    def __init__(self, address: str, timeout: float = TIMEOUT_SECONDS) -> None:
        self.address = address
        self._timeout = timeout

    def spread(self, transaction: bytes) -> tuple[int, str]:
        """(code, log) of CheckTx on the local replica; (0, "") also where it is known already."""
        answer = self._call("broadcast_tx_sync", {"tx": b64encode(transaction).decode()})
        error = answer.get("error")
        if isinstance(error, dict):
            text = f"{error.get('message', '')} {error.get('data', '')}"
            if "already exists in cache" in text:
                return 0, ""
            if "mempool is full" in text:
                raise Unavailable(Reason.CHAIN_UNREACHABLE, "too many transactions wait")
            raise Unavailable(Reason.CHAIN_UNREACHABLE, f"CometBFT takes no transaction: {text}")
        result = _result(answer)
        return int(result.get("code", 0)), str(result.get("log", ""))

    def commit(self, height: int) -> Mapping[str, Any]:
        """/commit: `signed_header` of a height."""
        return _result(self._call("commit", {"height": str(height)}))

    def validators(self, height: int) -> list[Any]:
        """/validators: all pages of the set that signs a height."""
        found: list[Any] = []
        for page in range(1, MAX_PAGES + 1):
            asked = {"height": str(height), "page": str(page), "per_page": str(VALIDATORS_PER_PAGE)}
            result = _result(self._call("validators", asked))
            found += result.get("validators") or []
            if len(found) >= int(result.get("total", 0)):
                return found
        raise Malformed("CometBFT shows too many validators", reason=Reason.LIMIT_EXCEEDED)

    def status(self) -> Mapping[str, Any]:
        """/status."""
        return _result(self._call("status", {}))

    def _call(self, method: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = http.client.HTTPConnection(self.address, timeout=self._timeout)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read(MAX_ANSWER_BYTES + 1)
            if response.length and len(raw) <= MAX_ANSWER_BYTES:
                raise http.client.IncompleteRead(raw)
        except (OSError, http.client.HTTPException) as err:
            raise Unavailable(
                Reason.CHAIN_UNREACHABLE,
                f"CometBFT does not answer at {self.address}",
                hint="start it, or look at its log; nothing is lost",
                address=self.address,
            ) from err
        finally:
            connection.close()
        try:
            answer = loads(raw, MAX_NESTING) if len(raw) <= MAX_ANSWER_BYTES else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Malformed("CometBFT answers what is no JSON-RPC")
        return answer


def _result(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    result = answer.get("result")
    if not isinstance(result, dict):
        error = answer.get("error")
        data = error.get("data", "") if isinstance(error, dict) else ""
        raise Unavailable(Reason.CHAIN_UNREACHABLE, f"CometBFT has no answer: {str(data)[:200]}")
    return result
