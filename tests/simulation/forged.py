"""Heads that nobody signed: what an untrusted relayer makes of what it has read on a chain.

It has every entry and can compute: the longer tree with a leaf of its own, the consistency proof
from the head that a client trusts, the proof that the leaf is in it. It lacks the keys alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from relay.light import merkle
from relay.light.checkpoint import encode_body, parse_body
from relay.light.checkpoint_client import CHECKPOINT, encode_header
from relay.light.membership import encode_membership_proof, entry_hash
from relay.light.types import Claim, Header


@dataclass(frozen=True, slots=True)
class ForgedHead:
    """A raw header, and the proof under it of what was never written."""

    raw: bytes
    height: int
    proof: bytes


def with_few_signatures(raw: bytes, count: int) -> bytes:
    """A true header with `count` of its signatures."""
    header = CHECKPOINT.decode_header(raw)
    if not count:
        return _unsigned(header)
    return CHECKPOINT.encode_header(
        replace(header, signatures=header.signatures[:count], cosignatures=())
    )


def _unsigned(header: Header) -> bytes:
    note = header.body + b"\n"
    return encode_header(note, header.validators, header.link_height, header.link)


def extended(
    entries: Sequence[tuple[bytes, bytes]],
    raw: bytes,
    trusted: int,
    claim: Claim,
    now: int,
    random: Random,
) -> ForgedHead:
    """The history up to `trusted`, and then `claim`. `raw`: a true header whose set is in force.

    Its signatures are those of the true head, or bytes, or nobody's, or none.
    """
    leaves = [entry_hash(path, value) for path, value in entries[:trusted]]
    leaves.append(entry_hash(claim.path, claim.value or b""))
    size = len(leaves)
    node = _nodes(leaves)
    header = CHECKPOINT.decode_header(raw)
    body = parse_body(header.body)
    root = merkle.root_at(size, node)
    time = max(body.time, now)
    forged = replace(
        header,
        body=encode_body(replace(body, size=size, root=root, time=time)),
        link_height=trusted,
        link=tuple(merkle.consistency_proof(trusted, size, node)),
        cosignatures=(),
    )
    proof = encode_membership_proof([trusted], merkle.multi_proof([trusted], size, node))
    return ForgedHead(_signed_somehow(forged, random), size, proof)


def _signed_somehow(header: Header, random: Random) -> bytes:
    kind, signatures = random.randrange(4), header.signatures
    if kind == 0:
        return _unsigned(header)
    if kind == 1:
        signatures = tuple(replace(s, value=random.randbytes(len(s.value))) for s in signatures)
    elif kind == 2:
        lines = tuple(replace(s, signer=f"{s.signer}-too", algorithm="") for s in signatures)
        header, signatures = replace(header, cosignatures=lines), ()
    return CHECKPOINT.encode_header(replace(header, signatures=signatures))


def _nodes(leaves: Sequence[bytes]) -> merkle.Node:
    rows = [list(leaves)]
    while len(rows[-1]) > 1:
        below = rows[-1]
        pairs = range(0, len(below) - 1, 2)
        rows.append([merkle.node_hash(below[n], below[n + 1]) for n in pairs])
    return lambda level, index: rows[level][index]
