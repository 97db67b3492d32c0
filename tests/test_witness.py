"""What a witness signs and what it refuses: each rule of relay.witness by its reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.chain import Delivery, Outcome
from relay.errors import LianqiaoError, Reason
from relay.evidence import Evidence
from relay.light.checkpoint import (
    cosign_bytes,
    encode_body,
    parse_body,
    sign_body,
)
from relay.light.checkpoint_client import encode_header
from relay.light.keys import verify
from relay.light.misbehaviour import decode_evidence
from relay.light.note import Note, cosignature_key_id, decode_line, encode_note, sort_signatures
from relay.light.validators import decode_set
from relay.query import list_clients
from relay.store import CheckpointRow
from relay.witness import SeenHeads, Witness
from tests.test_node import keys_of, set_of
from tests.witnessing import (
    HUB,
    SH,
    ZJ,
    ask,
    hub_world,
    put,
    validators_of,
    witness_key,
    witness_of,
)
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = hub_world(tmp_path / "world")
    yield world
    world.close()


@pytest.fixture
def witness(world: World) -> Witness:
    return witness_of(world, ZJ)


def _reason(call: Callable[[], object]) -> Reason:
    with pytest.raises(LianqiaoError) as err:
        call()
    return err.value.reason


def _base(world: World, name: str = ZJ) -> int:
    """The height from which the ledger's client of the relay begins."""
    (view,) = list_clients(world.nodes[name].store)
    return view.latest.height


def _check_line(line: bytes, name: str, body: bytes, now: int) -> None:
    signature = decode_line(line.rstrip(b"\n"))
    key = witness_key(name)
    assert signature.name == name
    assert signature.key_id == cosignature_key_id(name, "ed25519", key.public)
    assert int.from_bytes(signature.value[:8], "big") == now
    verify("ed25519", key.public, cosign_bytes("ed25519", body, now), signature.value[8:])


def _forged(world: World, row: CheckpointRow, **changes: object) -> CheckpointRow:
    """Another body of that size, signed by the relay's own keys."""
    body = encode_body(replace(parse_body(row.body), **changes))  # type: ignore[arg-type]
    lines = [sign_body(f"{HUB}-{i}", key, body) for i, key in enumerate(world.signers[HUB])]
    note = encode_note(Note(body, sort_signatures(lines))).decode()
    return replace(row, body=body, note=note)


def test_a_head_that_continues_is_cosigned(world: World, witness: Witness) -> None:
    hub, now = world.nodes[HUB], world.clock.now
    old = _base(world)
    for key in "ab":
        head = put(hub, key)
        answer = ask(witness, hub, now, old=old)
        assert answer.size == head.size
        (line,) = answer.lines
        _check_line(line, ZJ, head.body, now)
        old = head.size


def test_each_key_of_a_witness_gives_a_line(world: World) -> None:
    keys = [witness_key(ZJ), witness_key(ZJ, "secp256k1")]
    witness = Witness(world.nodes[ZJ], ZJ, keys, world.path / "two")
    hub = world.nodes[HUB]
    answer = ask(witness, hub, world.clock.now, old=_base(world), row=put(hub, "a"))
    ed, secp = (decode_line(line.rstrip(b"\n")) for line in answer.lines)
    _check_line(answer.lines[0], ZJ, hub.head.body, world.clock.now)
    assert secp.key_id == cosignature_key_id(ZJ, "secp256k1", keys[1].public) != ed.key_id
    verify("secp256k1", keys[1].public, hub.head.body, secp.value)


def test_from_another_size_the_witness_answers_its_own(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")
    assert ask(witness, hub, now, old=0) == ask(witness, hub, now, old=head.size)
    answer = ask(witness, hub, now, old=1)
    assert (answer.lines, answer.size) == ((), base)
    assert ask(witness, hub, now, old=base).lines
    put(hub, "b")
    assert ask(witness, hub, now, old=base).size == head.size


def test_the_same_head_is_signed_again(world: World, witness: Witness) -> None:
    hub, base = world.nodes[HUB], _base(world)
    put(hub, "a")
    first = ask(witness, hub, world.clock.now, old=base)
    world.clock.advance(5)
    again = ask(witness, hub, world.clock.now, old=base)
    assert again.size == first.size
    _check_line(again.lines[0], ZJ, hub.head.body, world.clock.now)


def test_a_size_that_was_passed_is_not_signed(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    passed = put(hub, "a")
    put(hub, "b")
    assert ask(witness, hub, now, old=base).lines
    answer = ask(witness, hub, now, old=base, row=passed)
    assert (answer.lines, answer.size) == ((), hub.head.size)


def test_what_a_client_has_verified_is_signed_also_later(world: World, witness: Witness) -> None:
    """A relayer was faster than the relay's question: a set that the client passed."""
    hub, now = world.nodes[HUB], world.clock.now
    heads = []
    for key in "ab":
        heads.append(put(hub, key))
        world.deliver(HUB, ZJ, [])
    old = None
    for head in heads:
        assert ask(witness, hub, now, old=old, row=head).lines
        seen = SeenHeads(world.path / f"{ZJ}.witness").load(hub.origin)
        assert seen is not None
        assert seen.height == head.size, "what was signed is remembered, however old"
        forged, old = _forged(world, head, root=bytes(32)), head.size
    assert _reason(lambda: ask(witness, hub, now, row=forged)) is Reason.HEAD_CONFLICT


def test_what_a_client_has_verified_is_not_signed_beside_another_history(
    world: World, witness: Witness
) -> None:
    """A client may have believed others who co-signed one history, while this one co-signed a head
    of another: it stays with that one, whatever sizes it is asked for."""
    hub, now = world.nodes[HUB], world.clock.now
    passed = put(hub, "a")
    world.deliver(HUB, ZJ, [])
    head = put(hub, "b")
    other = _forged(world, head, time=parse_body(head.body).time + 1)
    assert ask(witness, hub, now, old=passed.size, row=other).lines
    world.deliver(HUB, ZJ, [])
    later = put(hub, "c")
    world.deliver(HUB, ZJ, [])
    for row in (passed, later):
        answer = ask(witness, hub, now, row=row)
        assert (answer.lines, answer.size) == ((), head.size)
    assert _reason(lambda: ask(witness, hub, now, row=head)) is Reason.HEAD_CONFLICT


def test_a_body_that_another_client_has_verified_is_not_signed_beside_the_first(
    world: World, witness: Witness
) -> None:
    """Two clients of one relay may have been shown two histories: one has the second body of a
    size, the other the first and the head that was co-signed after it."""
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    deceived = world.clients[(ZJ, HUB)]
    world._follow(ZJ, HUB, {})
    passed = put(hub, "a")
    world.deliver(HUB, ZJ, [])
    assert ask(witness, hub, now, old=base, row=passed).lines
    second = _forged(world, passed, time=parse_body(passed.body).time + 1)
    link = Evidence(hub.store, hub.tiles).consistency(base, passed.size)
    raw = encode_header(second.note.encode(), decode_set(validators_of(hub, second)), base, link)
    (told,) = world.nodes[ZJ].deliver([Delivery(deceived, (raw,))])
    assert told.headers.outcome is Outcome.DONE
    head = put(hub, "b")
    world.deliver(HUB, ZJ, [])
    assert ask(witness, hub, now, old=passed.size, row=head).lines
    answer = ask(witness, hub, now, row=second)
    assert (answer.lines, answer.size) == ((), head.size)


def test_a_smaller_body_that_is_not_the_verified_one_is_evidence(
    world: World, witness: Witness
) -> None:
    hub, now = world.nodes[HUB], world.clock.now
    passed = put(hub, "a")
    world.deliver(HUB, ZJ, [])
    put(hub, "b")
    world.deliver(HUB, ZJ, [])
    forged = _forged(world, passed, root=bytes(32))
    assert _reason(lambda: ask(witness, hub, now, row=forged)) is Reason.HEAD_CONFLICT
    assert [view.frozen for view in list_clients(world.nodes[ZJ].store)] == [True]


def test_whom_no_client_follows_is_not_witnessed(world: World, witness: Witness) -> None:
    sh = world.nodes[SH]
    assert _reason(lambda: ask(witness, sh, world.clock.now)) is Reason.CLIENT_NOT_FOUND


def test_a_history_that_is_no_continuation_is_refused(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    put(hub, "a")
    forged = _forged(world, hub.head, root=bytes(32))
    call = lambda: ask(witness, hub, now, old=base, row=forged)  # noqa: E731
    assert _reason(call) is Reason.INVALID_CONSISTENCY
    assert ask(witness, hub, now, old=base).lines


def test_a_proof_that_is_none_is_refused(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    put(hub, "a")
    for proof in ([], [bytes(32)] * 3):
        call = lambda proof=proof: ask(witness, hub, now, old=base, proof=proof)  # noqa: E731
        assert _reason(call) is Reason.INVALID_CONSISTENCY


def test_who_is_not_in_the_set_signs_nothing_that_counts(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")
    world.signers[HUB] = keys_of("stranger")
    assert (
        _reason(lambda: ask(witness, hub, now, old=base, row=_forged(world, head)))
        is Reason.QUORUM_NOT_REACHED
    )
    world.signers[HUB] = keys_of(HUB)[:2]
    assert (
        _reason(lambda: ask(witness, hub, now, old=base, row=_forged(world, head)))
        is Reason.QUORUM_NOT_REACHED
    )


def test_a_set_of_ones_own_is_refused(world: World, witness: Witness) -> None:
    """A relay's fork by keys that were never announced, under a set that they made."""
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")
    other = set_of(keys_of("stranger"), HUB)
    from relay.light.validators import encode_set, set_hash

    world.signers[HUB] = keys_of("stranger")
    forged = _forged(world, head, set_hash=set_hash(other))
    proof = Evidence(hub.store, hub.tiles).consistency(base, head.size)
    note = forged.note.encode()
    reason = _reason(lambda: witness.add_checkpoint(base, proof, note, encode_set(other), now))
    assert reason in (Reason.VALIDATOR_SET_MISMATCH, Reason.NOT_ENOUGH_TRUST)
    assert (
        _reason(lambda: witness.add_checkpoint(base, proof, note, b"", now))
        is Reason.VALIDATOR_SET_MISMATCH
    )


def test_the_set_of_the_base_need_not_be_shown(world: World, witness: Witness) -> None:
    hub, base = world.nodes[HUB], _base(world)
    head = put(hub, "a")
    proof = Evidence(hub.store, hub.tiles).consistency(base, head.size)
    answer = witness.add_checkpoint(base, proof, head.note.encode(), b"", world.clock.now)
    assert answer.lines


def test_sets_are_followed_in_their_order(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    keys = keys_of("hub-next")
    hub.announce_set(set_of(keys, "hub-next"))
    change = hub.head
    hub._heads.signer._signers += [(f"hub-next-{i}", key) for i, key in enumerate(keys)]
    put(hub, "a")
    assert _reason(lambda: ask(witness, hub, now, old=base)) is Reason.NOT_ENOUGH_TRUST
    assert ask(witness, hub, now, old=base, row=change).lines
    assert ask(witness, hub, now, old=change.size).lines
    assert witness_of(world, ZJ)._follow("hub/0", now).base.height == hub.head.size


def test_time_never_decreases(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    early = _forged(world, put(hub, "a"), time=now - 1)
    assert _reason(lambda: ask(witness, hub, now, old=base, row=early)) is Reason.TIME_NOT_MONOTONIC


def test_the_future_is_not_signed(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    late = _forged(world, put(hub, "a"), time=now + 3601)
    assert _reason(lambda: ask(witness, hub, now, old=base, row=late)) is Reason.HEADER_FROM_FUTURE


def test_two_bodies_of_one_size_are_kept_as_evidence(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")
    forged = _forged(world, head, root=bytes(32))
    assert ask(witness, hub, now, old=base).lines
    assert _reason(lambda: ask(witness, hub, now, old=base, row=forged)) is Reason.HEAD_CONFLICT
    assert [view.frozen for view in list_clients(world.nodes[ZJ].store)] == [True]
    (file,) = (world.path / "zj.witness").glob("*.evidence")
    evidence = decode_evidence(file.read_bytes())
    assert head.body in evidence.first
    assert forged.body in evidence.second
    (client,) = list_clients(world.nodes[SH].store)
    world.nodes[SH].submit_misbehaviour(client.client_id, file.read_bytes())
    assert [view.frozen for view in list_clients(world.nodes[SH].store)] == [True]
    assert _reason(lambda: ask(witness, hub, now, old=base)) is Reason.CLIENT_FROZEN


def test_an_unsigned_second_body_is_no_evidence(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")
    assert ask(witness, hub, now, old=base).lines
    world.signers[HUB] = keys_of("stranger")
    forged = _forged(world, head, root=bytes(32))
    assert _reason(lambda: ask(witness, hub, now, row=forged)) is Reason.QUORUM_NOT_REACHED
    assert [view.frozen for view in list_clients(world.nodes[ZJ].store)] == [False]
    assert ask(witness, hub, now).lines


def test_a_restart_forgets_nothing(world: World, witness: Witness) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")
    assert ask(witness, hub, now, old=base).lines
    again = witness_of(world, ZJ)
    forged = _forged(world, head, root=bytes(32))
    assert _reason(lambda: ask(again, hub, now, row=forged)) is Reason.HEAD_CONFLICT


@pytest.mark.parametrize("crash", ["before it is kept", "after it is kept"])
def test_a_crash_between_persist_and_answer(
    world: World, witness: Witness, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    """No signature leaves before its head is kept, and one that was kept is given again."""
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    head = put(hub, "a")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    if crash.startswith("before"):
        monkeypatch.setattr(os, "fsync", die)
    else:
        monkeypatch.setattr(Witness, "_sign", die)
    with pytest.raises(KeyboardInterrupt):
        ask(witness, hub, now, old=base)
    monkeypatch.undo()
    again = witness_of(world, ZJ)
    forged = _forged(world, head, root=bytes(32))
    if crash.startswith("before"):
        assert again._follow("hub/0", world.clock.now).base.height == base
        assert _reason(lambda: ask(again, hub, now, old=base, row=forged)) is (
            Reason.INVALID_CONSISTENCY
        )
        assert ask(again, hub, now, old=base).lines
    else:
        assert _reason(lambda: ask(again, hub, now, row=forged)) is Reason.HEAD_CONFLICT


def test_it_is_durable_before_the_signature(
    world: World, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, sign = os.fsync, Witness._sign
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Witness, "_sign", lambda *a: (order.append("sign"), sign(*a))[1])
    put(world.nodes[HUB], "a")
    order.clear()
    ask(witness, world.nodes[HUB], world.clock.now, old=_base(world))
    assert order == ["fsync", "fsync", "sign"]


@pytest.mark.parametrize("damage", ["cut", "other origin", "not json"])
def test_a_damaged_memory_stops_the_witness(world: World, witness: Witness, damage: str) -> None:
    hub, now, base = world.nodes[HUB], world.clock.now, _base(world)
    put(hub, "a")
    ask(witness, hub, now, old=base)
    (file,) = (world.path / "zj.witness").glob("*.seen")
    text = file.read_text()
    changed = {
        "cut": text[: len(text) // 2],
        "other origin": text.replace("hub/0", "hub/1"),
        "not json": "[]",
    }[damage]
    file.write_text(changed)
    assert _reason(lambda: ask(witness, hub, now)) is Reason.STALE_RESTORE


def test_a_note_that_does_not_decode_is_refused(world: World, witness: Witness) -> None:
    hub, now = world.nodes[HUB], world.clock.now
    validators = validators_of(hub, hub.head)
    for note in (b"", b"x", hub.head.note.encode()[:-2], b"\n\n"):
        call = lambda note=note: witness.add_checkpoint(0, [], note, validators, now)  # noqa: E731
        assert _reason(call) is Reason.MALFORMED
    call = lambda: witness.add_checkpoint(0, [], hub.head.note.encode(), b"x", now)  # noqa: E731
    assert _reason(call) is Reason.MALFORMED
