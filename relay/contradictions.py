"""What verified bundles show together and no single hop does: a chain that tells two histories.

Each hop may verify and lead from the same trusted head, and yet two of them contradict each other:
a relay has shown one ledger that it committed, and the other that it aborted. Whoever holds both,
an auditor or the two ledgers themselves, finds it here, and takes away evidence
(`relay.light.misbehaviour`) on which clients of that chain freeze. Pure, as `relay.bundle`.

What is compared are the heads that the bundles carry, and what is proven under them. A trusted head
itself is in the trust file and not in the bundle, so what is proven under it is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise

from relay.bundle_format import Bundle, Hop, claim_of
from relay.errors import LianqiaoError, Reason
from relay.light.membership import decode_membership_proof, journal_root, leaf_data
from relay.light.merkle import leaf_hash
from relay.light.misbehaviour import (
    Evidence,
    ProvenLeaf,
    contradiction,
    encode_evidence,
    verify_misbehaviour,
)
from relay.light.narrow import narrow_multi
from relay.light.types import LOG_PROOFS, Claim, ClientType, Header
from relay.trust import Trust, TrustedChain


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Of one chain: what it says in two ways."""

    chain: str
    description: str
    culprits: tuple[str, ...]
    """Names of validators that signed both."""
    evidence: bytes
    """What `lianqiao clients accuse` takes."""


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a hop's one proof shows, under one header."""

    header: bytes
    size: int
    leaves: tuple[tuple[int, bytes], ...]
    """(index, leaf hash), ascending."""
    hashes: tuple[bytes, ...]

    def of(self, index: int, data: bytes) -> ProvenLeaf:
        """One of its leaves by itself."""
        proof = narrow_multi(self.size, self.leaves, self.hashes, [index])
        return ProvenLeaf(index, data, tuple(proof))


_Leaf = tuple[int, bytes, _Proof]
"""(index, 64 bytes of leaf data, where it is shown)."""


@dataclass(slots=True)
class _Seen:
    """What the bundles show of one chain."""

    trusted: TrustedChain
    type: ClientType
    headers: dict[bytes, Header] = field(default_factory=dict)
    """Raw -> decoded, each verified and young enough to be evidence."""
    sets: set[bytes] = field(default_factory=set)
    """Hashes of the sets that were in force, and of those that were announced."""
    leaves: list[_Leaf] = field(default_factory=list)


def find_contradictions(
    bundles: Iterable[Bundle], trust: Trust, now: int, client_types: Mapping[str, ClientType]
) -> tuple[Contradiction, ...]:
    """The first contradiction of each chain that `bundles` show, by chain id; empty: they may all
    be of one history.

    `trust` and `client_types` are those by which each was verified, `now` (seconds) the moment as
    of which it was judged. Evidence is what a client takes that judges at that moment: younger
    than the trusting period. NOTE: bundles are not verified here; give only what was.
    """
    seen: dict[str, _Seen] = {}
    for bundle in bundles:
        for hop in bundle.hops:
            if hop.chain not in seen:
                trusted = trust.chain(hop.chain)
                seen[hop.chain] = _Seen(trusted, client_types[trusted.state.client_type])
            claims = [claim_of(claim, bundle.packets) for claim in hop.claims]
            _add(seen[hop.chain], hop, claims, now)
    found = (_first(seen[name], now) for name in sorted(seen))
    return tuple(one for one in found if one is not None)


def _add(seen: _Seen, hop: Hop, claims: Sequence[Claim], now: int) -> None:
    state = seen.trusted.state
    for raw in hop.headers:
        header = seen.type.decode_header(raw)
        seen.sets |= {header.set_hash, header.next_set_hash}
        if header.time + state.trusting_period > now:  # else no client would take it
            seen.headers[raw] = header
    if state.tree_hash != "sha256" or state.proof_kind not in LOG_PROOFS:
        return  # what such a tree shows at one height may change with the next
    young = [raw for raw in hop.headers if raw in seen.headers]
    proven = [raw for raw in young if seen.headers[raw].height == hop.height]
    if not proven:
        return  # or under the trusted head itself: no header is there for others to judge
    size = hop.height
    if state.proof_kind == "journal":
        size = journal_root(seen.headers[proven[0]].root)[1]
    indexes, hashes = decode_membership_proof(hop.proof)
    data = [leaf_data(claim.path, claim.value or b"") for claim in claims]
    shown = list(zip(indexes, data, strict=True))
    leaves = tuple(sorted((index, leaf_hash(one)) for index, one in shown))
    proof = _Proof(proven[0], size, leaves, tuple(hashes))
    seen.leaves += [(index, one, proof) for index, one in shown]


def _first(seen: _Seen, now: int) -> Contradiction | None:
    """The first evidence that a client would take: if there is any, such that it need know no other
    sets than the trusted head names."""
    state, anchor = seen.trusted.state, seen.trusted.anchor
    anchored = {anchor.set_hash, anchor.next_set_hash}
    for known in (anchored, anchored | seen.sets):
        headers = {raw: one for raw, one in seen.headers.items() if one.set_hash in known}
        leaves = [leaf for leaf in seen.leaves if leaf[2].header in headers]
        tried: set[tuple[bytes, bytes]] = set()
        for evidence in chain(_heads(headers, seen.type), _entries(leaves, tried)):
            raw = encode_evidence(evidence)
            try:
                said = verify_misbehaviour(seen.type, state, known, raw, now)
            except LianqiaoError as error:
                if error.reason is not Reason.NOT_MISBEHAVIOUR:
                    raise
                continue
            return Contradiction(state.chain_id, said.description, said.culprits, raw)
    return None


def _heads(headers: Mapping[bytes, Header], client_type: ClientType) -> Iterable[Evidence]:
    """Of headers in ascending order, those of which two neighbours contradict each other: where
    any two do, two neighbours do."""
    ordered = sorted(headers.items(), key=lambda one: (one[1].height, one[1].hash))
    for (first, one), (second, other) in pairwise(ordered):
        if contradiction(client_type, one, other):
            yield Evidence(first, second)


def _entries(leaves: Sequence[_Leaf], tried: set[tuple[bytes, bytes]]) -> Iterable[Evidence]:
    """Leaves that say something else than one of the same index or of the same path, once for two
    headers: whether a client takes them is a matter of these."""
    by_index: dict[int, _Leaf] = {}
    by_path: dict[bytes, _Leaf] = {}
    for leaf in leaves:
        index, data, proof = leaf
        for before in (by_index.setdefault(index, leaf), by_path.setdefault(data[:32], leaf)):
            first = before[2]
            if before[1] != data and (first.header, proof.header) not in tried:
                tried.add((first.header, proof.header))
                pair = first.of(before[0], before[1]), proof.of(index, data)
                yield Evidence(first.header, proof.header, pair)
