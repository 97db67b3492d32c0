"""Test validators that seal headers in each variant, over any roots: real ones, too."""

from __future__ import annotations

from adapters.evm.light.client import present
from adapters.evm.light.header import IBFT1, IBFT2, QBFT, Vote
from adapters.evm.light.parameters import PROOF_KIND, QUORUM, TREE_HASH, TRUST_LEVEL
from adapters.evm.light.validators import header_source, name_of
from adapters.evm.practice.seals import START, Sealer, extra, hash_of, header, ring
from relay.light.types import ClientState

EPOCH = 30_000
CHAIN = "sz-money/0"


def raw_header(variant: str, raw: bytes, *, source: bytes | None = None, **more: object) -> bytes:
    """As a light client is given it."""
    kept = header_source(EPOCH) if source is None else source
    return present(variant, CHAIN, kept, raw, **more)  # type: ignore[arg-type]


def state_of(variant: str, **more: object) -> ClientState:
    """What a client pins, with a meaningless endpoint unless told."""
    parameters = {
        "code": "0x" + "00" * 32,
        "endpoint": "0x" + "00" * 20,
        "validators": f"header:{EPOCH}",
        **more,
    }
    return ClientState(
        "evm",
        CHAIN,
        algorithm=variant,
        tree_hash=TREE_HASH,
        proof_kind=PROOF_KIND,
        threshold=QUORUM,
        trust_level=TRUST_LEVEL,
        trusting_period=14 * 86_400,
        parameters=tuple(sorted(parameters.items())),  # type: ignore[arg-type]
    )


__all__ = [
    "CHAIN", "EPOCH", "IBFT1", "IBFT2", "QBFT", "START", "Sealer", "Vote", "extra", "hash_of",
    "header", "name_of", "raw_header", "ring", "state_of",
]  # fmt: skip
