"""Kinds of proof under a header: what they show, and every way in which they do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cometbft.light import CLIENT, ics23, proofs, proto, txproof
from adapters.cometbft.light.block import (
    BlockHeader,
    BlockId,
    decode_header,
    decode_signed_header,
    encode_header,
    encode_signed_header,
    header_hash,
)
from adapters.cometbft.light.ics23 import Existence, NonExistence
from adapters.cometbft.light.ics23_ops import (
    IAVL,
    SIMPLE,
    TENDERMINT,
    InnerOp,
    LeafOp,
    Spec,
    apply_inner,
    apply_leaf,
    check_inner,
    check_leaf,
)
from adapters.cometbft.light.txproof import Result, TxPlace
from adapters.cometbft.light.validators import decode_validator
from adapters.cometbft.source import _aunts
from relay.errors import Invalid, Malformed, Reason
from relay.light import merkle
from relay.light.membership import (
    encode_membership_proof,
    entry_hash,
    journal_app_hash,
    journal_root,
)
from relay.light.sent import encode_sent, sent_path
from relay.light.types import Claim, ClientState, ConsensusState, Sent
from tests.adapters.cometbft.maker import (
    STATE,
    block_header,
    commit_for,
    decoded,
    raw_header,
    set_of,
)
from tests.refusals import refused

FORM = (Reason.MALFORMED, Reason.LIMIT_EXCEEDED, Reason.UNSUPPORTED_VERSION)
LEAF = LeafOp(1, 0, 1, 1, b"\0")
IAVL_LEAF = LeafOp(1, 0, 1, 1, b"\0\2\2")


# --- journal


CLAIMS = [Claim(b"path %d" % n, b"value %d" % n) for n in range(5)]
ROWS = [entry_hash(c.path, c.value or b"") for c in CLAIMS]


def node_of(leaves: Sequence[bytes]) -> merkle.Node:
    return lambda level, index: merkle.root(leaves[index << level : (index + 1) << level])


def journal_proof(indexes: Sequence[int]) -> bytes:
    hashes = merkle.multi_proof(sorted(indexes), 5, node_of(ROWS))
    return encode_membership_proof(indexes, hashes)


def consensus(app_hash: bytes) -> ConsensusState:
    return ConsensusState(77, 1, app_hash, *[bytes(32)] * 3)


HEAD = consensus(journal_app_hash(5, merkle.root(ROWS)))


def show(state: ClientState, head: ConsensusState, proof: bytes, claims: Sequence[Claim]) -> None:
    CLIENT.verify_membership(state, head, proof, claims)


def test_entries_of_a_journal_are_under_the_app_hash() -> None:
    show(STATE, HEAD, journal_proof([1, 3]), [CLAIMS[1], CLAIMS[3]])
    narrowed = CLIENT.narrow_membership(
        STATE, HEAD, journal_proof([1, 3]), [CLAIMS[1], CLAIMS[3]], [1]
    )
    assert narrowed == journal_proof([3])
    refused(
        Reason.ABSENCE_NOT_PROVABLE,
        lambda: show(STATE, HEAD, journal_proof([1]), [replace(CLAIMS[1], value=None)]),
    )
    refused(
        Reason.INVALID_PROOF,
        lambda: show(STATE, HEAD, journal_proof([1]), [replace(CLAIMS[1], value=b"x")]),
    )


@pytest.mark.parametrize("app_hash", [b"", bytes(8), bytes(32), bytes(39), bytes(40), bytes(41)])
def test_app_hashes_that_are_no_journal(app_hash: bytes) -> None:
    refused(Reason.INVALID_PROOF, lambda: journal_root(app_hash))
    head = consensus(app_hash)
    refused(Reason.INVALID_PROOF, lambda: show(STATE, head, journal_proof([1]), CLAIMS[1:2]))


def test_the_size_is_part_of_what_is_signed() -> None:
    for size in (4, 6, 2**63):
        head = consensus(size.to_bytes(8, "big") + merkle.root(ROWS))
        refused(Reason.INVALID_PROOF, lambda h=head: show(STATE, h, journal_proof([4]), CLAIMS[4:]))


@pytest.mark.parametrize(
    "fields", [{"proof_kind": "rfc6962"}, {"proof_kind": "ics23"}, {"tree_hash": "sm3"}]
)
def test_the_kind_of_proof_is_pinned(fields: dict[str, str]) -> None:
    state = replace(STATE, **fields)
    reasons = (Reason.INVALID_PROOF, Reason.MALFORMED)
    refused(reasons, lambda: show(state, HEAD, journal_proof([1]), CLAIMS[1:2]))


# --- ics23: a small store of our own making


def leaf(key: bytes) -> bytes:
    return apply_leaf(IAVL_LEAF, key, b"v" + key)


def store(keys: Sequence[bytes]) -> tuple[bytes, dict[bytes, Existence]]:
    """A tree of two or four leaves, as iavl builds it, and its proofs."""
    paths: dict[bytes, list[InnerOp]] = {k: [] for k in keys}
    groups = [([k], leaf(k)) for k in keys]
    height = 1
    while len(groups) > 1:
        above = []
        for at in range(0, len(groups), 2):
            (left_keys, left), (right_keys, right) = groups[at], groups[at + 1]
            head = bytes([height << 1, 4, 2]) + b" "
            for key in left_keys:
                paths[key].append(InnerOp(1, head, b" " + right))
            for key in right_keys:
                paths[key].append(InnerOp(1, head + left + b" "))
            above.append((left_keys + right_keys, sha256(head + left + b" " + right).digest()))
        groups, height = above, height + 1
    proven = {k: Existence(k, b"v" + k, IAVL_LEAF, tuple(paths[k])) for k in keys}
    return groups[0][1], proven


KEYS = [b"b", b"d", b"f", b"h"]
ROOT, PROVEN = store(KEYS)
SIDE = sha256(b"other store").digest()
STORE_PROOF = Existence(b"ibc", ROOT, LEAF, (InnerOp(1, b"\x01" + SIDE),))
APP = apply_inner(STORE_PROOF.path[0], apply_leaf(LEAF, b"ibc", ROOT))
COSMOS = replace(STATE, proof_kind="ics23")


def cosmos(claims: Sequence[Claim], shown: Sequence[ics23.Proof], top: Any = STORE_PROOF) -> None:
    raw = proofs.encode_store_proof(
        ics23.encode_proof(top), [ics23.encode_proof(one) for one in shown]
    )
    show(COSMOS, consensus(APP), raw, claims)


def present(key: bytes) -> Claim:
    return Claim(key, b"v" + key)


def absent(key: bytes, left: bytes | None, right: bytes | None) -> NonExistence:
    return NonExistence(key, PROVEN[left] if left else None, PROVEN[right] if right else None)


def test_presence_and_absence_in_a_store() -> None:
    cosmos([present(b"b"), present(b"h")], [PROVEN[b"b"], PROVEN[b"h"]])
    for key, left, right in (
        (b"a", None, b"b"),
        (b"c", b"b", b"d"),
        (b"e", b"d", b"f"),
        (b"z", b"h", None),
    ):
        cosmos([Claim(key, None)], [absent(key, left, right)])
    two = [present(b"b"), Claim(b"c", None)]
    shown = [PROVEN[b"b"], absent(b"c", b"b", b"d")]
    raw = proofs.encode_store_proof(
        ics23.encode_proof(STORE_PROOF), [ics23.encode_proof(p) for p in shown]
    )
    narrowed = CLIENT.narrow_membership(COSMOS, consensus(APP), raw, two, [1])
    show(COSMOS, consensus(APP), narrowed, two[1:])


@pytest.mark.parametrize(
    ("key", "left", "right"),
    [
        (b"b", b"b", b"d"),  # it is there
        (b"b", None, b"b"),
        (b"c", b"d", b"f"),  # left of both
        (b"g", b"b", b"d"),  # right of both
        (b"c", b"b", b"f"),  # room between them
        (b"c", b"b", b"h"),
        (b"c", None, b"d"),  # not the leftmost
        (b"c", b"b", None),  # not the rightmost
        (b"c", None, None),
        (b"c", b"d", b"b"),  # turned round
        (b"z", b"f", None),
        (b"a", None, b"d"),
    ],
)
def test_absences_that_are_forged(key: bytes, left: bytes | None, right: bytes | None) -> None:
    refused(Reason.INVALID_PROOF, lambda: cosmos([Claim(key, None)], [absent(key, left, right)]))


def test_an_absence_for_another_key_and_from_two_trees() -> None:
    shown = absent(b"c", b"b", b"d")
    refused(Reason.INVALID_PROOF, lambda: cosmos([Claim(b"cc", None)], [shown]))
    root, other = store([b"a", b"d"])
    mixed = replace(shown, right=other[b"d"])
    assert root != ROOT
    refused(Reason.INVALID_PROOF, lambda: cosmos([Claim(b"c", None)], [mixed]))
    refused(Reason.INVALID_PROOF, lambda: cosmos([Claim(b"c", None)], [PROVEN[b"b"]]))
    refused(Reason.INVALID_PROOF, lambda: cosmos([present(b"b")], [shown]))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, value=b"x"),
        lambda p: replace(p, leaf=None),
        lambda p: replace(p, leaf=replace(IAVL_LEAF, prefix=b"\0\1\2")),
        lambda p: replace(p, leaf=replace(IAVL_LEAF, prefix=b"")),
        lambda p: replace(p, leaf=replace(IAVL_LEAF, hash=2)),
        lambda p: replace(p, leaf=replace(IAVL_LEAF, prehash_value=0)),
        lambda p: replace(p, leaf=replace(IAVL_LEAF, length=0)),
        lambda p: replace(p, path=p.path[:1]),
        lambda p: replace(p, path=p.path + p.path),
        lambda p: replace(p, path=p.path[:1] * 129),
        lambda p: replace(p, path=(replace(p.path[0], hash=0), *p.path[1:])),
        lambda p: replace(p, path=(replace(p.path[0], prefix=b"\0\4\2 "), *p.path[1:])),
        lambda p: replace(p, path=(replace(p.path[0], prefix=b"\3\4\2 "), *p.path[1:])),
        lambda p: replace(p, path=(replace(p.path[0], prefix=b"\2\4 "), *p.path[1:])),
        lambda p: replace(p, path=(replace(p.path[0], suffix=p.path[0].suffix[1:]), *p.path[1:])),
        lambda p: replace(p, path=(replace(p.path[0], prefix=b"\2\4\2 x"), *p.path[1:])),
    ],
)
def test_presences_that_are_forged(change: Callable[[Existence], Existence]) -> None:
    refused(Reason.INVALID_PROOF, lambda: cosmos([present(b"b")], [change(PROVEN[b"b"])]))


def test_rules_hold_whatever_root_a_forger_reaches() -> None:
    """Proofs that lead to their own root: what refuses them is the rule and not the root."""
    low = replace(PROVEN[b"b"].path[1], prefix=b"\2\4\2 ")  # height 1 at layer 2
    for forged in (
        replace(PROVEN[b"b"], path=(PROVEN[b"b"].path[0], low)),
        replace(PROVEN[b"b"], leaf=replace(IAVL_LEAF, prefix=b"\0\4\4\4")),
        replace(PROVEN[b"b"], path=(InnerOp(1, b"\0\0\0\0\0"),)),
        replace(PROVEN[b"b"], path=(InnerOp(1, b"\2\4\2 ", b" " * 32),)),
        replace(PROVEN[b"b"], path=(InnerOp(2, b"\2\4\2 "),)),
    ):
        root = ics23.calculate(forged)
        refused(
            Reason.INVALID_PROOF,
            lambda p=forged, r=root: ics23.verify_existence(p, IAVL, r, b"b", b"vb"),
        )


@pytest.mark.parametrize(
    "top",
    [
        replace(STORE_PROOF, key=b"bank"),
        replace(STORE_PROOF, value=bytes(32)),
        replace(STORE_PROOF, path=()),
        replace(STORE_PROOF, path=(InnerOp(1, b"\x01" + SIDE[::-1]),)),
        NonExistence(b"ibc", STORE_PROOF, None),
    ],
)
def test_stores_that_are_another(top: ics23.Proof) -> None:
    refused(Reason.INVALID_PROOF, lambda: cosmos([present(b"b")], [PROVEN[b"b"]], top))


@pytest.mark.parametrize(
    "op",
    [
        InnerOp(1, b"\x02" + SIDE),
        InnerOp(1, b"\x01", SIDE * 2),
        InnerOp(1, b"\x01" + SIDE, SIDE),
        InnerOp(1, b"\x01"),
    ],
)
def test_the_tree_of_stores_has_no_other_nodes(op: InnerOp) -> None:
    top = replace(STORE_PROOF, path=(op,))
    app = apply_inner(op, apply_leaf(LEAF, b"ibc", ROOT))
    raw = proofs.encode_store_proof(ics23.encode_proof(top), [ics23.encode_proof(PROVEN[b"b"])])
    refused(Reason.INVALID_PROOF, lambda: show(COSMOS, consensus(app), raw, [present(b"b")]))


def test_one_proof_for_each_claim() -> None:
    for claims, shown in (([], []), ([present(b"b")], []), ([], [PROVEN[b"b"]])):
        refused(Reason.INVALID_PROOF, lambda c=claims, s=shown: cosmos(c, s))


def test_batches_and_compressed_proofs_are_refused() -> None:
    for field in (3, 4):
        raw = proto.message(field, proto.message(1, b""))
        refused(Reason.MALFORMED, lambda r=raw: ics23.decode_proof(r))
    both = ics23.encode_proof(PROVEN[b"b"]) + ics23.encode_proof(absent(b"c", b"b", b"d"))
    refused(Reason.MALFORMED, ics23.decode_proof, both, said="either")


# --- transactions


TXS = [b"tx %d" % n for n in range(5)]
RESULTS = [Result(n % 2, b"out", 9, n) for n in range(5)]
TX_LEAVES = [merkle.leaf_hash(sha256(tx).digest()) for tx in TXS]
RESULT_LEAVES = [merkle.leaf_hash(txproof.encode_result(r)) for r in RESULTS]
LOWER = block_header(8, "abcd", data_hash=merkle.root(TX_LEAVES))
UPPER = block_header(
    9,
    "abcd",
    last_block_id=BlockId(header_hash(LOWER), 1, bytes(31) + b"\1"),
    last_results_hash=merkle.root(RESULT_LEAVES),
)
TX = replace(STATE, proof_kind="tx")


def place(index: int) -> TxPlace:
    return TxPlace(index, 5, _aunts(TX_LEAVES, index), _aunts(RESULT_LEAVES, index))


def tx_claim(index: int) -> Claim:
    return Claim(sha256(TXS[index]).digest(), txproof.encode_result(RESULTS[index]))


def show_tx(
    claims: Sequence[Claim],
    places: Sequence[TxPlace],
    upper: BlockHeader = UPPER,
    lower: BlockHeader = LOWER,
) -> None:
    head = replace(consensus(b""), header_hash=header_hash(UPPER))
    show(TX, head, txproof.encode_tx_proof(upper, lower, places), claims)


def test_transactions_and_their_results() -> None:
    for index in range(5):
        show_tx([tx_claim(index)], [place(index)])
    show_tx([tx_claim(4), tx_claim(0)], [place(4), place(0)])
    raw = txproof.encode_tx_proof(UPPER, LOWER, [place(4), place(0)])
    head = replace(consensus(b""), header_hash=header_hash(UPPER))
    narrowed = CLIENT.narrow_membership(TX, head, raw, [tx_claim(4), tx_claim(0)], [1])
    show(TX, head, narrowed, [tx_claim(0)])


def test_transactions_that_are_not_so() -> None:
    claim, at = tx_claim(1), place(1)
    failed = txproof.encode_result(replace(RESULTS[1], code=0))
    for claims, places in (
        ([replace(claim, value=failed)], [at]),
        ([replace(claim, path=bytes(32))], [at]),
        ([replace(claim, path=TXS[1])], [at]),
        ([claim], [place(2)]),
        ([claim], [replace(at, index=2)]),
        ([claim], [replace(at, total=4)]),
        ([claim], [replace(at, aunts=at.aunts[:-1])]),
        ([claim], [replace(at, result_aunts=at.aunts)]),
        ([claim], [at, at]),
        ([claim, claim], [at]),
        ([], []),
    ):
        refused(Reason.INVALID_PROOF, lambda c=claims, p=places: show_tx(c, p))
    other = replace(LOWER, app_hash=b"x")
    refused(Reason.INVALID_PROOF, lambda: show_tx([claim], [at], lower=other))
    refused(Reason.INVALID_PROOF, lambda: show_tx([claim], [at], upper=other))
    refused(Reason.ABSENCE_NOT_PROVABLE, lambda: show_tx([replace(claim, value=None)], [at]))
    noise = (claim.value or b"") + proto.data(4, b"info")
    refused(Reason.MALFORMED, lambda: show_tx([replace(claim, value=noise)], [at]))


# --- any bytes


DECODERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "header": (CLIENT.decode_header, raw_header(3, "abc", trusted="abd")),
    "signed header": (decode_signed_header, b""),
    "validator": (decode_validator, proto.message(1, proto.data(1, bytes(32))) + b"\x10\x0a"),
    "ics23": (ics23.decode_proof, ics23.encode_proof(absent(b"c", b"b", b"d"))),
    "store": (proofs.decode_store_proof, proofs.encode_store_proof(b"x", [b"y"])),
    "tx": (txproof.decode_tx_proof, txproof.encode_tx_proof(UPPER, LOWER, [place(1)])),
    "result": (txproof.decode_result, txproof.encode_result(RESULTS[3])),
}


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_any_bytes_decode_or_are_malformed(name: str, data: st.DataObject) -> None:
    decode, good = DECODERS[name]
    raw = data.draw(st.one_of(st.binary(max_size=300), _changed(good)))
    try:
        decode(raw)
    except Malformed as error:
        if error.reason not in FORM:
            raise


def _changed(good: bytes) -> st.SearchStrategy[bytes]:
    at = st.integers(0, max(len(good) - 1, 0))
    return st.tuples(at, st.binary(max_size=3), st.integers(0, 4)).map(
        lambda t: good[: t[0]] + t[1] + good[t[0] + t[2] :]
    )


@pytest.mark.parametrize("name", [n for n, (_, good) in DECODERS.items() if good])
def test_every_shorter_and_longer_form_is_refused(name: str) -> None:
    decode, good = DECODERS[name]
    decode(good)
    for length in range(len(good)):
        if name == "result":
            break  # each of its fields may be left out, so a shorter form is another result
        refused(FORM, lambda n=length: decode(good[:n]))
    for tail in (b"\0", b"\x0a\0", b"\xff"):
        refused(FORM, lambda t=tail: decode(good + t))


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x00",  # a key that is not minimal
        b"\x08\x80\x00",  # a value that is not
        b"\x08" + b"\xff" * 10,  # more than 64 bits
        b"\x08\x01\x08\x01",  # twice
        b"\x0a\x05abc",  # cut off
        b"\x0d\x00\x00\x00\x00",  # fixed32
        b"\x0b\x0c",  # groups
        b"\x10\x01\x08\x01",  # out of order: refused by whoever encodes again
    ],
)
def test_protobuf_that_is_not_in_its_one_encoding(raw: bytes) -> None:
    refused(Reason.MALFORMED, lambda: txproof.decode_result(raw))


def test_a_header_that_is_decoded_is_encoded_to_the_same_bytes() -> None:
    raw = raw_header(3, "abc", trusted="abd", signers="ab")
    assert CLIENT.encode_header(decoded(raw)) == raw


def test_absence_is_refused_where_the_pinned_kind_is_a_log() -> None:
    from relay.light.types import absence_provable

    assert absence_provable(CLIENT, COSMOS)
    assert not absence_provable(CLIENT, STATE)


UNKNOWN = proto.data(100, b"x")
SIGNED = encode_signed_header(UPPER, commit_for(UPPER, set_of("abcd"), "abcd"))


def swapped(raw: bytes) -> bytes:
    """Two fields of a signed header, the other way round."""
    from adapters.cometbft.light.proto import Fields

    fields = Fields(raw, "signed header")
    one, two = fields.message(1), fields.message(2)
    return proto.message(2, two) + proto.message(1, one)


@pytest.mark.parametrize(
    ("decode", "good", "bad"),
    [
        (decode_signed_header, SIGNED, SIGNED + UNKNOWN),
        (decode_signed_header, SIGNED, swapped(SIGNED)),
        (decode_header, encode_header(UPPER), encode_header(UPPER) + UNKNOWN),
        (decode_validator, *[DECODERS["validator"][1] + more for more in (b"", UNKNOWN)]),
        (ics23.decode_proof, *[DECODERS["ics23"][1] + more for more in (b"", UNKNOWN)]),
        (txproof.decode_result, *[DECODERS["result"][1] + more for more in (b"", UNKNOWN)]),
        (txproof.decode_result, *[b"\x08\x01" + more for more in (b"", b"\x12\x00")]),
        (txproof.decode_result, *[b"\x08\x01" + more for more in (b"", b"\x28\x00")]),
    ],
)
def test_there_is_one_encoding(decode: Callable[[bytes], object], good: bytes, bad: bytes) -> None:
    decode(good)
    refused(Reason.MALFORMED, lambda: decode(bad))


def test_a_header_alone_keeps_the_rules_of_headers() -> None:
    refused(Reason.MALFORMED, lambda: decode_header(encode_header(replace(UPPER, height=0))))


def test_a_result_of_a_code_that_is_none() -> None:
    refused(Reason.MALFORMED, lambda: txproof.decode_result(proto.integer(1, 2**32)))
    assert txproof.decode_result(proto.integer(1, 2**32 - 1)).code == 2**32 - 1


# --- rules that other rules would cover for: each by itself


@pytest.mark.parametrize(
    ("op", "spec"),
    [
        (InnerOp(2, b"\2\4\2 "), IAVL),
        (InnerOp(1, b"\1", SIDE + SIDE[:1]), TENDERMINT),
        (InnerOp(1, b"", SIDE), TENDERMINT),
        (InnerOp(1, b"\1" * 34), TENDERMINT),
        (InnerOp(1, b"\0", SIDE), TENDERMINT),
        (InnerOp(1, b"\3\4\2 "), IAVL),
        (InnerOp(1, b"\2\5\2 "), IAVL),
        (InnerOp(1, b"\2\4\3 "), IAVL),
        (InnerOp(1, b"\2\4\2"), IAVL),
        (InnerOp(1, b"\2\4"), IAVL),
        (InnerOp(1, b"\2\x84\0\2 "), IAVL),
    ],
)
def test_inner_nodes_that_a_tree_has_not(op: InnerOp, spec: Spec) -> None:
    refused(Reason.INVALID_PROOF, lambda: check_inner(op, spec, 1))


def test_leaves_that_a_tree_has_not() -> None:
    check_leaf(LEAF, SIMPLE)
    check_leaf(replace(LEAF, prefix=b"\0\1"), TENDERMINT)
    refused(Reason.INVALID_PROOF, lambda: check_leaf(replace(LEAF, prefix=b"\0\1"), SIMPLE))
    refused(Reason.INVALID_PROOF, lambda: check_leaf(LEAF, IAVL))


def test_lengths_before_data() -> None:
    from adapters.cometbft.light.ics23_ops import do_length

    assert do_length(0, b"ab") == b"ab"
    assert do_length(1, b"ab") == b"\2ab"
    assert do_length(3, b"ab") == b"\0\0\0\2ab"
    assert do_length(4, b"ab") == b"\2\0\0\0ab"
    assert do_length(5, b"ab") == b"\0\0\0\0\0\0\0\2ab"
    assert do_length(6, b"ab") == b"\2\0\0\0\0\0\0\0ab"
    assert do_length(7, bytes(32)) == bytes(32)
    assert do_length(8, bytes(64)) == bytes(64)
    for op, data in ((2, b"ab"), (9, b"ab"), (7, bytes(31)), (7, bytes(64)), (8, bytes(32))):
        refused(Reason.INVALID_PROOF, lambda o=op, d=data: do_length(o, d))


def neighbours(left: Existence, right: Existence, key: bytes) -> Callable[[], bytes]:
    """An absence between two proofs that lead to one root, whatever tree that is."""
    return lambda: ics23.non_existence_root(NonExistence(key, left, right), IAVL, key)


def test_neighbours_must_touch() -> None:
    # One path is all of the other's end: there is no node where they part.
    short = replace(PROVEN[b"d"], path=PROVEN[b"d"].path[1:])
    for left, right in ((PROVEN[b"b"], short), (short, PROVEN[b"f"])):
        refused(Reason.INVALID_PROOF, neighbours(left, right, b"c" if left is not short else b"e"))
    # A tree in which neighbours part at the top, and one of them is not at the edge below.
    root, proven = store([b"b", b"d", b"f", b"h"])
    for left, right, key in ((b"b", b"f", b"c"), (b"d", b"h", b"e")):
        refused(Reason.INVALID_PROOF, neighbours(proven[left], proven[right], key))
    assert neighbours(proven[b"d"], proven[b"f"], b"e")() == root


def test_proofs_have_a_limit() -> None:
    with pytest.raises(Malformed) as err:
        ics23.decode_proof(bytes(ics23.MAX_PROOF_BYTES + 1))
    assert err.value.reason is Reason.LIMIT_EXCEEDED
    from relay.light.types import MAX_PROOF_BYTES

    with pytest.raises(Malformed, match="a proof is at most"):
        show(STATE, HEAD, bytes(MAX_PROOF_BYTES + 1), CLAIMS[:1])
    with pytest.raises(Malformed, match="either"):
        ics23.decode_proof(b"")
    assert isinstance(ics23.decode_proof(ics23.encode_proof(PROVEN[b"b"])), Existence)


def test_a_kind_of_proof_that_does_not_exist() -> None:
    with pytest.raises(Invalid, match="pins another kind"):
        show(replace(STATE, proof_kind="word"), HEAD, journal_proof([1]), CLAIMS[1:2])


def test_a_true_proof_of_something_else() -> None:
    refused(Reason.INVALID_PROOF, lambda: cosmos([present(b"b")], [PROVEN[b"d"]]))
    refused(Reason.INVALID_PROOF, lambda: cosmos([Claim(b"b", b"vd")], [PROVEN[b"b"]]))
    refused(Reason.INVALID_PROOF, lambda: cosmos([Claim(b"x", b"vb")], [PROVEN[b"b"]]))


def test_a_transaction_under_a_header_that_differs_elsewhere() -> None:
    other = replace(UPPER, app_hash=b"x")
    refused(Reason.INVALID_PROOF, lambda: show_tx([tx_claim(1)], [place(1)], upper=other))


def test_steps_and_paths_have_a_limit() -> None:
    long = replace(PROVEN[b"b"], path=PROVEN[b"b"].path[:1] * (ics23.MAX_PATH + 1))
    refused(Reason.MALFORMED, lambda: ics23.decode_proof(ics23.encode_proof(long)))
    wide = replace(PROVEN[b"b"], leaf=replace(IAVL_LEAF, prefix=bytes(1025)))
    refused(Reason.MALFORMED, lambda: ics23.decode_proof(ics23.encode_proof(wide)))


def test_a_replicated_node_states_what_it_has_sent() -> None:
    """In its journal, as every node does; a chain without one states nothing in that way."""
    value = encode_sent(1, 7, 5)
    claim = Claim(sent_path("cometbft-0", 3), value)
    assert CLIENT.read_sent(HEAD, "cometbft-0", [claim]) == Sent(1, 7, ((1, 5),), ())
    refused(Reason.COUNTERPARTY_MISMATCH, lambda: CLIENT.read_sent(HEAD, "cometbft-1", [claim]))
    refused(Reason.MALFORMED, lambda: CLIENT.read_sent(HEAD, "cometbft-0", [claim, claim]))
    bare = consensus(bytes(20))
    refused(Reason.INVALID_PROOF, lambda: CLIENT.read_sent(bare, "cometbft-0", [claim]))
    # under the root of stores such an entry is no number of eight bytes
    refused(Reason.MALFORMED, lambda: CLIENT.read_sent(consensus(bytes(32)), "cometbft-0", [claim]))


# --- what a chain of the Cosmos SDK has sent


CONSENSUS = ConsensusState(77, 1_800_000_000, bytes(32), *[bytes(32)] * 3)


def statement(number: int, *closed: int, client: bytes = b"07-tendermint-3") -> list[Claim]:
    next_sequence = Claim(b"nextSequenceSend/" + client, number.to_bytes(8, "big"))
    gone = [Claim(client + b"\x01" + n.to_bytes(8, "big"), None) for n in closed]
    return [next_sequence, *gone]


def test_a_store_says_what_was_sent_and_what_is_closed() -> None:
    consensus = replace(CONSENSUS, root=bytes(32))
    sent = CLIENT.read_sent(consensus, "07-tendermint-3", statement(9, 2, 3, 7))
    assert (sent.time, sent.next_sequence, sent.skipped) == (consensus.time, 9, ())
    assert sent.closed == ((2, 3), (3, 4), (7, 8))
    assert CLIENT.read_sent(consensus, "07-tendermint-3", statement(1)).next_sequence == 1


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ([], Reason.MALFORMED),
        ([Claim(b"nextSequenceSend/07-tendermint-3", None)], Reason.MALFORMED),
        ([Claim(b"nextSequenceSend/07-tendermint-3", b"\x09")], Reason.MALFORMED),
        (statement(9, client=b"07-tendermint-4"), Reason.COUNTERPARTY_MISMATCH),
        ([Claim(b"nextSequenceRecv/07-tendermint-3", bytes(8))], Reason.COUNTERPARTY_MISMATCH),
        (statement(0), Reason.MALFORMED),
        (statement(2**63), Reason.MALFORMED),
        (statement(9, 0), Reason.MALFORMED),
        (statement(9, 9), Reason.MALFORMED),
        (statement(9, 3, 2), Reason.MALFORMED),
        (statement(9, 3, 3), Reason.MALFORMED),
        ([*statement(9), *statement(9)], Reason.MALFORMED),
        ([*statement(9), Claim(b"07-tendermint-3\x01", None)], Reason.MALFORMED),
        ([*statement(9), Claim(b"07-tendermint-3\x01" + b"\x02", None)], Reason.MALFORMED),
        (
            [*statement(9), Claim(b"07-tendermint-4\x01" + bytes(7) + b"\x02", None)],
            Reason.COUNTERPARTY_MISMATCH,
        ),
        (
            [*statement(9), Claim(b"07-tendermint-3\x02" + bytes(7) + b"\x02", None)],
            Reason.COUNTERPARTY_MISMATCH,
        ),
        (
            [*statement(9), Claim(b"07-tendermint-3\x01" + bytes(7) + b"\x02", b"there")],
            Reason.MALFORMED,
        ),
    ],
)
def test_statements_that_are_none(claims: list[Claim], reason: Reason) -> None:
    consensus = replace(CONSENSUS, root=bytes(32))
    refused(reason, lambda: CLIENT.read_sent(consensus, "07-tendermint-3", claims))


def test_a_journal_is_not_asked_for_a_store() -> None:
    """A replicated node states it by an entry: the number of a store says nothing there."""
    journal = replace(CONSENSUS, root=bytes(7) + b"\x05" + bytes(32))
    refused(
        Reason.COUNTERPARTY_MISMATCH,
        lambda: CLIENT.read_sent(journal, "07-tendermint-3", statement(9)),
    )


def test_the_statement_of_a_store_is_proven_with_what_is_absent() -> None:
    """One proof under one root: the number that is there, a commitment that is gone."""
    client = "a"
    keys = [b"a\x01" + (1).to_bytes(8, "big"), b"nextSequenceSend/a"]
    root, proven = store(keys)
    number = proven[keys[1]].value
    assert number == b"v" + keys[1], "trees of these tests hold such values"
    gone = Claim(b"a\x01" + (2).to_bytes(8, "big"), None)
    missing = NonExistence(gone.path, proven[keys[0]], proven[keys[1]])
    claims = [Claim(keys[1], number), gone]
    ics23.verify_non_existence(missing, IAVL, root, gone.path)
    ics23.verify_existence(proven[keys[1]], IAVL, root, keys[1], number)
    refused(Reason.MALFORMED, lambda: CLIENT.read_sent(CONSENSUS, client, claims))
