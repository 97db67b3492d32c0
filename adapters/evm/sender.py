"""A private key and its one lane of nonces: calls are sent, followed, replaced where they stick.

Every round begins at the first nonce that is not mined, whatever a crash left behind: an old call
that still waits there is replaced by a new one at a higher price, a nonce that was dropped is
filled. What is sent here may be lost or done twice without harm (deliveries are idempotent, and a
record is posted again by whoever got no answer), so that no call has to be remembered on a disk.
The key has no other user; two programs with one key would replace each other's calls.
"""

from __future__ import annotations

import threading
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coincurve

from adapters.evm.light.crypto import address_of
from adapters.evm.rpc import Rpc
from adapters.evm.sdk import Account, Web3
from relay.errors import Malformed, Reason, Unavailable

RECEIPT_SECONDS = 60.0
"""Until callers are told that it is not mined; it may be all the same."""
BUMP_SECONDS = 12.0
"""Without being mined, after which a call is replaced at a higher price."""
POLL_SECONDS = 0.1
MAX_GAS = 12_000_000
MAX_AT_ONCE = 16
"""Calls that wait side by side: nodes keep so many of one sender."""
_BUMP = (9, 8)
"""Nodes take a replacement that pays an eighth more."""
_UNSEEN = 5
"""Looks at a nonce that is used up without our receipt until it counts as used by another call."""

_UNDERPRICED = (
    "underpriced", "gas price below", "gas price too low", "fee too low", "less than block base",
)  # fmt: skip
_HELD = "replacement"
_KNOWN = ("already known", "known transaction", "already imported")
_USED = ("nonce too low", "nonce is too low")


@dataclass(slots=True)
class _Call:
    """One call on its way."""

    to: bytes | None
    data: bytes
    gas: int
    nonce: int = -1
    price: int = 0
    sent: float = 0.0
    unseen: int = 0
    hashes: list[str] = field(default_factory=list)


class Sender:
    """See the module. Thread-safe."""

    def __init__(self, path: Path, max_gas_price: int, bump_seconds: float = BUMP_SECONDS) -> None:
        """`max_gas_price`: wei; no call pays more. Raises Malformed(CONFIG_INVALID)."""
        try:
            self._key = bytes.fromhex(path.read_text().strip().removeprefix("0x"))
            public = coincurve.PrivateKey(self._key).public_key.format(compressed=False)
        except (OSError, ValueError) as err:
            raise Malformed(
                f"{path}: is no private key in hex", reason=Reason.CONFIG_INVALID
            ) from err
        self.address = address_of(public)
        self.receipt_seconds = RECEIPT_SECONDS
        self._max_gas_price = max_gas_price
        self._bump_seconds = bump_seconds
        self._chain = 0
        self._lock = threading.Lock()

    def send(self, rpc: Rpc, to: bytes | None, data: bytes) -> dict[str, Any]:
        """One call; its receipt. Raises Unavailable, Malformed."""
        return self.send_all(rpc, [(to, data)])[0]

    def send_all(
        self, rpc: Rpc, asked: Sequence[tuple[bytes | None, bytes]]
    ) -> list[dict[str, Any]]:
        """Calls in order of their nonces, many in one block where the chain takes them; their
        receipts. Raises Unavailable where one is not mined in time, Malformed where one reverts."""
        receipts: list[dict[str, Any]] = []
        with self._lock:
            for at in range(0, len(asked), MAX_AT_ONCE):
                receipts += self._round(rpc, asked[at : at + MAX_AT_ONCE])
        return receipts

    def _round(self, rpc: Rpc, asked: Sequence[tuple[bytes | None, bytes]]) -> list[dict[str, Any]]:
        self._chain = self._chain or rpc.number("eth_chainId", [])
        calls = [_Call(to, data, self._gas(rpc, to, data)) for to, data in asked]
        first = self._mined(rpc)
        for at, call in enumerate(calls):
            self._place(rpc, call, first + at)
        found: dict[int, dict[str, Any]] = {}
        until = clock.monotonic() + self.receipt_seconds
        while len(found) < len(calls):
            if clock.monotonic() > until:
                raise Unavailable(
                    Reason.CHAIN_UNREACHABLE, "the call is not mined yet: it is tried again"
                )
            self._look(rpc, calls, found)
            if len(found) < len(calls):
                clock.sleep(POLL_SECONDS)
        return [found[at] for at in range(len(calls))]

    def _look(self, rpc: Rpc, calls: Sequence[_Call], found: dict[int, dict[str, Any]]) -> None:
        """One look at what is not mined: taken over, replaced, or found."""
        mined = self._mined(rpc)
        for at, call in enumerate(calls):
            if at in found:
                continue
            receipt = next(filter(None, (_receipt(rpc, h) for h in reversed(call.hashes))), None)
            if receipt is not None:
                found[at] = receipt
            elif mined > call.nonce:
                call.unseen += 1
                if call.unseen >= _UNSEEN:  # an older call of this key got there first
                    call.unseen, call.hashes = 0, []
                    self._place(rpc, call, max(mined, 1 + max(c.nonce for c in calls)))
            elif clock.monotonic() - call.sent > self._bump_seconds:
                self._submit(rpc, call, self._raised(call.price))

    def _gas(self, rpc: Rpc, to: bytes | None, data: bytes) -> int:
        asked = {"from": "0x" + self.address.hex(), "data": "0x" + data.hex()}
        if to is not None:
            asked["to"] = "0x" + to.hex()
        return min(rpc.number("eth_estimateGas", [asked]) * 5 // 4, MAX_GAS)

    def _mined(self, rpc: Rpc) -> int:
        return rpc.number("eth_getTransactionCount", ["0x" + self.address.hex(), "latest"])

    def _raised(self, price: int) -> int:
        return min(max(price * _BUMP[0] // _BUMP[1] + 1, price + 1), self._max_gas_price)

    def _place(self, rpc: Rpc, call: _Call, nonce: int) -> None:
        call.nonce = nonce
        self._submit(rpc, call, min(rpc.number("eth_gasPrice", []), self._max_gas_price))

    def _submit(self, rpc: Rpc, call: _Call, price: int) -> None:
        """Signs and sends, raising the price until the node takes it in the place of another.

        What a node refuses to replace still waits there: the next look finds it. Raises Malformed
        where the node takes it at no price that is allowed, Unavailable where a call that another
        program left cannot be replaced (on a chain without gas prices).
        """
        held = False
        while True:
            call.price, call.sent = price, clock.monotonic()
            raw = self._sign(call)
            try:
                call.hashes.append(str(rpc.ask("eth_sendRawTransaction", [raw])))
                return
            except Malformed as err:
                said = err.detail.lower()
                low = any(one in said for one in _UNDERPRICED)
                if not low or price >= self._max_gas_price:
                    if call.hashes or any(one in said for one in (*_KNOWN, *_USED)):
                        return
                    if held and not low:
                        raise Unavailable(
                            Reason.CHAIN_UNREACHABLE, "an older call of this key waits to be mined"
                        ) from err
                    raise
                held = held or _HELD in said
            price = self._raised(price)

    def _sign(self, call: _Call) -> str:
        asked: dict[str, Any] = {
            "data": "0x" + call.data.hex(),
            "value": 0,
            "nonce": call.nonce,
            "gas": call.gas,
            "gasPrice": call.price,
            "chainId": self._chain,
        }
        if call.to is not None:
            asked["to"] = Web3.to_checksum_address("0x" + call.to.hex())
        return "0x" + bytes(Account.sign_transaction(asked, self._key).raw_transaction).hex()


def _receipt(rpc: Rpc, sent: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = rpc.ask("eth_getTransactionReceipt", [sent])
        return found
    except Malformed:
        return None
