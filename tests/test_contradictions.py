"""Bundles that verify one by one, and not of one history together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.bundle import (
    Bundle,
    BundleClaim,
    BundlePacket,
    ClaimKind,
    Hop,
    Trust,
    TrustedChain,
    decode_bundle,
    encode_bundle,
    verify_bundle,
)
from relay.contradictions import Contradiction, find_contradictions
from relay.light import merkle
from relay.light.client import consensus_of
from relay.light.membership import journal_app_hash
from relay.light.misbehaviour import decode_evidence, verify_misbehaviour
from relay.light.types import ClientState, ClientType
from relay.light.validators import set_hash
from relay.packet import acknowledgement_commitment, acknowledgement_path
from tests.light.ledger import START, Ledger, make_set
from tests.light.skipping import ALGORITHM, SKIPPING, raw_header
from tests.test_bundle import ACKNOWLEDGEMENTS, NOW, PACKET, TYPES, World

DECISION = b"\x00decision"


def told(decision: bytes, more: int = 0, entries_before: int = 0, time: int = 0) -> World:
    """The same two chains, up to the relay's decision: it decided so, `more` entries after the
    others, and wrote other entries before."""
    world = World()
    entries = world.relay.entries
    world.relay.entries = entries[:6]
    world.relay.fill(entries_before)
    world.received[1:] = [
        world.relay.write(DECISION, decision),
        world.relay.write(
            acknowledgement_path("checkpoint-3", 7), acknowledgement_commitment(ACKNOWLEDGEMENTS)
        ),
    ]
    world.relay.fill(more)
    return world


def bundle_of(world: World, decision: bytes) -> bytes:
    made = world.bundle()
    hop = made.hops[1]
    claim = BundleClaim(ClaimKind.ENTRY, path=DECISION, value=decision)
    claims = (hop.claims[0], claim, hop.claims[2])
    return encode_bundle(replace(made, hops=(made.hops[0], replace(hop, claims=claims))))


def found(*bundles: bytes) -> tuple[Contradiction, ...]:
    trust = World().trust()
    for raw in bundles:
        verify_bundle(raw, trust, NOW, TYPES)
    return find_contradictions(map(decode_bundle, bundles), trust, NOW, TYPES)


def taken(one: Contradiction) -> str:
    """By a client of the chain, that has seen no more than the trusted head."""
    chain = World().trust().chain(one.chain)
    known = {chain.anchor.set_hash, chain.anchor.next_set_hash}
    client_type = TYPES[chain.state.client_type]
    return verify_misbehaviour(client_type, chain.state, known, one.evidence, NOW).description


COMMIT, ABORT = b"commit", b"abort"


def test_two_heads_of_one_size() -> None:
    (one,) = found(bundle_of(told(COMMIT), COMMIT), bundle_of(told(ABORT), ABORT))
    assert one.chain == "relay/0"
    assert one.description == taken(one) == "two headers of height 8"
    assert one.culprits == tuple(f"relay/0-{n}" for n in "wxyz")
    assert decode_evidence(one.evidence).leaves is None


@pytest.mark.parametrize("more", [1, 2, 5, 57])
def test_one_decision_with_two_values_under_heads_of_different_sizes(more: int) -> None:
    """What comparing heads never finds: no size was signed twice."""
    (one,) = found(bundle_of(told(COMMIT), COMMIT), bundle_of(told(ABORT, more), ABORT))
    assert one.description == taken(one) == "two entries of index 6"
    assert len(one.culprits) == 4


def test_one_path_at_two_places() -> None:
    other = told(ABORT, 1, entries_before=3)
    (one,) = found(bundle_of(told(COMMIT), COMMIT), bundle_of(other, ABORT))
    assert one.description == taken(one) == "one path holds two values, at index 6 and 9"


def test_another_entry_at_the_same_place() -> None:
    """The decision of the one is where the other has written something else."""
    other = told(COMMIT, 1, entries_before=1)
    (one,) = found(bundle_of(told(COMMIT), COMMIT), bundle_of(other, COMMIT))
    assert one.description == taken(one) == "two entries of index 7"


@pytest.mark.parametrize("more", [0, 1, 9])
def test_bundles_of_one_history_are_no_contradiction(more: int) -> None:
    one, later = told(COMMIT), told(COMMIT, more)
    assert found(bundle_of(one, COMMIT), bundle_of(later, COMMIT)) == ()
    assert found(bundle_of(one, COMMIT)) == ()
    assert found() == ()


def test_one_bundle_may_hold_two_histories() -> None:
    """Each hop leads from the trusted head by itself, and they claim different paths."""
    one, other = told(COMMIT), told(ABORT, 2, entries_before=1)
    both = decode_bundle(bundle_of(one, COMMIT))
    path, value = other.relay.entries[7]
    claim = BundleClaim(ClaimKind.ENTRY, path=b"\x00other", value=b"x")
    other.relay.entries[7] = claim.path, claim.value
    assert (path, value) != (claim.path, claim.value)
    hop = Hop("relay/0", other.relay.size, (other.relay.raw(5),), other.relay.prove([7]), (claim,))
    (found_,) = found(encode_bundle(replace(both, hops=(*both.hops, hop))))
    assert found_.description == taken(found_) == "two entries of index 7"


def test_what_every_client_can_judge_comes_first() -> None:
    """One history has changed its set: who has followed the other knows nothing of that one."""
    first, changed = told(COMMIT), told(ABORT, 2)
    old = changed.relay.set
    fresh = make_set([f"relay/0-{name}" for name in "efgh"])
    announcing = changed.relay.body(next_set_hash=set_hash(fresh))
    announced = changed.relay.raw(5, body=announcing)
    at = changed.relay.size
    changed.relay.fill(1)
    changed.relay.set = fresh
    later = changed.relay.raw(at)
    hop = changed.bundle().hops[1]
    claims = (hop.claims[0], BundleClaim(ClaimKind.ENTRY, path=DECISION, value=ABORT))
    raised = replace(
        hop,
        headers=(announced, later),
        proof=changed.relay.prove(changed.received[:2]),
        claims=claims,
    )
    about = (BundlePacket(PACKET, ()),)
    second = encode_bundle(Bundle(about, (changed.bundle().hops[0], raised)))
    (one,) = found(bundle_of(first, COMMIT), second)
    assert one.culprits == ()
    # Where the old set has signed both, that is what is taken away.
    changed.relay.set = old
    under = replace(
        raised,
        height=at,
        headers=(announced,),
        proof=changed.relay.prove(changed.received[:2], at),
    )
    third = encode_bundle(Bundle(about, (changed.bundle().hops[0], under)))
    (one,) = found(bundle_of(first, COMMIT), second, third)
    assert taken(one) == "two entries of index 6"
    assert len(one.culprits) == 4


def test_evidence_is_as_old_as_a_client_takes() -> None:
    bundles = [decode_bundle(bundle_of(told(d), d)) for d in (COMMIT, ABORT)]
    trust, period = World().trust(), World().trust().chains[0].state.trusting_period
    last = START + 8 + period - 1
    assert len(find_contradictions(bundles, trust, last, TYPES)) == 1
    assert find_contradictions(bundles, trust, last + 1, TYPES) == ()


def test_a_journal_that_another_engine_replicates() -> None:
    """Its root and size are the app hash, and its height has nothing to do with them."""
    state = ClientState("test-skipping", "test-1", ALGORITHM, proof_kind="journal")
    anchor = consensus_of(SKIPPING.decode_header(raw_header(2, "abcd", time=START - 9)))
    trust = Trust((TrustedChain(state, anchor),))
    bundles = []
    for height, decision, size in ((3, COMMIT, 3), (9, ABORT, 6)):
        ledger = Ledger()
        ledger.fill(1)
        ledger.write(DECISION, decision)
        ledger.fill(size - 2)
        app_hash = journal_app_hash(size, merkle.root_at(size, ledger.node))
        raw = raw_header(height, "abcd", time=START + height, root=app_hash)
        claim = BundleClaim(ClaimKind.ENTRY, path=DECISION, value=decision)
        hop = Hop(state.chain_id, height, (raw,), ledger.prove([1]), (claim,))
        bundles.append(Bundle((), (hop,)))
    types: dict[str, ClientType] = {state.client_type: SKIPPING}
    (one,) = find_contradictions(bundles, trust, START + 10, types)
    assert one.description == "two entries of index 1"


def test_heads_alone_are_compared_where_a_tree_shows_no_history() -> None:
    """What it holds at one height may change with the next; its proofs are of another form."""
    state = ClientState("test-skipping", "test-1", ALGORITHM, proof_kind="test-kind")
    anchor = consensus_of(SKIPPING.decode_header(raw_header(2, "abcd", time=START - 9)))
    trust = Trust((TrustedChain(state, anchor),))

    def shown(height: int, root: bytes) -> Bundle:
        raw = raw_header(height, "abcd", time=START + height, root=root)
        claim = BundleClaim(ClaimKind.ENTRY, path=DECISION, value=root)
        return Bundle((), (Hop(state.chain_id, height, (raw,), b"of another form", (claim,)),))

    types: dict[str, ClientType] = {state.client_type: SKIPPING}
    one, other = shown(3, b"1" * 32), shown(3, b"2" * 32)
    assert find_contradictions([one, shown(4, b"2" * 32)], trust, START + 10, types) == ()
    (found_,) = find_contradictions([one, other], trust, START + 10, types)
    assert found_.description == "two headers of height 3"


def test_what_is_proven_under_the_trusted_head_is_not_compared() -> None:
    """No header of it is in the bundle, for anybody else to judge by."""
    world, bundle = World(), decode_bundle(bundle_of(told(COMMIT), COMMIT))
    path, value = world.relay.entries[0]
    claim = BundleClaim(ClaimKind.ENTRY, path=path, value=value)
    under = Hop("relay/0", 5, (), world.relay.prove([0], 5), (claim,))
    assert found(encode_bundle(replace(bundle, hops=(*bundle.hops, under)))) == ()


def test_an_old_head_hides_nothing_that_is_shown_under_a_younger_one() -> None:
    """No client takes it any more, and what it shows is the first of its index."""
    bundles = [
        decode_bundle(bundle_of(told(decision, more), decision))
        for decision, more in ((COMMIT, 0), (COMMIT, 20), (ABORT, 10))
    ]
    trust = World().trust()
    now = START + 8 + trust.chains[0].state.trusting_period
    (one,) = find_contradictions(bundles, trust, now, TYPES)
    assert one.description == "two entries of index 6"


def test_what_is_led_backwards_from_a_younger_head_may_be_too_old() -> None:
    world, trust = told(COMMIT, 20), World().trust()
    hop = world.bundle().hops[1]
    headers = (world.relay.raw(body=world.relay.body(8)), world.relay.raw(8))
    claims = (hop.claims[0],)
    old = replace(hop, height=8, headers=headers, claims=claims)
    old = replace(old, proof=world.relay.prove(world.received[:1], 8))
    now = START + 8 + trust.chains[0].state.trusting_period
    assert find_contradictions([Bundle((BundlePacket(PACKET),), (old,))], trust, now, TYPES) == ()
