"""A server of CometBFT's JSON-RPC over a chain that a test makes, on loopback."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adapters.cometbft.light.block import NOBODY, BlockHeader, BlockId, CommitSig, Timestamp
from adapters.cometbft.light.client import CometHeader, _places
from relay.light.types import Validator

Answer = Callable[[str, dict[str, Any]], Any]
"""(method, parameters) -> result; raises Refusal, or returns bytes to be sent as they are."""


class Refusal(Exception):
    """An error of the RPC, with CometBFT's own words."""


class RpcServer:
    """Serves `answer`; `address` is HOST:PORT."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.calls.append(asked["method"])
                body: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
                try:
                    result = outer.answer(asked["method"], asked["params"])
                    body["result"] = result
                except Refusal as error:
                    result = None
                    body["error"] = {
                        "code": -32603,
                        "message": "Internal error",
                        "data": str(error),
                    }
                raw = result if isinstance(result, bytes) else json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Served:
    """What a node answers whose headers `header_at` makes, of heights from `lowest` to `newest`."""

    def __init__(
        self,
        chain_id: str,
        header_at: Callable[[int], CometHeader],
        newest: Callable[[], int],
        lowest: int = 1,
    ) -> None:
        self.chain_id = chain_id
        self.header_at = header_at
        self.newest = newest
        self.lowest = lowest

    def __call__(self, method: str, params: dict[str, Any]) -> Any:
        newest = self.newest()
        if method == "status":
            heights = {
                "latest_block_height": str(newest),
                "earliest_block_height": str(self.lowest),
            }
            return {"node_info": {"network": self.chain_id}, "sync_info": heights}
        height = int(params["height"])
        if height > newest:
            raise Refusal(
                f"height {height} must be less than or equal to the current blockchain height "
                f"{newest}"
            )
        if height < self.lowest:
            raise Refusal(f"height {height} is not available, lowest height is {self.lowest}")
        header = self.header_at(height)
        if method == "commit":
            return {"canonical": True, "signed_header": signed_header(header)}
        assert method == "validators", method
        page, size = int(params["page"]), int(params["per_page"])
        shown = header.validators.validators[(page - 1) * size : page * size]
        return {
            "block_height": str(height),
            "validators": [validator(one) for one in shown],
            "count": str(len(shown)),
            "total": str(len(header.validators.validators)),
        }


def _hex(value: bytes) -> str:
    return value.hex().upper()


def _time(time: Timestamp) -> str:
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{time.nanos:09d}Z" if time.nanos else f"{moment}Z"


def _block_id(block_id: BlockId) -> dict[str, Any]:
    parts = {"total": block_id.parts, "hash": _hex(block_id.parts_hash)}
    return {"hash": _hex(block_id.hash), "parts": parts}


def block_header(header: BlockHeader) -> dict[str, Any]:
    named = {
        name: _hex(getattr(header, name))
        for name in BlockHeader.__slots__
        if isinstance(getattr(header, name), bytes)
    }
    return {
        **named,
        "version": {"block": str(header.block_protocol), "app": str(header.app_protocol)},
        "chain_id": header.chain_id,
        "height": str(header.height),
        "time": _time(header.time),
        "last_block_id": _block_id(header.last_block_id),
    }


def signed_header(header: CometHeader) -> dict[str, Any]:
    places = [_place(place) for place in _places(header)]
    commit = {
        "height": str(header.height),
        "round": header.round,
        "block_id": _block_id(header.block_id),
        "signatures": places,
    }
    return {"header": block_header(header.block), "commit": commit}


def _place(place: CommitSig) -> dict[str, Any]:
    if place == NOBODY:
        return {
            "block_id_flag": 1,
            "validator_address": "",
            "timestamp": "0001-01-01T00:00:00Z",
            "signature": None,
        }
    return {
        "block_id_flag": place.flag,
        "validator_address": _hex(place.address),
        "timestamp": _time(place.time),
        "signature": b64encode(place.signature).decode(),
    }


def validator(one: Validator) -> dict[str, Any]:
    algorithm, key = one.keys[0]
    kind = "Ed25519" if algorithm.startswith("ed25519") else "Secp256k1"
    return {
        "address": one.name,
        "pub_key": {"type": f"tendermint/PubKey{kind}", "value": b64encode(key).decode()},
        "voting_power": str(one.power),
        "proposer_priority": "-3",
    }
