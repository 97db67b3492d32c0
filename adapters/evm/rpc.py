"""JSON-RPC to one chain through several nodes: deadlines, limits, typed errors.

What a transport does, and what is no answer, becomes Unavailable(CHAIN_UNREACHABLE), after every
node was tried; a node that was caught leaving something out is asked last. An answer that is too
long is Malformed(LIMIT_EXCEEDED): whoever asked for logs asks for those of fewer blocks.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from relay.errors import Malformed, Reason, Unavailable
from relay.nesting import loads
from relay.posting import TooLongError, post

CALL_SECONDS = 15.0
"""Of a whole call to one node."""
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_NESTING = 64


@dataclass(frozen=True, slots=True)
class Called:
    """What a call without a transaction came to."""

    reverted: bool
    data: bytes


class Rpc:
    """The nodes of one chain, each `HOST:PORT`."""

    def __init__(
        self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._addresses = list(addresses)
        self._clock = clock
        self._lock = threading.Lock()

    def ask(self, method: str, params: Sequence[Any]) -> Any:
        """The result. Raises Unavailable, or Malformed where the node answers with an error."""
        answer = self._raw(method, params)
        if "error" in answer or answer.get("result") is None:
            said = str(answer.get("error", {}))[:200] if "error" in answer else "nothing"
            raise Malformed(f"{method}: the node answers {said!r}")
        return answer["result"]

    def number(self, method: str, params: Sequence[Any]) -> int:
        """A result that is a number in hex."""
        return decode_number(self.ask(method, params))

    def call(
        self, to: bytes, data: bytes, sender: bytes = bytes(20), height: int | None = None
    ) -> Called:
        """eth_call; a revert is an answer."""
        asked = {"to": "0x" + to.hex(), "data": "0x" + data.hex(), "from": "0x" + sender.hex()}
        at = "latest" if height is None else hex(height)
        answer = self._raw("eth_call", [asked, at])
        error = answer.get("error")
        if isinstance(error, dict):
            said = error.get("data")
            said = said.get("data", said.get("result")) if isinstance(said, dict) else said
            if isinstance(said, str) and said.startswith("0x"):
                return Called(True, decode_hex(said, "revert"))
            raise Malformed(f"eth_call: the node answers {str(error)[:200]!r}")
        return Called(False, decode_hex(answer.get("result"), "result"))

    def distrust(self, why: str) -> Unavailable:
        """Has the node that answered last be asked last; the error to raise."""
        with self._lock:
            self._addresses.append(self._addresses.pop(0))
        return Unavailable(Reason.CHAIN_UNREACHABLE, f"a node of the chain {why}")

    def _raw(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        body, last, long = json.dumps(asked).encode(), "", False
        for address in list(self._addresses):
            try:
                raw = post(
                    address, body, seconds=CALL_SECONDS, limit=MAX_ANSWER_BYTES, clock=self._clock
                )
                answer = loads(raw, MAX_NESTING)
                if isinstance(answer, dict):
                    return answer
                last = "no JSON-RPC"
            except TooLongError:
                long, last = True, "too long an answer"
                continue
            except Exception as err:  # whatever a transport does, or a node answers
                last = type(err).__name__
            self.distrust("does not answer")
        if long:
            raise Malformed(
                f"{method}: a node answers more than {MAX_ANSWER_BYTES} bytes",
                reason=Reason.LIMIT_EXCEEDED,
            )
        raise Unavailable(
            Reason.CHAIN_UNREACHABLE,
            f"no node of the chain answers: {last}",
            address=",".join(self._addresses)[:200],
        )


def decode_hex(text: object, what: str) -> bytes:
    """Bytes in 0x hex. Raises Malformed."""
    if not isinstance(text, str) or not text.startswith("0x") or len(text) > MAX_ANSWER_BYTES:
        raise Malformed(f"the node's {what} is not hex")
    try:
        return bytes.fromhex(text[2:])
    except ValueError as err:
        raise Malformed(f"the node's {what} is not hex") from err


def decode_number(text: object) -> int:
    """A number in 0x hex, at most 256 bits. Raises Malformed."""
    if not isinstance(text, str) or not text.startswith("0x") or not 3 <= len(text) <= 66:
        raise Malformed("the node tells no number")
    try:
        return int(text, 16)
    except ValueError as err:
        raise Malformed("the node tells no number") from err
