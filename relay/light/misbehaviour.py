"""Misbehaviour: what no honest quorum signs, as evidence that anyone can check and that freezes.

Evidence is two headers of one chain (for kind 2 the same one may stand twice), each signed by
enough of a set that the client knows, and one of:

    kind 1, heads     one height and two different headers; or a greater height with an earlier
                      time (for types without equal times: a time not later)
    kind 2, entries   one index with two leaves, or one path with two values, each shown by an
                      inclusion proof under its header; for RFC 6962 trees

A quorum is counted under one algorithm for each header, not necessarily the pinned one: a ledger
that shows Ed25519 clients one history and secp256k1 clients another has forked. Witnesses are not
asked: the conflict is the validators'.

    u8 version = 1, u8 kind, data header, data header,
    kind 2 for each header: u64 leaf index, 64 bytes leaf data, u32 count and 32 bytes a hash

A header that skips may be signed by a set that was never in force: what nobody but a light client
would take. It is evidence where it brings along a known set (`Header.trusted_validators`) of which
more than the trust level signed it; those are culprits, whoever else signed.

Whose keys may accuse: the caller gives the hashes of the sets he knows, and evidence older than
the trusting period is refused, so that keys that were retired long ago cannot stop a client.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from relay.errors import Invalid, LianqiaoError, Malformed, Reason
from relay.light.membership import journal_root
from relay.light.merkle import leaf_hash, verify_inclusion
from relay.light.quorum import Commit, is_reached, overlap, verify_commit
from relay.light.types import LOG_PROOFS, MAX_HEADER_BYTES, ClientState, ClientType, Header
from relay.light.wire import Reader, Writer

MAX_EVIDENCE_BYTES = 2 * MAX_HEADER_BYTES + 16 * 1024
_VERSION, _HEADS, _ENTRIES = 1, 1, 2
_LEAF_BYTES = 64
_MAX_PATH_HASHES = 64


@dataclass(frozen=True, slots=True)
class ProvenLeaf:
    """One leaf under one header."""

    index: int
    data: bytes
    """64 bytes: H(path) ‖ H(value)."""
    proof: tuple[bytes, ...]
    """RFC 9162 inclusion proof, leaf end first."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two raw headers that no honest quorum signs both, or two leaves under them."""

    first: bytes
    second: bytes
    leaves: tuple[ProvenLeaf, ProvenLeaf] | None = None
    """None: the headers themselves conflict."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """What was proven."""

    description: str
    culprits: tuple[str, ...]
    """Names of validators that signed both sides, and of those that signed for a set which was
    never in force, in order; may be empty where the set changed. Who signed both sides in different
    rounds of one height may have had a reason, and is named all the same: operators judge."""


def encode_evidence(evidence: Evidence) -> bytes:
    """The one encoding (module docstring). Raises Malformed."""
    writer = Writer().u8(_VERSION).u8(_ENTRIES if evidence.leaves else _HEADS)
    writer.data(evidence.first, MAX_HEADER_BYTES).data(evidence.second, MAX_HEADER_BYTES)
    for leaf in evidence.leaves or ():
        writer.u64(leaf.index).fixed(leaf.data, _LEAF_BYTES)
        writer.count(len(leaf.proof), _MAX_PATH_HASHES)
        for value in leaf.proof:
            writer.fixed(value, 32)
    return writer.done()


def decode_evidence(raw: bytes) -> Evidence:
    """The evidence in `raw`. Raises Malformed."""
    reader = Reader(raw, "evidence")
    version, kind = reader.u8(), reader.u8()
    if version != _VERSION or kind not in (_HEADS, _ENTRIES):
        raise Malformed("evidence: unknown version or kind")
    first, second = reader.data(MAX_HEADER_BYTES), reader.data(MAX_HEADER_BYTES)
    leaves = (_read_leaf(reader), _read_leaf(reader)) if kind == _ENTRIES else None
    reader.end()
    return Evidence(first, second, leaves)


def verify_misbehaviour(
    client_type: ClientType,
    state: ClientState,
    known_set_hashes: Collection[bytes],
    evidence: bytes,
    now: int,
) -> Misbehaviour:
    """What `evidence` proves against the chain of `state`.

    1. it decodes, and so do its headers: Malformed. All else is Invalid(NOT_MISBEHAVIOUR):
    2. both headers are of the chain, younger than the trusting period, and their presented sets
       are known (`known_set_hashes`: of headers that the client verified, and the announced ones);
    3. the two really conflict; 4. each is signed by a quorum under one algorithm.
    """
    decoded = decode_evidence(evidence)  # 1
    first = client_type.decode_header(decoded.first)
    second = client_type.decode_header(decoded.second)
    for header in (first, second):  # 2
        _check_known(client_type, state, known_set_hashes, header, now)
    if decoded.leaves is None:  # 3
        description = _conflict_of_heads(client_type, first, second)
    else:
        description = _conflict_of_leaves(state, first, second, decoded.leaves)
    commits = [_commit(client_type, state, header) for header in (first, second)]  # 4
    signed_second = set(commits[1].signers)
    culprits = [n for n in commits[0].signers if n in signed_second]
    for header in (first, second):
        if header.set_hash not in known_set_hashes:
            culprits += _vouching(client_type, state, known_set_hashes, header)
    return Misbehaviour(description, tuple(dict.fromkeys(culprits)))


def _read_leaf(reader: Reader) -> ProvenLeaf:
    index, data = reader.u64(), reader.fixed(_LEAF_BYTES)
    return ProvenLeaf(
        index, data, tuple(reader.fixed(32) for _ in range(reader.count(_MAX_PATH_HASHES)))
    )


def _not_misbehaviour(why: str) -> Invalid:
    return Invalid(Reason.NOT_MISBEHAVIOUR, f"this is no evidence of misbehaviour: {why}")


def _check_known(
    client_type: ClientType,
    state: ClientState,
    known_set_hashes: Collection[bytes],
    header: Header,
    now: int,
) -> None:
    if header.chain_id != state.chain_id:
        raise _not_misbehaviour("a header is of another chain")
    if header.time + state.trusting_period <= now:
        raise _not_misbehaviour("a header is older than the trusting period")
    if header.set_hash not in known_set_hashes and not _vouching(
        client_type, state, known_set_hashes, header
    ):
        raise _not_misbehaviour("a header is signed by a set that was never in force")
    if client_type.hash_validators(header.validators) != header.set_hash:
        raise _not_misbehaviour("a presented set is not the one its header names")


def _vouching(
    client_type: ClientType, state: ClientState, known_set_hashes: Collection[bytes], header: Header
) -> tuple[str, ...]:
    """The members of a known set by whose signatures a client would skip to the header."""
    shown = header.trusted_validators
    if shown is None or client_type.hash_validators(shown) not in known_set_hashes:
        return ()
    names = overlap(state.algorithm, shown, header)
    return names if is_reached(state.trust_level, shown, names) else ()


def _commit(client_type: ClientType, state: ClientState, header: Header) -> Commit:
    algorithm = header.signatures[0].algorithm if header.signatures else state.algorithm
    judged = replace(state, algorithm=algorithm, witnesses=(), witness_quorum=0)
    try:
        return verify_commit(client_type, judged, replace(header, cosignatures=()))
    except Invalid as error:
        raise _not_misbehaviour(error.detail) from error


def contradiction(client_type: ClientType, first: Header, second: Header) -> str:
    """How two headers of one chain contradict each other, in words; empty where they do not.

    What the module docstring calls kind 1, and the rule for relayers that look for it as well as
    for clients that judge it: one height and two headers, or a greater height whose time, counted
    with its nanoseconds, is earlier; the same time too, where the type has none that are equal.
    """
    if first.height == second.height:
        return "" if first.hash == second.hash else f"two headers of height {first.height}"
    lower, upper = sorted((first, second), key=lambda header: header.height)
    earlier, later = (lower.time, lower.nanos), (upper.time, upper.nanos)
    if earlier < later or (earlier == later and client_type.equal_time):
        return ""
    return f"height {upper.height} has an earlier time than height {lower.height}"


def _conflict_of_heads(client_type: ClientType, first: Header, second: Header) -> str:
    found = contradiction(client_type, first, second)
    if not found:
        raise _not_misbehaviour("the headers can belong to one history")
    return found


def _conflict_of_leaves(
    state: ClientState, first: Header, second: Header, leaves: tuple[ProvenLeaf, ProvenLeaf]
) -> str:
    if state.tree_hash != "sha256" or state.proof_kind not in LOG_PROOFS:
        raise _not_misbehaviour("entries of this kind of tree are not proven so")
    for header, leaf in zip((first, second), leaves, strict=True):
        try:
            root, size = header.root, header.height
            if state.proof_kind == "journal":
                root, size = journal_root(header.root)
            verify_inclusion(root, size, leaf.index, leaf_hash(leaf.data), leaf.proof)
        except LianqiaoError as error:
            raise _not_misbehaviour(error.detail) from error
    one, other = leaves
    if one.data == other.data:
        # The same entry twice breaks a journal's own rule, but it deceives nobody.
        raise _not_misbehaviour("both leaves say the same")
    if one.index == other.index:
        return f"two entries of index {one.index}"
    if one.data[:32] == other.data[:32]:
        return f"one path holds two values, at index {one.index} and {other.index}"
    raise _not_misbehaviour("the leaves are two entries of different paths")
