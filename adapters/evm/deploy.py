"""Puts an endpoint and its applications on a chain: what an operator does once.

The endpoint is anchored in a head of the relay that its operator compared by other means, as every
client is; it becomes the owner's, who should be a contract of several signers.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.evm import calls
from adapters.evm.light.crypto import keccak
from adapters.evm.rpc import Rpc, decode_hex
from adapters.evm.sender import Sender
from relay.errors import Malformed
from relay.light.checkpoint import split_origin
from relay.light.types import DEFAULT_CLOCK_DRIFT, DEFAULT_TRUSTING_PERIOD, Header

MAX_SHORT = 31


@dataclass(frozen=True, slots=True)
class Deployed:
    """Where a contract lies."""

    address: bytes
    code_hash: bytes
    """Keccak-256 of its code, immutables included: what a client pins."""
    block: int
    gas: int


def deploy_endpoint(
    rpc: Rpc,
    sender: Sender,
    name: str,
    anchor: Header,
    *,
    trusting_period: int = DEFAULT_TRUSTING_PERIOD,
    clock_drift: int = DEFAULT_CLOCK_DRIFT,
) -> Deployed:
    """An endpoint of the ledger `name` for the relay whose verified head is `anchor`.

    Raises Malformed for a name longer than 31 bytes, Unavailable.
    """
    relay, _ = split_origin(anchor.chain_id)
    if anchor.set_hash != anchor.next_set_hash:
        raise Malformed("anchor the endpoint in a head that announces no other set")
    encoded, ys = calls.set_of(anchor.validators)
    body = (anchor.height, anchor.time, anchor.root, anchor.set_hash, anchor.next_set_hash)
    pinned: tuple[object, ...] = (anchor.chain_id, trusting_period, clock_drift, 0, [], body)
    return deploy(rpc, sender, "Endpoint", _short(name), _short(relay), pinned, encoded, ys)


def deploy(rpc: Rpc, sender: Sender, contract: str, *arguments: object) -> Deployed:
    """One contract of contracts/artifacts.json. Raises Unavailable, Malformed."""
    receipt = sender.send(rpc, None, calls.creation(contract, arguments))
    if receipt.get("status") != "0x1":
        raise Malformed("the contract refused to be made: see its constructor")
    address = decode_hex(receipt.get("contractAddress"), "address")
    code = decode_hex(rpc.ask("eth_getCode", ["0x" + address.hex(), "latest"]), "code")
    return Deployed(
        address,
        keccak(code),
        int(receipt["blockNumber"], 16),
        int(receipt["gasUsed"], 16),
    )


def _short(text: str) -> bytes:
    raw = text.encode()
    if not 1 <= len(raw) <= MAX_SHORT:
        raise Malformed(f"a name on an EVM ledger has 1 to {MAX_SHORT} bytes")
    return raw.ljust(32, b"\0")
