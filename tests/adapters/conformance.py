"""What every adapter must pass, ours and others', with its negatives. Documented like an API.

A package that brings a family of ledgers writes a `Subject` (one of its chains, connected, with
its validators' keys in the hands of the test) and then, in its own tests:

    class TestMine(Conformance):
        @pytest.fixture
        def subject(self, tmp_path): ...

Nothing is replaced by a mock: the client type is the one behind the entry point
`lianqiao.clients`, the chain the one that `connect` of `lianqiao.chains` returns. Each refusal is
asserted by its reason. Where a family can refuse one thing in two lawful ways, the set of reasons
is stated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import pytest

from relay.chain import Chain, Delivery, Item, Outcome, PacketStep, Step
from relay.errors import LianqiaoError, Reason
from relay.light.client import anchor, verify_header
from relay.light.states import decode_consensus_state, encode_consensus_state
from relay.light.types import (
    Claim,
    ClientState,
    ClientType,
    ConsensusState,
    Header,
    absence_provable,
)
from relay.packet import Packet, commitment_path, packet_commitment
from relay.registry import client_types
from tests.refusals import refused

BACK = 4
"""Packets that are sent before most tests begin."""


class Subject(Protocol):
    """One chain under test, reached through its adapter, and what the test may do to it."""

    chain: Chain
    state: ClientState
    """What a receiver pins of the chain."""
    client_id: str
    """The chain's own client, whose packets are listed."""

    def now(self) -> int:
        """The time of the world, seconds since 1970 UTC."""
        ...

    def advance(self, seconds: int) -> None:
        """Lets time pass."""
        ...

    def send(self, values: Sequence[bytes]) -> None:
        """Has the chain commit to one packet each, to `client_id`'s counterparty."""
        ...

    def delivery(self, count: int) -> Delivery:
        """A true delivery of new packets to the chain under test, headers included."""
        ...

    def forge(self, header: Header, *, signers: int = 0, **fields: object) -> bytes:
        """The raw header with these fields replaced, signed anew with the validators' own keys.

        `signers`: how many sign; 0 for as many as `header` has. Fields: chain_id, time, root,
        height. The link is kept.
        """
        ...

    def usurp(self, header: Header) -> bytes:
        """The raw header with another validator set in place of the true one, signed by that."""
        ...

    def stranger(self, header: Header) -> bytes:
        """The raw header with one signature more, of somebody outside the set."""
        ...

    def nobody(self) -> Chain:
        """The same adapter, connected to an address where nobody answers."""
        ...


class Seen:
    """What a receiver has verified of the chain so far, by the rules of relay.light alone."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.type: ClientType = client_types().named(subject.state.client_type)
        self.first = subject.chain.latest_height()
        self.start = 0
        while page := subject.chain.packets(subject.client_id, self.start, 1000):
            self.start = page[-1].cursor
        raw = subject.chain.headers(0, self.first, subject.state.algorithm)[-1]
        self.anchor, _ = anchor(self.type, subject.state, raw, subject.now())
        subject.advance(1)
        subject.send([b"%d" % i for i in range(BACK)])
        self.height = subject.chain.latest_height()
        self.raw = subject.chain.headers(self.first, self.height, subject.state.algorithm)
        self.trusted = self.anchor
        for header in self.raw:
            self.header = self.type.decode_header(header)
            before, self.trusted = self.trusted, self.verify(header, self.trusted)
        self.before = before
        """What the last header was built upon."""
        self.steps = subject.chain.packets(subject.client_id, self.start, 1000)
        """What happened since the anchor; a subject may serve many tests, so more was before."""
        self.sends = [s for s in self.steps if s.step is Step.SEND]

    def verify(self, raw: bytes, trusted: ConsensusState, now: int | None = None) -> ConsensusState:
        """What a receiver does with a header."""
        at = self.subject.now() if now is None else now
        header = self.type.decode_header(raw)
        return verify_header(self.type, self.subject.state, trusted, header, at)

    def claims(self, count: int = BACK) -> list[Claim]:
        """That the first packets were sent."""
        return [_claim(step.packet) for step in self.sends[:count]]

    def prove(self, claims: Sequence[Claim]) -> bytes:
        """A proof of these claims under the last verified header."""
        return self.subject.chain.prove([c.path for c in claims], self.height)

    def member(
        self, proof: bytes, claims: Sequence[Claim], consensus: ConsensusState | None = None
    ) -> None:
        """What a receiver does with a proof."""
        self.type.verify_membership(
            self.subject.state, consensus or self.trusted, proof, list(claims)
        )


def _claim(packet: Packet) -> Claim:
    path = commitment_path(packet.source_client, packet.sequence)
    return Claim(path, packet_commitment(packet))


FORM = (Reason.MALFORMED, Reason.LIMIT_EXCEEDED, Reason.UNSUPPORTED_VERSION)
PROOF = (*FORM, Reason.INVALID_PROOF)
HEADER = (
    *FORM,
    Reason.CHAIN_ID_MISMATCH,
    Reason.HEIGHT_NOT_MONOTONIC,
    Reason.TIME_NOT_MONOTONIC,
    Reason.HEADER_FROM_FUTURE,
    Reason.VALIDATOR_SET_MISMATCH,
    Reason.NOT_ENOUGH_TRUST,
    Reason.ALGORITHM_NOT_PINNED,
    Reason.WEAK_KEY,
    Reason.UNKNOWN_SIGNER,
    Reason.DUPLICATE_SIGNER,
    Reason.INVALID_SIGNATURE,
    Reason.QUORUM_NOT_REACHED,
    Reason.WITNESS_MISSING,
    Reason.INVALID_CONSISTENCY,
)


class Conformance:
    """The suite. Subclass it and give it a fixture `subject`."""

    @pytest.fixture
    def seen(self, subject: Subject) -> Seen:
        """A receiver that has followed the chain to its newest header."""
        return Seen(subject)

    # --- headers

    def test_a_header_has_one_encoding(self, seen: Seen) -> None:
        for raw in seen.raw:
            header = seen.type.decode_header(raw)
            assert seen.type.encode_header(header) == raw
            assert seen.type.decode_header(raw) == header

    def test_headers_lead_from_any_trusted_height(self, seen: Seen) -> None:
        assert seen.trusted.height == seen.height > seen.first
        assert seen.trusted.time >= seen.anchor.time

    def test_a_header_of_the_trusted_height_changes_nothing(self, seen: Seen) -> None:
        assert seen.verify(seen.raw[-1], seen.trusted) == seen.trusted

    def test_no_changed_byte_of_a_header_passes(self, seen: Seen) -> None:
        raw = seen.raw[-1]
        for at in range(len(raw)):
            changed = raw[:at] + bytes((raw[at] ^ (1 << at % 8),)) + raw[at + 1 :]
            refused(HEADER, lambda c=changed: seen.verify(c, seen.before))

    def test_a_header_is_neither_shorter_nor_longer(self, seen: Seen) -> None:
        raw = seen.raw[-1]
        for length in {*range(0, len(raw), 7), len(raw) - 1}:
            refused(FORM, lambda n=length: seen.type.decode_header(raw[:n]))
        for tail in (b"\0", b"\n", raw):
            refused(FORM, lambda t=tail: seen.type.decode_header(raw + t))

    def test_another_chains_header(self, seen: Seen) -> None:
        raw = seen.subject.forge(seen.header, chain_id="another-chain/0")
        refused(Reason.CHAIN_ID_MISMATCH, lambda: seen.verify(raw, seen.before))

    def test_a_forged_field_under_true_keys_is_the_control(self, seen: Seen) -> None:
        """Shows that what the negatives below are refused for is not the forging itself."""
        assert seen.verify(seen.subject.forge(seen.header), seen.before) == seen.trusted

    def test_too_few_signers(self, seen: Seen) -> None:
        enough = len(seen.header.signatures)
        assert enough > 1
        raw = seen.subject.forge(seen.header, signers=enough - 1)
        refused(Reason.QUORUM_NOT_REACHED, lambda: seen.verify(raw, seen.before))

    def test_a_signer_counted_twice(self, seen: Seen) -> None:
        first, *others = seen.header.signatures
        twin = replace(first, value=bytes((first.value[0] ^ 1,)) + first.value[1:])
        for copies in ((first, first, *others[1:]), (first, twin, *others[1:])):
            header = replace(seen.header, signatures=copies)
            refused(
                (Reason.DUPLICATE_SIGNER, Reason.MALFORMED),
                lambda h=header: seen.verify(seen.type.encode_header(h), seen.before),
            )

    def test_a_stranger_among_the_signers(self, seen: Seen) -> None:
        raw = seen.subject.stranger(seen.header)
        # MALFORMED where signers have places and no names: there is no place for a stranger.
        refused((Reason.UNKNOWN_SIGNER, Reason.MALFORMED), lambda: seen.verify(raw, seen.before))

    def test_another_validator_set(self, seen: Seen) -> None:
        raw = seen.subject.usurp(seen.header)
        refused(
            (Reason.VALIDATOR_SET_MISMATCH, Reason.NOT_ENOUGH_TRUST),
            lambda: seen.verify(raw, seen.before),
        )

    def test_reordered_validators(self, seen: Seen) -> None:
        shown = seen.header.validators
        turned = replace(shown, validators=tuple(reversed(shown.validators)))
        header = replace(seen.header, validators=turned)
        refused(
            (Reason.VALIDATOR_SET_MISMATCH, Reason.MALFORMED),
            lambda: seen.verify(seen.type.encode_header(header), seen.before),
        )

    def test_a_head_that_is_built_on_an_expired_one(self, seen: Seen) -> None:
        late = seen.before.time + seen.subject.state.trusting_period
        assert seen.verify(seen.raw[-1], seen.before, late - 1)
        refused(Reason.CLIENT_EXPIRED, lambda: seen.verify(seen.raw[-1], seen.before, late))

    def test_a_head_from_the_future(self, seen: Seen) -> None:
        drift = seen.subject.state.clock_drift
        limit = seen.subject.now() + drift - (1 if seen.type.strict_drift else 0)
        last = seen.subject.forge(seen.header, time=limit)
        assert seen.verify(last, seen.before)
        raw = seen.subject.forge(seen.header, time=limit + 1)
        refused(Reason.HEADER_FROM_FUTURE, lambda: seen.verify(raw, seen.before))

    def test_a_head_from_before_the_trusted_one(self, seen: Seen) -> None:
        raw = seen.subject.forge(seen.header, time=seen.before.time - 1)
        refused(Reason.TIME_NOT_MONOTONIC, lambda: seen.verify(raw, seen.before))

    def test_a_head_below_the_trusted_one(self, seen: Seen) -> None:
        higher = replace(seen.trusted, height=seen.height + 1)
        refused(Reason.HEIGHT_NOT_MONOTONIC, lambda: seen.verify(seen.raw[-1], higher))

    def test_order_is_kept_below_a_second(self, seen: Seen) -> None:
        """Where a chain tells nanoseconds they decide; where it does not, it tells none."""
        trusted = seen.trusted
        assert 0 <= trusted.nanos < 10**9
        if seen.type.equal_time:
            return
        later = replace(seen.before, time=trusted.time, nanos=trusted.nanos)
        refused(Reason.TIME_NOT_MONOTONIC, lambda: seen.verify(seen.raw[-1], later))

    def test_what_a_client_keeps_of_a_head_is_stored_and_read_again(self, seen: Seen) -> None:
        for consensus in (seen.anchor, seen.trusted):
            assert decode_consensus_state(encode_consensus_state(consensus)) == consensus

    def test_a_set_that_nobody_announced_is_not_brought_along(self, seen: Seen) -> None:
        """A header that claims to skip from another trusted set than there is."""
        if not seen.type.skips:
            return
        usurper = seen.type.decode_header(seen.subject.usurp(seen.header)).validators
        header = replace(seen.header, trusted_validators=usurper)
        refused(
            (Reason.NOT_ENOUGH_TRUST, Reason.MALFORMED),
            lambda: seen.verify(seen.type.encode_header(header), seen.before),
        )

    def test_a_proof_is_narrowed_to_each_of_its_claims(self, seen: Seen) -> None:
        claims = seen.claims()
        proof, state = seen.prove(claims), seen.subject.state
        for wanted in ([0], [1, 3], [3, 0], list(range(BACK))):
            kept = [claims[position] for position in wanted]
            narrowed = seen.type.narrow_membership(state, seen.trusted, proof, claims, wanted)
            seen.member(narrowed, kept)
            if len(kept) < BACK:
                refused(PROOF, lambda n=narrowed: seen.member(n, claims))

    def test_two_heads_of_one_height(self, seen: Seen) -> None:
        raw = seen.subject.forge(seen.header, root=bytes(32))
        refused(Reason.HEAD_CONFLICT, lambda: seen.verify(raw, seen.trusted))

    def test_a_head_that_does_not_continue_the_trusted_one(self, seen: Seen) -> None:
        if not seen.type.links:
            return
        raw = seen.subject.forge(seen.header, root=bytes(32))
        refused(Reason.INVALID_CONSISTENCY, lambda: seen.verify(raw, seen.before))

    # --- proofs

    def test_one_proof_for_one_and_for_many(self, seen: Seen) -> None:
        for count in (1, 2, BACK):
            seen.member(seen.prove(seen.claims(count)), seen.claims(count))

    def test_a_proof_for_another_path(self, seen: Seen) -> None:
        claims = seen.claims()
        proof = seen.prove(claims)
        other = replace(claims[0], path=claims[0].path + b"\0")
        refused(PROOF, lambda: seen.member(proof, [other, *claims[1:]]))
        refused(PROOF, lambda: seen.member(proof, [*claims[1:], claims[0]]))

    def test_a_proof_for_another_value(self, seen: Seen) -> None:
        for count in (1, BACK):
            claims = seen.claims(count)
            proof = seen.prove(claims)
            for value in (bytes(32), b"", (claims[-1].value or b"")[:-1]):
                changed = [*claims[:-1], replace(claims[-1], value=value)]
                refused(PROOF, lambda c=changed, p=proof: seen.member(p, c))

    def test_a_proof_that_something_is_absent_although_it_is_there(self, seen: Seen) -> None:
        claim = seen.claims(1)[0]
        proof = seen.prove([claim])
        provable = absence_provable(seen.type, seen.subject.state)
        reasons = PROOF if provable else (Reason.ABSENCE_NOT_PROVABLE,)
        refused(reasons, lambda: seen.member(proof, [replace(claim, value=None)]))

    def test_a_proof_for_more_or_fewer_claims(self, seen: Seen) -> None:
        claims = seen.claims()
        proof = seen.prove(claims)
        refused(PROOF, lambda: seen.member(proof, claims[:-1]))
        refused(PROOF, lambda: seen.member(proof, []))
        refused(PROOF, lambda: seen.member(seen.prove(claims[:-1]), claims))
        refused(PROOF, lambda: seen.member(proof, [*claims[:-1], claims[0]]))

    def test_no_changed_byte_of_a_proof_passes(self, seen: Seen) -> None:
        claims = seen.claims(3)
        proof = seen.prove(claims)
        for at in range(len(proof)):
            changed = proof[:at] + bytes((proof[at] ^ (1 << at % 8),)) + proof[at + 1 :]
            refused(PROOF, lambda c=changed: seen.member(c, claims))

    def test_a_proof_is_neither_shorter_nor_longer(self, seen: Seen) -> None:
        claims = seen.claims(3)
        proof = seen.prove(claims)
        for length in range(len(proof)):
            refused(PROOF, lambda n=length: seen.member(proof[:n], claims))
        for tail in (b"\0", bytes(32), proof):
            refused(PROOF, lambda t=tail: seen.member(proof + t, claims))

    def test_a_proof_under_another_header(self, seen: Seen) -> None:
        claims = seen.claims(3)
        proof = seen.prove(claims)
        refused(PROOF, lambda: seen.member(proof, claims, seen.anchor))

    # --- the chain

    def test_the_chain_says_which_it_is(self, subject: Subject) -> None:
        assert subject.state.chain_id.startswith(subject.chain.chain_id)

    def test_it_shows_its_client(self, seen: Seen) -> None:
        status = seen.subject.chain.client(seen.subject.client_id)
        assert status.client_id == seen.subject.client_id
        assert status.counterparty_client_id == seen.sends[0].packet.destination_client
        assert (status.frozen, len(status.set_hash)) == (False, 32)
        assert 0 < status.latest_time <= seen.subject.now()
        assert status.trusting_period > 0 < status.latest_height

    def test_steps_ascend_and_resume_from_any_cursor(self, seen: Seen) -> None:
        chain, client_id = seen.subject.chain, seen.subject.client_id
        cursors = [step.cursor for step in seen.steps]
        assert cursors == sorted(set(cursors))
        assert len(seen.sends) == BACK
        for size in (1, 3, 7):
            paged: list[PacketStep] = []
            while page := chain.packets(client_id, paged[-1].cursor if paged else seen.start, size):
                assert len(page) <= size
                paged += page
            assert paged == list(seen.steps)
        for i, cursor in enumerate(cursors):
            assert list(chain.packets(client_id, cursor, 1000)) == list(seen.steps[i + 1 :])

    def test_each_step_is_provable_at_its_height(self, seen: Seen) -> None:
        state, chain = seen.subject.state, seen.subject.chain
        for step in seen.sends:
            assert seen.first < step.height <= seen.height
            trusted = seen.anchor
            for raw in chain.headers(seen.first, step.height, state.algorithm):
                trusted = seen.verify(raw, trusted)
            claim = _claim(step.packet)
            seen.member(chain.prove([claim.path], step.height), [claim], trusted)

    def test_later_steps_come_after_the_cursor(self, seen: Seen) -> None:
        seen.subject.send([b"later"])
        (step,) = seen.subject.chain.packets(seen.subject.client_id, seen.steps[-1].cursor, 1000)
        assert step.packet.payloads[0].value == b"later"
        assert step.height > seen.height

    def test_unknown_names(self, seen: Seen) -> None:
        chain, state = seen.subject.chain, seen.subject.state
        path, above = seen.claims(1)[0].path, seen.height + 1_000_000
        refused(Reason.HEIGHT_NOT_FOUND, lambda: chain.headers(0, above, state.algorithm))
        refused(Reason.HEIGHT_NOT_FOUND, lambda: chain.headers(seen.first, above, state.algorithm))
        refused(Reason.HEIGHT_NOT_FOUND, lambda: chain.prove([path], above))
        refused(Reason.PATH_NOT_FOUND, lambda: chain.prove([path + b"\0"], seen.height))
        refused(Reason.PATH_NOT_FOUND, lambda: chain.prove([path, b"no path"], seen.height))
        refused(Reason.CLIENT_NOT_FOUND, lambda: chain.client("checkpoint-999"))
        refused(Reason.CLIENT_NOT_FOUND, lambda: chain.packets("checkpoint-999", 0, 10))
        refused(Reason.CLIENT_NOT_FOUND, lambda: chain.submit([Delivery("checkpoint-999")]))

    def test_a_path_is_not_proven_before_it_is_written(self, seen: Seen) -> None:
        path = seen.claims(1)[0].path
        refused(Reason.PATH_NOT_FOUND, lambda: seen.subject.chain.prove([path], seen.first))

    def test_a_delivery_takes_effect_once(self, subject: Subject) -> None:
        delivery = subject.delivery(3)
        before = subject.chain.latest_height()
        (first,) = subject.chain.submit([delivery])
        assert [first.headers.outcome, *(a.outcome for a in first.items)] == [Outcome.DONE] * 4
        after = subject.chain.latest_height()
        assert after > before
        for again in ([delivery], [replace(delivery, headers=())], [delivery, delivery]):
            for result in subject.chain.submit(again):
                assert result.headers.outcome is Outcome.NOOP
                assert [a.outcome for a in result.items] == [Outcome.NOOP] * 3
        assert subject.chain.latest_height() == after

    def test_deliveries_are_answered_in_order(self, subject: Subject) -> None:
        delivery = subject.delivery(3)
        parts = [
            replace(delivery, items=()),
            replace(delivery, headers=()),
            replace(delivery, headers=(), items=delivery.items[:1]),
        ]
        results = subject.chain.submit(parts)
        assert [len(r.items) for r in results] == [0, 3, 1]

    def test_what_is_false_is_refused_and_leaves_nothing(self, subject: Subject) -> None:
        delivery = subject.delivery(1)
        (item,) = delivery.items
        payload = replace(item.packet.payloads[0], value=b"changed")
        forged = replace(item, packet=replace(item.packet, payloads=(payload,)))
        (result,) = subject.chain.submit([replace(delivery, items=(forged,))])
        assert [a.reason for a in result.items] == [Reason.INVALID_PROOF]
        (result,) = subject.chain.submit([replace(delivery, proof=delivery.proof + b"\0")])
        assert [a.reason for a in result.items] == [Reason.MALFORMED]
        (result,) = subject.chain.submit([replace(delivery, height=delivery.height + 1)])
        assert [a.reason for a in result.items] == [Reason.HEIGHT_NOT_TRUSTED]
        (result,) = subject.chain.submit([delivery])
        assert [a.outcome for a in result.items] == [Outcome.DONE]

    def test_a_bad_header_is_refused_with_its_reason(self, subject: Subject) -> None:
        delivery = subject.delivery(1)
        raw = delivery.headers[-1]
        broken = replace(delivery, headers=(*delivery.headers[:-1], raw[:-1]))
        (result,) = subject.chain.submit([broken])
        assert (result.headers.outcome, result.headers.reason) == (
            Outcome.REFUSED,
            Reason.MALFORMED,
        )
        assert [a.outcome for a in result.items] == [Outcome.REFUSED]

    # --- whatever happens has a reason

    def test_every_error_is_typed(self, subject: Subject) -> None:
        chain, client_id = subject.chain, subject.client_id
        height, far, large = chain.latest_height(), 2**64, 2**63  # no u64; no signed one
        odd: list[Callable[[], object]] = [
            lambda: chain.headers(-1, height),
            lambda: chain.headers(0, 0),
            lambda: chain.headers(0, -1),
            lambda: chain.headers(0, far),
            lambda: chain.headers(0, large),
            lambda: chain.headers(0, height, "no such algorithm \n"),
            lambda: chain.client(""),
            lambda: chain.client("\0"),
            lambda: chain.client("x" * 10_000),
            lambda: chain.packets("", 0, 10),
            lambda: chain.packets(client_id, -5, 10),
            lambda: chain.packets(client_id, far, 10),
            lambda: chain.packets(client_id, large, 10),
            lambda: chain.packets(client_id, 0, -1),
            lambda: chain.prove([], height),
            lambda: chain.prove([b""], height),
            lambda: chain.prove([bytes(100_000)], height),
            lambda: chain.prove([b"%d" % i for i in range(10_000)], height),
            lambda: chain.prove([b"x"], far),
            lambda: chain.prove([b"x"], large),
            lambda: chain.submit([Delivery("")]),
            lambda: chain.submit([Delivery(client_id, headers=(b"",))]),
            lambda: chain.submit([Delivery(client_id, height=far, items=(_odd_item(),))]),
            lambda: chain.submit([Delivery(client_id, height=large, items=(_odd_item(),))]),
            lambda: chain.submit([Delivery(client_id, proof=b"x", items=(_odd_item(),))]),
        ]
        for call in odd:
            _typed(call)

    def test_where_nobody_answers(self, subject: Subject) -> None:
        chain = subject.nobody()
        calls: list[Callable[[], object]] = [
            chain.latest_height,
            lambda: chain.headers(0, 1),
            lambda: chain.client(subject.client_id),
            lambda: chain.packets(subject.client_id, 0, 1),
            lambda: chain.prove([b"x"], 1),
            lambda: chain.submit([Delivery(subject.client_id)]),
        ]
        for call in calls:
            refused(Reason.CHAIN_UNREACHABLE, call)


def _odd_item() -> Item:
    return Item(Step.RECEIVE, Packet(2**65, "", "\n", 0, ()))


def _typed(call: Callable[[], object]) -> None:
    """An answer or a typed error; anything else ends the test."""
    with suppress(LianqiaoError):
        call()
