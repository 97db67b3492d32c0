"""What a client of an EVM chain pins beside its keys, as `ClientState.parameters` says it.

    endpoint     0x and 40 hex digits: the contract whose storage is believed
    code         0x and 64 hex digits: Keccak-256 of its code, immutables included
    escrow       0x and 40 hex digits: the contract whose books are believed; and
    escrow-code  0x and 64 hex digits: of its code. Both, or neither where it keeps no money
    validators   header:EPOCH                 headers list the set; votes are void each EPOCH blocks
                 contract:0xADDRESS:SLOT      an array of that contract, at that storage slot

Lower case, decimal without leading zeros. The thresholds are no choice: ceil(2N/3) of the set in
force, and more than N/3 of a trusted one where headers are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from adapters.evm.light.header import VARIANTS
from adapters.evm.light.validators import contract_source, header_source
from relay.errors import Malformed
from relay.light.types import MAX_INT, ClientState, Threshold

QUORUM = Threshold(2, 3, strict=False)
TRUST_LEVEL = Threshold(1, 3, strict=True)
TREE_HASH, PROOF_KIND = "keccak256", "mpt"
NAMES = ("code", "endpoint", "validators")
WITH_ESCROW = ("code", "endpoint", "escrow", "escrow-code", "validators")


@dataclass(frozen=True, slots=True)
class Pinned:
    """The parameters, read."""

    endpoint: bytes
    code: bytes
    source: bytes
    """`relay.light.types.ValidatorSet.source` of every set."""
    escrow: tuple[bytes, bytes] | None = None
    """Its address and its code, where the chain keeps money."""


@lru_cache(maxsize=64)
def pinned(state: ClientState) -> Pinned:
    """What `state` pins. Raises Malformed for one that may not be pinned."""
    if state.algorithm not in VARIANTS:
        raise Malformed(f"an evm client pins one of {', '.join(VARIANTS)}")
    if (state.tree_hash, state.proof_kind) != (TREE_HASH, PROOF_KIND):
        raise Malformed(f"an evm client pins tree {TREE_HASH} and proofs {PROOF_KIND}")
    if (state.threshold, state.trust_level) != (QUORUM, TRUST_LEVEL) or state.witnesses:
        raise Malformed("an evm client pins 2/3 of the validators, trust above 1/3, no witnesses")
    if tuple(name for name, _ in state.parameters) not in (NAMES, WITH_ESCROW):
        raise Malformed(
            f"an evm client pins the parameters {', '.join(NAMES)}, and beside them both of "
            "escrow, escrow-code or neither"
        )
    said = dict(state.parameters)
    escrow = None
    if "escrow" in said:
        escrow = (hexadecimal(said["escrow"], 20), hexadecimal(said["escrow-code"], 32))
    return Pinned(
        hexadecimal(said["endpoint"], 20),
        hexadecimal(said["code"], 32),
        read_source_text(said["validators"]),
        escrow,
    )


def hexadecimal(text: str, length: int) -> bytes:
    """Bytes in 0x and lower-case hex. Raises Malformed."""
    digits = text[2:]
    if (
        not text.startswith("0x")
        or len(digits) != 2 * length
        or set(digits) - set("0123456789abcdef")
    ):
        raise Malformed(f"{text[:80]!r} is not 0x and {2 * length} lower-case hex digits")
    return bytes.fromhex(digits)


def read_source_text(text: str) -> bytes:
    """The source that the parameter `validators` names. Raises Malformed."""
    kind, _, rest = text.partition(":")
    if kind == "header":
        epoch = _decimal(rest)
        if epoch < 1:
            raise Malformed("an epoch has at least one block")
        return header_source(epoch)
    if kind == "contract":
        address, _, slot = rest.partition(":")
        return contract_source(hexadecimal(address, 20), _decimal(slot))
    raise Malformed("validators: header:EPOCH or contract:0xADDRESS:SLOT")


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 19 or str(int(text)) != text:
        raise Malformed(f"{text[:32]!r} is not a decimal number")
    if int(text) > MAX_INT:
        raise Malformed("a number stays below 2^63")
    return int(text)
