"""What stands in headers, receipts, tries and parameters, and is refused by its own check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from trie import HexaryTrie

from adapters.evm.light import CLIENT, rlp
from adapters.evm.light.crypto import keccak
from adapters.evm.light.header import IBFT1, IBFT2, QBFT, VARIANTS, Vote, decode_body, split_header
from adapters.evm.light.parameters import hexadecimal, pinned, read_source_text
from adapters.evm.light.receipts import (
    MAX_RECEIPT_BYTES,
    MAX_RECEIPTS,
    decode_receipt,
    verify_receipt,
)
from adapters.evm.light.state import (
    account,
    decode_proof,
    encode_proof,
    storage,
    verify_claims,
    word_of,
)
from adapters.evm.light.trie import EMPTY_ROOT, MAX_NODE_BYTES, Nodes, lookup
from adapters.evm.light.validators import (
    addresses_of,
    array_slots,
    header_source,
    make_set,
    read_contract,
    read_source,
    voted,
)
from relay.errors import LianqiaoError, Reason
from relay.light.types import MAX_INT, MAX_PROOF_BYTES, MAX_VALIDATORS, Claim, ValidatorSet, Witness
from tests.adapters.evm.sealing import header, ring, state_of
from tests.adapters.evm.test_light_forms import EXTRA, changed, parts_of
from tests.adapters.evm.tries import Account, WorldState
from tests.refusals import refused, refusing

MALFORMED, PROOF = Reason.MALFORMED, Reason.INVALID_PROOF
ADDRESS, CODE, OTHER = b"\x0e" * 20, b"\xcd" * 32, b"\x0f" * 20


def malformed(said: str, call: Callable[[], object]) -> None:
    refused(MALFORMED, call, said=said)


# --- votes and validators


@pytest.mark.parametrize("variant", [QBFT, IBFT2])
def test_votes(variant: str) -> None:
    subject, drop = b"\x42" * 20, b"" if variant == QBFT else b"\0"
    for add in (True, False):
        vote = Vote(subject, add)
        body, _ = split_header(variant, header(variant, ring(4), vote=vote))
        assert decode_body(variant, body).vote == vote
    body, _ = split_header(variant, header(variant, ring(4)))
    assert decode_body(variant, body).vote is None
    said = rlp.octets(rlp.fields(rlp.decode(body), "header")[EXTRA], "extra data")
    vanity, parts = parts_of(variant, said)
    for wrong in (
        [subject],
        [subject, b"\xff", b""],
        [subject, b"\xfe"],
        [subject, b"\x01"],
        [subject, b"\0" if variant == QBFT else b""],
        [subject[:-1], b"\xff"],
        [subject + b"\0", drop],
    ):
        other = changed(body, EXTRA, vanity + rlp.encode([*parts[:2], wrong, *parts[3:]]))
        malformed("vote", lambda r=other: decode_body(variant, r))
    empty = b"" if variant == QBFT else []
    other = changed(body, EXTRA, vanity + rlp.encode([*parts[:2], empty, *parts[3:]]))
    malformed("vote", lambda: decode_body(variant, other))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_header_lists_two_hundred_at_most_and_each_once(variant: str) -> None:
    sealers = ring(4)

    def listing(addresses: list[bytes]) -> bytes:
        return header(variant, sealers, listed=addresses)

    many = [number.to_bytes(20, "big") for number in range(1, MAX_VALIDATORS + 2)]
    body, _ = split_header(variant, listing(many[:-1]))
    assert decode_body(variant, body).validators == tuple(many[:-1])
    malformed("at most 200", lambda: split_header(variant, listing(many)))
    malformed("each once", lambda: split_header(variant, listing([*many[:3], many[0]])))
    malformed("validator", lambda: split_header(variant, listing([many[0][:-1]])))


def test_a_vote_changes_one_and_never_the_last() -> None:
    one, two, three = (bytes((n,)) * 20 for n in (1, 2, 3))
    assert voted([one, two], None, 5, 10) == [one, two]
    assert voted([one, two], Vote(three, True), 5, 10) == [one, two, three]
    assert voted([one, two], Vote(two, True), 5, 10) == [one, two]
    assert voted([one, two], Vote(two, False), 5, 10) == [one]
    assert voted([one], Vote(one, False), 5, 10) == [one]
    for number in (10, 20):  # votes are void at the end of an epoch
        assert voted([one, two], Vote(three, True), number, 10) == [one, two]


def test_a_set_is_one_of_addresses() -> None:
    addresses = [number.to_bytes(20, "big") for number in range(1, MAX_VALIDATORS + 2)]
    source = header_source(10)
    assert addresses_of(make_set(QBFT, addresses[:-1], source)) == tuple(addresses[:-1])
    malformed("1 to 200", lambda: addresses_of(make_set(QBFT, addresses, source)))
    malformed("1 to 200", lambda: addresses_of(ValidatorSet((), source)))
    for short in (addresses[0][:-1], addresses[0] + b"\0"):  # named as it is, and no address
        odd = make_set(QBFT, [short], source)
        malformed("named by its address", lambda s=odd: addresses_of(s))
    twice = make_set(QBFT, [addresses[0], addresses[0]], source)
    malformed("each once", lambda: addresses_of(twice))


def test_sources() -> None:
    assert read_source(header_source(7)) == (7, b"", 0)
    for raw, said in (
        (header_source(7) + b"\0", "after the end"),
        (b"\0" + bytes(8), "at least one block"),
        (b"\0" + (2**63).to_bytes(8, "big"), "at least one block"),
        (b"\2" + bytes(8), "unknown kind"),
        (b"\1" + bytes(52) + b"\0", "after the end"),
    ):
        malformed(said, lambda r=raw: read_source(r))


# --- parameters


def test_parameters_have_one_spelling() -> None:
    assert hexadecimal("0x" + "0a" * 20, 20) == b"\x0a" * 20
    for text in ("0a" * 20, "1x" + "0a" * 20, "0X" + "0a" * 20, "0x" + "0A" * 20, "0x" + "0a" * 19,
                 "0x" + "0a" * 21, "0x" + "0g" * 20, ""):  # fmt: skip
        malformed("lower-case hex", lambda t=text: hexadecimal(t, 20))
    assert read_source_text("header:7") == header_source(7)
    assert read_source_text(f"header:{MAX_INT}") == header_source(MAX_INT)
    for text in (
        "header:",
        "header:07",
        "header:+7",
        "header: 7",
        "header:７",
        "header:9" + "9" * 5000,
    ):
        malformed("not a decimal number", lambda t=text: read_source_text(t))
    malformed("below 2^63", lambda: read_source_text(f"header:{MAX_INT + 1}"))
    malformed("at least one block", lambda: read_source_text("header:0"))
    malformed("header:EPOCH", lambda: read_source_text("state:7"))
    malformed("decimal", lambda: read_source_text("contract:0x" + "0a" * 20))


def test_what_may_be_pinned() -> None:
    good = state_of(QBFT)
    pinned(good)
    witness = Witness("w", "ed25519", bytes(32))
    names = [name for name, _ in good.parameters]
    for other in (
        replace(good, algorithm="ed25519"),
        replace(good, tree_hash="sha256"),
        replace(good, proof_kind="rfc6962"),
        replace(good, threshold=good.trust_level),
        replace(good, trust_level=good.threshold),
        replace(good, witnesses=(witness,)),
        replace(good, parameters=good.parameters[:-1]),
        replace(good, parameters=(*good.parameters, ("more", "1"))),
    ):
        malformed("", lambda o=other: pinned(o))
    assert names == ["code", "endpoint", "validators"]


# --- receipts


def receipt(**changes: rlp.Item) -> bytes:
    parts: dict[str, rlp.Item] = {
        "status": b"\x01", "gas": b"\x05", "bloom": bytes(256), "logs": [], **changes,
    }  # fmt: skip
    return rlp.encode(list(parts.values()))


def log(**changes: rlp.Item) -> rlp.Item:
    parts: Mapping[str, rlp.Item] = {
        "address": b"\x11" * 20, "topics": [b"\x22" * 32] * 4, "data": b"x", **changes,
    }  # fmt: skip
    return list(parts.values())


def test_receipts_have_one_form() -> None:
    for raw in (receipt(), b"\x02" + receipt(), receipt(logs=[log(), log(topics=[])])):
        assert decode_receipt(raw).succeeded
    assert not decode_receipt(receipt(status=b"")).succeeded
    malformed("empty or too long", lambda: decode_receipt(b""))
    malformed("empty or too long", lambda: decode_receipt(receipt() + bytes(MAX_RECEIPT_BYTES)))
    whole = rlp.fields(rlp.decode(receipt()), "receipt")
    for parts in (whole[:3], [*whole, b""]):
        malformed("status, gas, bloom, logs", lambda p=parts: decode_receipt(rlp.encode(p)))
    malformed("bloom", lambda: decode_receipt(receipt(bloom=bytes(255))))
    malformed("status", lambda: decode_receipt(receipt(status=b"\x02")))
    malformed("gas", lambda: decode_receipt(receipt(gas=(2**63).to_bytes(8, "big"))))
    malformed("logs", lambda: decode_receipt(receipt(logs=b"")))
    odd = rlp.fields(log(), "log")
    for bad, said in (
        (odd[:2], "address, topics, data"),
        ([*odd, b""], "address, topics, data"),
        (log(address=bytes(19)), "address"),
        (log(topics=[bytes(31)]), "topic"),
        (log(topics=[bytes(32)] * 5), "at most four topics"),
        (log(data=[]), "data"),
    ):
        malformed(said, lambda b=bad: decode_receipt(receipt(logs=[b])))


def test_a_receipt_is_proven_at_its_index() -> None:
    made = HexaryTrie({})
    for index in range(3):
        made[rlp.encode(rlp.encode_integer(index))] = receipt(gas=bytes((index + 1,)))
    root = bytes(made.root_hash)

    def nodes(index: int) -> list[bytes]:
        found = [rlp.encode(list(n)) for n in made.get_proof(rlp.encode(rlp.encode_integer(index)))]
        return [n for at, n in enumerate(found) if at == 0 or len(n) >= 32]

    assert [verify_receipt(root, i, nodes(i)).gas for i in range(3)] == [1, 2, 3]
    refused(PROOF, lambda: verify_receipt(root, 1, [*nodes(1), nodes(1)[-1]]), said="more nodes")
    refused(PROOF, lambda: verify_receipt(root, 9, nodes(9)), said="no receipt of that index")
    for index in (-1, MAX_RECEIPTS):
        refused(PROOF, lambda i=index: verify_receipt(root, i, nodes(1)), said="that many")


# --- accounts and storage


def world(account_raw: bytes, words: Mapping[bytes, bytes] | None = None) -> tuple[bytes, Nodes]:
    made = HexaryTrie({})
    made[keccak(ADDRESS)] = account_raw
    nodes = [rlp.encode(list(node)) for node in made.get_proof(keccak(ADDRESS))]
    return bytes(made.root_hash), Nodes(nodes)


def test_accounts_have_one_form() -> None:
    good: list[rlp.Item] = [b"\x01", b"", EMPTY_ROOT, CODE]

    def read(*parts: rlp.Item) -> Callable[[], object]:
        root, nodes = world(rlp.encode(list(parts)))
        return lambda: account(root, ADDRESS, nodes)

    assert read(*good)() == (EMPTY_ROOT, CODE)
    for parts, said in (
        (good[:3], "four fields"),
        ([*good, b""], "four fields"),
        ([b"\0", *good[1:]], "nonce"),
        ([(2**64).to_bytes(9, "big"), *good[1:]], "nonce"),
        ([good[0], b"\0", *good[2:]], "balance"),
        ([*good[:2], EMPTY_ROOT[:-1], CODE], "storage root"),
        ([*good[:3], CODE + b"\0"], "code hash"),
        ([[], *good[1:]], "nonce"),
    ):
        refused(PROOF, read(*parts), said=said)
    root, nodes = world(rlp.encode(good))
    with refusing(Reason.INVALID_PROOF):
        account(root, OTHER, nodes)
    refused(PROOF, lambda: account(EMPTY_ROOT, ADDRESS, Nodes([])), said="no account")


def test_words_have_one_form() -> None:
    slot = b"\x07".rjust(32, b"\0")

    def read(value: bytes) -> Callable[[], bytes]:
        made = HexaryTrie({})
        made[keccak(slot)] = value
        nodes = Nodes([rlp.encode(list(n)) for n in made.get_proof(keccak(slot))])
        return lambda: storage(bytes(made.root_hash), slot, nodes)

    assert read(rlp.encode(b"\x09"))() == b"\x09".rjust(32, b"\0")
    assert read(rlp.encode(b"\xff" * 32))() == b"\xff" * 32
    assert read(rlp.encode(b""))() == bytes(32)  # anvil keeps a zero
    assert storage(EMPTY_ROOT, slot, Nodes([])) == bytes(32)
    for value, said in (
        (rlp.encode(b"\0\x09"), "leading zeros"),
        (rlp.encode(b"\x01" * 33), "leading zeros"),
        (rlp.encode([b"\x09"]), "storage word"),
        (b"\x81\x09", "prefix"),
    ):
        refused(PROOF, read(value), said=said)


def test_proofs_of_the_endpoint_have_one_form() -> None:
    proof = encode_proof(ADDRESS, [b"node", b"other"])
    assert decode_proof(proof) == (ADDRESS, [b"node", b"other"])
    malformed("after the end", lambda: decode_proof(proof + b"\0"))
    malformed("unknown version", lambda: decode_proof(b"\x02" + proof[1:]))
    malformed("at most", lambda: decode_proof(proof + bytes(MAX_PROOF_BYTES)))
    refused(PROOF, lambda: word_of(b"a path", bytes(31)), said="32 bytes")
    claim = Claim(b"a path", bytes(32))
    refused(
        PROOF,
        lambda: verify_claims(EMPTY_ROOT, OTHER, CODE, proof, [claim]),
        said="another contract",
    )
    refused(PROOF, lambda: verify_claims(EMPTY_ROOT, ADDRESS, CODE, proof, []), said="nothing")


# --- sets in a contract's storage


def register(words: Mapping[int, bytes], more: bytes = b"") -> Callable[[], object]:
    held = {slot.to_bytes(32, "big"): word.rjust(32, b"\0") for slot, word in words.items()}
    state = WorldState({ADDRESS: Account(CODE, held), OTHER: Account(CODE, {})})
    count = int.from_bytes(words.get(3, b""), "big")
    slots = [s.to_bytes(32, "big") for s in array_slots(3, min(count, 4))]
    listed = [*state.nodes(ADDRESS, slots), *filter(None, [more])]
    return lambda: read_contract(state.root, ADDRESS, 3, listed)


def test_the_contract_keeps_distinct_addresses() -> None:
    slots = array_slots(3, 3)
    one, two = b"\x01" * 20, b"\x02" * 20
    good = {3: b"\x02", slots[1]: two, slots[2]: one}
    assert register(good)() == (one, two)
    malformed("no validators, or too many", register({5: b"\x01"}))
    malformed("no validators, or too many", register({3: b"\xc9", slots[1]: one}))
    malformed("more nodes than it needs", register(good, b"\xc0"))
    malformed("distinct", register({**good, slots[1]: one}))
    malformed("distinct", register({**good, slots[1]: b"\x01" + two}))


# --- tries


def trie_of(pairs: Mapping[bytes, bytes]) -> HexaryTrie:
    made = HexaryTrie({})
    for key, value in pairs.items():
        made[key] = value
    return made


def walk(node: rlp.Encodable, key: bytes, *more: rlp.Encodable) -> Callable[[], bytes | None]:
    """What a key holds in a trie whose nodes are made by hand."""
    listed = [rlp.encode(one) for one in (node, *more)]
    return lambda: lookup(keccak(listed[0]), key, Nodes(listed))


LEAF = bytes(31) + b"\x01"
"""A value that makes its leaf too long to stand inside another node."""


def branch(**children: rlp.Encodable) -> list[rlp.Encodable]:
    """A branch with children at hex digits, `value` at the end."""
    made: list[rlp.Encodable] = [b""] * 17
    for name, child in children.items():
        made[16 if name == "value" else int(name[1:], 16)] = child
    return made


def test_nodes_have_one_form() -> None:
    leaf = [b"\x20\x12", b"value"]  # even number of nibbles, leaf: 1, 2
    assert walk(leaf, b"\x12")() == b"value"
    assert walk(leaf, b"\x13")() is None
    assert walk([b"\x31", LEAF], b"\x12")() is None
    for node, said in (
        ([b"\x20\x12", b"value", b""], "neither two nor seventeen"),
        ([b""] * 16, "neither two nor seventeen"),
        ([b"\x20\x12", b""], "empty leaf"),
        ([b"\x00", keccak(b"x")], "extension by nothing"),
        ([b"", b"value"], "unknown kind"),
        ([b"\x40\x12", b"value"], "unknown kind"),
        ([b"\x21\x12", b"value"], "padding"),
        ([b"\x01\x12", keccak(b"x")], "padding"),
        (branch(x1=[b"\x32", b"v"]), "does not branch"),
        (branch(value=b"v"), "does not branch"),
        (b"no list", "must be a list"),
        ([[], b"value"], "path"),
        ([b"\x20\x12", []], "value"),
    ):
        refused(PROOF, walk(node, b"\x12"), said=said)


def test_children_stand_where_they_belong() -> None:
    small: rlp.Encodable = [b"\x32", b"v"]
    inline = branch(x1=small, x3=[b"\x34", b"w"])
    assert walk(inline, b"\x12")() == b"v"
    assert walk(inline, b"\x56")() is None
    with_value = branch(x1=small, value=b"here")
    assert walk(with_value, b"")() == b"here"
    assert walk(branch(x1=small, x2=small), b"")() is None
    long: rlp.Encodable = [b"\x32", LEAF]
    apart = branch(x1=keccak(rlp.encode(long)), x3=small)
    assert walk(apart, b"\x12", long)() == LEAF
    refused(PROOF, walk(branch(x1=long, x3=small), b"\x12"), said="must stand alone")
    alone = walk(branch(x1=keccak(rlp.encode(small)), x3=small), b"\x12", small)
    refused(PROOF, alone, said="too short to stand alone")
    refused(PROOF, walk(branch(x1=b"\x01" * 31, x3=small), b"\x12"), said="node hash")
    refused(PROOF, walk(apart, b"\x12"), said="lacks a node")
    refused(PROOF, walk(apart, b"\x12", [b"\x32", LEAF[::-1]]), said="another hash")
    big: rlp.Encodable = [b"\x32", bytes(MAX_NODE_BYTES)]
    refused(
        PROOF, walk(branch(x1=keccak(rlp.encode(big)), x3=small), b"\x12", big), said="too long"
    )


def test_an_extension_leads_to_a_branch() -> None:
    small: rlp.Encodable = [b"\x33", b"v"]
    below = branch(x2=[b"\x33", LEAF[:8]], x4=[b"\x33", LEAF[:12]], x5=[b"\x33", b"w"])
    hashed = keccak(rlp.encode(below))
    assert walk([b"\x11", hashed], b"\x12\x30", below)() is None
    assert walk([b"\x11", hashed], b"\x22\x30")() is None  # another way: nothing is needed
    refused(PROOF, walk([b"\x11", small], b"\x13"), said="leads to no branch")


def test_what_is_wrong_with_a_proof_is_told_once() -> None:
    with pytest.raises(LianqiaoError) as err:
        walk([b"\x40\x12", b"value"], b"\x12")()
    assert err.value.detail == "trie proof has a path of unknown kind"


def test_nodes_tell_what_they_were_used_for() -> None:
    leaf = rlp.encode([b"\x20\x12", b"value"])
    nodes = Nodes([leaf])
    lookup(keccak(leaf), b"\x12", nodes)
    assert list(nodes.used) == [keccak(leaf)]
    nodes.used.clear()
    lookup(keccak(leaf), b"\x13", nodes)
    assert list(nodes.used) == [keccak(leaf)]


def test_no_node_is_left_over() -> None:
    leaf = rlp.encode([b"\x20\x12", b"value"])
    nodes = Nodes([leaf, leaf])
    assert lookup(keccak(leaf), b"\x12", nodes) == b"value"
    refused(PROOF, nodes.end, said="more nodes")


# --- RLP


def test_rlp_has_one_encoding() -> None:
    for raw, said in (
        (b"", "ends too early"),
        (b"\x01\x02", "after the end"),
        (b"\x81\x01", "single byte"),
        (b"\x82\x01", "ends too early"),
        (b"\xc2\x01", "ends too early"),
        (b"\xb8", "shortest form"),
        (b"\xb8\x37" + bytes(55), "shortest form"),
        (b"\xb9\x00\x38" + bytes(56), "shortest form"),
        (b"\xf8\x37" + bytes(55), "shortest form"),
        (b"\xb8\x38" + bytes(55), "ends too early"),
        (b"\xbf" + b"\xff" * 8, "ends too early"),
        (b"\xc1\x82", "ends too early"),
    ):
        malformed(said, lambda r=raw: rlp.decode(r))
    deep: rlp.Encodable = b""
    for _ in range(rlp.MAX_DEPTH):
        fits, deep = deep, [deep]
    assert rlp.decode(rlp.encode(fits)) == fits
    malformed("too deep", lambda: rlp.decode(rlp.encode(deep)))
    row = [b""] * (rlp.MAX_ITEMS - 1)
    assert len(rlp.fields(rlp.decode(rlp.encode(row)), "row")) == len(row)
    malformed("too many items", lambda: rlp.decode(rlp.encode([*row, b""])))
    malformed("must be a list", lambda: rlp.fields(b"", "field"))
    for item in ([], b"\x01\x02"):
        malformed("right length", lambda i=item: rlp.octets(i, "field", 1, 3))
    malformed("leading zeros", lambda: rlp.integer(bytes(1), "number", 9))
    malformed("leading zeros", lambda: rlp.integer(b"\x01" * 33, "number", 2**300))
    malformed("exceeds", lambda: rlp.integer(b"\x0a", "number", 9))
    assert rlp.integer(b"\x09", "number", 9) == 9
    assert CLIENT.name == "evm"
    assert IBFT1 in VARIANTS
