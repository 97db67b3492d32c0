"""Skipping verification, by a client type that only tests have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from relay.errors import Invalid, LianqiaoError, NotEnoughTrust, Reason
from relay.light import client as light
from relay.light.types import ClientState, ConsensusState, Header, Threshold
from tests.light.skipping import (
    ALGORITHM,
    SKIPPING,
    make_set,
    raw_header,
    sign,
    verifications,
)
from tests.refusals import refused

STATE = ClientState("test-skipping", "test-1", algorithm=ALGORITHM, trusting_period=10_000)
NOW = 2000


def follow(
    trusted: ConsensusState, names: Sequence[str] | None, raw: bytes, state: ClientState = STATE
) -> ConsensusState:
    trusted_set = None if names is None else make_set(names)
    header = SKIPPING.decode_header(raw)
    return light.verify_header(SKIPPING, state, trusted, header, NOW, trusted_set)


def not_followed(
    kind: type[LianqiaoError],
    reason: Reason,
    trusted: ConsensusState,
    names: Sequence[str] | None,
    raw: bytes,
    state: ClientState = STATE,
) -> None:
    refused(reason, follow, trusted, names, raw, state, kind=kind)


def anchored(names: str = "abcd") -> ConsensusState:
    return light.anchor(SKIPPING, STATE, raw_header(1, names), NOW)[0]


def test_encoding_and_decoding_are_inverse() -> None:
    for raw in (raw_header(1, "abcd"), raw_header(1, "abcd", shown="xyz")):
        assert SKIPPING.encode_header(SKIPPING.decode_header(raw)) == raw


def test_a_header_far_ahead_by_the_same_set() -> None:
    assert follow(anchored(), None, raw_header(90, "abcd")).height == 90


def test_more_than_a_third_of_the_trusted_set_carries_over() -> None:
    trusted = anchored()
    assert follow(trusted, "abcd", raw_header(90, "abxy")).height == 90
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, "abcd", raw_header(90, "axyz"))


def test_exactly_the_trust_level_is_not_more() -> None:
    trusted = anchored("abc")
    raw = raw_header(90, "axy")
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, "abc", raw)
    half = replace(STATE, trust_level=Threshold(1, 2))
    not_followed(
        NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, anchored(), "abcd", raw_header(90, "abxy"), half
    )


def test_being_listed_is_not_signing() -> None:
    trusted = anchored()
    raw = raw_header(90, "abcdvwxyz", signers="avwxyz")
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, "abcd", raw)


def test_a_name_with_another_key_carries_no_trust() -> None:
    """The names of the trusted set, other keys: the new set vouches for itself alone."""
    header = SKIPPING.decode_header(raw_header(90, "abcd", power=2))
    trusted = anchored()
    stolen = tuple(
        replace(v, keys=((ALGORITHM, bytes([9]) * 32 if v.name == "a" else v.keys[0][1][::-1]),))
        for v in header.validators.validators
    )
    validators = replace(header.validators, validators=stolen)
    digest = SKIPPING.hash_validators(validators)
    fake = replace(header, validators=validators, set_hash=digest)
    with pytest.raises(NotEnoughTrust) as err:
        light.verify_header(SKIPPING, STATE, trusted, fake, NOW, make_set("abcd"))
    assert err.value.reason == Reason.NOT_ENOUGH_TRUST


def test_the_overlap_counts_only_what_verifies() -> None:
    trusted = anchored()
    header = SKIPPING.decode_header(raw_header(90, "abcx"))
    forged = tuple(
        replace(s, value=sign(b"wrong", b"")) if s.signer in "ab" else s for s in header.signatures
    )
    with pytest.raises(Invalid) as err:
        light.verify_header(
            SKIPPING, STATE, trusted, replace(header, signatures=forged), NOW, make_set("abcd")
        )
    assert err.value.reason == Reason.INVALID_SIGNATURE


def test_the_overlap_counts_nobody_twice() -> None:
    trusted = anchored()
    header = SKIPPING.decode_header(raw_header(90, "axyz"))
    doubled = replace(header, signatures=(header.signatures[0], *header.signatures))
    with pytest.raises(NotEnoughTrust) as err:
        light.verify_header(SKIPPING, STATE, trusted, doubled, NOW, make_set("abcd"))
    assert err.value.reason == Reason.NOT_ENOUGH_TRUST


def test_the_new_sets_own_quorum_is_asked_as_well() -> None:
    raw = raw_header(90, "abcdefghi", signers="abcd")
    not_followed(Invalid, Reason.QUORUM_NOT_REACHED, anchored(), "abcd", raw)


def test_the_next_height_must_be_signed_by_the_announced_set() -> None:
    raw = raw_header(2, "abcx")
    not_followed(Invalid, Reason.VALIDATOR_SET_MISMATCH, anchored(), "abcd", raw)


def test_an_intermediate_header_bridges_what_was_not_enough() -> None:
    trusted = anchored()
    far = raw_header(90, "wxyz")
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, "abcd", far)
    middle = follow(trusted, "abcd", raw_header(50, "abxy"))
    assert follow(middle, "abxy", far).height == 90


def test_without_the_trusted_set_nothing_is_skipped() -> None:
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, anchored(), None, raw_header(90, "abcx"))
    with pytest.raises(RuntimeError):
        follow(anchored(), "abc", raw_header(90, "abcx"))


def test_the_set_that_a_header_brings_must_be_one_that_the_trusted_header_names() -> None:
    trusted = anchored()
    assert follow(trusted, None, raw_header(90, "abxy", shown="abcd")).height == 90
    # What the header brings is judged, and not what the caller has at hand.
    assert follow(trusted, "wxyz", raw_header(90, "abxy", shown="abcd")).height == 90
    few = raw_header(90, "axyz", shown="abcd")
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, None, few)
    for names in ("abxy", "abcd"):  # of a set that signed it itself, and where none is needed
        other = raw_header(90, names, shown="abxy")
        not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, "abcd", other)


def test_the_set_in_force_at_the_trusted_header_serves_as_well() -> None:
    trusted = light.anchor(SKIPPING, STATE, raw_header(1, "abcd", following="efgh"), NOW)[0]
    assert follow(trusted, None, raw_header(90, "abxy", shown="abcd")).height == 90
    assert follow(trusted, None, raw_header(90, "efxy", shown="efgh")).height == 90


def test_a_set_that_is_kept_elsewhere_is_another() -> None:
    trusted = anchored()
    header = SKIPPING.decode_header(raw_header(90, "abxy"))
    elsewhere = replace(make_set("abcd"), source=b"another contract")
    with pytest.raises(Invalid) as err:
        light.verify_header(SKIPPING, STATE, trusted, header, NOW, elsewhere)
    assert err.value.reason == Reason.VALIDATOR_SET_MISMATCH


def test_a_set_that_the_header_shows_to_follow_need_not_be_announced() -> None:
    class Proving(type(SKIPPING)):  # type: ignore[misc]
        def succeeds(self, trusted: ConsensusState, untrusted_header: Header) -> bool:
            return untrusted_header.height == 3

    for height, fine in ((3, True), (2, False)):
        header = SKIPPING.decode_header(raw_header(height, "wxyz"))
        if fine:
            light.verify_header(Proving(), STATE, anchored(), header, NOW)
        else:
            with pytest.raises(Invalid) as err:
                light.verify_header(Proving(), STATE, anchored(), header, NOW)
            assert err.value.reason == Reason.VALIDATOR_SET_MISMATCH


def test_what_a_type_that_does_not_link_keeps_in_a_link_is_its_own() -> None:
    class Carrying(type(SKIPPING)):  # type: ignore[misc]
        def decode_header(self, raw: bytes) -> Header:
            return replace(super().decode_header(raw), link=(b"a node of a trie",))

    assert light.anchor(Carrying(), STATE, raw_header(1, "abcd"), NOW)[0].height == 1


def test_a_lower_nanosecond_is_an_earlier_time() -> None:
    trusted = replace(anchored(), nanos=5)
    header = SKIPPING.decode_header(raw_header(2, "abcd", time=trusted.time))
    for nanos, fine in ((6, True), (5, False), (4, False)):
        later = replace(header, nanos=nanos)
        if fine:
            light.verify_header(SKIPPING, STATE, trusted, later, NOW)
        else:
            with pytest.raises(Invalid) as err:
                light.verify_header(SKIPPING, STATE, trusted, later, NOW)
            assert err.value.reason == Reason.TIME_NOT_MONOTONIC


def test_time_must_rise_where_the_type_says_so() -> None:
    trusted = anchored()
    for time in (trusted.time, trusted.time - 1):
        raw = raw_header(9, "abcd", time=time)
        not_followed(Invalid, Reason.TIME_NOT_MONOTONIC, trusted, None, raw)


def test_the_overlap_costs_no_second_verification() -> None:
    trusted = anchored()
    verifications.clear()
    follow(trusted, "abcd", raw_header(90, "abxy"))
    assert len(verifications) == 4
    verifications.clear()
    not_followed(NotEnoughTrust, Reason.NOT_ENOUGH_TRUST, trusted, "abcd", raw_header(90, "axyz"))
    assert not verifications
