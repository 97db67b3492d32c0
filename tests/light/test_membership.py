from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.lianqiao.light import CLIENT
from relay.errors import Invalid, LianqiaoError, Malformed, Reason, Refused
from relay.light import merkle
from relay.light.client import consensus_of
from relay.light.membership import (
    decode_membership_proof,
    encode_membership_proof,
    entry_hash,
    journal_app_hash,
    journal_root,
    leaf_data,
    verify_membership,
)
from relay.light.types import MAX_INT, MAX_PROOF_BYTES, Claim, ClientState
from tests.light.ledger import Ledger
from tests.refusals import refused


def ledger(size: int = 11) -> tuple[Ledger, list[Claim]]:
    made = Ledger()
    for number in range(size):
        made.write(b"path %d" % number, b"value %d" % number)
    return made, [Claim(path, value) for path, value in made.entries]


def no_member(
    kind: type[LianqiaoError], reason: Reason, made: Ledger, proof: bytes, claims: Sequence[Claim]
) -> None:
    root = merkle.root_at(made.size, made.node)
    refused(reason, verify_membership, root, made.size, proof, claims, kind=kind)


def test_claims_in_any_order_under_one_proof() -> None:
    made, claims = ledger()
    root = merkle.root_at(made.size, made.node)
    for indexes in ([0], [10], [3, 1, 7], list(range(11)), [10, 0]):
        verify_membership(root, made.size, made.prove(indexes), [claims[i] for i in indexes])


def test_each_rule_of_a_membership_proof() -> None:
    made, claims = ledger()
    proof = made.prove([3, 7])
    chosen = [claims[3], claims[7]]
    no_member(Invalid, Reason.INVALID_PROOF, made, proof, chosen[::-1])
    no_member(Invalid, Reason.INVALID_PROOF, made, proof, chosen[:1])
    no_member(Invalid, Reason.INVALID_PROOF, made, proof, [])
    no_member(Invalid, Reason.INVALID_PROOF, made, proof, [claims[3], claims[3]])
    no_member(Invalid, Reason.INVALID_PROOF, made, proof, [Claim(b"path 4", b"value 3"), claims[7]])
    no_member(Invalid, Reason.INVALID_PROOF, made, proof, [Claim(b"path 3", b"other"), claims[7]])
    no_member(
        Refused, Reason.ABSENCE_NOT_PROVABLE, made, proof, [Claim(b"path 3", None), claims[7]]
    )
    _, hashes = decode_membership_proof(proof)
    twice = encode_membership_proof([3, 3], hashes)
    no_member(Invalid, Reason.INVALID_PROOF, made, twice, [claims[3], claims[3]])
    for wrong in (hashes[:-1], [*hashes, hashes[0]], hashes[::-1]):
        no_member(
            Invalid, Reason.INVALID_PROOF, made, encode_membership_proof([3, 7], wrong), chosen
        )
    elsewhere = encode_membership_proof([3, made.size], hashes)
    no_member(Invalid, Reason.INVALID_PROOF, made, elsewhere, chosen)


def test_a_value_cannot_pass_for_a_path() -> None:
    """H(path) ‖ H(value), each hashed alone: no other split of the same bytes is the same leaf."""
    assert leaf_data(b"ab", b"c") != leaf_data(b"a", b"bc")
    assert len(leaf_data(b"", b"")) == 64
    assert entry_hash(b"a", b"b") == merkle.leaf_hash(leaf_data(b"a", b"b"))


@given(st.binary(max_size=120), st.integers(0, 200))
def test_any_bytes_are_a_proof_or_malformed(raw: bytes, at: int) -> None:
    made, _ = ledger()
    good = made.prove([1, 5])
    for candidate in (raw, good[:at] + raw + good[at + len(raw) :]):
        try:
            indexes, hashes = decode_membership_proof(candidate)
        except Malformed:
            continue
        assert encode_membership_proof(indexes, hashes) == candidate


def test_every_flipped_bit_of_a_proof_is_refused() -> None:
    made, claims = ledger()
    proof = made.prove([3, 7])
    root = merkle.root_at(made.size, made.node)
    for bit in range(8 * len(proof)):
        changed = bytearray(proof)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LianqiaoError) as err:
            verify_membership(root, made.size, bytes(changed), [claims[3], claims[7]])
        assert err.value.reason in (Reason.INVALID_PROOF, Reason.MALFORMED)


def test_limits_of_the_encoding() -> None:
    for raw in (
        b"",
        b"\x02",
        b"\x01" + bytes(4),
        b"\x01\xff\xff\xff\xff",
        b"\x01" + bytes(8),
        b"x" * (5 << 20),
    ):
        with pytest.raises(Malformed) as err:
            decode_membership_proof(raw)
        assert err.value.reason == Reason.MALFORMED
    assert decode_membership_proof(encode_membership_proof([MAX_INT], []))[0] == (MAX_INT,)
    late = b"\x01" + (1).to_bytes(4, "big") + (MAX_INT + 1).to_bytes(8, "big") + bytes(4)
    most = MAX_PROOF_BYTES // 32
    long = encode_membership_proof([0] * merkle.MAX_MULTI_LEAVES, [bytes(32)] * most)
    assert len(long) > MAX_PROOF_BYTES
    for raw in (late, long):
        with pytest.raises(Malformed) as err:
            decode_membership_proof(raw)
        assert err.value.reason == Reason.MALFORMED
    for indexes in ([], [-1], [2**63]):
        with pytest.raises(Malformed) as err:
            encode_membership_proof(indexes, [])
        assert err.value.reason == Reason.MALFORMED


def test_the_tree_is_the_one_the_client_pins() -> None:
    made, claims = ledger()
    consensus = consensus_of(made.header())
    CLIENT.verify_membership(made.state, consensus, made.prove([2]), [claims[2]])
    with pytest.raises(Invalid) as of_another:
        CLIENT.verify_membership(made.state, consensus, made.prove([2]), [claims[3]])
    assert of_another.value.reason == Reason.INVALID_PROOF
    for state in (
        ClientState("checkpoint", "zj-medical/0", tree_hash="sm3"),
        ClientState("checkpoint", "zj-medical/0", proof_kind="ics23"),
    ):
        with pytest.raises(Invalid) as err:
            CLIENT.verify_membership(state, consensus, made.prove([2]), [claims[2]])
        assert err.value.reason == Reason.INVALID_PROOF


@pytest.mark.parametrize("size", [1, MAX_INT])
def test_an_app_hash_is_the_size_and_the_root_of_a_journal(size: int) -> None:
    assert journal_root(journal_app_hash(size, b"r" * 32)) == (b"r" * 32, size)


@pytest.mark.parametrize(
    "app_hash",
    [
        b"",
        bytes(8) + b"r" * 32,
        (MAX_INT + 1).to_bytes(8, "big") + b"r" * 32,
        (5).to_bytes(8, "big") + b"r" * 31,
        (5).to_bytes(8, "big") + b"r" * 33,
    ],
)
def test_what_is_no_app_hash_of_a_journal(app_hash: bytes) -> None:
    with pytest.raises(Invalid) as err:
        journal_root(app_hash)
    assert err.value.reason == Reason.INVALID_PROOF
