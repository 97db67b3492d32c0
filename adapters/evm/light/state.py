"""What an account and its storage hold under a state root, and how claims become storage slots.

The endpoint keeps one mapping, `mapping(bytes32 => bytes32)` at slot 0, keyed by Keccak-256 of a
path. The word at a packet path is the value itself (32 bytes); at any other path, whose values have
any length, it is SHA-256 of the value. So

    slot = Keccak(Keccak(path) ‖ 32 zero bytes)       key in the storage trie = Keccak(slot)
    trie value = RLP(word without leading zeros); absent where the word is zero

Slot 1 holds what the endpoint has sent, as one word, claimed at the path SENT:

    8 zero bytes ‖ BE64(steps) ‖ BE64(lowest open sequence) ‖ BE64(next sequence)

A membership proof (`relay.light.wire`):

    u8 version = 1, 20 bytes endpoint,
    u32 count and data of each: nodes of the account, then those of each claim in order, each once

The account's code hash is compared too. The endpoint holds its chain's name, its chain number and
the relay it follows as immutables, which are part of its code: so neither another program, nor the
same one on another chain of the same validators, can stand in for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from adapters.evm.light import rlp
from adapters.evm.light.crypto import ADDRESS_BYTES, keccak
from adapters.evm.light.trie import MAX_NODE_BYTES, Nodes, lookup
from relay.errors import Invalid, Malformed, Reason
from relay.light.sent import sent_prefix
from relay.light.types import MAX_INT, MAX_PROOF_BYTES, Claim, Sent
from relay.light.wire import Reader, Writer

MAX_NODES = 65_536
_VERSION = 1
_SLOT_ZERO = bytes(32)
_SLOT_ONE = (1).to_bytes(32, "big")
CLIENT_ID = "checkpoint-0"
"""The one client of an endpoint."""
SENT = sent_prefix(CLIENT_ID)
"""Where the endpoint's count of what it sent is claimed: no path of the mapping, but slot 1."""


def slot_of(path: bytes) -> bytes:
    """The storage slot of a path, 32 bytes."""
    if path == SENT:
        return _SLOT_ONE
    return keccak(keccak(path) + _SLOT_ZERO)


def word_of(path: bytes, value: bytes) -> bytes:
    """The word that says `value` is written at `path`. Raises Invalid(INVALID_PROOF)."""
    if path[:1] == b"\0" and path != SENT:
        return sha256(value).digest()
    if len(value) != 32:
        raise Invalid(Reason.INVALID_PROOF, "what is written at a packet path has 32 bytes")
    return value


def read_sent(time: int, client_id: str, claims: Sequence[Claim]) -> Sent:
    """What the endpoint had sent by the header of `time`: the word of slot 1.

    Every sequence below the lowest open one has ended: acknowledged, or timed out by a proof.
    Raises Malformed, or Invalid(COUNTERPARTY_MISMATCH) for a statement of another client.
    """
    if len(claims) != 1 or claims[0].value is None or len(claims[0].value) != 32:
        raise Malformed("what an endpoint has sent is one word")
    if claims[0].path != SENT or client_id != CLIENT_ID:
        raise Invalid(
            Reason.COUNTERPARTY_MISMATCH,
            "this is no statement of the client on the other side",
            expected=client_id,
        )
    word = claims[0].value
    following, lowest = int.from_bytes(word[24:], "big"), int.from_bytes(word[16:24], "big")
    if any(word[:8]) or not 1 <= lowest <= following <= MAX_INT:
        raise Malformed("what was sent has 1 <= lowest open <= next sequence, below 2^63")
    return Sent(time, following, ((1, lowest),) if lowest > 1 else ())


def account(root: bytes, address: bytes, nodes: Nodes) -> tuple[bytes, bytes]:
    """(storage root, code hash) of an account. Raises Invalid(INVALID_PROOF)."""
    raw = lookup(root, keccak(address), nodes)
    if raw is None:
        raise Invalid(Reason.INVALID_PROOF, "no account has that address")
    try:
        parts = rlp.fields(rlp.decode(raw), "account")
        if len(parts) != 4:
            raise Malformed("account: has four fields")
        rlp.integer(parts[0], "nonce", 2**64 - 1)
        rlp.integer(parts[1], "balance", 2**256 - 1)
        return rlp.octets(parts[2], "storage root", 32), rlp.octets(parts[3], "code hash", 32)
    except Malformed as error:
        raise Invalid(Reason.INVALID_PROOF, error.detail) from error


def storage(root: bytes, slot: bytes, nodes: Nodes) -> bytes:
    """The word at a slot, 32 bytes; zeros where the proof shows that there is nothing."""
    raw = lookup(root, keccak(slot), nodes)
    if raw is None:
        return bytes(32)
    try:
        word = rlp.octets(rlp.decode(raw), "storage word")
    except Malformed as error:
        raise Invalid(Reason.INVALID_PROOF, error.detail) from error
    # Besu and geth remove a word that becomes zero; anvil keeps it as zero. Both say the same.
    if len(word) > 32 or word[:1] == b"\0":
        raise Invalid(Reason.INVALID_PROOF, "a storage word has no leading zeros")
    return word.rjust(32, b"\0")


def encode_proof(endpoint: bytes, listed: Sequence[bytes]) -> bytes:
    """A membership proof (module docstring). Raises Malformed."""
    writer = Writer().u8(_VERSION).fixed(endpoint, ADDRESS_BYTES).count(len(listed), MAX_NODES)
    for node in listed:
        writer.data(node, MAX_NODE_BYTES)
    return writer.done()


def decode_proof(raw: bytes) -> tuple[bytes, list[bytes]]:
    """(endpoint, nodes) of a membership proof. Raises Malformed."""
    if len(raw) > MAX_PROOF_BYTES:
        raise Malformed(f"a membership proof is at most {MAX_PROOF_BYTES} bytes long")
    reader = Reader(raw, "membership proof")
    if reader.u8() != _VERSION:
        raise Malformed("membership proof: unknown version")
    endpoint = reader.fixed(ADDRESS_BYTES)
    listed = [reader.data(MAX_NODE_BYTES) for _ in range(reader.count(MAX_NODES))]
    reader.end()
    return endpoint, listed


def verify_claims(
    root: bytes, endpoint: bytes, code: bytes, proof: bytes, claims: Sequence[Claim]
) -> None:
    """1. the proof decodes and is of the pinned endpoint; 2. its account, with the pinned code, is
    under the state root; 3. each claim's word is under the account; 4. no node is left.

    Raises Malformed, Invalid(INVALID_PROOF).
    """
    named, listed = decode_proof(proof)
    if named != endpoint:
        raise Invalid(Reason.INVALID_PROOF, "the proof is of another contract than the pinned one")
    if not claims:
        raise Invalid(Reason.INVALID_PROOF, "a proof of nothing")
    nodes = Nodes(listed)
    storage_root, code_hash = account(root, endpoint, nodes)
    if code_hash != code:
        raise Invalid(Reason.INVALID_PROOF, "the endpoint has other code than was pinned")
    for claim in claims:
        word = storage(storage_root, slot_of(claim.path), nodes)
        if claim.value is None:
            if any(word):
                raise Invalid(Reason.INVALID_PROOF, "something is written there")
        elif not any(word) or word != word_of(claim.path, claim.value):
            raise Invalid(Reason.INVALID_PROOF, "another value, or nothing, is written there")
    nodes.end()


def narrow(root: bytes, proof: bytes, claims: Sequence[Claim], wanted: Sequence[int]) -> bytes:
    """The proof for some claims out of a verified one for all. Raises Malformed, Invalid."""
    endpoint, listed = decode_proof(proof)
    by_hash = {keccak(node): node for node in listed}
    nodes = Nodes(listed)
    storage_root, _ = account(root, endpoint, nodes)
    of_account = list(nodes.used)
    needed: list[list[bytes]] = []
    for claim in claims:
        nodes.used.clear()
        storage(storage_root, slot_of(claim.path), nodes)
        needed.append(list(nodes.used))
    order = dict.fromkeys(of_account + [h for at in wanted for h in needed[at]])
    return encode_proof(endpoint, [by_hash[node] for node in order])
