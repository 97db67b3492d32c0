"""The light client for EVM consortium chains, entry point `lianqiao.clients: evm`.

    rlp          the one encoding of items
    crypto       Keccak-256 and seals, by compiled libraries
    header       QBFT, IBFT2, IBFT1: fields, votes, two hashes each
    validators   where sets are kept, how they change, their hash
    trie         Merkle-Patricia proofs, inclusion and absence
    state        accounts, storage, membership proofs
    receipts     what a call did
    parameters   what is pinned beside keys
    client       the client type: what a raw header is

Without the extra `lianqiao[evm]` this module does not load, and says so (CLIENT_TYPE_UNKNOWN);
bundles of other chains are verified all the same.
"""

from __future__ import annotations

from adapters.evm.light.client import EVM
from relay.light.types import ClientType

CLIENT: ClientType = EVM
