"""Headers out of the members of `eth_getBlockByNumber`: the same bytes, or a refusal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.evm.blocks import header_of
from adapters.evm.light import rlp
from adapters.evm.light.header import QBFT, VARIANTS
from adapters.evm.practice.seals import hash_of, header, ring
from relay.errors import LianqiaoError, Reason
from tests.vectors_dir import vectors

NAMES = [
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot",
    "logsBloom", "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash",
    "nonce", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas",
    "parentBeaconBlockRoot", "requestsHash", "blockAccessListHash", "slotNumber",
]  # fmt: skip
NUMBERS = {
    "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed",
    "excessBlobGas", "slotNumber",
}  # fmt: skip
OPTIONAL = [b"\x07", b"\x44" * 32, b"", b"\x01", b"\x55" * 32, b"\x66" * 32, b"\x77" * 32, b"\x09"]


def told(variant: str, raw: bytes) -> dict[str, Any]:
    """A header as a node tells it."""
    block: dict[str, Any] = {"hash": "0x" + hash_of(variant, raw).hex(), "uncles": []}
    for name, item in zip(NAMES, rlp.fields(rlp.decode(raw), "header"), strict=False):
        value = rlp.octets(item, name)
        number = hex(int.from_bytes(value, "big"))
        block[name] = number if name in NUMBERS else "0x" + value.hex()
    return block


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("count", range(len(OPTIONAL) + 1))
def test_the_same_header(variant: str, count: int) -> None:
    raw = header(variant, ring(4), optional=OPTIONAL[:count])
    assert header_of(variant, told(variant, raw)) == raw


def test_a_real_header_of_besu() -> None:
    found = json.loads((vectors("chains") / "besu/qbft_header_real_besu.json").read_text())
    raw = bytes.fromhex(found["header_rlp"][2:])
    assert header_of(QBFT, told(QBFT, raw)) == raw


@pytest.mark.parametrize("name", NAMES)
def test_every_member_is_under_the_hash(name: str) -> None:
    raw = header(QBFT, ring(4), optional=OPTIONAL)
    block = told(QBFT, raw)
    for value in (None, "0x", "0x01ff", "ff", 7, "0x" + "99" * 32):
        with pytest.raises(LianqiaoError) as err:
            header_of(QBFT, {**block, name: value})
        assert err.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("block", [None, [], "0x", {}])
def test_what_is_no_block(block: object) -> None:
    with pytest.raises(LianqiaoError) as err:
        header_of(QBFT, block)
    assert err.value.reason is Reason.MALFORMED


def test_a_chain_with_a_field_that_is_not_known_here() -> None:
    raw = header(QBFT, ring(4))
    block = told(QBFT, raw) | {"hash": "0x" + "12" * 32}
    with pytest.raises(LianqiaoError, match="another hash"):
        header_of(QBFT, block)
