from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.lianqiao.light import CLIENT
from relay.errors import Invalid, Malformed, Reason
from relay.light import merkle
from relay.light.client import (
    Evidence,
    Misbehaviour,
    decode_evidence,
    encode_evidence,
    verify_misbehaviour,
)
from relay.light.membership import journal_app_hash, leaf_data
from relay.light.misbehaviour import ProvenLeaf
from relay.light.types import DAY, ClientType
from relay.light.validators import set_hash
from tests.light.ledger import START, Ledger, make_set
from tests.light.skipping import ALGORITHM, SKIPPING, raw_header
from tests.light.skipping import make_set as skipping_set
from tests.refusals import refused

NOW = START + 60


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    made.fill(5)
    return made


def prove(
    ledger: Ledger,
    evidence: Evidence,
    known: Collection[bytes] | None = None,
    now: int = NOW,
    client_type: ClientType = CLIENT,
) -> Misbehaviour:
    sets = {set_hash(ledger.set)} if known is None else known
    return verify_misbehaviour(client_type, ledger.state, sets, encode_evidence(evidence), now)


def no_misbehaviour(
    ledger: Ledger, evidence: Evidence, known: Collection[bytes] | None = None, now: int = NOW
) -> None:
    refused(Reason.NOT_MISBEHAVIOUR, prove, ledger, evidence, known, now, kind=Invalid)


def leaf(ledger: Ledger, index: int) -> ProvenLeaf:
    path, value = ledger.entries[index]
    proof = merkle.inclusion_proof(index, ledger.size, ledger.node)
    return ProvenLeaf(index, leaf_data(path, value), tuple(proof))


def fork_of(ledger: Ledger, path: bytes, value: bytes) -> Ledger:
    fork = Ledger(ledger.origin)
    fork.set, fork.entries = ledger.set, [*ledger.entries[:-1], (path, value)]
    return fork


def test_two_heads_of_one_size(ledger: Ledger) -> None:
    other = ledger.raw(body=ledger.body(time=START + 6))
    found = prove(ledger, Evidence(ledger.raw(), other))
    assert "height 5" in found.description
    assert found.culprits == ("zj-a", "zj-b", "zj-c", "zj-d")


def test_those_who_signed_both_are_named(ledger: Ledger) -> None:
    one, other = ledger.body(), ledger.body(time=START + 6)
    found = prove(
        ledger,
        Evidence(
            ledger.raw(body=one, lines=ledger.lines(one, ["zj-a", "zj-b", "zj-c"])),
            ledger.raw(body=other, lines=ledger.lines(other, ["zj-b", "zj-c", "zj-d"])),
        ),
    )
    assert found.culprits == ("zj-b", "zj-c")


@pytest.mark.parametrize(
    "fields", [{"root": bytes(32)}, {"time": START}, {"next_set_hash": bytes(32)}]
)
def test_any_field_that_differs_is_a_conflict(ledger: Ledger, fields: dict[str, Any]) -> None:
    prove(ledger, Evidence(ledger.raw(), ledger.raw(body=ledger.body(**fields))))


def test_a_conflict_across_algorithms(ledger: Ledger) -> None:
    ledger.set = make_set("abcd", algorithms=("ed25519", "secp256k1"))
    other = ledger.body(root=bytes(32))
    hidden = ledger.raw(body=other, lines=ledger.lines(other, "bcd", "secp256k1"))
    assert prove(ledger, Evidence(ledger.raw(), hidden)).culprits == ("b", "c", "d")
    mixed = ledger.lines(other, "ab") + ledger.lines(other, "cd", "secp256k1")
    no_misbehaviour(ledger, Evidence(ledger.raw(), ledger.raw(body=other, lines=mixed)))


def test_a_greater_size_with_an_earlier_time(ledger: Ledger) -> None:
    first = ledger.raw()
    ledger.fill(2)
    back = ledger.raw(body=ledger.body(time=START + 4))
    for evidence in (Evidence(first, back), Evidence(back, first)):
        assert "earlier time" in prove(ledger, evidence).description
    no_misbehaviour(ledger, Evidence(first, ledger.raw(body=ledger.body(time=START + 5))))
    no_misbehaviour(ledger, Evidence(first, ledger.raw()))


def test_two_entries_of_one_index(ledger: Ledger) -> None:
    fork = fork_of(ledger, b"another", b"x")
    fork.fill(3)
    evidence = Evidence(ledger.raw(), fork.raw(), (leaf(ledger, 4), leaf(fork, 4)))
    assert "index 4" in prove(ledger, evidence).description


def test_one_path_with_two_values(ledger: Ledger) -> None:
    ledger.write(b"decision", b"commit")
    ledger.fill(1)
    ledger.write(b"decision", b"abort")
    raw = ledger.raw()
    evidence = Evidence(raw, raw, (leaf(ledger, 5), leaf(ledger, 7)))
    assert "one path" in prove(ledger, evidence).description
    no_misbehaviour(ledger, Evidence(raw, raw, (leaf(ledger, 4), leaf(ledger, 7))))
    no_misbehaviour(ledger, Evidence(raw, raw, (leaf(ledger, 5), leaf(ledger, 5))))
    wrong = replace(leaf(ledger, 7), index=6)
    no_misbehaviour(ledger, Evidence(raw, raw, (leaf(ledger, 5), wrong)))
    invented = replace(leaf(ledger, 7), data=leaf_data(b"decision", b"neither"))
    no_misbehaviour(ledger, Evidence(raw, raw, (leaf(ledger, 5), invented)))
    for pinned in ({"tree_hash": "sm3"}, {"proof_kind": "ics23"}):
        ledger.state = replace(Ledger().state, **pinned)
        no_misbehaviour(ledger, evidence)


def test_entries_of_a_journal_that_another_engine_replicates() -> None:
    """Its root and size are the app hash, and its height has nothing to do with them."""
    ledger, state = Ledger(), replace(skipping_ledger().state, proof_kind="journal")
    ledger.state, known = state, {set_hash(skipping_set("abcd"))}
    ledger.write(b"decision", b"commit")
    ledger.fill(1)
    ledger.write(b"decision", b"abort")
    root = merkle.root_at(3, ledger.node)
    both = (leaf(ledger, 0), leaf(ledger, 2))
    for app_hash, fine in (
        (journal_app_hash(3, root), True),
        (journal_app_hash(2, root), False),
        (root, False),
    ):
        raw = raw_header(3, "abcd", time=NOW, root=app_hash)
        if fine:
            found = prove(ledger, Evidence(raw, raw, both), known, client_type=SKIPPING)
            assert "one path" in found.description
        else:
            with pytest.raises(Invalid) as err:
                prove(ledger, Evidence(raw, raw, both), known, client_type=SKIPPING)
            assert err.value.reason == Reason.NOT_MISBEHAVIOUR


def test_the_same_value_twice_deceives_nobody(ledger: Ledger) -> None:
    ledger.write(b"decision", b"commit")
    ledger.write(b"decision", b"commit")
    raw = ledger.raw()
    no_misbehaviour(ledger, Evidence(raw, raw, (leaf(ledger, 5), leaf(ledger, 6))))


def test_what_is_no_evidence(ledger: Ledger) -> None:
    good, body = ledger.raw(), ledger.body(time=START + 6)
    other = ledger.raw(body=body)
    prove(ledger, Evidence(good, other))
    no_misbehaviour(ledger, Evidence(good, good))
    no_misbehaviour(ledger, Evidence(good, other), known=set())
    no_misbehaviour(ledger, Evidence(good, other), now=START + 5 + 90 * DAY)
    no_misbehaviour(ledger, Evidence(other, good), now=START + 5 + 90 * DAY)
    few = ledger.lines(body)[:2]
    no_misbehaviour(ledger, Evidence(good, ledger.raw(body=body, lines=few)))
    forged = [*ledger.lines(body)[:3], replace(ledger.lines(body)[3], value=bytes(64))]
    no_misbehaviour(ledger, Evidence(good, ledger.raw(body=body, lines=forged)))
    stranger = ledger.cosign(body, "w", NOW)
    only_strangers = ledger.raw(body=body, lines=[], others=[stranger])
    no_misbehaviour(ledger, Evidence(good, only_strangers))
    elsewhere = Ledger("sh-medical/0")
    elsewhere.set, elsewhere.entries = ledger.set, ledger.entries
    no_misbehaviour(ledger, Evidence(good, elsewhere.raw()))
    presented = make_set("abcd")
    no_misbehaviour(
        ledger,
        Evidence(
            good,
            ledger.raw(body=body, lines=ledger.lines(body, "abcd"), validators=presented),
        ),
        known={set_hash(ledger.set), set_hash(presented)},
    )
    unknown = replace(body, set_hash=set_hash(presented))
    no_misbehaviour(ledger, Evidence(good, ledger.raw(body=unknown, validators=presented)))


def test_the_witnesses_of_a_client_are_not_asked(ledger: Ledger) -> None:
    ledger.state = replace(ledger.state, witness_quorum=0)
    line = ledger.cosign(ledger.body(), "w", NOW)
    other = ledger.raw(body=ledger.body(time=START + 6))
    prove(ledger, Evidence(ledger.raw(others=[line]), other))


def skipping_ledger() -> Ledger:
    ledger = Ledger()
    ledger.state = replace(
        ledger.state, client_type="test-skipping", chain_id="test-1", algorithm=ALGORITHM
    )
    return ledger


def test_equal_times_where_a_type_forbids_them() -> None:
    ledger = skipping_ledger()
    one, other = raw_header(5, "abcd", time=NOW), raw_header(6, "abcd", time=NOW)
    known = {set_hash(skipping_set("abcd"))}
    prove(ledger, Evidence(one, other), known, client_type=SKIPPING)
    later = raw_header(6, "abcd", time=NOW + 1)
    with pytest.raises(Invalid) as err:
        prove(ledger, Evidence(one, later), known, client_type=SKIPPING)
    assert err.value.reason == Reason.NOT_MISBEHAVIOUR


def test_those_who_vouch_for_a_set_never_in_force_are_named() -> None:
    ledger, known = skipping_ledger(), {set_hash(skipping_set("abcd"))}
    true = raw_header(90, "abcd", time=NOW)
    for names, shown, culprits in (
        ("abxy", "abcd", ("a", "b")),
        ("axyz", "abcd", None),  # one of four is not more than a third
        ("abxy", "", None),
        ("abxy", "abxy", None),  # a set that nobody knows vouches for nothing
        ("axyz", "axyz", None),
    ):
        invented = raw_header(90, names, time=NOW, shown=shown)
        for evidence in (Evidence(true, invented), Evidence(invented, true)):
            if culprits is None:
                with pytest.raises(Invalid) as err:
                    prove(ledger, evidence, known, client_type=SKIPPING)
                assert err.value.reason == Reason.NOT_MISBEHAVIOUR
            else:
                assert prove(ledger, evidence, known, client_type=SKIPPING).culprits == culprits


def test_who_signed_for_a_set_never_in_force_is_named_beside_those_who_signed_both() -> None:
    ledger, known = skipping_ledger(), {set_hash(skipping_set("abcd"))}
    true = raw_header(90, "abcd", time=NOW, signers="bcd")
    invented = raw_header(90, "abcx", time=NOW, shown="abcd")
    found = prove(ledger, Evidence(true, invented), known, client_type=SKIPPING)
    assert found.culprits == ("b", "c", "a")


def test_evidence_has_one_encoding(ledger: Ledger) -> None:
    heads = encode_evidence(Evidence(ledger.raw(), ledger.raw()))
    pair = (leaf(ledger, 1), leaf(ledger, 2))
    entries = encode_evidence(Evidence(ledger.raw(), ledger.raw(), pair))
    assert decode_evidence(entries).leaves == pair
    for raw in (
        b"",
        heads[:-1],
        heads + b"\0",
        entries[:-1],
        entries + b"\0",
        b"\x02" + heads[1:],
        b"\x01\x03" + heads[2:],
        b"\x01\x02" + heads[2:],
        b"\x01\x01" + entries[2:],
    ):
        with pytest.raises(Malformed) as err:
            decode_evidence(raw)
        assert err.value.reason == Reason.MALFORMED
    with pytest.raises(Malformed) as err:
        prove(ledger, Evidence(b"no", b"headers"))
    assert err.value.reason == Reason.MALFORMED


@given(st.binary(max_size=120))
def test_any_bytes_are_evidence_or_malformed(raw: bytes) -> None:
    for candidate in (raw, b"\x01\x01" + raw, b"\x01\x02" + bytes(8) + raw):
        try:
            decoded = decode_evidence(candidate)
        except Malformed:
            continue
        assert encode_evidence(decoded) == candidate
