from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid, Malformed, Reason
from relay.light.states import (
    check_client_state,
    decode_client_state,
    decode_consensus_state,
    encode_client_state,
    encode_consensus_state,
)
from relay.light.types import (
    DAY,
    MAX_INT,
    MAX_VALIDATORS,
    ClientState,
    ConsensusState,
    Threshold,
    Validator,
    ValidatorSet,
    Witness,
)
from relay.light.validators import (
    MAX_POWER,
    MAX_SET_BYTES,
    decode_set,
    encode_set,
    set_hash,
    validator_set,
)
from tests.light.ledger import key, make_set, witness

names = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="+"),
    min_size=1,
    max_size=12,
)
algorithms = st.sampled_from(["ed25519", "p256", "sm2"])
validators = st.builds(
    Validator,
    names,
    st.integers(1, MAX_POWER),
    st.dictionaries(algorithms, st.binary(min_size=8, max_size=40), min_size=1).map(
        lambda keys: tuple(sorted(keys.items()))
    ),
)
sets = st.lists(
    validators, min_size=1, max_size=5, unique_by=(lambda v: v.name, lambda v: v.keys[0][1])
).map(lambda vs: ValidatorSet(tuple(sorted(vs, key=lambda v: v.name))))

SET = make_set("abc", algorithms=("ed25519", "secp256k1"))
STATE = ClientState(
    "checkpoint", "zj-medical/0", witnesses=(witness("w1"), witness("w2")), witness_quorum=1
)


@given(sets)
def test_sets_round_trip(validators: ValidatorSet) -> None:
    try:
        raw = encode_set(validators)
    except Malformed as err:
        assert "twice" in err.detail  # noqa: PT017
        return
    assert decode_set(raw) == validators


@given(st.binary(max_size=100), st.integers(0, 200))
def test_any_bytes_are_a_set_or_malformed(raw: bytes, at: int) -> None:
    good = encode_set(SET)
    for candidate in (raw, good[:at] + raw + good[at + len(raw) :]):
        try:
            decoded = decode_set(candidate)
        except Malformed:
            continue
        assert encode_set(decoded) == candidate


def test_the_hash_covers_every_field() -> None:
    a, b, c = SET.validators
    variants = [
        SET,
        ValidatorSet((a, b)),
        ValidatorSet((replace(a, name="A"), b, c)),
        ValidatorSet((replace(a, power=2), b, c)),
        ValidatorSet((replace(a, keys=a.keys[:1]), b, c)),
        ValidatorSet((replace(a, keys=(("ed25519", key("z").public), a.keys[1])), b, c)),
        ValidatorSet((replace(a, keys=(("ed25518", a.keys[0][1]), a.keys[1])), b, c)),
    ]
    assert len({set_hash(v) for v in variants}) == len(variants)


def changed(**fields: object) -> ValidatorSet:
    first, *rest = SET.validators
    return ValidatorSet((replace(first, **fields), *rest))  # type: ignore[arg-type]


FIRST = SET.validators[0]


@pytest.mark.parametrize(
    "validators",
    [
        ValidatorSet(()),
        ValidatorSet(SET.validators[::-1]),
        ValidatorSet((FIRST, FIRST)),
        ValidatorSet((FIRST, replace(FIRST, name="b"))),
        ValidatorSet((FIRST, replace(SET.validators[1], name=FIRST.name))),
        changed(name=""),
        changed(name="a" * 65),
        changed(name="a b"),
        changed(name="a+"),
        changed(name="é"),
        changed(power=0),
        changed(power=MAX_POWER + 1),
        changed(keys=()),
        changed(keys=FIRST.keys[::-1]),
        changed(keys=(FIRST.keys[0], FIRST.keys[0])),
        changed(keys=(("ed25519", b""),)),
        changed(keys=(("Ed25519", b"k"),)),
        changed(keys=(("", b"k"),)),
        changed(keys=(("a" * 33, b"k"),)),
        changed(keys=tuple((f"a{i}", b"k") for i in range(9))),
        ValidatorSet(
            tuple(Validator(f"n{i:04}", 1, (("x", b"%d" % i),)) for i in range(MAX_VALIDATORS + 1))
        ),
    ],
)
def test_each_rule_of_a_set(validators: ValidatorSet) -> None:
    with pytest.raises(Malformed) as err:
        encode_set(validators)
    assert err.value.reason == Reason.MALFORMED


def test_the_greatest_set_fits_a_header() -> None:
    keys = [(f"algorithm-{n}", bytes(33)) for n in range(3)]
    greatest = ValidatorSet(
        tuple(
            Validator(f"{i:064}", MAX_POWER, tuple((a, k + b"%d" % i) for a, k in keys))
            for i in range(MAX_VALIDATORS)
        )
    )
    assert len(encode_set(greatest)) <= MAX_SET_BYTES


def test_each_limit_of_a_set_is_legal_itself() -> None:
    names = ("a", "algorithm-of-" + "9" * 19)
    assert len(names[1]) == 32
    power = Validator("!" + "~" * 63, MAX_POWER, tuple((name, b"k") for name in names))
    keys = tuple((f"a{i}", b"k" * 256) for i in range(8))
    whole = ValidatorSet((power, Validator("b", 1, keys)))
    assert decode_set(encode_set(whole)) == whole
    with pytest.raises(Malformed, match="after the end"):
        decode_set(encode_set(whole) + b"\0")


def test_a_set_from_validators_in_any_order() -> None:
    assert validator_set(SET.validators[::-1]) == SET
    with pytest.raises(Malformed) as no_power:
        validator_set([replace(FIRST, power=0)])
    assert no_power.value.reason == Reason.MALFORMED
    with pytest.raises(Invalid) as err:
        validator_set([Validator("a", 1, (("ed25519", bytes(32)),))])
    assert err.value.reason == Reason.WEAK_KEY


# --- client states and consensus states


def test_client_states_round_trip() -> None:
    raw = encode_client_state(STATE)
    assert decode_client_state(raw) == STATE
    for at in range(len(raw)):
        other = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            decoded = decode_client_state(other)
        except Malformed:
            continue
        assert decoded != STATE
        assert encode_client_state(decoded) == other
    for cut in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(Malformed) as err:
            decode_client_state(cut)
        assert err.value.reason == Reason.MALFORMED


@pytest.mark.parametrize(
    "fields",
    [
        {"client_type": ""},
        {"client_type": "a b"},
        {"chain_id": ""},
        {"chain_id": "a" * 129},
        {"chain_id": "a b"},
        {"algorithm": "ED25519"},
        {"tree_hash": ""},
        {"proof_kind": "rfc 6962"},
        {"threshold": Threshold(0, 3)},
        {"threshold": Threshold(4, 3)},
        {"threshold": Threshold(3, 3, strict=True)},
        {"threshold": Threshold(1, 0)},
        {"trust_level": Threshold(0, 1)},
        {"trusting_period": 0},
        {"trusting_period": MAX_INT},
        {"clock_drift": -1},
        {"clock_drift": 3601},
        {"assurance": "x" * 513},
        {"assurance": "a\nb"},
        {"witness_quorum": 3},
        {"witness_quorum": -1},
        {"witnesses": (witness("w2"), witness("w1"))},
        {"witnesses": (witness("w1"), witness("w1"))},
        {"witnesses": (witness("w1"), replace(witness("w1"), name="w2"))},
        {"witnesses": (Witness("w1", "ed25519", b""),)},
        {"witnesses": (Witness("w 1", "ed25519", b"k"),)},
        {"witnesses": (Witness("w1", "ED25519", b"k"),)},
        {"witnesses": tuple(Witness(f"w{i:02}", "sm2", b"%d" % i) for i in range(33))},
        {"threshold": Threshold(1, 1_000_001)},
        {"parameters": (("b", "1"), ("a", "1"))},
        {"parameters": (("a", "1"), ("a", "2"))},
        {"parameters": (("A", "1"),)},
        {"parameters": (("a", ""),)},
        {"parameters": (("a", "x" * 257),)},
        {"parameters": (("a", "1 2"),)},
        {"parameters": tuple((f"a{i:02}", "1") for i in range(17))},
    ],
)
def test_each_rule_of_a_client_state(fields: dict[str, object]) -> None:
    for check in (encode_client_state, check_client_state):
        with pytest.raises(Malformed) as err:
            check(replace(STATE, **fields))  # type: ignore[arg-type]
        assert err.value.reason == Reason.MALFORMED


@pytest.mark.parametrize(
    "fields",
    [
        {"chain_id": "a"},
        {"chain_id": "!" * 127 + "~"},
        {"assurance": ""},
        {"assurance": " " * 511 + "~"},
        {"threshold": Threshold(1, 1, strict=False)},
        {"threshold": Threshold(999_999, 1_000_000)},
        {"trusting_period": 1},
        {"trusting_period": 3650 * DAY},
        {"clock_drift": 0},
        {"clock_drift": 3600},
        {"witness_quorum": 0},
        {"witness_quorum": 2},
        {"witnesses": tuple(Witness(f"w{i:02}", "sm2", b"%d" % i) for i in range(32))},
        {"parameters": (("a", "!"), ("b", "~" * 256))},
        {"parameters": tuple((f"a{i:02}", "1") for i in range(16))},
    ],
)
def test_each_limit_of_a_client_state_is_legal_itself(fields: dict[str, object]) -> None:
    state = replace(STATE, **fields)  # type: ignore[arg-type]
    check_client_state(state)
    assert decode_client_state(encode_client_state(state)) == state


def test_a_list_of_no_parameters_is_not_written() -> None:
    raw = encode_client_state(replace(STATE, parameters=(("a", "b"),)))
    none = raw[: -len(b"\0\0\0\1\0\0\0\1a\0\0\0\1b")] + bytes(4)
    with pytest.raises(Malformed, match="empty is not written"):
        decode_client_state(none)


def test_a_weak_witness_key_is_not_pinned() -> None:
    check_client_state(STATE)
    with pytest.raises(Invalid) as err:
        check_client_state(replace(STATE, witnesses=(Witness("w", "ed25519", bytes(32)),)))
    assert err.value.reason == Reason.WEAK_KEY


hashes = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, MAX_INT)


roots = st.binary(max_size=64)
nanoseconds = st.integers(0, 10**9 - 1)


@given(st.builds(ConsensusState, numbers, numbers, roots, hashes, hashes, hashes, nanoseconds))
def test_consensus_states_round_trip(consensus: ConsensusState) -> None:
    assert decode_consensus_state(encode_consensus_state(consensus)) == consensus


@given(st.binary(max_size=160))
def test_any_bytes_are_a_consensus_state_or_malformed(raw: bytes) -> None:
    foreign = b"\x02" + raw.ljust(20, b"\0")[:20] + b"\0\0\0\x20" + bytes(128)
    for candidate in (raw, b"\x01" + raw.ljust(144, b"\0")[:144], foreign):
        try:
            decoded = decode_consensus_state(candidate)
        except Malformed:
            continue
        assert encode_consensus_state(decoded) == candidate


def test_each_rule_of_a_consensus_state() -> None:
    good = ConsensusState(1, 2, bytes(32), bytes(32), bytes(32), bytes(32))
    plain = encode_consensus_state(good)
    twice = b"\x02" + plain[1:17] + bytes(4) + b"\0\0\0\x20" + plain[17:]
    with pytest.raises(Malformed, match="one encoding"):
        decode_consensus_state(twice)
    for raw in (b"\x00" + plain[1:], b"\x03" + plain[1:], plain + b"\0", plain[:-1]):
        with pytest.raises(Malformed) as unread:
            decode_consensus_state(raw)
        assert unread.value.reason == Reason.MALFORMED
    last = replace(good, height=MAX_INT, time=MAX_INT, nanos=10**9 - 1)
    assert decode_consensus_state(encode_consensus_state(last)) == last
    foreign = encode_consensus_state(last)
    for late in (
        foreign[:17] + (10**9).to_bytes(4, "big") + foreign[21:],
        foreign[:1] + b"\x80" + foreign[2:],
        foreign[:9] + b"\x80" + foreign[10:],
    ):
        with pytest.raises(Malformed) as unread:
            decode_consensus_state(late)
        assert unread.value.reason == Reason.MALFORMED
    for bad in (
        replace(good, height=MAX_INT + 1),
        replace(good, time=MAX_INT + 1),
        replace(good, height=-1),
        replace(good, root=bytes(65)),
        replace(good, nanos=10**9),
        replace(good, nanos=-1),
        replace(good, header_hash=bytes(33)),
    ):
        with pytest.raises(Malformed) as err:
            encode_consensus_state(bad)
        assert err.value.reason == Reason.MALFORMED
