"""Verifying a bundle: the same checks that a receiving ledger makes, offline, from a trust file.

`verify_bundle` is pure: bytes in, a report out, or the error that says what was wrong. It opens no
file and reads no clock; what is trusted is in `relay.trust`, the file's form in
`relay.bundle_format`. Steps:

1. form: the bytes are the one encoding of a bundle (MALFORMED, LIMIT_EXCEEDED, NOT_CANONICAL), and
   so is each header in it;
2. packets keep the rules of every packet (INVALID_PACKET);
3. nothing is missing and nothing is unused (BUNDLE_INCOMPLETE, NOT_CANONICAL): each packet has a
   claim of its commitment, which is what binds its source client; acknowledgements are there where
   a claim shows them and only there; no claim is made twice of one chain; one chain sent a packet,
   and one other answers for it (COUNTERPARTY_MISMATCH): names of clients are each chain's own, so
   nothing else keeps a chain from showing in its own journal what another would have answered;
4. for each hop: its chain is trusted (TRUST_MISSING), its headers lead from the anchor to the
   height (`_verify_lineage`), with all signatures verified, past the quorum as well;
5. one membership proof shows all claims of the hop, path and value recomputed (INVALID_PROOF).

So every byte of the file is under a signature, a hash or a rule, and no byte can be changed.

**Old bundles.** Whoever steals keys that were retired can sign a past that never was. Trust is
therefore an anchor that is younger than the trusting period *now*, else TRUST_TOO_OLD. A bundle
made before that anchor is verified backwards: its headers go on to the anchor's own, and
consistency proofs show that the old tree is a part of the tree that is trusted today. `at` says
instead "judge as of that moment": nothing shows that the moment is true, and the report carries it
as an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relay.bundle_format import (
    Bundle,
    BundleClaim,
    BundlePacket,
    ClaimKind,
    Hop,
    claim_of,
    decode_bundle,
    encode_bundle,
)
from relay.errors import Invalid, LianqiaoError, Malformed, NotFound, Reason, Refused
from relay.light.client import Commit, consensus_of, expires, verify_commit, verify_header
from relay.light.types import ClientState, ClientType, ConsensusState, Header
from relay.packet import check_packet
from relay.trust import Trust, TrustedChain, decode_trust, encode_trust

__all__ = [
    "Bundle",
    "BundleClaim",
    "BundlePacket",
    "BundleReport",
    "ClaimKind",
    "Hop",
    "HopReport",
    "Trust",
    "TrustedChain",
    "decode_bundle",
    "decode_trust",
    "encode_bundle",
    "encode_trust",
    "verify_bundle",
]


@dataclass(frozen=True, slots=True)
class HopReport:
    """What one hop proves."""

    chain: str
    height: int
    time: int
    """Seconds: the time in the header of that height."""
    header_hash: bytes
    assurance: str
    """From the trust file: what a verified header of this chain means."""
    signers: tuple[str, ...]
    """Validators that signed that header; empty where it is the anchor, which was trusted as is."""
    witnesses: tuple[str, ...]
    claims: tuple[BundleClaim, ...]


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a bundle proves, and what had to be assumed."""

    packets: tuple[BundlePacket, ...]
    hops: tuple[HopReport, ...]
    assumed_time: int | None
    """Seconds: the moment the caller gave as `at`; nothing in the bundle shows that it is true."""


def verify_bundle(
    bundle: bytes,
    trust: Trust,
    now: int,
    client_types: Mapping[str, ClientType],
    at: int | None = None,
) -> BundleReport:
    """What `bundle` proves under `trust` at `now` (seconds), by the steps of the module docstring.

    `client_types`: installed types by name. `at`, not after `now`: judge as of that moment, as an
    assumption. Raises what the steps name, CLIENT_TYPE_UNKNOWN, and the reasons of
    `relay.light.client.verify_header` and of the type's membership proof.
    """
    if at is not None and not 0 <= at <= now:
        raise Malformed("the assumed moment must not lie in the future")
    decoded = decode_bundle(bundle)  # 1
    for about in decoded.packets:  # 2
        check_packet(about.packet)
    _check_complete(decoded)  # 3
    judged = now if at is None else at
    hops = tuple(
        _verify_hop(hop, decoded.packets, trust, judged, client_types) for hop in decoded.hops
    )
    return BundleReport(decoded.packets, hops, at)


def _check_complete(bundle: Bundle) -> None:
    made: set[tuple[str, bytes]] = set()
    shown: set[tuple[ClaimKind, int]] = set()
    ends: dict[tuple[bool, int], str] = {}
    if not bundle.hops:
        raise _incomplete("a bundle needs a hop")
    for hop in bundle.hops:
        if not hop.claims:
            raise _incomplete("a hop must claim something")
        for claim in hop.claims:
            if claim.kind != ClaimKind.ENTRY:
                if claim.packet >= len(bundle.packets):
                    raise _incomplete("a claim is about a packet that is not in the bundle")
                shown.add((claim.kind, claim.packet))
                sent = claim.kind == ClaimKind.COMMITMENT
                if ends.setdefault((sent, claim.packet), hop.chain) != hop.chain:
                    raise _mixed(f"two chains show what became of packet {claim.packet}")
            key = hop.chain, claim_of(claim, bundle.packets).path
            if key in made:
                raise _unused("one path is claimed twice of one chain")
            made.add(key)
    for index, about in enumerate(bundle.packets):
        if ends.get((True, index)) == ends.get((False, index), ""):
            raise _mixed(f"one chain shows both ends of packet {index}")
        if (ClaimKind.COMMITMENT, index) not in shown:
            raise _incomplete("no hop shows that the packet was sent")
        acknowledged = (ClaimKind.ACKNOWLEDGEMENT, index) in shown
        if acknowledged and not about.acknowledgements:
            raise _incomplete("an acknowledgement is claimed and not given")
        if about.acknowledgements and not acknowledged:
            raise _unused("an acknowledgement is given and not claimed")


def _mixed(why: str) -> Invalid:
    return Invalid(Reason.COUNTERPARTY_MISMATCH, f"bundle: {why}")


def _incomplete(why: str) -> Invalid:
    return Invalid(Reason.BUNDLE_INCOMPLETE, f"bundle: {why}")


def _unused(why: str) -> Invalid:
    return Invalid(Reason.NOT_CANONICAL, f"bundle: {why}; nothing may be unused")


def _verify_hop(
    hop: Hop,
    packets: Sequence[BundlePacket],
    trust: Trust,
    now: int,
    client_types: Mapping[str, ClientType],
) -> HopReport:
    chain = trust.chain(hop.chain)  # 4
    client_type = client_types.get(chain.state.client_type)
    if client_type is None:
        raise NotFound(
            Reason.CLIENT_TYPE_UNKNOWN,
            f"no client type {chain.state.client_type!r} is installed",
            hint="install the package that supplies it",
            chain=hop.chain,
        )
    consensus, commit = _verify_lineage(client_type, chain, hop, now)
    claims = [claim_of(claim, packets) for claim in hop.claims]
    client_type.verify_membership(chain.state, consensus, hop.proof, claims)  # 5
    return HopReport(
        chain=hop.chain,
        height=consensus.height,
        time=consensus.time,
        header_hash=consensus.header_hash,
        assurance=chain.state.assurance,
        signers=commit.signers,
        witnesses=commit.witnesses,
        claims=hop.claims,
    )


def _verify_lineage(
    client_type: ClientType, chain: TrustedChain, hop: Hop, now: int
) -> tuple[ConsensusState, Commit]:
    """The verified header of the hop's height, and who signed it.

    Forwards: the headers follow the anchor, and the last one is that of the hop's height. Without
    headers the claims are proven under the anchor itself. Backwards: the first header is that of
    the hop's height, and the last one is the anchor's own. The anchor must be within its trusting
    period either way.
    """
    state, anchor = chain.state, chain.anchor
    if now >= expires(state, anchor):
        raise Refused(
            Reason.TRUST_TOO_OLD,
            f"the trusted head of {hop.chain} is older than its trusting period",
            hint="compare a fresh head with the operators, or judge as of a moment: --at TIME",
            chain=hop.chain,
            expired=expires(state, anchor),
        )
    headers = [_decode(client_type, raw) for raw in hop.headers]
    if headers and headers[-1].height == anchor.height:
        proven = headers[0]
        commit = _verify_backwards(client_type, state, anchor, headers)
        consensus = consensus_of(proven)
    else:
        consensus, commit = anchor, Commit((), ())
        for header in headers:
            if header.height <= consensus.height:
                # verify_header takes the trusted header again as a no-op, its signatures unread.
                raise Invalid(Reason.HEIGHT_NOT_MONOTONIC, "headers must ascend from the anchor")
            consensus = verify_header(client_type, state, consensus, header, now)
            commit = Commit(
                tuple(s.signer for s in header.signatures),
                tuple(s.signer for s in header.cosignatures),
            )
    if consensus.height != hop.height:
        raise Invalid(
            Reason.HEIGHT_NOT_TRUSTED,
            f"the headers lead to height {consensus.height}, the hop is proven at {hop.height}",
            chain=hop.chain,
        )
    return consensus, commit


def _decode(client_type: ClientType, raw: bytes) -> Header:
    header = client_type.decode_header(raw)
    if client_type.encode_header(header) != raw:
        raise Malformed("a header in the bundle is not in its one encoding")
    return header


def _verify_backwards(
    client_type: ClientType, state: ClientState, anchor: ConsensusState, headers: list[Header]
) -> Commit:
    """Headers of one chain, ascending, whose last is the anchor's: each is part of the next.

    What makes the old root true is the chain of links up to the anchor, not the old signatures,
    whose keys may be retired; they are verified all the same, and so is the lineage of the sets.
    The first header's own link leads to one that is not shown, so it must be left out.
    """
    last = headers[-1]
    if not client_type.links or len(headers) < 2:
        raise Invalid(Reason.NOT_CANONICAL, "the anchor's own header is of no use here")
    if last.hash != anchor.header_hash:
        raise Invalid(
            Reason.HEAD_CONFLICT,
            f"the header of height {last.height} is not the trusted one",
            hint="if both are validly signed, this is misbehaviour: show it to the operators",
        )
    commits = []
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        try:
            commits.append(_verify_alone(client_type, state, header))
            if following is not None:
                _verify_following(client_type, header, following)
        except LianqiaoError as error:
            error.data["height"] = str(header.height)
            raise
    if headers[0].link or headers[0].link_height:
        raise Invalid(Reason.NOT_CANONICAL, "the first header links to one that is not shown")
    return commits[0]


def _verify_alone(client_type: ClientType, state: ClientState, header: Header) -> Commit:
    if header.chain_id != state.chain_id:
        raise Invalid(Reason.CHAIN_ID_MISMATCH, "a header is of another chain")
    if client_type.hash_validators(header.validators) != header.set_hash:
        raise Invalid(Reason.VALIDATOR_SET_MISMATCH, "a presented set is not the one named")
    return verify_commit(client_type, state, header)


def _verify_following(client_type: ClientType, header: Header, following: Header) -> None:
    if following.height <= header.height:
        raise Invalid(Reason.HEIGHT_NOT_MONOTONIC, "headers must ascend by height")
    if following.time < header.time:
        raise Invalid(Reason.TIME_NOT_MONOTONIC, "time goes back between two headers")
    if following.set_hash != header.next_set_hash:
        raise Invalid(Reason.VALIDATOR_SET_MISMATCH, "a header is signed by a set not announced")
    client_type.verify_link(consensus_of(header), following)
