"""A block's header out of `eth_getBlockByNumber`, for nodes that do not tell it as it is encoded.

GoQuorum has no `debug_getRawHeader`, and operators often leave the `debug` calls off. The fields of
the header are under the block's hash, seals apart, which are under nothing and are verified by
whoever receives the header. Names of the members: Ethereum JSON-RPC, `Block`.
"""

from __future__ import annotations

from adapters.evm.light import rlp
from adapters.evm.light.header import decode_body, split_header
from adapters.evm.rpc import decode_hex, decode_number
from relay.errors import Malformed

_OCTETS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot",
    "logsBloom",
)  # fmt: skip
_NUMBERS = ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
_LAST = ("extraData", "mixHash", "nonce")
_OPTIONAL = (
    ("baseFeePerGas", True), ("withdrawalsRoot", False), ("blobGasUsed", True),
    ("excessBlobGas", True), ("parentBeaconBlockRoot", False), ("requestsHash", False),
    ("blockAccessListHash", False), ("slotNumber", True),
)  # fmt: skip
"""In the order of the header (light/header.py, OPTIONAL), and whether it is a number."""


def header_of(variant: str, block: object) -> bytes:
    """The RLP of the header, committed seals included, that these members tell.

    Raises Malformed where one is missing, or where they do not make the hash that the node tells:
    the chain has fields that are not known here.
    """
    if not isinstance(block, dict):
        raise Malformed("the node tells no block")
    items: list[rlp.Encodable] = [decode_hex(block.get(name), name) for name in _OCTETS]
    items += [_number(block.get(name)) for name in _NUMBERS]
    items += [decode_hex(block.get(name), name) for name in _LAST]
    for name, is_number in _OPTIONAL:
        told = block.get(name)
        if told is None:
            break
        items.append(_number(told) if is_number else decode_hex(told, name))
    raw = rlp.encode(items)
    if decode_body(variant, split_header(variant, raw)[0]).hash != decode_hex(
        block.get("hash"), "hash"
    ):
        raise Malformed("the node's block has another hash than its members make")
    return raw


def _number(told: object) -> bytes:
    return rlp.encode_integer(decode_number(told))
