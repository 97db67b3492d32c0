"""Headers and proofs of words, as a node tells them and as verifiers take them. Untrusted."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.evm.blocks import header_of
from adapters.evm.light.client import present
from adapters.evm.light.header import hashed_header, split_header
from adapters.evm.light.validators import array_slots, read_source
from adapters.evm.rpc import Rpc, decode_hex
from relay.errors import Malformed

MAX_COUNTED = 200
"""Validators read from a contract, whatever it says how many there are."""


class Headers:
    """The headers of one chain, each with what shows its validators."""

    def __init__(self, rpc: Rpc, variant: str, source: bytes) -> None:
        self._rpc = rpc
        self._variant = variant
        self._source = source
        self._tells_raw = True

    def raw(self, height: int) -> bytes:
        """The RLP of a header, committed seals included. Raises Malformed, Unavailable."""
        if self._tells_raw:
            try:
                return decode_hex(self._rpc.ask("debug_getRawHeader", [hex(height)]), "header")
            except Malformed:
                pass  # GoQuorum has no such call: see adapters.evm.blocks
        told = self._rpc.ask("eth_getBlockByNumber", [hex(height), False])
        raw = header_of(self._variant, told)
        self._tells_raw = False
        return raw

    def present(self, chain_id: str, height: int) -> bytes:
        """A header as the light client reads it; where a contract holds the validators, with the
        proof of them under the parent. Raises Malformed, Unavailable."""
        raw = self.raw(height)
        _, contract, slot = read_source(self._source)
        link: list[bytes] = []
        if contract:
            parent = split_header(self._variant, self.raw(height - 1))[0]
            at = height - 1
            _, ((count, proof),) = prove_words(self._rpc, contract, [slot.to_bytes(32, "big")], at)
            slots = [s.to_bytes(32, "big") for s in array_slots(slot, min(count, MAX_COUNTED))]
            account, words = prove_words(self._rpc, contract, slots, at)
            nodes = dict.fromkeys([*account, *proof, *(n for _, listed in words for n in listed)])
            link = [hashed_header(self._variant, parent), *nodes]
        return present(self._variant, f"{chain_id}/0", self._source, raw, link=link)


def prove_words(
    rpc: Rpc, address: bytes, slots: Sequence[bytes], height: int
) -> tuple[list[bytes], list[tuple[int, list[bytes]]]]:
    """(account nodes, of each slot its word and its nodes). Raises Malformed, Unavailable."""
    asked = ["0x" + address.hex(), ["0x" + s.hex() for s in slots], hex(height)]
    got = rpc.ask("eth_getProof", asked)
    try:
        account = [decode_hex(n, "node") for n in got["accountProof"]]
        words = [
            (int(s["value"], 16), [decode_hex(n, "node") for n in s["proof"]])
            for s in got["storageProof"]
        ]
    except (KeyError, TypeError, ValueError) as err:
        raise Malformed("the node's proof has another form") from err
    if len(words) != len(slots):
        raise Malformed("the node proved another number of slots")
    # A trie of one small leaf has a root below 32 bytes, and an empty one has no node at all.
    return account, [(w, [n for n in p if n != b"\x80"]) for w, p in words]
