"""What an entry of a journal is as a leaf, and the proof that entries are under a checkpoint.

    leaf data = H(path) ‖ H(value)            64 bytes; the leaf hash is H(0x00 ‖ leaf data)

Paths are recomputed by the verifier from what he believes was written (`relay.packet`), so a proof
for another path, another value or another place in the tree leads to another root.

One membership proof covers any number of claims. Encoding (`relay.light.wire`):

    u8  version = 1
    u32 count n of claims, 1 to 65,536, then n times u64: the leaf index of each claim, in the
        order of the claims
    u32 count of hashes, then 32 bytes each: the multi proof (`relay.light.merkle`) for those
        indexes in ascending order

One leaf is claimed once, the multi proof has a fixed length and order, and nothing follows: no
part of a proof is unused.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import sha256

from relay.errors import Invalid, Malformed, Reason, Refused
from relay.light.merkle import MAX_MULTI_LEAVES, verify_multi
from relay.light.types import MAX_INT, MAX_PROOF_BYTES, Claim
from relay.light.wire import Reader, Writer

_VERSION = 1
_MAX_HASHES = MAX_PROOF_BYTES // 32


def leaf_data(path: bytes, value: bytes) -> bytes:
    """The 64 bytes of the leaf that says: `value` was written at `path`."""
    return sha256(path).digest() + sha256(value).digest()


def entry_hash(path: bytes, value: bytes) -> bytes:
    """The leaf hash of an entry, 32 bytes."""
    return sha256(b"\x00" + sha256(path).digest() + sha256(value).digest()).digest()


def encode_membership_proof(indexes: Sequence[int], hashes: Sequence[bytes]) -> bytes:
    """The proof: the leaf index of each claim, in their order, and hashes of `merkle.multi_proof`.

    Raises Malformed where a bound of the encoding is broken.
    """
    if not indexes or not all(0 <= index <= MAX_INT for index in indexes):
        raise Malformed("a membership proof needs leaf indexes below 2^63")
    writer = Writer().u8(_VERSION).count(len(indexes), MAX_MULTI_LEAVES)
    packed = struct.pack(f">{len(indexes)}Q", *indexes)
    writer.fixed(packed, len(packed)).count(len(hashes), _MAX_HASHES)
    for value in hashes:
        writer.fixed(value, 32)
    return writer.done()


def decode_membership_proof(raw: bytes) -> tuple[tuple[int, ...], list[bytes]]:
    """(leaf indexes in order of claims, multi-proof hashes). Raises Malformed."""
    if len(raw) > MAX_PROOF_BYTES:
        raise Malformed(f"a membership proof is at most {MAX_PROOF_BYTES} bytes long")
    reader = Reader(raw, "membership proof")
    if reader.u8() != _VERSION:
        raise Malformed("membership proof: unknown version")
    count = reader.count(MAX_MULTI_LEAVES)
    indexes = struct.unpack(f">{count}Q", reader.fixed(8 * count))
    if not indexes or max(indexes) > MAX_INT:
        raise Malformed("membership proof: needs leaf indexes below 2^63")
    joined = reader.fixed(32 * reader.count(_MAX_HASHES))
    reader.end()
    return indexes, [joined[at : at + 32] for at in range(0, len(joined), 32)]


def journal_root(app_hash: bytes) -> tuple[bytes, int]:
    """(root, size) of a journal that another consensus engine replicates, from its app hash.

    An app hash of proof kind `journal` is BE64(size) ‖ root, 40 bytes. Raises
    Invalid(INVALID_PROOF) for any other.
    """
    size = int.from_bytes(app_hash[:8], "big")
    if len(app_hash) != 40 or not 0 < size <= MAX_INT:
        raise Invalid(Reason.INVALID_PROOF, "the app hash is not that of a journal")
    return app_hash[8:], size


def journal_app_hash(size: int, root: bytes) -> bytes:
    """What such an engine puts into its headers: the inverse of `journal_root`."""
    return Writer().u64(size).fixed(root, 32).done()


def verify_membership(
    trusted_root: bytes, trusted_size: int, proof: bytes, claims: Sequence[Claim]
) -> None:
    """Raises unless every claim is an entry under the root of a verified checkpoint.

    Steps: (1) no claim of absence, which this tree cannot show: Refused(ABSENCE_NOT_PROVABLE);
    (2) the proof decodes: Malformed; (3) one index for each claim, none twice; (4) leaves are
    recomputed from path and value; (5) they lead to the root: Invalid(INVALID_PROOF).

    Membership means *was written*, never *is current*.
    """
    leaves: list[bytes] = []
    for claim in claims:
        if claim.value is None:
            raise Refused(
                Reason.ABSENCE_NOT_PROVABLE,
                "a journal cannot prove that nothing was written",
                hint="have the receiver write the sentinel (expire), and prove that",
            )
        leaves.append(entry_hash(claim.path, claim.value))
    indexes, hashes = decode_membership_proof(proof)
    if len(indexes) != len(leaves):
        raise Invalid(Reason.INVALID_PROOF, "a membership proof has one leaf index for each claim")
    indexed = sorted(zip(indexes, leaves, strict=True))
    verify_multi(trusted_root, trusted_size, indexed, hashes)
