"""The forms that the light client `evm` refuses, each by its own check: limits, counts, lengths.

Where several checks would answer with one reason, the detail says which of them it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import coincurve
import pytest

from adapters.evm.light import CLIENT, rlp
from adapters.evm.light.crypto import keccak, low_s, recover
from adapters.evm.light.header import (
    IBFT1,
    IBFT2,
    MAX_RLP_BYTES,
    QBFT,
    VARIANTS,
    decode_body,
    hashed_header,
    read_parent,
    split_header,
)
from adapters.evm.light.validators import contract_source, header_source
from relay.errors import Reason
from relay.light import keys
from relay.light.keys import SECP256K1_N
from relay.light.types import MAX_HEADER_BYTES, MAX_VALIDATORS, Header, Validator, ValidatorSet
from tests.adapters.evm.sealing import (
    EPOCH,
    Sealer,
    Vote,
    extra,
    hash_of,
    header,
    raw_header,
    ring,
)
from tests.adapters.evm.test_state import Chain, kept
from tests.refusals import refused

ALL = pytest.mark.parametrize("variant", VARIANTS)
DIGEST = keccak(b"digest")
EXTRA = 12


def malformed(said: str, call: Callable[[], object]) -> None:
    refused(Reason.MALFORMED, call, said=said)


def changed(raw: bytes, at: int, item: rlp.Item) -> bytes:
    """A header with one field exchanged."""
    items = rlp.fields(rlp.decode(raw), "header")
    items[at] = item
    return rlp.encode(items)


# --- raw headers


@ALL
def test_a_raw_header_has_an_end_and_a_limit(variant: str) -> None:
    raw = raw_header(variant, header(variant, ring(4)))
    malformed("after the end", lambda: CLIENT.decode_header(raw + b"\0"))
    malformed("at most", lambda: CLIENT.decode_header(raw + bytes(MAX_HEADER_BYTES + 1 - len(raw))))
    for at, value in ((0, 0), (0, 2), (1, 0), (1, 4)):
        other = raw[:at] + bytes((value,)) + raw[at + 1 :]
        malformed("unknown version or variant", lambda r=other: CLIENT.decode_header(r))


@ALL
def test_the_trusted_set_ascends(variant: str) -> None:
    raw = header(variant, ring(4))
    low, high = sorted(s.address for s in ring(2, "other"))
    shown = raw_header(variant, raw, trusted=[low, high])
    assert CLIENT.encode_header(CLIENT.decode_header(shown)) == shown
    trusted = CLIENT.decode_header(shown).trusted_validators
    assert trusted is not None
    assert [v.keys[0][1] for v in trusted.validators] == [low, high]
    for wrong in ([high, low], [low, low]):
        other = raw_header(variant, raw, trusted=wrong)
        malformed("must ascend", lambda r=other: CLIENT.decode_header(r))


def test_a_header_of_other_validators_has_no_encoding() -> None:
    decoded = CLIENT.decode_header(raw_header(QBFT, header(QBFT, ring(4))))
    (first, *rest) = decoded.validators.validators

    def encode(*validators: Validator) -> Callable[[], object]:
        shown = ValidatorSet(tuple(validators), decoded.validators.source)
        return lambda: CLIENT.encode_header(replace(decoded, validators=shown))

    malformed("named by its address", encode(replace(first, name="somebody"), *rest))
    malformed("one key and one voice", encode(replace(first, power=2), *rest))
    malformed("one key and one voice", encode(replace(first, keys=first.keys * 2), *rest))
    malformed("ascending", encode(*rest, first))
    short = ((QBFT, first.keys[0][1][:-1]),)
    malformed("named by its address", encode(replace(first, keys=short), *rest))


def test_where_the_list_stands_is_one_place() -> None:
    """In header mode nothing is proven, in contract mode nothing is listed and nobody votes."""
    sealers, kind = ring(4), header_source(EPOCH)
    raw = header(QBFT, sealers)
    malformed("needless proofs", lambda: CLIENT.decode_header(raw_header(QBFT, raw, link=[b"x"])))
    nobody = header(QBFT, sealers, listed=[])
    malformed(
        "lists no validators",
        lambda: CLIENT.decode_header(raw_header(QBFT, nobody, source=kind)),
    )
    chain = Contract()
    good = CLIENT.decode_header(chain.shown())
    assert good.height == 2
    listing = chain.make(2, listed=[s.address for s in chain.sealers])
    voting = chain.make(2, vote=Vote(b"\x42" * 20, True))
    for other in (listing, voting):
        malformed("the header lists none", lambda r=other: CLIENT.decode_header(chain.shown(r)))
    malformed("the header lists none", lambda: encoded(replace(good, link=())))


def test_the_parent_is_the_header_before() -> None:
    chain = Contract()
    elsewhere = chain.make(2, parent=b"\x01" * 32)
    malformed("another header", lambda: CLIENT.decode_header(chain.shown(elsewhere)))
    later = chain.make(3)
    malformed("another header", lambda: CLIENT.decode_header(chain.shown(later)))


class Contract:
    """Block 1 of a chain whose contract keeps four validators, and blocks upon it."""

    def __init__(self) -> None:
        self.sealers = ring(4)
        self.state = kept(self.sealers)
        self._chain = Chain()
        self.first = self._chain.make(bytes(32), self.state.root, self.sealers, 1)

    def make(self, number: int, **more: object) -> bytes:
        said = {"parent": hash_of(QBFT, self.first), "listed": [], **more}
        return header(
            QBFT, self.sealers, number=number, root=self.state.root, time=1_700_000_000 + number,
            **said,  # type: ignore[arg-type]
        )  # fmt: skip

    def shown(self, raw: bytes | None = None) -> bytes:
        return self._chain.shown(raw or self.make(2), self.first, self.state, len(self.sealers))


def encoded(changed_header: Header) -> Header:
    return CLIENT.decode_header(CLIENT.encode_header(changed_header))


# --- seals


def test_what_is_no_seal() -> None:
    sealer = Sealer("v0")
    seal = sealer.seal(DIGEST)
    assert recover(DIGEST, seal) == sealer.address
    bad = Reason.INVALID_SIGNATURE
    for odd in (seal[:-1], seal + b"\0", b""):
        refused(bad, lambda s=odd: recover(DIGEST, s), said="not 65 bytes")
    for digest in (DIGEST[:-1], DIGEST + b"\0"):
        refused(bad, lambda d=digest: recover(d, seal), said="digest of 32")
    refused(bad, lambda: recover(DIGEST, bytes(32) + seal[32:]), said="out of range")
    order = SECP256K1_N.to_bytes(32, "big")
    refused(bad, lambda: recover(DIGEST, order + seal[32:]), said="out of range")
    refused(bad, lambda: recover(DIGEST, seal[:32] + bytes(32) + seal[64:]), said="out of range")


def test_a_seal_whose_point_lies_beyond_the_order_is_none() -> None:
    """v of 2 or 3 says so; the library recovers a key from it all the same."""
    tail = (1).to_bytes(32, "big")
    for number in range(1, 200):
        seal = number.to_bytes(32, "big") + tail + b"\x02"
        try:
            coincurve.PublicKey.from_signature_and_message(seal, DIGEST, hasher=None)
        except Exception:
            continue
        refused(Reason.INVALID_SIGNATURE, lambda s=seal: recover(DIGEST, s), said="out of range")
        return
    pytest.fail("no such seal was found")


def test_what_is_no_seal_is_not_turned() -> None:
    seal = Sealer("v0").seal(DIGEST)
    s = int.from_bytes(seal[32:64], "big")
    high = seal[:32] + (SECP256K1_N - s).to_bytes(32, "big") + bytes((1 - seal[64],))
    assert low_s(high) == seal
    for odd in (high[:-1], high + b"\0", high[:64] + b"\x05"):
        assert low_s(odd) == odd
    over = seal[:32] + SECP256K1_N.to_bytes(32, "big") + seal[64:]
    assert low_s(over) == over


@ALL
def test_the_key_of_a_validator_is_an_address(variant: str) -> None:
    seal = Sealer("v0").seal(DIGEST)
    keys.check_public_key(variant, b"\x01" * 20)
    for odd in (bytes(20), b"\x01" * 19, b"\x01" * 21, b""):
        refused(Reason.WEAK_KEY, lambda k=odd: keys.check_public_key(variant, k), said="address")
        refused(
            Reason.WEAK_KEY, lambda k=odd: keys.verify(variant, k, DIGEST, seal), said="address"
        )


# --- headers


@ALL
def test_a_header_has_a_limit_and_a_variant(variant: str) -> None:
    raw = header(variant, ring(4))
    body, _ = split_header(variant, raw)
    malformed("unknown variant", lambda: decode_body("clique", body))
    long = body + bytes(MAX_RLP_BYTES + 1 - len(body))
    malformed("too long", lambda: decode_body(variant, long))
    malformed("header: too long", lambda: split_header(variant, raw + bytes(MAX_RLP_BYTES)))
    malformed("parent header: too long", lambda: read_parent(body + bytes(MAX_RLP_BYTES)))
    malformed("too few fields", lambda: split_header(variant, rlp.encode([b""] * 14)))


def parts_of(variant: str, said: bytes) -> tuple[bytes, list[rlp.Item]]:
    at = 32 if variant == IBFT1 else 0
    return said[:at], rlp.fields(rlp.decode(said[at:]), "extra data")


@ALL
def test_extra_data_has_its_elements(variant: str) -> None:
    raw = header(variant, ring(4))
    items = rlp.fields(rlp.decode(raw), "header")
    vanity, parts = parts_of(variant, rlp.octets(items[EXTRA], "extra data"))
    for wrong in (parts[:-1], [*parts, []], parts[1:]):
        other = changed(raw, EXTRA, vanity + rlp.encode(wrong))
        malformed("number of elements", lambda r=other: split_header(variant, r))
    many = [*parts[:-1], [bytes(65)] * (MAX_VALIDATORS + 1)]
    crowded = changed(raw, EXTRA, vanity + rlp.encode(many))
    malformed("more than", lambda: split_header(variant, crowded))
    odd = changed(raw, EXTRA, vanity + rlp.encode([*parts[:-1], [bytes(64)]]))
    malformed("seal", lambda: split_header(variant, odd))
    body, _ = split_header(variant, raw)
    fixed = rlp.fields(rlp.decode(body), "header")
    vanity, parts = parts_of(variant, rlp.octets(fixed[EXTRA], "extra data"))
    for wrong in (parts[:-1], [*parts, []]):
        other = changed(body, EXTRA, vanity + rlp.encode(wrong))
        malformed("extra data", lambda r=other: decode_body(variant, r))
    if variant != IBFT2:  # whose bodies have no place for seals
        sealed = changed(body, EXTRA, vanity + rlp.encode([*parts[:-1], [bytes(65)]]))
        malformed("no committed seals" if variant == IBFT1 else "carries no committed",
                  lambda: decode_body(variant, sealed))  # fmt: skip


@ALL
@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 6, 13, 14])
def test_each_field_has_its_length(variant: str, at: int) -> None:
    body, _ = split_header(variant, header(variant, ring(4)))
    right = rlp.octets(rlp.fields(rlp.decode(body), "header")[at], "field")
    for wrong in (right[:-1], right + b"\0", b""):
        other = changed(body, at, wrong)
        malformed("", lambda r=other: decode_body(variant, r))
        parent = changed(hashed_header(variant, body), at, wrong)
        malformed("", lambda r=parent: read_parent(r))
    malformed("", lambda: read_parent(changed(hashed_header(variant, body), at, [])))


@ALL
@pytest.mark.parametrize("at", [7, 8, 9, 10, 11])
def test_each_number_is_canonical_and_bounded(variant: str, at: int) -> None:
    body, _ = split_header(variant, header(variant, ring(4)))
    for wrong in (b"\0", b"\0\x01", (2**63).to_bytes(8, "big"), bytes(33)):
        other = changed(body, at, wrong)
        malformed("", lambda r=other: decode_body(variant, r))
        malformed("", lambda r=other: read_parent(r))


def test_later_fields_have_their_forms() -> None:
    """baseFee, withdrawalsRoot, two of blob gas, the beacon root, requests, access list, slot."""
    one = bytes(32)
    whole = (b"\x07", one, b"", b"\x01", one, one, one, b"\x09")
    for count in range(len(whole) + 1):
        decode_body(QBFT, split_header(QBFT, header(QBFT, ring(4), optional=whole[:count]))[0])
    body, _ = split_header(QBFT, header(QBFT, ring(4), optional=whole))
    for at, right in enumerate(whole, 15):
        wrong = right[:-1] if len(right) == 32 else b"\0"
        other = changed(body, at, wrong)
        malformed("in a header", lambda r=other: decode_body(QBFT, r))
    items = rlp.fields(rlp.decode(body), "header")
    malformed("number of fields", lambda: decode_body(QBFT, rlp.encode([*items, b""])))
    malformed("number of fields", lambda: read_parent(rlp.encode([*items, b""])))
    malformed("number of fields", lambda: decode_body(QBFT, rlp.encode(items[:14])))


@ALL
def test_a_header_is_one_of_a_bft_chain(variant: str) -> None:
    body, _ = split_header(variant, header(variant, ring(4)))
    for at, wrong, said in (
        (1, bytes(32), "not of a BFT chain"),
        (13, bytes(32), "not of a BFT chain"),
        (7, b"\x02", "difficulty 1"),
        (7, b"", "difficulty 1"),
        (14, b"\x01" * 8, "nonce must be zero"),
    ):
        other = changed(body, at, wrong)
        malformed(said, lambda r=other: decode_body(variant, r))
        if at != 7 or wrong:
            read_parent(changed(hashed_header(variant, body), at, wrong))


def test_extra_data_of_a_chain_that_a_contract_leads_is_short() -> None:
    assert extra(QBFT, []) == hashed_extra()
    assert contract_source(b"\x01" * 20, 3)[0] == 1


def hashed_extra() -> bytes:
    return rlp.encode([bytes(32), [], [], b"", []])
