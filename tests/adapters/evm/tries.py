"""States with accounts and storage, and proofs of them, made by the package `trie`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import rlp as pyrlp
from trie import HexaryTrie

from adapters.evm.light import rlp
from adapters.evm.light.crypto import keccak
from adapters.evm.light.state import encode_proof, slot_of, word_of
from adapters.evm.light.trie import EMPTY_ROOT
from relay.light.types import Claim


class Account:
    """A contract: its code hash and the words of its storage."""

    def __init__(self, code: bytes, words: Mapping[bytes, bytes]) -> None:
        self.code = code
        self.trie = HexaryTrie({})
        for slot, word in words.items():
            if any(word):
                self.trie[keccak(slot)] = rlp.encode(word.lstrip(b"\0"))
        root = bytes(self.trie.root_hash) if words else EMPTY_ROOT
        self.encoded = rlp.encode([b"\x01", b"", root, code])


class WorldState:
    """Accounts under one state root."""

    def __init__(self, accounts: Mapping[bytes, Account]) -> None:
        self.accounts = accounts
        self.trie = HexaryTrie({})
        for address, account in accounts.items():
            self.trie[keccak(address)] = account.encoded
        self.root = bytes(self.trie.root_hash)

    def nodes(self, address: bytes, slots: Sequence[bytes]) -> list[bytes]:
        """The nodes that show an account and some of its slots, each once."""
        account = self.accounts[address]
        found = _path(self.trie, keccak(address))
        for slot in slots:
            found += _path(account.trie, keccak(slot))
        return list(dict.fromkeys(found))

    def prove(self, address: bytes, paths: Sequence[bytes]) -> bytes:
        """A membership proof."""
        return encode_proof(address, self.nodes(address, [slot_of(p) for p in paths]))


def endpoint(code: bytes, claims: Sequence[Claim]) -> Account:
    """An endpoint that has written what is claimed."""
    return Account(
        code, {slot_of(c.path): word_of(c.path, c.value) for c in claims if c.value is not None}
    )


def _path(trie: HexaryTrie, key: bytes) -> list[bytes]:
    raw = [pyrlp.encode(node) for node in trie.get_proof(key)]
    return [node for at, node in enumerate(raw) if at == 0 or len(node) >= 32]
