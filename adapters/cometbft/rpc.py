"""The JSON-RPC of CometBFT nodes: several endpoints, each call bounded, all answers untrusted.

Calls go to one endpoint as long as it answers, and to the next where it does not. Each call has a
deadline for the whole of it and a limit on its answer. What a transport does is
Unavailable(CHAIN_UNREACHABLE), what is no answer is Malformed. Heights that a node has pruned, or
has not reached, are NotFound(HEIGHT_NOT_FOUND); the hint says which.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from adapters.cometbft import answers
from adapters.cometbft.answers import Json, elements, member, number
from adapters.cometbft.light.block import BlockCommit, BlockHeader
from adapters.cometbft.light.validators import make_set
from relay.errors import LianqiaoError, Malformed, NotFound, Reason, Unavailable
from relay.light.types import MAX_VALIDATORS, ValidatorSet
from relay.nesting import loads
from relay.posting import TooLongError, post

MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_NESTING = 64
"""Levels of JSON in an answer; CometBFT has about ten."""
CALL_SECONDS = 10.0
PER_PAGE = 100
MAX_TXS = 20_000
_PRUNED = re.compile(r"lowest height is (\d{1,19})")
_AHEAD = re.compile(r"must be less than or equal to|could not find|no commit|not found|is empty")
_T = TypeVar("_T")


class Endpoint:
    """One node's RPC. Thread-safe: each call has a connection of its own."""

    def __init__(
        self,
        address: str,
        *,
        tls: bool = False,
        seconds: float = CALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` is HOST:PORT; `seconds` is the deadline of a whole call."""
        self.address = address
        self._tls = ssl.create_default_context() if tls else None
        self._seconds = seconds
        self._clock = clock

    def call(self, method: str, **params: Json) -> Json:
        """The `result` of a call. Raises Unavailable, Malformed, NotFound(HEIGHT_NOT_FOUND)."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        raw = self._post(body.encode())
        try:
            answer = loads(raw, MAX_NESTING)
        except ValueError as error:
            raise Malformed(f"{self.address} answers what is no JSON") from error
        if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
            raise Malformed(f"{self.address} answers what is no JSON-RPC")
        if answer.get("error"):
            raise self._refusal(answer["error"])
        return answer.get("result")

    def _post(self, body: bytes) -> bytes:
        try:
            return post(
                self.address,
                body,
                seconds=self._seconds,
                limit=MAX_ANSWER_BYTES,
                tls=self._tls,
                clock=self._clock,
            )
        except TooLongError:
            raise Malformed(
                f"{self.address} answers more than {MAX_ANSWER_BYTES} bytes",
                reason=Reason.LIMIT_EXCEEDED,
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._unreachable(type(error).__name__) from error

    def _unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            Reason.CHAIN_UNREACHABLE,
            f"no CometBFT node answers at {self.address}: {why}",
            hint="start it, or correct the address; retry freely",
            address=self.address,
        )

    def _refusal(self, error: Json) -> LianqiaoError:
        found = error if isinstance(error, dict) else {}
        said = f"{found.get('message', '')}: {found.get('data', '')}"[:500]
        pruned = _PRUNED.search(said)
        if pruned:
            return NotFound(
                Reason.HEIGHT_NOT_FOUND,
                f"{self.address} has pruned that height and keeps {pruned[1]} and above",
                hint="ask an archive node, or pin a younger height",
                lowest=pruned[1],
            )
        if _AHEAD.search(said):
            return NotFound(Reason.HEIGHT_NOT_FOUND, f"{self.address} knows no such height")
        return Unavailable(
            Reason.CHAIN_UNREACHABLE,
            f"{self.address} has no answer: {said}",
            hint="retry freely; see the node's log where it stays so",
        )

    # --- what is asked

    def status(self) -> tuple[str, int, int]:
        """(chain id, newest height, lowest height that is kept)."""
        result = self.call("status")
        info, sync = member(result, "node_info"), member(result, "sync_info")
        return (
            answers.text(member(info, "network"), "network", 64),
            number(member(sync, "latest_block_height"), "latest_block_height"),
            number(member(sync, "earliest_block_height"), "earliest_block_height"),
        )

    def signed_header(self, height: int) -> tuple[BlockHeader, BlockCommit]:
        """Header and commit of a height, the rules of each checked."""
        result = self.call("commit", height=str(height))
        header, commit = answers.signed_header_of(member(result, "signed_header"))
        if header.height != height:
            raise Malformed(f"{self.address} answers with another height than was asked for")
        return header, commit

    def validators(self, height: int) -> ValidatorSet:
        """The whole set that signs a height, page by page."""
        found: list[Json] = []
        for page in range(1, MAX_VALIDATORS // PER_PAGE + 1):
            result = self.call(
                "validators", height=str(height), page=str(page), per_page=str(PER_PAGE)
            )
            if number(member(result, "block_height"), "block_height") != height:
                raise Malformed(f"{self.address} answers with another height than was asked for")
            shown = elements(member(result, "validators"), "validators", PER_PAGE)
            total = number(member(result, "total"), "total")
            found += shown
            if len(found) >= total or not shown:
                break
        else:
            raise Malformed(f"more than {MAX_VALIDATORS} validators", reason=Reason.LIMIT_EXCEEDED)
        return make_set(answers.validator_of(one) for one in found)

    def block_txs(self, height: int) -> list[bytes]:
        """The transactions of a block, in order."""
        data = member(member(self.call("block", height=str(height)), "block"), "data")
        shown = elements(member(data, "txs"), "txs", MAX_TXS)
        return [answers.base64_bytes(tx, "tx", MAX_ANSWER_BYTES) for tx in shown]

    def block_results(self, height: int) -> list[Mapping[str, Json]]:
        """The results of a block's transactions, in order."""
        result = self.call("block_results", height=str(height))
        shown = elements(member(result, "txs_results"), "txs_results", MAX_TXS)
        return [answers.members(one, "txs_results") for one in shown]

    def query(self, path: str, data: bytes, height: int) -> Json:
        """The `response` of abci_query with a proof."""
        result = self.call("abci_query", path=path, data=data.hex(), height=str(height), prove=True)
        return member(result, "response")


class Endpoints:
    """Several nodes of one chain: the one that answered last is asked first."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.all = tuple(endpoints)
        self._first = 0
        self._lock = threading.Lock()

    @property
    def first(self) -> Endpoint:
        """The node that is asked first."""
        return self.all[self._first]

    @property
    def others(self) -> tuple[Endpoint, ...]:
        """All but the node that is asked first: witnesses."""
        first = self._first
        return self.all[first + 1 :] + self.all[:first]

    def doubt(self) -> None:
        """Has the node that is asked first be asked last."""
        with self._lock:
            self._first = (self._first + 1) % len(self.all)

    def ask(self, call: Callable[[Endpoint], _T]) -> _T:
        """What the first node answers that answers at all; a pruned height is asked of all.

        Raises what the last of them raised, NOT_FOUND before CHAIN_UNREACHABLE.
        """
        start, failed = self._first, None
        for step in range(len(self.all)):
            at = (start + step) % len(self.all)
            try:
                answer = call(self.all[at])
            except (Unavailable, Malformed, NotFound) as error:
                if not isinstance(failed, NotFound):
                    failed = error
                continue
            with self._lock:
                self._first = at
            return answer
        assert failed is not None, "there is an endpoint"
        raise failed
