"""Membership, absence, sets that a contract keeps: each rule with its negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.evm.light import CLIENT
from adapters.evm.light.header import hashed_header, split_header
from adapters.evm.light.state import SENT, decode_proof, encode_proof, read_sent
from adapters.evm.light.validators import array_slots, contract_source
from relay.errors import LianqiaoError, Reason
from relay.light.client import anchor, verify_header
from relay.light.types import MAX_INT, Claim, ClientState, ConsensusState, Sent, TellsSent
from relay.packet import commitment_path, receipt_path
from tests.adapters.evm.sealing import (
    QBFT,
    START,
    Sealer,
    hash_of,
    header,
    raw_header,
    ring,
    state_of,
)
from tests.adapters.evm.tries import Account, WorldState, endpoint
from tests.refusals import refused

NOW = START + 1000
ADDRESS, OTHER, CODE = b"\x0e" * 20, b"\x0f" * 20, b"\xcd" * 32
CLAIMS = [
    *(Claim(commitment_path("checkpoint-0", i), sha256(b"%d" % i).digest()) for i in range(1, 30)),
    Claim(b"\0\x01\x08registrykey", b"a value of any length"),
    Claim(commitment_path("checkpoint-0", 99), b"\0\0\x07" + bytes(28) + b"\x01"),
]


def pinned_state(code: bytes = CODE, address: bytes = ADDRESS) -> ClientState:
    return state_of(QBFT, endpoint="0x" + address.hex(), code="0x" + code.hex())


WORLD = WorldState(
    {
        ADDRESS: endpoint(CODE, CLAIMS),
        OTHER: endpoint(b"\xce" * 32, CLAIMS),
        **{bytes((i,)) * 20: Account(bytes(32), {}) for i in range(20, 60)},
    }
)
CONSENSUS = ConsensusState(10, START, WORLD.root, bytes(32), bytes(32), bytes(32))


def member(proof: bytes, claims: Sequence[Claim], **pinned: bytes) -> Callable[[], object]:
    state = pinned_state(**pinned)
    return lambda: CLIENT.verify_membership(state, CONSENSUS, proof, claims)


def prove(claims: Sequence[Claim]) -> bytes:
    return WORLD.prove(ADDRESS, [c.path for c in claims])


def test_membership_of_one_of_many_and_of_any_path() -> None:
    for claims in (CLAIMS, *([c] for c in CLAIMS), CLAIMS[3:9]):
        member(prove(claims), claims)()


def test_absence() -> None:
    missing = [Claim(receipt_path("checkpoint-0", i), None) for i in range(40)]
    mixed = [missing[0], CLAIMS[0], *missing[1:], CLAIMS[5]]
    member(prove(missing), missing)()
    member(prove(mixed), mixed)()
    empty = WorldState({ADDRESS: Account(CODE, {}), OTHER: Account(CODE, {})})
    at = replace(CONSENSUS, root=empty.root)
    proof = encode_proof(ADDRESS, empty.nodes(ADDRESS, []))
    CLIENT.verify_membership(pinned_state(), at, proof, missing)
    there = [replace(CLAIMS[0], value=None)]
    refused(Reason.INVALID_PROOF, member(prove(there), there))
    absent = [Claim(missing[0].path, bytes(32))]
    refused(Reason.INVALID_PROOF, member(prove(absent), absent))
    refused(Reason.INVALID_PROOF, member(prove(missing), [Claim(missing[0].path, b"\1" * 32)]))


def test_what_a_proof_must_not_be() -> None:
    claims = CLAIMS[:6]
    proof = prove(claims)
    address, nodes = decode_proof(proof)
    wrong = {
        "of another contract": WORLD.prove(OTHER, [c.path for c in claims]),
        "of another under the pinned name": encode_proof(
            ADDRESS, decode_proof(WORLD.prove(OTHER, [c.path for c in claims]))[1]
        ),
        "longer": encode_proof(address, [*nodes, nodes[-1]]),
        "with something unused": encode_proof(address, [*nodes, b"\xc2\x20\x01" + bytes(40)]),
        "shorter": encode_proof(address, nodes[:-1]),
        "out of order": encode_proof(address, [nodes[1], nodes[0], *nodes[2:]]),
        "with a node twice": encode_proof(address, [nodes[0], nodes[0], *nodes[1:]]),
        "empty": encode_proof(address, []),
    }
    for _, bad in wrong.items():
        refused(Reason.INVALID_PROOF, member(bad, claims))
    refused(Reason.INVALID_PROOF, member(proof, []))
    refused(Reason.INVALID_PROOF, member(proof, claims[:-1]))
    refused(Reason.INVALID_PROOF, member(proof, [*claims, CLAIMS[7]]))
    refused(Reason.INVALID_PROOF, member(proof, claims, code=b"\xce" * 32))
    for value in (b"", bytes(31), bytes(33), bytes(32), sha256(b"other").digest()):
        refused(Reason.INVALID_PROOF, member(proof, [replace(claims[0], value=value), *claims[1:]]))
    record = CLAIMS[29]
    assert record.value is not None
    hashed = replace(record, value=sha256(record.value).digest())
    refused(Reason.INVALID_PROOF, member(prove([record]), [hashed]))


def test_no_changed_byte_of_a_proof_passes() -> None:
    claims = CLAIMS[:3]
    proof = prove(claims)
    for at in range(len(proof)):
        changed = proof[:at] + bytes((proof[at] ^ (1 << at % 8),)) + proof[at + 1 :]
        with pytest.raises(LianqiaoError) as err:
            member(changed, claims)()
        assert err.value.reason in (Reason.MALFORMED, Reason.INVALID_PROOF, Reason.LIMIT_EXCEEDED)


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, len(CLAIMS) - 1), min_size=1, max_size=8))
def test_a_proof_is_narrowed_to_the_very_proof_of_the_rest(wanted: set[int]) -> None:
    order = sorted(wanted)
    chosen = [CLAIMS[at] for at in order]
    narrowed = CLIENT.narrow_membership(pinned_state(), CONSENSUS, prove(CLAIMS), CLAIMS, order)
    assert narrowed == prove(chosen)
    member(narrowed, chosen)()


# --- what was sent


def word(steps: int, lowest: int, following: int) -> bytes:
    return bytes(8) + b"".join(n.to_bytes(8, "big") for n in (steps, lowest, following))


def test_what_was_sent_is_one_word_of_the_endpoint() -> None:
    said = word(12, 4, 9)
    slots = {bytes(31) + b"\x01": said}
    world = WorldState({ADDRESS: Account(CODE, slots), OTHER: Account(bytes(32), {})})
    consensus = replace(CONSENSUS, root=world.root)
    claim = Claim(SENT, said)
    proof = world.prove(ADDRESS, [SENT])
    CLIENT.verify_membership(pinned_state(), consensus, proof, [claim])
    for false in (word(12, 4, 8), word(12, 3, 9), sha256(said).digest(), said[1:]):
        given = replace(claim, value=false)
        refused(
            Reason.INVALID_PROOF,
            lambda g=given: CLIENT.verify_membership(pinned_state(), consensus, proof, [g]),  # type: ignore[misc]
        )
    assert isinstance(CLIENT, TellsSent)
    assert CLIENT.read_sent(CONSENSUS, "checkpoint-0", [claim]) == Sent(START, 9, ((1, 4),))
    first = Claim(SENT, word(0, 1, 1))
    assert CLIENT.read_sent(CONSENSUS, "checkpoint-0", [first]) == Sent(START, 1, ())


@pytest.mark.parametrize(
    ("client_id", "claims", "reason"),
    [
        ("evm-0", [Claim(SENT, word(1, 1, 2))], Reason.COUNTERPARTY_MISMATCH),
        ("checkpoint-0", [Claim(SENT + b"\0", word(1, 1, 2))], Reason.COUNTERPARTY_MISMATCH),
        ("checkpoint-0", [Claim(CLAIMS[0].path, word(1, 1, 2))], Reason.COUNTERPARTY_MISMATCH),
        ("checkpoint-0", [], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, None)], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, word(1, 1, 2))] * 2, Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, word(1, 1, 2)[1:])], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, word(1, 1, 2) + b"\0")], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, b"\x01" + word(1, 1, 2)[1:])], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, word(1, 0, 2))], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, word(1, 3, 2))], Reason.MALFORMED),
        ("checkpoint-0", [Claim(SENT, word(1, 1, MAX_INT + 1))], Reason.MALFORMED),
    ],
)
def test_what_is_no_statement(client_id: str, claims: list[Claim], reason: Reason) -> None:
    refused(reason, lambda: read_sent(START, client_id, claims))


# --- sets that a contract keeps

REGISTER, SLOT = b"\x88" * 20, 3
SOURCE = contract_source(REGISTER, SLOT)


def kept(sealers: Sequence[Sealer], register: bytes = REGISTER) -> WorldState:
    """A state in which the contract lists these validators, in an order of its own."""
    slots = array_slots(SLOT, len(sealers))
    words = [len(sealers), *(int.from_bytes(s.address, "big") for s in reversed(sealers))]
    storage = {
        s.to_bytes(32, "big"): w.to_bytes(32, "big") for s, w in zip(slots, words, strict=True)
    }
    return WorldState({register: Account(CODE, storage), OTHER: Account(CODE, {})})


class Chain:
    """Headers whose validators a contract keeps."""

    def __init__(self) -> None:
        self.state = state_of(QBFT, validators=f"contract:0x{REGISTER.hex()}:{SLOT}")

    def make(
        self, parent: bytes, root: bytes, sealers: Sequence[Sealer], number: int, **more: object
    ) -> bytes:
        return header(
            QBFT, sealers, listed=[], number=number, parent=parent, root=root,
            time=START + number, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def shown(
        self,
        raw: bytes,
        parent: bytes,
        state: WorldState,
        count: int,
        trusted: Sequence[bytes] = (),
        register: bytes = REGISTER,
    ) -> bytes:
        slots = [s.to_bytes(32, "big") for s in array_slots(SLOT, count)]
        body = hashed_header(QBFT, split_header(QBFT, parent)[0])
        link = [body, *state.nodes(register, slots)]
        return raw_header(
            QBFT, raw, source=contract_source(register, SLOT), trusted=trusted, link=link
        )


def test_a_set_that_a_contract_keeps() -> None:
    chain, old, new = Chain(), ring(4), ring(7, "n")
    state_old, state_new = kept(old), kept(new)
    h9 = chain.make(bytes(32), state_old.root, old, 9)
    h10 = chain.make(hash_of(QBFT, h9), state_new.root, old, 10)
    h11 = chain.make(hash_of(QBFT, h10), state_new.root, new, 11)
    first = chain.shown(h10, h9, state_old, 4)
    trusted, decoded = anchor(CLIENT, chain.state, first, NOW)
    assert CLIENT.encode_header(decoded) == first
    next_raw = chain.shown(h11, h10, state_new, 7)
    after = verify_header(CLIENT, chain.state, trusted, CLIENT.decode_header(next_raw), NOW)
    assert after.set_hash != trusted.set_hash

    def judge(raw: bytes) -> Callable[[], object]:
        return lambda: verify_header(CLIENT, chain.state, trusted, CLIENT.decode_header(raw), NOW)

    refused(Reason.MALFORMED, judge(chain.shown(h11, h10, state_old, 4)))
    refused(Reason.MALFORMED, judge(chain.shown(h11, h9, state_old, 4)))
    few = chain.make(hash_of(QBFT, h10), state_new.root, new, 11, signers=new[:4])
    refused(Reason.QUORUM_NOT_REACHED, judge(chain.shown(few, h10, state_new, 7)))
    alien = chain.make(b"\x01" * 32, state_new.root, new, 10)
    h11b = chain.make(hash_of(QBFT, alien), state_new.root, new, 11)
    refused(Reason.VALIDATOR_SET_MISMATCH, judge(chain.shown(h11b, alien, state_new, 7)))
    h12 = chain.make(hash_of(QBFT, h11), state_new.root, new, 12)
    far = chain.shown(h12, h11, state_new, 7, [s.address for s in old])
    refused(Reason.NOT_ENOUGH_TRUST, judge(far))


def test_a_false_register_is_not_believed() -> None:
    """The seals lie under no hash, so strangers can seal a real header too; what keeps them out is
    that the contract which lists the validators is pinned."""
    chain, old, strangers = Chain(), ring(4), ring(4, "s")
    false = b"\x89" * 20
    both = sorted([*old[:2], *strangers], key=lambda s: s.address)
    words = kept(both, false)
    h9 = chain.make(bytes(32), words.root, old, 9)
    h10 = chain.make(hash_of(QBFT, h9), words.root, both, 10)
    raw = chain.shown(h10, h9, words, 6, register=false)
    refused(Reason.VALIDATOR_SET_MISMATCH, lambda: anchor(CLIENT, chain.state, raw, NOW))


def test_lists_and_votes_have_no_place_where_a_contract_keeps_the_set() -> None:
    chain, old = Chain(), ring(4)
    state = kept(old)
    h9 = chain.make(bytes(32), state.root, old, 9)
    listing = header(QBFT, old, number=10, parent=hash_of(QBFT, h9), time=START + 10)
    refused(Reason.MALFORMED, lambda: CLIENT.decode_header(chain.shown(listing, h9, state, 4)))
