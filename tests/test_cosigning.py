"""A node whose heads are witnessed: what it asks, what it keeps, what it shows, who believes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from relay.cosigning import MAX_DRIFT, Cosigning
from relay.errors import LianqiaoError, Reason, Unavailable
from relay.evidence import Evidence
from relay.fsck import fsck
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import DAY, DEFAULT_CLOCK_DRIFT, ClientState
from relay.node import Node
from relay.outbox import Outbox
from relay.query import get_client, head, list_clients, packet_steps
from relay.store.cosignatures import Cosignature, Shown, cosignatures
from relay.views import Cosigned
from tests.test_node import keys_of, set_of
from tests.witnessing import HUB, SH, ZJ, hub_world, pinned, put, witness_key, witness_of
from tests.world import TYPES, World

HOUR = 3600


class Near:
    """A witness in this process, asked as one over the network is."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.reachable = True
        self.asked: list[int] = []

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, validators: bytes
    ) -> Cosigned:
        if not self.reachable:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, "down")
        witness = witness_of(self.world, self.name)
        self.asked.append(int(note.split(b"\n")[1]))
        return witness.add_checkpoint(old_size, proof, note, validators, self.world.clock.now)


class Witnessed:
    """The relay of a world with both ledgers as its witnesses, `quorum` of them required."""

    def __init__(self, world: World, quorum: int = 2) -> None:
        self.world = world
        self.node: Node = world.nodes[HUB]
        self.node.shown = Shown(pinned(ZJ, SH), quorum)
        self.node._tell()
        self.near = {name: Near(world, name) for name in (ZJ, SH)}
        self.cosigning = {
            name: Cosigning(self.node, pinned(name)[0], f"{name}:1", self.near[name])
            for name in (ZJ, SH)
        }

    def tick(self, *names: str) -> list[bool]:
        return [self.cosigning[n].tick(self.world.clock.now) for n in names or (ZJ, SH)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = hub_world(tmp_path / "world")
    yield world
    world.close()


@pytest.fixture
def hub(world: World) -> Witnessed:
    return Witnessed(world)


def _reason(call: Callable[[], object]) -> Reason:
    with pytest.raises(LianqiaoError) as err:
        call()
    return err.value.reason


def _strict(world: World, name: str, quorum: int = 2) -> str:
    """A client of the relay on a ledger that requires both witnesses."""
    witnesses = pinned(ZJ, SH)
    evidence = Evidence(world.nodes[HUB].store, world.nodes[HUB].tiles, world.nodes[HUB].shown)
    raw = evidence.headers(0, evidence.latest_height(), "ed25519", witnesses)[-1]
    state = ClientState("checkpoint", "hub/0", witnesses=witnesses, witness_quorum=quorum)
    client_id = world.nodes[name].create_client(state, raw)
    world.clients[(name, HUB)] = client_id
    return client_id


def _meet(world: World, name: str) -> tuple[str, str]:
    """A ledger and the relay follow each other, the ledger with both witnesses."""
    here, there = _strict(world, name), world._follow(HUB, name, {})
    world.nodes[name].register_counterparty(here, there)
    world.nodes[HUB].register_counterparty(there, here)
    return here, there


# --- what is shown


def test_a_head_is_shown_when_enough_witnesses_have_cosigned_it(
    world: World, hub: Witnessed
) -> None:
    assert hub.node.shown_size == 0
    assert head(hub.node.store, hub.node.shown) is None
    hub.tick(ZJ)
    assert hub.node.shown_size == 0
    hub.tick(SH)
    assert hub.node.shown_size == world.chain(HUB).latest_height() == hub.node.head.size
    shown = hub.node.shown_size
    put(hub.node, "a")
    assert hub.node.shown_size == world.chain(HUB).latest_height() == shown
    view = head(hub.node.store, hub.node.shown)
    assert view is not None
    assert view.size == shown
    hub.tick()
    assert world.chain(HUB).latest_height() == hub.node.head.size


def test_without_a_quorum_heads_are_shown_at_once(world: World) -> None:
    hub = Witnessed(world, quorum=0)
    put(hub.node, "a")
    assert hub.node.shown_size == world.chain(HUB).latest_height() == hub.node.head.size


def test_one_witness_with_two_keys_is_one(world: World) -> None:
    hub = Witnessed(world, quorum=2)
    zj, other = pinned(ZJ)[0], replace(pinned(ZJ)[0], algorithm="p256")
    hub.node.shown = Shown((zj, other), 2)
    hub.tick(ZJ)
    (kept,) = _kept(hub.node, hub.node.head.size)
    hub.node.add_cosignature(Cosignature(kept.size, other, kept.value))
    assert hub.node.shown_size == 0


def test_whoever_waits_is_woken_when_a_head_is_shown(world: World, hub: Witnessed) -> None:
    hub.tick()
    shown = hub.node.shown_size
    put(hub.node, "a")
    assert hub.node.wait(shown, 0)
    assert not hub.node.wait_shown(shown, 0)
    hub.tick()
    assert hub.node.wait_shown(shown, 0)


def test_steps_have_a_height_that_is_shown(world: World, hub: Witnessed) -> None:
    hub.tick()
    _meet(world, ZJ)
    hub.tick()
    there = world.clients[HUB, ZJ]
    sizes = []
    for i in range(3):
        hub.node.call("echo", "send", f"{there}\n{world.clock.now + 600}\nx{i}".encode())
        sizes.append(hub.node.head.size)
        if i == 1:
            hub.tick()
    steps = packet_steps(hub.node.store, there, -1, 10, hub.node.shown)
    assert [s.height for s in steps] == [sizes[1], sizes[1], sizes[2]]
    assert hub.node.shown_size == sizes[1]


def test_only_the_newest_head_need_be_cosigned(world: World, hub: Witnessed) -> None:
    hub.tick()
    before = hub.node.head.size
    for key in "abc":
        put(hub.node, key)
    hub.tick()
    assert hub.near[ZJ].asked[-1] == hub.node.head.size
    assert not set(range(before + 1, hub.node.head.size)) & set(hub.near[ZJ].asked)


def test_announcements_are_cosigned_too(world: World, hub: Witnessed) -> None:
    """A client that requires witnesses is led through them."""
    hub.tick()
    client_id = _strict(world, ZJ)
    keys = keys_of("hub-next")
    hub.node.announce_set(set_of(keys, "hub-next"))
    change = hub.node.head.size
    hub.node._heads.signer._signers += [(f"hub-next-{i}", key) for i, key in enumerate(keys)]
    put(hub.node, "a")
    put(hub.node, "b")
    hub.tick()
    assert [c.witness.name for c in _kept(hub.node, change)] == [SH, ZJ]
    _carry_head(world, ZJ, client_id)
    assert get_client(world.nodes[ZJ].store, client_id).latest.height == hub.node.head.size


def _kept(node: Node, size: int) -> list[Cosignature]:
    with node.store.read() as connection:
        return cosignatures(connection, size, pinned(ZJ, SH))


def _carry_head(world: World, name: str, client_id: str) -> str:
    """Gives a client the newest head that is shown; the reason where it was refused."""
    from relay.chain import Delivery

    status, chain = world.chain(name).client(client_id), world.chain(HUB)
    headers = chain.headers(
        status.latest_height, chain.latest_height(), status.algorithm, status.witnesses
    )
    (result,) = world.nodes[name].deliver([Delivery(client_id, tuple(headers))])
    return result.headers.reason


# --- who believes it


def test_a_client_requires_its_witnesses(world: World, hub: Witnessed) -> None:
    hub.tick()
    client_id = _strict(world, ZJ)
    put(hub.node, "a")
    hub.node.shown = Shown()  # an operator who shows what is not co-signed is not believed
    assert _carry_head(world, ZJ, client_id) == Reason.WITNESS_MISSING
    hub.tick(ZJ)
    assert _carry_head(world, ZJ, client_id) == Reason.WITNESS_MISSING
    hub.tick(SH)
    assert _carry_head(world, ZJ, client_id) == ""


def test_each_client_is_shown_the_lines_that_it_counts(world: World, hub: Witnessed) -> None:
    hub.tick()
    evidence = Evidence(hub.node.store, hub.node.tiles)
    for witnesses in ((), pinned(ZJ), pinned(SH), pinned(ZJ, SH)):
        raw = evidence.headers(0, hub.node.head.size, "ed25519", witnesses)[-1]
        header = CHECKPOINT.decode_header(raw)
        assert {c.signer for c in header.cosignatures} == {w.name for w in witnesses}
    stranger = replace(pinned(ZJ)[0], key=witness_key("stranger").public)
    raw = evidence.headers(0, hub.node.head.size, "ed25519", [stranger])[-1]
    assert CHECKPOINT.decode_header(raw).cosignatures == ()


def test_packets_flow_to_clients_that_require_witnesses(world: World, hub: Witnessed) -> None:
    """And to one that pins none, from the same relay."""
    hub.tick()
    _meet(world, ZJ)
    here, there = world.connect(SH, HUB)
    world.relayers.clear()
    for name, client_id in ((ZJ, world.clients[ZJ, HUB]), (SH, here)):
        body = f"{client_id}\n{world.clock.now + 600}\nhello".encode()
        world.nodes[name].call("echo", "send", body)
    for _ in range(12):
        world.tick(HUB)
        hub.tick()
        world.clock.advance(1)
    for name, client_id in ((ZJ, world.clients[ZJ, HUB]), (SH, here)):
        key = f"acknowledged/{client_id}/1".encode()
        with world.nodes[name].store.reading() as tx:
            from relay.journal import Kind, host_path

            assert tx.get(host_path(Kind.RECORD, "echo", key)) is not None, name
    assert Outbox(world.nodes[HUB].store).size(there, "in") == 0


# --- after a night that was longer than the trusting period


def test_witnesses_that_have_slept_are_woken_by_the_operators(world: World, hub: Witnessed) -> None:
    """Their own clients have expired, so they co-sign nothing; then no younger head is shown, and
    nobody could recover a client by one. The way out that relay/README.md describes."""
    hub.tick()
    here, _ = _meet(world, ZJ)
    bare = world.clients[ZJ, HUB] = next(
        view.client_id for view in list_clients(world.nodes[ZJ].store) if view.client_id != here
    )
    world.clock.advance(91 * DAY)
    hub.node.tick()
    world.nodes[ZJ].tick()
    before = hub.node.shown_size
    assert hub.tick() == [False, False]
    assert [c.view().reason for c in hub.cosigning.values()] == [Reason.CLIENT_EXPIRED] * 2
    assert hub.node.shown_size == before < hub.node.head.size

    awake = Witnessed(world, quorum=0)  # witness_quorum = 0, started again
    assert awake.node.shown_size == awake.node.head.size
    for name, client_id in ((ZJ, bare), (SH, list_clients(world.nodes[SH].store)[0].client_id)):
        _recover(world, name, client_id)
    world.clock.advance(HOUR)
    for name in (ZJ, SH):
        world.nodes[name].tick()
    hub.node.tick()

    again = Witnessed(world)
    assert again.tick() == [True, True]
    assert again.node.shown_size == again.node.head.size
    _recover(world, ZJ, here)  # it requires both witnesses, and has a head with both again
    world.clock.advance(HOUR)
    world.nodes[ZJ].tick()
    view = get_client(world.nodes[ZJ].store, here)
    assert (view.recovery, view.latest.height) == (None, again.node.shown_size)


def _recover(world: World, name: str, client_id: str) -> None:
    node, hub = world.nodes[name], world.nodes[HUB]
    state = get_client(node.store, client_id).state
    evidence = Evidence(hub.store, hub.tiles, hub.shown)
    height = evidence.latest_height()
    raw = evidence.headers(0, height, state.algorithm, state.witnesses)[-1]
    node.propose_recovery(client_id, state, raw, HOUR)


# --- who cannot be reached, and who lies


def test_an_unreachable_witness_holds_nothing_up(world: World) -> None:
    hub = Witnessed(world, quorum=1)
    hub.near[SH].reachable = False
    for key in "abc":
        put(hub.node, key)
        hub.tick()
    assert hub.node.shown_size == hub.node.head.size
    view = hub.cosigning[SH].view()
    assert (view.size, view.reason) == (0, Reason.CHAIN_UNREACHABLE)
    hub.near[SH].reachable = True
    assert hub.tick(SH) == [False]
    world.clock.advance(MAX_DRIFT)
    assert hub.tick(SH) == [True]
    view = hub.cosigning[SH].view()
    assert (view.size, view.reason) == (hub.node.head.size, "")


def test_questions_that_fail_are_asked_ever_more_seldom(world: World, hub: Witnessed) -> None:
    calls = []

    class Down:
        def add_checkpoint(self, *_: object) -> Cosigned:
            calls.append(world.clock.now)
            raise Unavailable(Reason.CHAIN_UNREACHABLE, "down")

    cosigning = Cosigning(hub.node, pinned(ZJ)[0], "zj:1", Down())
    for _ in range(400):
        cosigning.tick(world.clock.now)
        world.clock.advance(1)
    gaps = [b - a for a, b in pairwise(calls)]
    assert gaps[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(gaps[6:]) == {60}


def test_what_was_cosigned_is_remembered_after_a_restart(world: World, hub: Witnessed) -> None:
    hub.tick()
    again = Witnessed(world)
    assert again.cosigning[ZJ].view().size == hub.node.head.size
    assert again.tick() == [False, False]
    assert again.near[ZJ].asked == []


class Liar:
    """A witness whose answers are changed."""

    def __init__(self, world: World, change: Callable[[Cosigned], Cosigned]) -> None:
        self._inner = Near(world, ZJ)
        self._change = change

    def add_checkpoint(self, *args: object) -> Cosigned:
        return self._change(self._inner.add_checkpoint(*args))  # type: ignore[arg-type]


def _other_key(world: World) -> Callable[[Cosigned], Cosigned]:
    def change(answer: Cosigned) -> Cosigned:
        from relay.light.checkpoint import cosign_body
        from relay.light.note import encode_line

        line = cosign_body(ZJ, witness_key("stranger"), world.nodes[HUB].head.body, 1)
        return replace(answer, lines=(encode_line(line),)) if answer.lines else answer

    return change


def _other_body(world: World) -> Callable[[Cosigned], Cosigned]:
    def change(answer: Cosigned) -> Cosigned:
        from relay.light.checkpoint import cosign_body
        from relay.light.note import encode_line

        line = cosign_body(ZJ, witness_key(ZJ), b"other", world.clock.now)
        return replace(answer, lines=(encode_line(line),)) if answer.lines else answer

    return change


def _future(world: World, ahead: int = MAX_DRIFT + 1) -> Callable[[Cosigned], Cosigned]:
    def change(answer: Cosigned) -> Cosigned:
        from relay.light.checkpoint import cosign_body
        from relay.light.note import encode_line

        late = world.clock.now + ahead
        line = cosign_body(ZJ, witness_key(ZJ), world.nodes[HUB].head.body, late)
        return replace(answer, lines=(encode_line(line),)) if answer.lines else answer

    return change


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (_other_key, Reason.UNKNOWN_SIGNER),
        (_other_body, Reason.INVALID_SIGNATURE),
        (_future, Reason.HEADER_FROM_FUTURE),
        (lambda w: lambda a: replace(a, lines=(b"x\n",) * len(a.lines)), Reason.MALFORMED),
        (lambda w: lambda a: Cosigned((), 1), Reason.HEAD_CONFLICT),
        (lambda w: lambda a: Cosigned((), 2**62), Reason.HEAD_CONFLICT),
    ],
    ids=["other key", "other body", "future", "no line", "never content", "ahead"],
)
def test_nothing_of_a_lying_witness_is_kept(
    world: World,
    hub: Witnessed,
    lie: Callable[[World], Callable[[Cosigned], Cosigned]],
    reason: Reason,
) -> None:
    cosigning = Cosigning(hub.node, pinned(ZJ)[0], "zj:1", Liar(world, lie(world)))
    assert cosigning.tick(world.clock.now) is False
    assert cosigning.view().reason == reason
    assert _kept(hub.node, hub.node.head.size) == []


def test_a_lying_witness_that_is_not_needed_keeps_no_client_from_a_head(
    world: World, hub: Witnessed
) -> None:
    """Its line is shown beside those that count, so the latest time that is kept must be one
    that a client takes."""
    hub.tick()
    client_id = _strict(world, ZJ, quorum=1)
    put(hub.node, "a")
    hub.tick(SH)
    liar = Liar(world, _future(world, MAX_DRIFT))
    assert Cosigning(hub.node, pinned(ZJ)[0], "zj:1", liar).tick(world.clock.now)
    assert {c.witness.name for c in _kept(hub.node, hub.node.head.size)} == {ZJ, SH}
    assert MAX_DRIFT < DEFAULT_CLOCK_DRIFT, "clocks of nodes and clients differ too"
    assert _carry_head(world, ZJ, client_id) == ""


def test_fsck_checks_every_cosignature(world: World, hub: Witnessed) -> None:
    hub.tick()
    assert fsck(hub.node.store, TYPES, "hub/0")[1] == []
    (kept, _) = _kept(hub.node, hub.node.head.size)
    put(hub.node, "a")
    hub.node.add_cosignature(replace(kept, size=hub.node.head.size))
    hub.node.add_cosignature(replace(kept, size=99))
    findings = fsck(hub.node.store, TYPES, "hub/0")[1]
    assert [f.where for f in findings] == [
        f"co-signature {hub.node.head.size} {kept.witness.name}",
        f"co-signature 99 {kept.witness.name}",
    ]


# --- one relay, two histories


def _fork(world: World, tmp_path: Path) -> World:
    """The same keys, the same history so far, in another database."""
    fork = hub_world(tmp_path / "fork", replace(world.clock))
    assert fork.nodes[HUB].head.body == world.nodes[HUB].head.body
    return fork


def test_a_relay_that_shows_two_ledgers_different_heads_is_caught(
    world: World, hub: Witnessed, tmp_path: Path
) -> None:
    """Two ledgers witness their common relay, whose keys sign one history for each."""
    fork = _fork(world, tmp_path)
    other = Witnessed(fork)
    hub.tick()
    strict = {name: _strict(world, name) for name in (ZJ, SH)}
    anchors = _anchors(world, strict)
    for name in (ZJ, SH):  # the fork shows its heads to the same two witnesses
        other.near[name].world = world
    put(hub.node, "for zj")
    put(other.node, "for sh")
    assert hub.node.head.size == other.node.head.size
    assert hub.node.head.body != other.node.head.body

    # each history gets the witness that it is meant for, and not the other
    assert hub.tick(ZJ) == [True]
    assert other.tick(SH) == [True]
    assert other.tick(ZJ) == [False]
    assert other.cosigning[ZJ].view().reason == Reason.HEAD_CONFLICT

    # neither ledger's client, which requires both, accepts either history
    for source, name in ((hub, ZJ), (other, SH)):
        source.node.shown = Shown()
        assert _head_of(source, world, name, strict[name]) in (
            Reason.WITNESS_MISSING,
            Reason.CLIENT_FROZEN,
        )
    assert _anchors(world, strict) == anchors

    # the witness that was asked for both has frozen its clients, and its evidence freezes the rest
    assert all(view.frozen for view in list_clients(world.nodes[ZJ].store))
    (file,) = (world.path / "zj.witness").glob("*.evidence")
    for view in list_clients(world.nodes[SH].store):
        world.nodes[SH].submit_misbehaviour(view.client_id, file.read_bytes())
    assert all(view.frozen for view in list_clients(world.nodes[SH].store))
    assert hub.tick(SH) == [False]
    assert hub.cosigning[SH].view().reason == Reason.CLIENT_FROZEN
    fork.close()


def test_a_history_that_grew_elsewhere_is_refused(
    world: World, hub: Witnessed, tmp_path: Path
) -> None:
    """The fork is longer than what the witness saw: no two bodies of one size, no continuation."""
    fork = _fork(world, tmp_path)
    other = Witnessed(fork)
    other.near[ZJ].world = world
    put(hub.node, "for zj")
    hub.tick(ZJ)
    for key in "abc":
        put(other.node, key)
    assert other.tick(ZJ) == [False]
    assert other.cosigning[ZJ].view().reason == Reason.INVALID_CONSISTENCY
    put(hub.node, "b")
    world.clock.advance(1)
    assert hub.tick(ZJ) == [True]
    fork.close()


def _anchors(world: World, clients: dict[str, str]) -> list[int]:
    return [get_client(world.nodes[n].store, c).latest.height for n, c in clients.items()]


def _head_of(source: Witnessed, world: World, name: str, client_id: str) -> str:
    from relay.chain import Delivery

    status = world.chain(name).client(client_id)
    evidence = Evidence(source.node.store, source.node.tiles)
    headers = evidence.headers(
        status.latest_height, source.node.head.size, status.algorithm, status.witnesses
    )
    (result,) = world.nodes[name].deliver([Delivery(client_id, tuple(headers))])
    return result.headers.reason
