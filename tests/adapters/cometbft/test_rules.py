"""Rules that others would cover for, each by itself: what a forger meets where the rest is true."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from adapters.cometbft.light import CLIENT, ics23, proto, txproof
from adapters.cometbft.light.block import encode_signed_header
from adapters.cometbft.light.client import CometHeader, encode_light_block
from adapters.cometbft.light.ics23 import Existence, NonExistence
from adapters.cometbft.light.ics23_ops import (
    IAVL,
    SHA512,
    TENDERMINT,
    InnerOp,
    LeafOp,
    Spec,
)
from adapters.cometbft.light.validators import address, decode_validator, encode_validator
from relay.errors import Malformed, Reason
from relay.light.types import Validator, ValidatorSet
from relay.light.wire import Writer
from tests.adapters.cometbft.maker import STATE, commit_for, decoded, raw_header
from tests.adapters.cometbft.test_proofs import LOWER, UPPER, place, show_tx, tx_claim
from tests.refusals import refused

IAVL_LEAF = LeafOp(1, 0, 1, 1, b"\0\2\2")
HEAD = b"\2\4\2 "
"""Height, size and version of an inner node of IAVL, and the length of the child that follows."""
LEFT, RIGHT = InnerOp(1, HEAD, b" " + bytes(32)), InnerOp(1, HEAD + bytes(32) + b" ")
"""Steps from a left child and from a right one."""
EMPTY = bytes(range(32))
SPARSE = replace(TENDERMINT, empty_child=EMPTY)
"""A tree in which a subtree may be empty."""


# --- headers


def raw_sets(header: CometHeader, *sets: tuple[Validator, ...]) -> bytes:
    """The raw header with these sets, whatever they are: the set that signed, the trusted one."""
    commit = commit_for(header.block, header.validators, "abc")
    writer = Writer().u8(1).data(encode_signed_header(header.block, commit), 65536)
    for one in sets:
        writer.u32(len(one))
        for validator in one:
            writer.data(encode_validator(validator), 128)
    return writer.done()


def test_a_header_shows_the_set_that_signed_it() -> None:
    header = decoded(raw_header(3, "abc"))
    names = header.validators.validators
    assert CLIENT.decode_header(raw_sets(header, names, ())) == header
    refused(Reason.MALFORMED, CLIENT.decode_header, raw_sets(header, (), ()), said="no validator")
    refused(Reason.MALFORMED, CLIENT.decode_header, raw_sets(header, (), names), said="no valid")


def test_sets_stand_in_their_one_order() -> None:
    header = decoded(raw_header(3, "abc"))
    names = header.validators.validators
    for sets in ((names[::-1], ()), (names, names[:2][::-1])):
        refused(Reason.MALFORMED, CLIENT.decode_header, raw_sets(header, *sets), said="descending")
    turned = replace(header, validators=ValidatorSet(names[::-1]))
    refused(Reason.MALFORMED, CLIENT.encode_header, turned, said="descending")
    commit = commit_for(header.block, header.validators, "abc")
    with_twin = ValidatorSet((*names, names[0]))
    refused(Reason.MALFORMED, encode_light_block, header.block, commit, with_twin)


def test_a_signer_without_a_place_has_no_encoding() -> None:
    header = decoded(raw_header(3, "abc"))
    stranger = decoded(raw_header(3, "abx")).signatures
    for signatures in ((*header.signatures, *stranger), stranger):
        shown = replace(header, signatures=tuple(dict.fromkeys(signatures)))
        refused(Reason.MALFORMED, CLIENT.encode_header, shown)
    shown = replace(header, signatures=header.signatures[:1] * 2)
    refused(Reason.MALFORMED, CLIENT.encode_header, shown, said="one place")


def test_a_client_pins_no_parameters() -> None:
    header = decoded(raw_header(3, "abc"))
    CLIENT.check_pinned(STATE, header)
    state = replace(STATE, parameters=b"x")
    refused(Reason.MALFORMED, CLIENT.check_pinned, state, header, said="no parameters")


@pytest.mark.parametrize(("field", "length"), [(1, 31), (1, 33), (2, 32), (2, 34)])
def test_keys_have_one_length(field: int, length: int) -> None:
    raw = proto.message(1, proto.data(field, bytes(length))) + proto.integer(2, 10)
    refused(Reason.MALFORMED, decode_validator, raw, said="bytes")


def test_a_varint_ends_within_ten_bytes() -> None:
    """Before it is added up: a megabyte of it would be a number of a million digits."""
    assert proto.read_varint(b"\xff" * 9 + b"\1", 0, "it") == (2**64 - 1, 10)
    refused(Reason.MALFORMED, proto.read_varint, b"\xff" * 10 + b"\1", 0, "it", said="not end")
    refused(Reason.MALFORMED, proto.read_varint, b"\xff" * 9, 0, "it", said="not end")


# --- steps of a proof


def test_hashes_are_no_longer_than_a_child() -> None:
    long = Existence(b"k", b"v", LeafOp(SHA512, length=1), (InnerOp(SHA512, b"\1"),))
    assert len(ics23.calculate(long)) == 64
    refused(Reason.INVALID_PROOF, ics23.calculate, long, 32, said="longer than a child")


def alone(key: bytes, op: InnerOp, spec: Spec = IAVL, *, right: bool = False) -> bytes:
    """The root under which `key` is not, beside the one neighbour "m" with a path of one step."""
    leaf = IAVL_LEAF if spec.iavl else LeafOp(1, 0, 1, 1, b"\0")
    one = Existence(b"m", b"v", leaf, (op,))
    shown = NonExistence(key, None if right else one, one if right else None)
    return ics23.non_existence_root(shown, spec, key)


def test_the_empty_key_is_nowhere() -> None:
    assert alone(b"a", LEFT, right=True)
    empty = partial(alone, b"", LEFT, right=True)
    refused(Reason.INVALID_PROOF, empty, said="another key")


@pytest.mark.parametrize(
    "op",
    [
        InnerOp(1, RIGHT.prefix, LEFT.suffix),  # a child on either side
        InnerOp(1, HEAD),  # none at all
    ],
)
def test_a_node_with_other_than_two_children_has_no_edge(op: InnerOp) -> None:
    """By whatever root: else a forger who finds such a node is at its left edge and its right."""
    assert alone(b"a", LEFT, right=True)
    assert alone(b"z", RIGHT)
    room = "there is room"
    refused(Reason.INVALID_PROOF, lambda: alone(b"a", op, right=True), said=room)
    refused(Reason.INVALID_PROOF, lambda: alone(b"z", op), said=room)
    assert not ics23.are_neighbours(IAVL, (op,), (RIGHT,))
    assert not ics23.are_neighbours(IAVL, (LEFT,), (op,))


def test_an_edge_beside_an_empty_subtree() -> None:
    assert alone(b"z", InnerOp(1, b"\1", EMPTY), SPARSE)
    assert alone(b"a", InnerOp(1, b"\1" + EMPTY), SPARSE, right=True)
    room = "there is room"
    for sibling, spec in ((EMPTY[::-1], SPARSE), (EMPTY, TENDERMINT)):
        step = InnerOp(1, b"\1", sibling)
        refused(Reason.INVALID_PROOF, alone, b"z", step, spec, said=room)
    three = InnerOp(1, b"\1" + EMPTY, EMPTY)
    assert not ics23.other_is_empty(SPARSE, three, 0)
    assert not ics23.other_is_empty(SPARSE, three, 1)


def test_neighbours_part_at_one_node_left_and_right_of_it() -> None:
    def touch(left: tuple[InnerOp, ...], right: tuple[InnerOp, ...]) -> bool:
        return ics23.are_neighbours(IAVL, left, right)

    top = (InnerOp(1, b"\4\6\2 ", b" " + bytes(32)),)
    assert touch((LEFT,), (RIGHT,))
    assert touch((LEFT, *top), (RIGHT, *top))
    assert touch((RIGHT, LEFT), (LEFT, RIGHT))
    assert not touch((RIGHT,), (LEFT,))
    assert not touch((LEFT, LEFT), (LEFT, RIGHT)), "the left one is not at the edge below"
    assert not touch((RIGHT, LEFT), (RIGHT, RIGHT)), "nor here the right one"
    for left, right in (((LEFT, *top), top), (top, (RIGHT, *top)), (top, top), ((), top), ((), ())):
        assert not touch(left, right), "there is no node where they part"


# --- transactions


def test_a_transaction_is_claimed_by_its_hash() -> None:
    claim = tx_claim(1)
    for path in (claim.path[:31], claim.path + b"\0", b""):
        refused(
            Reason.INVALID_PROOF,
            lambda p=path: show_tx([replace(claim, path=p)], [place(1)]),
            said="by its SHA-256",
        )
    show_tx([claim], [place(1)])
    raw = txproof.encode_tx_proof(UPPER, LOWER, [place(1)])
    assert txproof.decode_tx_proof(raw)[2] == (place(1),)


def test_keys_of_other_kinds_name_nobody() -> None:
    refused(Reason.UNSUPPORTED_VERSION, address, "p256", bytes(33), kind=Malformed)
    odd = Validator("AB", 10, (("sm2", bytes(33)),))
    refused(Reason.UNSUPPORTED_VERSION, encode_validator, odd, kind=Malformed)
