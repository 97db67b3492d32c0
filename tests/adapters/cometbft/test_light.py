"""The light client, rule by rule: each refusal by its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from adapters.cometbft.light import CLIENT
from adapters.cometbft.light.bisection import plan
from adapters.cometbft.light.block import (
    NIL,
    NOBODY,
    BlockCommit,
    BlockId,
    CommitSig,
    Timestamp,
    check_commit,
    check_header,
    decode_signed_header,
    encode_signed_header,
    header_hash,
)
from adapters.cometbft.light.client import encode_light_block
from adapters.cometbft.light.validators import (
    SECP256K1,
    hash_set,
    make_set,
    make_validator,
)
from adapters.cometbft.light.zip215 import ED25519
from relay.errors import Invalid, Malformed, NotEnoughTrust, Reason, Refused
from relay.light import client as light
from relay.light.misbehaviour import Evidence, encode_evidence, verify_misbehaviour
from relay.light.types import MAX_HEADER_BYTES, ConsensusState, Header, Threshold, ValidatorSet
from relay.light.wire import Reader, Writer
from tests.adapters.cometbft.maker import (
    CHAIN,
    PARTS,
    START,
    STATE,
    block_header,
    commit_for,
    decoded,
    key_of,
    raw_header,
    set_of,
)
from tests.refusals import refused

NOW = START + 1000
BAD = bytes(31)


def anchored(names: str = "abcd", **more: Any) -> ConsensusState:
    return light.anchor(CLIENT, STATE, raw_header(1, names, **more), NOW)[0]


def follow(trusted: ConsensusState, raw: bytes, now: int = NOW) -> ConsensusState:
    return light.verify_header(CLIENT, STATE, trusted, CLIENT.decode_header(raw), now)


def invalid(trusted: ConsensusState, raw: bytes, reason: Reason) -> None:
    refused(reason, lambda: follow(trusted, raw), kind=Invalid)


# --- what is followed


def test_adjacent_headers_and_headers_far_ahead() -> None:
    trusted = anchored(following="abce")
    assert follow(trusted, raw_header(2, "abce")).height == 2
    assert follow(trusted, raw_header(500, "abce")).height == 500
    invalid(trusted, raw_header(2, "abcd"), Reason.VALIDATOR_SET_MISMATCH)


def test_more_than_two_thirds_of_the_power_must_sign() -> None:
    trusted = anchored("abc")
    assert follow(trusted, raw_header(2, "abc"))
    # Exactly two thirds is not more.
    invalid(trusted, raw_header(2, "abc", signers="ab"), Reason.QUORUM_NOT_REACHED)


def test_a_set_that_changed_needs_more_than_a_third_of_the_announced_one() -> None:
    trusted = anchored("abc")
    assert follow(trusted, raw_header(9, "abx", trusted="abc")).height == 9
    raw = raw_header(9, "axy", trusted="abc")
    refused(Reason.NOT_ENOUGH_TRUST, lambda: follow(trusted, raw), kind=NotEnoughTrust)
    raw = raw_header(9, "abx")
    refused(Reason.NOT_ENOUGH_TRUST, lambda: follow(trusted, raw), kind=NotEnoughTrust)


def test_the_trusted_set_that_a_header_brings_must_be_the_announced_one() -> None:
    trusted = anchored("abc")
    for names in ("abx", "abc"):
        raw = raw_header(9, names, trusted="abd")
        refused(Reason.NOT_ENOUGH_TRUST, lambda r=raw: follow(trusted, r), kind=NotEnoughTrust)
    refused(
        Reason.MALFORMED,
        lambda: CLIENT.decode_header(raw_header(9, "abc", trusted="abc")),
        kind=Malformed,
    )


def test_the_next_height_is_signed_by_the_announced_set_whoever_signed() -> None:
    raw = raw_header(2, "abcx", trusted="abcd")
    invalid(anchored(), raw, Reason.VALIDATOR_SET_MISMATCH)


def test_time_rises_by_nanoseconds() -> None:
    trusted = anchored()
    at = Timestamp(trusted.time, trusted.nanos + 1)
    assert follow(trusted, raw_header(2, "abcd", time=at)).nanos == at.nanos
    for nanos in (trusted.nanos, trusted.nanos - 1):
        raw = raw_header(2, "abcd", time=Timestamp(trusted.time, nanos))
        invalid(trusted, raw, Reason.TIME_NOT_MONOTONIC)


def test_trusting_period_and_drift() -> None:
    trusted = anchored()
    raw = raw_header(2, "abcd")
    end = trusted.time + STATE.trusting_period
    assert follow(trusted, raw, end - 1)
    refused(Reason.CLIENT_EXPIRED, lambda: follow(trusted, raw, end), kind=Refused)
    # light/verifier.go: `!untrustedHeader.Time.Before(now.Add(maxClockDrift))` is an error
    limit = NOW + STATE.clock_drift
    for late in (Timestamp(limit), Timestamp(limit, 1), Timestamp(limit + 1)):
        invalid(trusted, raw_header(2, "abcd", time=late), Reason.HEADER_FROM_FUTURE)
    assert follow(trusted, raw_header(2, "abcd", time=Timestamp(limit - 1, 999_999_999)))


def test_an_anchor_is_no_further_ahead_than_the_drift() -> None:
    """The same edge where a client begins."""
    now = START + 1 - STATE.clock_drift
    raw = raw_header(1, "abcd")
    refused(Reason.HEADER_FROM_FUTURE, lambda: light.anchor(CLIENT, STATE, raw, now), kind=Invalid)
    assert light.anchor(CLIENT, STATE, raw, now + 1)


def test_another_chains_header() -> None:
    invalid(anchored(), raw_header(2, "abcd", chain_id="other"), Reason.CHAIN_ID_MISMATCH)


def test_the_header_names_the_set_that_is_shown() -> None:
    header = block_header(2, "abce")
    validators = set_of("abcd")
    raw = encode_light_block(header, commit_for(header, validators, "abcd"), validators)
    invalid(anchored(), raw, Reason.VALIDATOR_SET_MISMATCH)


# --- votes


def broken(change: Callable[[BlockCommit], BlockCommit], **fields: Any) -> bytes:
    header = replace(block_header(2, "abcd"), **fields)
    validators = set_of("abcd")
    return encode_light_block(header, change(commit_for(header, validators, "abcd")), validators)


def at_place(index: int, **changed: Any) -> Callable[[BlockCommit], BlockCommit]:
    def change(commit: BlockCommit) -> BlockCommit:
        places = list(commit.signatures)
        places[index] = replace(places[index], **changed)
        return replace(commit, signatures=tuple(places))

    return change


def swapped(commit: BlockCommit) -> BlockCommit:
    one, two, *others = commit.signatures
    return replace(commit, signatures=(two, one, *others))


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("another height", lambda c: replace(c, height=3)),
        ("another block", lambda c: replace(c, block_id=BlockId(bytes(32), 1, PARTS))),
        ("no block", lambda c: replace(c, block_id=BlockId())),
        ("half a block id", lambda c: replace(c, block_id=replace(c.block_id, parts=0))),
        ("a place too few", lambda c: replace(c, signatures=c.signatures[:-1])),
        ("a place too many", lambda c: replace(c, signatures=(*c.signatures, NOBODY))),
        ("nobody at all", lambda c: replace(c, signatures=())),
        ("a negative round", lambda c: replace(c, round=-1)),
        ("a vote for nil", at_place(0, flag=NIL)),
        ("an unknown flag", at_place(0, flag=4)),
        ("another address", at_place(0, address=bytes(20))),
        ("a short address", at_place(0, address=bytes(19))),
        ("no signature", at_place(0, signature=b"")),
        ("a long signature", at_place(0, signature=bytes(65))),
        ("an absent validator that signed", at_place(0, flag=1)),
        ("two validators in each other's place", swapped),
        ("a time past 9999", at_place(0, time=Timestamp(2**40))),
        ("a second of nanoseconds", at_place(0, time=Timestamp(1, 10**9))),
    ],
)
def test_commits_that_are_none(what: str, change: Callable[[BlockCommit], BlockCommit]) -> None:
    assert follow(anchored(), broken(lambda c: c))
    refused(Reason.MALFORMED, lambda: CLIENT.decode_header(broken(change)), kind=Malformed)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, height=0),
        lambda c: replace(c, height=2**63),
        lambda c: replace(c, round=-1),
        lambda c: replace(c, round=2**31),
        lambda c: replace(c, block_id=BlockId()),
        lambda c: replace(c, block_id=BlockId(BAD, 1, PARTS)),
        lambda c: replace(c, signatures=()),
        lambda c: replace(c, signatures=c.signatures * 51),
        at_place(0, address=bytes(19)),
        at_place(0, signature=b""),
        at_place(0, signature=bytes(65)),
        at_place(0, flag=NIL),
        at_place(0, flag=1),
        at_place(0, time=Timestamp(2**40)),
        at_place(0, time=Timestamp(-(2**40))),
    ],
)
def test_each_rule_of_a_commit_by_itself(change: Callable[[BlockCommit], BlockCommit]) -> None:
    good = commit_for(block_header(2, "abcd"), set_of("abcd"), "abcd")
    check_commit(good)
    refused(Reason.MALFORMED, lambda: check_commit(change(good)), kind=Malformed)


def test_raw_headers_that_are_none() -> None:
    raw = raw_header(3, "abc")
    refused(Reason.MALFORMED, lambda: CLIENT.decode_header(b"\2" + raw[1:]), kind=Malformed)
    refused(Reason.MALFORMED, lambda: CLIENT.decode_header(raw + b"\0"), kind=Malformed)
    bare = Writer().u8(1).data(encode_signed_header(*parts_of(raw)), 65536).u32(0).u32(0).done()
    refused(Reason.MALFORMED, lambda: CLIENT.decode_header(bare), kind=Malformed)
    with pytest.raises(Malformed, match="at most"):
        CLIENT.decode_header(bytes(MAX_HEADER_BYTES + 1))


def parts_of(raw: bytes) -> tuple[Any, BlockCommit]:
    return decode_signed_header(Reader(raw[1:]).data(65536))


@pytest.mark.parametrize(
    "change",
    [
        at_place(2, signature=bytes(64)),
        at_place(2, time=Timestamp(START, 1)),
        lambda c: replace(c, round=1),
        lambda c: replace(c, block_id=replace(c.block_id, parts=2)),
        lambda c: replace(c, block_id=replace(c.block_id, parts_hash=bytes(32))),
    ],
)
def test_every_vote_is_over_round_block_and_its_own_time(
    change: Callable[[BlockCommit], BlockCommit],
) -> None:
    """Also past the quorum: three of four would do."""
    invalid(anchored(), broken(change), Reason.INVALID_SIGNATURE)


@pytest.mark.parametrize(
    "fields",
    [
        {"block_protocol": 10},
        {"chain_id": ""},
        {"height": 2**63},
        {"time": Timestamp(2**40)},
        {"time": Timestamp(1, -1)},
        {"time": Timestamp(1, 10**9)},
        {"validators_hash": BAD},
        {"last_block_id": BlockId(BAD, 1, PARTS)},
        {"last_block_id": BlockId(PARTS, 1, BAD)},
        {"last_block_id": BlockId(PARTS, 2**32, PARTS)},
        {"last_block_id": BlockId(PARTS, -1, PARTS)},
        {"last_block_id": BlockId(b"", 1, b"")},
        {"chain_id": "x" * 51},
        {"chain_id": "a b"},
        {"height": 0},
        {"height": -1},
        {"time": Timestamp(-1)},
        {"last_block_id": BlockId(bytes(32))},
        {"last_commit_hash": BAD},
        {"data_hash": BAD},
        {"validators_hash": b""},
        {"next_validators_hash": b""},
        {"next_validators_hash": BAD},
        {"consensus_hash": BAD},
        {"last_results_hash": BAD},
        {"evidence_hash": BAD},
        {"app_hash": bytes(65)},
        {"proposer_address": bytes(21)},
    ],
)
def test_headers_that_are_none(fields: dict[str, Any]) -> None:
    refused(
        Reason.MALFORMED,
        lambda: CLIENT.decode_header(broken(lambda c: c, **fields)),
        kind=Malformed,
    )
    check_header(block_header(2, "abcd"))
    header = replace(block_header(2, "abcd"), **fields)
    refused(Reason.MALFORMED, lambda: check_header(header), kind=Malformed)


@pytest.mark.parametrize(
    "field",
    [
        "app_protocol",
        "last_block_id",
        "last_commit_hash",
        "data_hash",
        "next_validators_hash",
        "consensus_hash",
        "app_hash",
        "last_results_hash",
        "evidence_hash",
        "proposer_address",
    ],
)
def test_every_field_is_under_the_header_hash(field: str) -> None:
    changed = {
        "app_protocol": 2,
        "last_block_id": BlockId(),
        "proposer_address": bytes(19) + b"\1",
    }.get(field, bytes(31) + b"\1")
    header = block_header(2, "abcd")
    assert header_hash(replace(header, **{field: changed})) != header_hash(header)  # type: ignore[arg-type]


# --- validator sets


def test_sets_that_are_none() -> None:
    four = set_of("abcd").validators
    twice = ValidatorSet((four[0], four[0], *four[1:]))
    turned = ValidatorSet(tuple(reversed(four)))
    renamed = ValidatorSet((replace(four[0], name="00" * 20), *four[1:]))
    for bad in (
        ValidatorSet(()),
        twice,
        turned,
        renamed,
        ValidatorSet((replace(four[0], power=0),)),
        ValidatorSet((replace(four[0], power=2**60),)),
        ValidatorSet((replace(four[0], keys=(*four[0].keys, *four[1].keys)),)),
        ValidatorSet(four * 51),
    ):
        refused(Reason.MALFORMED, lambda b=bad: hash_set(b), kind=Malformed)
    heavy = [replace(v, power=2**59) for v in four]
    refused(Reason.MALFORMED, lambda: make_set(heavy), kind=Malformed)


def test_a_validator_stands_in_a_set_once_whatever_its_powers() -> None:
    """With two powers both places were in order, and one vote counted for both."""
    four = set_of("abcd").validators
    twice = [*four, replace(four[0], power=1)]
    refused(Reason.MALFORMED, lambda: make_set(twice), kind=Malformed, said="in a set once")


def test_power_and_key_are_under_the_hash() -> None:
    assert len({hash_set(set_of("abcd", power)) for power in (1, 2)}) == 2
    assert hash_set(set_of("abcd")) != hash_set(set_of("abce"))


def test_secp256k1_validators_are_followed_by_their_own_pin() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from adapters.cometbft.light.block import COMMIT, vote_sign_bytes
    from relay.light.keys import SECP256K1_N

    owners = {}
    for number in (7, 8, 9, 10):
        secret = ec.derive_private_key(number, ec.SECP256K1())
        point = secret.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        made = make_validator(SECP256K1, point, 10)
        owners[made.name] = (secret, made)
    validators = make_set(v for _, v in owners.values())
    named = hash_set(validators)
    header = block_header(1, "abcd", validators_hash=named, next_validators_hash=named)
    block_id = BlockId(header_hash(header), 1, PARTS)
    places = []
    for one in validators.validators:
        message = vote_sign_bytes(CHAIN, 1, 0, block_id, header.time)
        r, s = decode_dss_signature(owners[one.name][0].sign(message, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + min(s, SECP256K1_N - s).to_bytes(32, "big")
        places.append(CommitSig(COMMIT, bytes.fromhex(one.name), header.time, signature))
    raw = encode_light_block(header, BlockCommit(1, 0, block_id, tuple(places)), validators)
    assert light.anchor(CLIENT, replace(STATE, algorithm=SECP256K1), raw, NOW)[0].height == 1
    refused(
        Reason.ALGORITHM_NOT_PINNED, lambda: light.anchor(CLIENT, STATE, raw, NOW), kind=Invalid
    )


def test_a_known_address_of_a_secp256k1_key() -> None:
    """RIPEMD-160 over SHA-256, as of the Bitcoin generator point."""
    point = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    assert make_validator(SECP256K1, point, 1).name.lower() == (
        "751e76e8199196d454941c45d1b3a323f1433bd6"
    )


@pytest.mark.parametrize("field", [3, 4, 5])
def test_sets_with_keys_of_other_kinds_are_refused_as_a_whole(field: int) -> None:
    from adapters.cometbft.light import proto
    from adapters.cometbft.light.validators import decode_validator

    raw = proto.message(1, proto.data(field, bytes(48))) + proto.integer(2, 1)
    refused(Reason.UNSUPPORTED_VERSION, lambda: decode_validator(raw), kind=Malformed)


# --- two histories


def accuse(
    first: bytes, second: bytes, known: str = "abcd", now: int = NOW
) -> tuple[str, tuple[str, ...]]:
    evidence = encode_evidence(Evidence(first, second))
    found = verify_misbehaviour(CLIENT, STATE, {hash_set(set_of(known))}, evidence, now)
    return found.description, found.culprits


def named(names: str) -> set[str]:
    return {key_of(name) for name in names}


def test_equivocation_names_who_signed_both() -> None:
    first = raw_header(5, "abcd", signers="abc")
    second = raw_header(5, "abcd", signers="bcd", app_hash=bytes(40))
    description, culprits = accuse(first, second)
    assert "two headers of height 5" in description
    assert set(culprits) == named("bc")


def test_a_lunatic_header_names_whoever_vouched_for_its_set() -> None:
    """A set that was never in force, with votes of enough of one that was: skipping takes it."""
    honest = raw_header(9, "abcd")
    lunatic = raw_header(9, "abxyz", trusted="abcd", app_hash=bytes(40))
    assert follow(anchored(), lunatic).height == 9
    _, culprits = accuse(honest, lunatic)
    assert set(culprits) == named("ab")
    weak = raw_header(9, "axyzw", trusted="abcd", app_hash=bytes(40))
    refused(Reason.NOT_MISBEHAVIOUR, lambda: accuse(honest, weak), kind=Invalid)
    unknown = raw_header(9, "abxyz", trusted="abce", app_hash=bytes(40))
    refused(Reason.NOT_MISBEHAVIOUR, lambda: accuse(honest, unknown), kind=Invalid)
    unsigned = raw_header(9, "abxyz", trusted="abcd", signers="abx", app_hash=bytes(40))
    refused(Reason.NOT_MISBEHAVIOUR, lambda: accuse(honest, unsigned), kind=Invalid)


def test_time_that_goes_back_by_a_nanosecond() -> None:
    first = raw_header(5, "abcd", time=Timestamp(START, 10))
    for nanos in (9, 10):
        second = raw_header(6, "abcd", time=Timestamp(START, nanos))
        description, culprits = accuse(first, second)
        assert "earlier time" in description
        assert set(culprits) == named("abcd")
    ordered = raw_header(6, "abcd", time=Timestamp(START, 11))
    refused(Reason.NOT_MISBEHAVIOUR, lambda: accuse(first, ordered), kind=Invalid)


def test_a_conflict_that_too_few_signed_is_none() -> None:
    first = raw_header(5, "abcd")
    second = raw_header(5, "abcd", signers="ab", app_hash=bytes(40))
    refused(Reason.NOT_MISBEHAVIOUR, lambda: accuse(first, second), kind=Invalid)
    refused(Reason.NOT_MISBEHAVIOUR, lambda: accuse(first, first), kind=Invalid)


def test_another_header_of_the_trusted_height() -> None:
    trusted = anchored()
    assert follow(trusted, raw_header(1, "abcd")) == trusted
    invalid(trusted, raw_header(1, "abcd", app_hash=bytes(40)), Reason.HEAD_CONFLICT)


# --- bisection


def chain_of(sets: list[str]) -> Callable[[int], Header]:
    """A chain whose set of height h is `sets[h - 1]`."""

    def fetch(height: int) -> Header:
        return decoded(raw_header(height, sets[height - 1], following=sets[height]))

    return fetch


def lead(sets: list[str], height: int) -> list[Header]:
    fetch = chain_of(sets)
    return plan(
        CLIENT, fetch(1), height, fetch, lambda h: set_of(sets[h - 1]), ED25519, Threshold(1, 3)
    )


def test_bisection_leads_over_many_set_changes() -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    sets = [letters[n // 3 : n // 3 + 4] for n in range(61)]
    way = lead(sets, 60)
    assert 1 < len(way) < 20
    trusted = anchored(sets[0], following=sets[1])
    for header in way:
        trusted = follow(trusted, CLIENT.encode_header(header))
    assert trusted.height == 60


def test_without_a_change_one_header_is_enough() -> None:
    (only,) = lead(["abcd"] * 100, 99)
    assert only.trusted_validators is None


def test_a_chain_that_contradicts_its_announcement() -> None:
    sets = ["abcd", "wxyz", "wxyz"]

    def fetch(height: int) -> Header:
        return decoded(raw_header(height, sets[height - 1], following="abcd"))

    with pytest.raises(Invalid) as err:
        plan(CLIENT, fetch(1), 2, fetch, lambda h: set_of("abcd"), ED25519, Threshold(1, 3))
    assert err.value.reason is Reason.VALIDATOR_SET_MISMATCH
    with pytest.raises(Invalid) as err:
        plan(
            CLIENT,
            replace(fetch(1), next_set_hash=bytes(32)),
            3,
            fetch,
            lambda h: set_of("wxyz"),
            ED25519,
            Threshold(1, 3),
        )
    assert err.value.reason is Reason.VALIDATOR_SET_MISMATCH


def test_a_way_has_a_limit() -> None:
    """Sets that change as a whole at each height leave nothing to be skipped."""
    from adapters.cometbft.light.bisection import MAX_HEADERS

    last = MAX_HEADERS + 2
    made: dict[int, Header] = {}

    def named(height: int) -> ValidatorSet:
        return set_of([f"v{height % 30}"])

    def fetch(height: int) -> Header:
        names, following = [f"v{height % 30}"], [f"v{(height + 1) % 30}"]
        made[height] = decoded(raw_header(height, names, following=following))
        return made[height]

    def lead_to(height: int) -> int:
        start = fetch(1)
        return len(plan(CLIENT, start, height, fetch, named, ED25519, Threshold(1, 3)))

    assert lead_to(last - 1) == MAX_HEADERS
    refused(Reason.LIMIT_EXCEEDED, lambda: lead_to(last), kind=Malformed)
