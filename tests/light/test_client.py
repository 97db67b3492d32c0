from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from adapters.lianqiao.light import CLIENT
from relay.errors import Invalid, LianqiaoError, Malformed, NotEnoughTrust, Reason, Refused
from relay.light import client as light
from relay.light.checkpoint import encode_body, sign_body
from relay.light.client import consensus_of
from relay.light.states import decode_client_state, encode_client_state
from relay.light.types import (
    DAY,
    ClientState,
    ConsensusState,
    Header,
    Signature,
    Threshold,
    Validator,
    ValidatorSet,
    Witness,
    absence_provable,
)
from relay.light.validators import set_hash
from tests.light import skipping
from tests.light.ledger import START, Ledger, key, make_set, witness
from tests.refusals import refused, refusing

NOW = START + 60


def not_followed(
    kind: type[LianqiaoError],
    reason: Reason,
    state: ClientState,
    trusted: ConsensusState,
    header: Header,
    now: int = NOW,
) -> LianqiaoError:
    error = refused(reason, light.verify_header, CLIENT, state, trusted, header, now)
    assert type(error) is kind
    return error


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    made.fill(5)
    return made


def trusted_of(ledger: Ledger) -> ConsensusState:
    return light.anchor(CLIENT, ledger.state, ledger.raw(), NOW)[0]


# --- headers that follow


def test_a_client_follows_its_ledger(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    assert trusted.height == 5
    for step in (1, 7, 20):
        ledger.fill(step)
        header = ledger.header(trusted.height)
        trusted = light.verify_header(CLIENT, ledger.state, trusted, header, NOW)
        assert trusted == consensus_of(header)
    light.check_same(header, trusted)


def test_the_same_header_again_is_a_no_op(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    again = ledger.header()
    assert light.verify_header(CLIENT, ledger.state, trusted, again, NOW) is trusted


def test_each_rule_of_a_header_that_follows(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    lower = Ledger()
    lower.fill(4)
    other = Ledger("sh-medical/0")
    other.fill(8)
    not_followed(Invalid, Reason.CHAIN_ID_MISMATCH, ledger.state, trusted, other.header())
    not_followed(Invalid, Reason.HEIGHT_NOT_MONOTONIC, ledger.state, trusted, lower.header())
    ledger.fill(3)
    good = ledger.header(5)
    light.verify_header(CLIENT, ledger.state, trusted, good, NOW)
    wrong_set = ledger.header(5, validators=make_set("abcd"))
    not_followed(Invalid, Reason.VALIDATOR_SET_MISMATCH, ledger.state, trusted, wrong_set)
    early = ledger.header(5, body=ledger.body(time=trusted.time - 1))
    not_followed(Invalid, Reason.TIME_NOT_MONOTONIC, ledger.state, trusted, early)
    late = ledger.header(5, body=ledger.body(time=NOW + 11))
    not_followed(Invalid, Reason.HEADER_FROM_FUTURE, ledger.state, trusted, late)
    unlinked = ledger.header(0)
    not_followed(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, trusted, unlinked)
    from_elsewhere = ledger.header(4)
    not_followed(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, trusted, from_elsewhere)
    mislabelled = replace(good, link_height=4)
    not_followed(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, trusted, mislabelled)


def test_equal_time_is_legal_and_the_drift_is_exact(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    ledger.fill(1)
    for time in (trusted.time, NOW + 10):
        header = ledger.header(5, body=ledger.body(time=time))
        light.verify_header(CLIENT, ledger.state, trusted, header, NOW)


def test_another_history_of_the_same_ledger_is_refused(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    fork = Ledger()
    fork.write(b"another past", b"")
    fork.fill(7)
    not_followed(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, trusted, fork.header(5))
    short = replace(ledger.header(), link_height=5, height=6)
    not_followed(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, trusted, short)


def test_two_heads_of_one_height(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    other = ledger.body(time=START + 6)
    err = not_followed(
        Invalid, Reason.HEAD_CONFLICT, ledger.state, trusted, ledger.header(body=other)
    )
    assert "misbehaviour" in err.hint
    few = ledger.header(body=other, lines=ledger.lines(other, ["zj-a", "zj-b"]))
    not_followed(Invalid, Reason.QUORUM_NOT_REACHED, ledger.state, trusted, few)
    ledger.set = make_set("abcd")
    strange = ledger.header()
    not_followed(Invalid, Reason.VALIDATOR_SET_MISMATCH, ledger.state, trusted, strange)
    with pytest.raises(Invalid) as conflict:
        light.check_same(strange, trusted)
    assert conflict.value.reason == Reason.HEAD_CONFLICT


def test_the_trusting_period_is_exact(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    ledger.fill(1)
    end = trusted.time + ledger.state.trusting_period
    assert light.expires(ledger.state, trusted) == end
    header = ledger.header(5, body=ledger.body(time=end - 5))
    light.verify_header(CLIENT, ledger.state, trusted, header, end - 1)
    not_followed(Refused, Reason.CLIENT_EXPIRED, ledger.state, trusted, header, end)


# --- lineage of validator sets


def test_a_set_is_followed_through_each_change(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    state, old, new = ledger.state, ledger.set, make_set(["n1", "n2", "n3"])
    ledger.fill(1)
    announcing = ledger.header(5, body=ledger.body(next_set_hash=set_hash(new)))
    ledger.fill(4)
    announced = light.verify_header(CLIENT, state, trusted, announcing, NOW)
    by_old = ledger.header(6)
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, state, announced, by_old)
    ledger.set = new
    by_new = ledger.header(6)
    after = light.verify_header(CLIENT, state, announced, by_new, NOW)
    assert after.set_hash == set_hash(new)
    skipped = ledger.header(5)
    err = not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, state, trusted, skipped)
    assert "announce" in err.hint
    # This type never skips, not even where all of the trusted set signed again.
    ledger.set = make_set(["zj-a", "zj-b", "zj-c", "zj-d", "zj-e"])
    with pytest.raises(NotEnoughTrust) as skipping_err:
        light.verify_header(CLIENT, state, trusted, ledger.header(5), NOW, old)
    assert skipping_err.value.reason == Reason.NOT_ENOUGH_TRUST
    ledger.set = old
    ledger.fill(1)
    not_followed(Invalid, Reason.VALIDATOR_SET_MISMATCH, state, after, ledger.header(10))


def test_a_swapped_next_set_needs_the_old_sets_signatures(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    ledger.fill(1)
    honest, swapped = ledger.body(), ledger.body(next_set_hash=set_hash(make_set("xyz")))
    header = ledger.header(5, body=swapped, lines=ledger.lines(honest))
    not_followed(Invalid, Reason.INVALID_SIGNATURE, ledger.state, trusted, header)


def test_a_new_set_with_a_weak_key_is_refused(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    names = ["n1", "n2", "n3"]
    members = list(make_set(names).validators)
    members.append(Validator("weak", 1, (("ed25519", bytes(32)),)))
    weak = ValidatorSet(tuple(members))
    ledger.fill(1)
    announcing = ledger.header(5, body=ledger.body(next_set_hash=set_hash(weak)))
    announced = light.verify_header(CLIENT, ledger.state, trusted, announcing, NOW)
    ledger.fill(1)
    ledger.set = weak
    body = ledger.body()
    header = ledger.header(6, body=body, lines=ledger.lines(body, names))
    not_followed(Invalid, Reason.WEAK_KEY, ledger.state, announced, header)


# --- anchor, activity


def anchor_refused(
    kind: type[LianqiaoError], reason: Reason, state: ClientState, raw: bytes, now: int = NOW
) -> None:
    with pytest.raises(kind) as err:
        light.anchor(CLIENT, state, raw, now)
    assert err.value.reason == reason


class _Strict(type(CLIENT)):  # type: ignore[misc]
    """A type whose headers must come before the limit of drift, as CometBFT has it."""

    strict_drift = True


def test_the_limit_of_drift_is_in_or_out_as_the_type_has_it(ledger: Ledger) -> None:
    raw = ledger.raw()
    limit = ledger.header().time - ledger.state.clock_drift
    light.anchor(CLIENT, ledger.state, raw, limit)
    refused(Reason.HEADER_FROM_FUTURE, light.anchor, _Strict(), ledger.state, raw, limit)
    light.anchor(_Strict(), ledger.state, raw, limit + 1)


def test_each_rule_of_an_anchor(ledger: Ledger) -> None:
    consensus, header = light.anchor(CLIENT, ledger.state, ledger.raw(), NOW)
    assert consensus == consensus_of(header)
    anchor_refused(
        Malformed, Reason.MALFORMED, replace(ledger.state, trusting_period=0), ledger.raw()
    )
    anchor_refused(Malformed, Reason.MALFORMED, ledger.state, b"header")
    weak = replace(ledger.state, witnesses=(Witness("w", "ed25519", bytes(32)),))
    anchor_refused(Invalid, Reason.WEAK_KEY, weak, ledger.raw())
    other = replace(ledger.state, chain_id="sh-medical/0")
    anchor_refused(Invalid, Reason.CHAIN_ID_MISMATCH, other, ledger.raw())
    wrong = ledger.raw(validators=make_set("abcd"))
    anchor_refused(Invalid, Reason.VALIDATOR_SET_MISMATCH, ledger.state, wrong)
    anchor_refused(Invalid, Reason.HEADER_FROM_FUTURE, ledger.state, ledger.raw(), START - 10)
    anchor_refused(Refused, Reason.CLIENT_EXPIRED, ledger.state, ledger.raw(), START + 91 * DAY)
    anchor_refused(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, ledger.raw(2))
    header = ledger.header()
    for linked in (replace(header, link_height=2), replace(header, link=(bytes(32),))):
        raw = CLIENT.encode_header(linked)
        anchor_refused(Invalid, Reason.INVALID_CONSISTENCY, ledger.state, raw)
    body = ledger.body()
    few = ledger.raw(lines=ledger.lines(body, ["zj-a"]))
    anchor_refused(Invalid, Reason.QUORUM_NOT_REACHED, ledger.state, few)
    members = [*ledger.set.validators, Validator("zz", 1, (("ed25519", bytes(32)),))]
    ledger.set = ValidatorSet(tuple(members))
    by_four = ledger.lines(ledger.body(), ["zj-a", "zj-b", "zj-c", "zj-d"])
    anchor_refused(Invalid, Reason.WEAK_KEY, ledger.state, ledger.raw(lines=by_four))


def test_activity(ledger: Ledger) -> None:
    trusted, state = trusted_of(ledger), ledger.state
    end = trusted.time + state.trusting_period
    light.check_active(state, trusted, False, end - 1)
    for frozen, now, reason in (
        (True, end - 1, Reason.CLIENT_FROZEN),
        (True, end, Reason.CLIENT_FROZEN),
        (False, end, Reason.CLIENT_EXPIRED),
    ):
        with pytest.raises(Refused) as err:
            light.check_active(state, trusted, frozen, now)
        assert err.value.reason == reason
        assert err.value.hint
    third = trusted.time + state.trusting_period // 3
    assert not light.is_due_refresh(state, trusted, third - 1)
    assert light.is_due_refresh(state, trusted, third)


def test_absence_is_provable_where_the_type_and_the_pinned_proof_both_say_so() -> None:
    class Proving(type(CLIENT)):  # type: ignore[misc]
        proves_absence = True

    for client_type, kind, provable in (
        (Proving(), "ics23", True),
        (Proving(), "rfc6962", False),
        (Proving(), "journal", False),
        (CLIENT, "ics23", False),
        (CLIENT, "rfc6962", False),
    ):
        state = ClientState("checkpoint", "zj-medical/0", proof_kind=kind)
        assert absence_provable(client_type, state) is provable


# --- signatures, threshold, witnesses


def commit_refused(reason: Reason, state: ClientState, header: Header) -> None:
    with pytest.raises(Invalid) as err:
        light.verify_commit(CLIENT, state, header)
    assert err.value.reason == reason, err.value


def test_each_rule_of_a_commit(ledger: Ledger) -> None:
    body, state = ledger.body(), ledger.state
    lines = ledger.lines(body)
    commit = light.verify_commit(CLIENT, state, ledger.header())
    assert commit.signers == ("zj-a", "zj-b", "zj-c", "zj-d")
    three = ledger.header(lines=lines[:3])
    assert light.verify_commit(CLIENT, state, three).signers == ("zj-a", "zj-b", "zj-c")
    commit_refused(Reason.QUORUM_NOT_REACHED, state, ledger.header(lines=lines[:2]))
    twice = ledger.header(lines=[lines[0], lines[0], lines[1]])
    commit_refused(Reason.DUPLICATE_SIGNER, state, twice)
    stranger = Ledger(names="e").lines(body)
    commit_refused(Reason.UNKNOWN_SIGNER, state, ledger.header(lines=[*lines, *stranger]))
    unknown = replace(three, signatures=(*three.signatures, Signature("zz", "ed25519", b"")))
    commit_refused(Reason.UNKNOWN_SIGNER, state, unknown)
    borrowed = replace(lines[0], value=lines[1].value)
    commit_refused(Reason.INVALID_SIGNATURE, state, ledger.header(lines=[borrowed, *lines[1:]]))
    forged = replace(lines[3], value=bytes(31) + b"\x01" + bytes(32))
    past_the_quorum = ledger.header(lines=[*lines[:3], forged])
    commit_refused(Reason.INVALID_SIGNATURE, state, past_the_quorum)
    commit_refused(Reason.QUORUM_NOT_REACHED, state, replace(three, signatures=()))


def test_only_the_pinned_algorithm_counts(ledger: Ledger) -> None:
    ledger.set = make_set("abcd", algorithms=("ed25519", "secp256k1"))
    body = ledger.body()
    both = ledger.lines(body) + ledger.lines(body, "a", "secp256k1")
    commit_refused(Reason.ALGORITHM_NOT_PINNED, ledger.state, ledger.header(lines=both))
    other = replace(ledger.state, algorithm="secp256k1")
    commit_refused(Reason.ALGORITHM_NOT_PINNED, other, ledger.header())
    light.verify_commit(CLIENT, other, ledger.header(lines=ledger.lines(body, None, "secp256k1")))
    bare = make_set("abcd")
    header = replace(ledger.header(lines=ledger.lines(body, None, "secp256k1")), validators=bare)
    commit_refused(Reason.UNKNOWN_SIGNER, other, header)
    missing = replace(ledger.state, algorithm="sm2")
    signatures = tuple(replace(s, algorithm="sm2") for s in ledger.header().signatures)
    sm2 = ValidatorSet(tuple(Validator(n, 1, (("sm2", b"key " + n.encode()),)) for n in "abcd"))
    header = replace(ledger.header(), validators=sm2, signatures=signatures)
    commit_refused(Reason.ALGORITHM_NOT_PINNED, missing, header)


@pytest.mark.parametrize(
    ("powers", "signers", "threshold", "enough"),
    [
        ([1, 1, 1, 1], "abc", Threshold(2, 3), True),
        ([1, 1, 1, 1], "ab", Threshold(2, 3), False),
        ([1, 1, 1], "ab", Threshold(2, 3), False),  # exactly two thirds is not more
        ([1, 1, 1], "abc", Threshold(2, 3), True),
        ([5, 1, 1], "a", Threshold(2, 3), True),
        ([4, 1, 1], "a", Threshold(2, 3), False),
        ([2**32] * 4, "abc", Threshold(2, 3), True),
        ([1, 1, 1], "ab", Threshold(2, 3, strict=False), True),  # ceil(2N/3) heads
        ([9, 1, 1], "a", Threshold(2, 3, strict=False), False),  # heads, not power
        ([1, 1, 1, 1], "ab", Threshold(2, 3, strict=False), False),
        ([1, 1, 1, 1], "abc", Threshold(2, 3, strict=False), True),
        ([1], "a", Threshold(1, 1, strict=False), True),
        ([1, 1, 1, 1], "ab", Threshold(1, 2), False),
        ([1, 1, 1, 1], "ab", Threshold(1, 2, strict=False), True),
    ],
)
def test_thresholds(
    powers: Sequence[int], signers: str, threshold: Threshold, enough: bool
) -> None:
    ledger = Ledger()
    ledger.fill(1)
    ledger.set = ValidatorSet(
        tuple(
            Validator(n, p, (("ed25519", key(n).public),))
            for n, p in zip("abcd"[: len(powers)], powers, strict=True)
        )
    )
    state = replace(ledger.state, threshold=threshold)
    header = ledger.header(lines=ledger.lines(ledger.body(), signers))
    if enough:
        light.verify_commit(CLIENT, state, header)
    else:
        commit_refused(Reason.QUORUM_NOT_REACHED, state, header)


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (Threshold(2, 3), "more than 2/3 of the power"),
        (Threshold(2, 3, strict=False), "2/3 of the validators"),
    ],
)
def test_what_is_needed_is_told(ledger: Ledger, threshold: Threshold, words: str) -> None:
    few = ledger.header(lines=ledger.lines(ledger.body())[:2])
    with pytest.raises(Invalid) as err:
        light.verify_commit(CLIENT, replace(ledger.state, threshold=threshold), few)
    assert err.value.data["needed"] == words


def test_each_rule_of_witnesses(ledger: Ledger) -> None:
    pinned = tuple(
        witness(n, a) for n, a in (("w1", "ed25519"), ("w2", "secp256k1"), ("w3", "ed25519"))
    )
    state = replace(ledger.state, witnesses=pinned, witness_quorum=2)
    body = ledger.body()
    first, second = ledger.cosign(body, "w1", NOW), ledger.cosign(body, "w2", 0, "secp256k1")
    both = ledger.header(others=[first, second])
    assert light.verify_commit(CLIENT, state, both).witnesses == ("w1", "w2")
    commit_refused(Reason.WITNESS_MISSING, state, ledger.header())
    commit_refused(Reason.WITNESS_MISSING, state, ledger.header(others=[first]))
    commit_refused(Reason.DUPLICATE_SIGNER, state, ledger.header(others=[first, first]))
    for of_nobody in (replace(first, name="w3"), replace(first, key_id=b"1234")):
        commit_refused(Reason.UNKNOWN_SIGNER, state, ledger.header(others=[of_nobody, second]))
    again = ledger.cosign(body, "w1", NOW + 1)
    commit_refused(Reason.DUPLICATE_SIGNER, state, ledger.header(others=[first, again]))
    stranger = ledger.cosign(body, "w4", NOW)
    commit_refused(Reason.UNKNOWN_SIGNER, state, ledger.header(others=[first, second, stranger]))
    other = ledger.cosign(ledger.body(time=START), "w1", NOW)
    commit_refused(Reason.INVALID_SIGNATURE, state, ledger.header(others=[other, second]))
    later = replace(first, value=(NOW + 1).to_bytes(8, "big") + first.value[8:])
    commit_refused(Reason.INVALID_SIGNATURE, state, ledger.header(others=[later, second]))
    forged = replace(second, value=first.value[8:])
    commit_refused(Reason.INVALID_SIGNATURE, state, ledger.header(others=[first, forged]))
    few = ledger.header(lines=ledger.lines(body)[:2], others=[first, second])
    commit_refused(Reason.QUORUM_NOT_REACHED, state, few)
    # A validator's line does not pass for a witness's, even of the same name and key.
    same = replace(state, witnesses=(witness("zj-a"),), witness_quorum=1)
    commit_refused(Reason.WITNESS_MISSING, same, ledger.header())


def test_a_cosignature_from_the_future(ledger: Ledger) -> None:
    trusted = trusted_of(ledger)
    ledger.fill(1)
    state = replace(ledger.state, witnesses=(witness("w1"),), witness_quorum=1)
    for time, fine in ((NOW + 10, True), (NOW + 11, False)):
        header = ledger.header(5, others=[ledger.cosign(ledger.body(), "w1", time)])
        if fine:
            light.verify_header(CLIENT, state, trusted, header, NOW)
        else:
            not_followed(Invalid, Reason.HEADER_FROM_FUTURE, state, trusted, header)


# --- costs, counted


def counted(ledger: Ledger, names: Sequence[str]) -> ClientState:
    ledger.set = skipping.make_set(names)
    return replace(ledger.state, algorithm=skipping.ALGORITHM)


class Counting:
    """A signer of the counting algorithm."""

    algorithm = skipping.ALGORITHM

    def __init__(self, name: str) -> None:
        self.public = skipping.secret_of(name)

    def sign(self, message: bytes) -> bytes:
        return skipping.sign(self.public, message)


def test_each_signature_is_verified_once_and_none_for_nothing(ledger: Ledger) -> None:
    state = counted(ledger, "abcdefg")
    body = ledger.body()
    lines = [sign_body(n, Counting(n), encode_body(body)) for n in "abcdefg"]
    skipping.verifications.clear()
    trusted, _ = light.anchor(CLIENT, state, ledger.raw(lines=lines), NOW)
    assert len(skipping.verifications) == 7
    ledger.fill(1)
    body = ledger.body()
    lines = [sign_body(n, Counting(n), encode_body(body)) for n in "abcde"]
    skipping.verifications.clear()
    light.verify_header(CLIENT, state, trusted, ledger.header(5, lines=lines), NOW)
    assert len(skipping.verifications) == 5, "one verification for each signature presented"
    skipping.verifications.clear()
    late = ledger.body(time=NOW + 99)
    for reason, header in (
        (Reason.DUPLICATE_SIGNER, ledger.header(5, lines=[*lines, lines[0]])),
        (Reason.INVALID_CONSISTENCY, ledger.header(4, lines=lines)),
        (Reason.HEADER_FROM_FUTURE, ledger.header(5, body=late, lines=lines)),
        (Reason.VALIDATOR_SET_MISMATCH, ledger.header(5, lines=lines, validators=make_set("ab"))),
    ):
        refused(reason, light.verify_header, CLIENT, state, trusted, header, NOW)
    assert not skipping.verifications, "all cheaper rules come before signatures"


def test_the_parameters_of_a_family_are_pinned_with_the_state() -> None:
    plain = ClientState("evm", "sz/0")
    pinned = replace(plain, parameters=(("code", "0xab"), ("endpoint", "0x12")))
    raw = encode_client_state(pinned)
    assert decode_client_state(raw) == pinned
    assert encode_client_state(plain)[0] == 1
    assert raw[0] == 2
    wrong = (
        (("endpoint", "1"), ("code", "2")),
        (("code", "1"), ("code", "2")),
        (("code", ""),),
        (("code", "a b"),),
        (("Code", "1"),),
        (("code", "x" * 257),),
        tuple((f"p{i:02}", "1") for i in range(17)),
    )
    for parameters in wrong:
        with refusing(Reason.MALFORMED):
            encode_client_state(replace(plain, parameters=parameters))
    with refusing(Reason.MALFORMED):
        decode_client_state(b"\x02" + encode_client_state(plain)[1:] + bytes(4))


def test_a_checkpoint_client_pins_no_parameters(ledger: Ledger) -> None:
    state = replace(ledger.state, parameters=(("code", "1"),))
    with refusing(Reason.MALFORMED):
        light.anchor(CLIENT, state, ledger.raw(), NOW)
