"""Every rule of the client type `evm`, in each variant, with the reason of its refusal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.evm.light import CLIENT, rlp
from adapters.evm.light.crypto import SEAL_BYTES, keccak, low_s
from adapters.evm.light.header import decode_body, hashed_header, split_header
from adapters.evm.light.parameters import pinned
from adapters.evm.light.receipts import decode_receipt
from adapters.evm.light.state import decode_proof
from adapters.evm.light.trie import Nodes, lookup
from adapters.evm.light.validators import contract_source, header_source
from relay.errors import Invalid, LianqiaoError, Malformed, Reason
from relay.light.client import anchor, verify_header
from relay.light.keys import SECP256K1_N
from relay.light.types import ConsensusState, Header, Threshold
from tests.adapters.evm.sealing import (
    EPOCH,
    IBFT1,
    IBFT2,
    QBFT,
    START,
    Sealer,
    Vote,
    hash_of,
    header,
    raw_header,
    ring,
    state_of,
)
from tests.refusals import refused, refusing

NOW = START + 1000
ALL = pytest.mark.parametrize("variant", [QBFT, IBFT2, IBFT1])


def first(variant: str, sealers: list[Sealer], **more: object) -> tuple[bytes, ConsensusState]:
    raw = header(variant, sealers, **more)  # type: ignore[arg-type]
    return raw, anchor(CLIENT, state_of(variant), raw_header(variant, raw), NOW)[0]


def follow(variant: str, trusted: ConsensusState, raw: bytes, now: int = NOW) -> ConsensusState:
    return verify_header(CLIENT, state_of(variant), trusted, CLIENT.decode_header(raw), now)


def following(variant: str, before: bytes, sealers: list[Sealer], **more: object) -> bytes:
    said = {"number": 11, "time": START + 1, "parent": hash_of(variant, before), **more}
    return header(variant, sealers, **said)  # type: ignore[arg-type]


@ALL
@pytest.mark.parametrize("count", range(1, 11))
def test_the_quorum_is_exactly_two_thirds_of_heads(variant: str, count: int) -> None:
    sealers = ring(count)
    needed = -(-2 * count // 3)
    good = raw_header(variant, header(variant, sealers, signers=sealers[:needed]))
    anchor(CLIENT, state_of(variant), good, NOW)
    fewer = raw_header(variant, header(variant, sealers, signers=sealers[: needed - 1]))
    refused(Reason.QUORUM_NOT_REACHED, lambda: anchor(CLIENT, state_of(variant), fewer, NOW))


@ALL
def test_one_encoding(variant: str) -> None:
    raw = raw_header(variant, header(variant, ring(4), round_=3))
    decoded = CLIENT.decode_header(raw)
    assert CLIENT.encode_header(decoded) == raw
    assert decoded.hash == keccak(hashed_header(variant, decoded.body))


@ALL
def test_the_two_hashes_differ_where_a_round_was_lost(variant: str) -> None:
    blocks = [
        decode_body(variant, split_header(variant, header(variant, ring(4), round_=r))[0])
        for r in (0, 1)
    ]
    assert blocks[0].hash == blocks[1].hash
    if variant != IBFT1:
        assert blocks[0].digest != blocks[1].digest
    assert all(b.hash != b.digest for b in blocks) or variant == QBFT


@ALL
def test_seals(variant: str) -> None:
    sealers = ring(4)
    raw, trusted = first(variant, sealers)
    good = CLIENT.decode_header(raw_header(variant, following(variant, raw, sealers)))

    def judge(changed: Header) -> Callable[[], object]:
        return lambda: follow(variant, trusted, CLIENT.encode_header(changed))

    judge(good)()
    one, two, *rest = good.signatures
    refused(Reason.DUPLICATE_SIGNER, judge(replace(good, signatures=(one, one, *rest))))
    stranger = Sealer("stranger")
    digest = CLIENT.sign_bytes(good, good.validators.validators[0], one)
    alien = replace(one, signer="0x" + stranger.address.hex(), value=stranger.seal(digest))
    refused(Reason.UNKNOWN_SIGNER, judge(replace(good, signatures=(*good.signatures, alien))))
    posing = replace(one, value=stranger.seal(digest))
    refused(Reason.INVALID_SIGNATURE, judge(replace(good, signatures=(posing, two, *rest))))
    swapped = (replace(one, value=two.value), two, *rest)
    refused(Reason.INVALID_SIGNATURE, judge(replace(good, signatures=swapped)))
    s = SECP256K1_N - int.from_bytes(one.value[32:64], "big")
    high = one.value[:32] + s.to_bytes(32, "big") + bytes((1 - one.value[64],))
    assert low_s(high) == one.value
    for value in (
        high,
        one.value[:64] + bytes((one.value[64] + 27,)),
        bytes(32) + one.value[32:],
        one.value[:32] + bytes(32) + one.value[64:],
        SECP256K1_N.to_bytes(32, "big") + one.value[32:],
        b"\xff" * 32 + one.value[32:],
    ):
        shown = (replace(one, value=value), two, *rest)
        refused(Reason.INVALID_SIGNATURE, judge(replace(good, signatures=shown)))
    block = decode_body(variant, good.body)
    if variant == IBFT1:
        over_hash = tuple(
            replace(x, value=y.seal(block.hash))
            for x, y in zip(good.signatures, sealers, strict=True)
        )
        refused(Reason.INVALID_SIGNATURE, judge(replace(good, signatures=over_hash)))


@pytest.mark.parametrize("shown", [QBFT, IBFT2, IBFT1])
@ALL
def test_a_client_counts_seals_of_its_variant_alone(variant: str, shown: str) -> None:
    if variant == shown:
        return
    raw = raw_header(shown, header(shown, ring(4)))
    refused(Reason.ALGORITHM_NOT_PINNED, lambda: anchor(CLIENT, state_of(variant), raw, NOW))


@ALL
def test_seals_over_the_block_hash_do_not_count_after_a_lost_round(variant: str) -> None:
    sealers = ring(4)
    good = CLIENT.decode_header(raw_header(variant, header(variant, sealers, round_=1)))
    block = decode_body(variant, good.body)
    if block.hash == block.digest:
        return
    false = tuple(
        replace(x, value=y.seal(block.hash)) for x, y in zip(good.signatures, sealers, strict=True)
    )
    raw = CLIENT.encode_header(replace(good, signatures=false))
    refused(Reason.INVALID_SIGNATURE, lambda: anchor(CLIENT, state_of(variant), raw, NOW))


@ALL
def test_the_next_header_names_its_parent(variant: str) -> None:
    sealers = ring(4)
    raw, trusted = first(variant, sealers)
    other = raw_header(variant, following(variant, raw, sealers, parent=b"\x01" * 32))
    refused(Reason.INVALID_CONSISTENCY, lambda: follow(variant, trusted, other))
    later = raw_header(variant, following(variant, raw, sealers, parent=b"\x01" * 32, number=12))
    assert follow(variant, trusted, later).height == 12


@ALL
def test_times_and_heights(variant: str) -> None:
    sealers = ring(4)
    raw, trusted = first(variant, sealers)
    equal = raw_header(variant, following(variant, raw, sealers, time=START))
    refused(Reason.TIME_NOT_MONOTONIC, lambda: follow(variant, trusted, equal))
    twin = raw_header(variant, header(variant, sealers, root=bytes(32)))
    refused(Reason.HEAD_CONFLICT, lambda: follow(variant, trusted, twin))


@ALL
@pytest.mark.parametrize("add", [True, False])
def test_the_next_set_is_what_the_vote_asked_for_or_the_same(variant: str, add: bool) -> None:
    sealers = ring(5)
    four, five = sealers[:4], sealers
    old, new = (four, five) if add else (five, four)
    vote = Vote(sealers[4].address, add)
    raw, trusted = first(variant, old, vote=vote)
    changed = following(variant, raw, new)
    assert follow(variant, trusted, raw_header(variant, changed)).set_hash == trusted.next_set_hash
    stays = following(variant, raw, old)
    assert follow(variant, trusted, raw_header(variant, stays)).set_hash == trusted.set_hash
    another = sorted([*four[:3], Sealer("w")], key=lambda s: s.address)
    wrong = raw_header(variant, following(variant, raw, another))
    refused(Reason.VALIDATOR_SET_MISMATCH, lambda: follow(variant, trusted, wrong))


@ALL
def test_no_vote_no_change(variant: str) -> None:
    sealers = ring(5)
    raw, trusted = first(variant, sealers[:4])
    grown = raw_header(variant, following(variant, raw, sealers))
    refused(Reason.VALIDATOR_SET_MISMATCH, lambda: follow(variant, trusted, grown))


@ALL
def test_a_vote_in_an_epoch_block_is_void(variant: str) -> None:
    sealers = ring(5)
    vote = Vote(sealers[4].address, True)
    raw, trusted = first(variant, sealers[:4], vote=vote, number=EPOCH)
    assert trusted.next_set_hash == trusted.set_hash
    grown = raw_header(variant, following(variant, raw, sealers, number=EPOCH + 1))
    refused(Reason.VALIDATOR_SET_MISMATCH, lambda: follow(variant, trusted, grown))


@ALL
def test_skipping_needs_more_than_a_third_of_the_trusted_set(variant: str) -> None:
    old = ring(6)
    raw, trusted = first(variant, old)
    shown = [s.address for s in old]

    def ahead(common: int, trusted_set: list[bytes] = shown) -> bytes:
        new = sorted([*old[:common], *ring(6 - common, "n")], key=lambda s: s.address)
        later = following(variant, raw, new, number=50)
        return raw_header(variant, later, trusted=trusted_set)

    assert follow(variant, trusted, ahead(3)).height == 50
    refused(Reason.NOT_ENOUGH_TRUST, lambda: follow(variant, trusted, ahead(2)))
    refused(Reason.NOT_ENOUGH_TRUST, lambda: follow(variant, trusted, ahead(3, [])))
    refused(Reason.NOT_ENOUGH_TRUST, lambda: follow(variant, trusted, ahead(3, shown[:5])))


@ALL
def test_skipping_needs_the_quorum_of_the_new_set_too(variant: str) -> None:
    old = ring(6)
    raw, trusted = first(variant, old)
    new = sorted([*old[:3], *ring(3, "n")], key=lambda s: s.address)
    later = following(variant, raw, new, number=50, signers=old[:3])
    shown = raw_header(variant, later, trusted=[s.address for s in old])
    refused(Reason.QUORUM_NOT_REACHED, lambda: follow(variant, trusted, shown))


@ALL
def test_a_header_cannot_choose_where_its_validators_are_kept(variant: str) -> None:
    sealers = ring(4)
    elsewhere = raw_header(variant, header(variant, sealers), source=header_source(EPOCH - 1))
    refused(
        Reason.VALIDATOR_SET_MISMATCH, lambda: anchor(CLIENT, state_of(variant), elsewhere, NOW)
    )
    source = contract_source(b"\x01" * 20, 0)
    refused(Reason.MALFORMED, lambda: raw_decoded(variant, sealers, source))


def raw_decoded(variant: str, sealers: list[Sealer], source: bytes) -> object:
    return CLIENT.decode_header(raw_header(variant, header(variant, sealers), source=source))


@ALL
@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, bytes(31)),
        (1, bytes(32)),
        (2, bytes(19)),
        (3, bytes(33)),
        (6, bytes(255)),
        (7, b"\x02"),
        (8, b"\0\x0a"),
        (8, b"\x80" + bytes(7)),
        (11, b"\xff" * 9),
        (13, bytes(32)),
        (14, b"\x01" * 8),
        (14, b""),
        (15, b"\0"),
    ],
)
def test_fields_of_a_header(variant: str, field: int, value: bytes) -> None:
    items = rlp.fields(rlp.decode(split_header(variant, header(variant, ring(4)))[0]), "header")
    decode_body(variant, rlp.encode(items))
    items[field] = value
    refused(Reason.MALFORMED, lambda: decode_body(variant, rlp.encode(items)))


@ALL
def test_a_header_has_as_many_fields_as_its_chain_knows(variant: str) -> None:
    more = (b"\x07", b"\x01" * 32, b"", b"", b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, b"\x05")
    for count in range(9):
        raw = header(variant, ring(4), optional=more[:count])
        assert anchor(CLIENT, state_of(variant), raw_header(variant, raw), NOW)
    refused(
        Reason.MALFORMED,
        lambda: header(variant, ring(4), optional=(*more, b"\x06")),
    )
    refused(Reason.MALFORMED, lambda: header(variant, ring(4), optional=(b"", b"\x01" * 31)))


@ALL
def test_extra_data(variant: str) -> None:
    raw = header(variant, ring(4))
    items = rlp.fields(rlp.decode(raw), "header")
    said = rlp.octets(items[12], "extra")

    def with_extra(value: bytes) -> Callable[[], object]:
        return lambda: split_header(variant, rlp.encode([*items[:12], value, *items[13:]]))

    with_extra(said)()
    start = 32 if variant == IBFT1 else 0
    parts = rlp.fields(rlp.decode(said[start:]), "extra")
    for at in range(len(parts)):
        wrong = [*parts[:at], b"\x01" * 9, *parts[at + 1 :]]
        refused(Reason.MALFORMED, with_extra(said[:start] + rlp.encode(wrong)))
    refused(Reason.MALFORMED, with_extra(said[:start] + rlp.encode([*parts, b""])))
    refused(Reason.MALFORMED, with_extra(said[:start] + rlp.encode(parts[:-1])))
    refused(Reason.MALFORMED, with_extra(said + b"\0"))
    short = [*parts[:-1], [bytes(SEAL_BYTES - 1)]]
    refused(Reason.MALFORMED, with_extra(said[:start] + rlp.encode(short)))
    at = 0 if variant == IBFT1 else 1
    twice = [*rlp.fields(parts[at], "validators")[:1]] * 2
    refused(
        Reason.MALFORMED,
        with_extra(said[:start] + rlp.encode([*parts[:at], twice, *parts[at + 1 :]])),
    )


def test_what_may_be_pinned() -> None:
    good = state_of(QBFT)
    pinned(good)
    named = dict(good.parameters)

    def parameters(**changed: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted({**named, **changed}.items()))

    escrow = {"escrow": "0x" + "11" * 20, "escrow-code": "0x" + "22" * 32}
    money = replace(good, parameters=parameters(**escrow))
    assert pinned(money).escrow == (b"\x11" * 20, b"\x22" * 32)
    assert pinned(good).escrow is None
    for wrong in (
        replace(good, algorithm="secp256k1"),
        replace(good, tree_hash="sha256"),
        replace(good, proof_kind="rfc6962"),
        replace(good, threshold=Threshold(1, 3, strict=False)),
        replace(good, threshold=Threshold(2, 3, strict=True)),
        replace(good, trust_level=Threshold(1, 4, strict=True)),
        replace(good, trust_level=Threshold(1, 3, strict=False)),
        replace(good, parameters=()),
        replace(good, parameters=good.parameters[:2]),
        replace(good, parameters=parameters(more="1")),
        replace(good, parameters=parameters(escrow=escrow["escrow"])),
        replace(good, parameters=parameters(**{"escrow-code": escrow["escrow-code"]})),
        replace(good, parameters=parameters(**{**escrow, "escrow": "0x11"})),
        replace(good, parameters=parameters(**{**escrow, "escrow-code": "0x22"})),
        replace(good, parameters=parameters(code="0x00")),
        replace(good, parameters=parameters(endpoint="0x" + "AB" * 20)),
        replace(good, parameters=parameters(validators="header:0")),
        replace(good, parameters=parameters(validators="header:01")),
        replace(good, parameters=parameters(validators="header")),
        replace(good, parameters=parameters(validators="contract:0x00:0")),
        replace(good, parameters=parameters(validators=f"contract:0x{'00' * 20}")),
        replace(good, parameters=parameters(validators="nowhere:1")),
    ):
        with refusing(Reason.MALFORMED):
            pinned(wrong)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2))
def test_decoders_raise_malformed_and_nothing_else(raw: bytes, kind: int) -> None:
    variant = (QBFT, IBFT2, IBFT1)[kind]
    for decode in (
        CLIENT.decode_header,
        rlp.decode,
        decode_receipt,
        decode_proof,
        lambda r: decode_body(variant, r),
        lambda r: split_header(variant, r),
        lambda r: lookup(keccak(r), bytes(32), Nodes([r])),
    ):
        with suppress(Malformed, Invalid):
            decode(raw)  # type: ignore[operator]


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([QBFT, IBFT2, IBFT1]))
def test_changed_headers_never_pass(data: st.DataObject, variant: str) -> None:
    raw = _RAW.setdefault(variant, raw_header(variant, header(variant, ring(4))))
    at = data.draw(st.integers(0, len(raw) - 1))
    changed = raw[:at] + bytes((raw[at] ^ data.draw(st.integers(1, 255)),)) + raw[at + 1 :]
    with pytest.raises(LianqiaoError):
        anchor(CLIENT, state_of(variant), changed, NOW)


_RAW: dict[str, bytes] = {}


items = st.recursive(st.binary(max_size=70), lambda i: st.lists(i, max_size=5), max_leaves=20)


@settings(max_examples=80, deadline=None)
@given(items)
def test_rlp_has_one_encoding(item: rlp.Item) -> None:
    assert rlp.decode(rlp.encode(item)) == item


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_what_rlp_decodes_it_encodes_to_the_same_bytes(raw: bytes) -> None:
    try:
        item = rlp.decode(raw)
    except Malformed:
        return
    assert rlp.encode(item) == raw


def test_rlp_is_bounded() -> None:
    deep = b"\xc0"
    for _ in range(20):
        deep = (
            rlp.encode([rlp.decode(deep)]) if len(deep) < 15 else bytes((0xC0 + len(deep),)) + deep
        )
    refused(Reason.MALFORMED, lambda: rlp.decode(deep))
    many = rlp.encode([b""] * 70_000)
    refused(Reason.MALFORMED, lambda: rlp.decode(many))
