"""A chain that shows two histories is caught by whoever sees both, and everyone is told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.cometbft.light.block import Timestamp
from adapters.memory.chain import Fault, MemoryChain, no_faults
from relay.chain import Chain
from relay.errors import NotFound, Reason, Unavailable
from relay.fsck import fsck
from relay.lane import MAX_SIDE_DELAY
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.misbehaviour import decode_evidence
from relay.light.types import DAY, ClientState, ClientType
from relay.local import LocalChain
from relay.query import get_client
from relay.watch import COMPARE_SECONDS, MAX_HEADS, MAX_REFUSED, KnowingChain, VerifiedHead
from relay.witness import Witness
from tests.adapters.cometbft.maker import STATE as COMETBFT_STATE
from tests.adapters.cometbft.maker import raw_header
from tests.echo import ECHO
from tests.refusals import refused
from tests.witnessing import ask, witness_of
from tests.world import TYPES, Clock, World, keys_of

ZJ, SH, HUB = "zj", "sh", "hub"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two ledgers and a relay."""
    made = World(tmp_path)
    made.node(ZJ, "ledger", [ECHO])
    made.node(SH, "ledger", [ECHO])
    made.node(HUB, "relay", [ECHO])
    made.connect(ZJ, HUB)
    made.connect(SH, HUB)
    made.settle(HUB)
    yield made
    for node in made.nodes.values():
        assert fsck(node.store, TYPES, node.origin)[1] == []
    made.close()


@pytest.fixture
def fork(world: World) -> Iterator[World]:
    """The same keys of every node with another history."""
    (world.path / "fork").mkdir()
    other = World(world.path / "fork", clock=Clock(world.clock.now))
    for name in (ZJ, HUB):
        other.node(name, "relay", [ECHO])
    yield other
    other.close()


def _put(world: World, on: str, text: str) -> None:
    world.nodes[on].call("echo", "put", f"{text}\n\nx".encode())


def _grow(world: World, on: str, size: int) -> None:
    while world.nodes[on].head.size < size:
        _put(world, on, f"entry-{world.nodes[on].head.size}")


def _newest(world: World, on: str) -> tuple[ClientState, bytes]:
    node = world.nodes[on]
    return ClientState("checkpoint", node.origin), world.chain(on).headers(0, node.head.size)[-1]


def _frozen(world: World, on: str, client_id: str) -> bool:
    return get_client(world.nodes[on].store, client_id).frozen


def _look(world: World, times: int = 1) -> None:
    for _ in range(times):
        world.clock.advance(COMPARE_SECONDS)
        world.tick(HUB)


def _second_client(world: World, fork: World) -> str:
    """The relay follows the ledger by another client too, which was shown the other history."""
    size = get_client(world.nodes[HUB].store, world.clients[HUB, ZJ]).latest.height
    _grow(fork, ZJ, size)
    state, header = _newest(fork, ZJ)
    return world.nodes[HUB].create_client(state, header)


def test_two_lanes_that_are_shown_two_histories_find_out(world: World, fork: World) -> None:
    """Each client accepts what it is shown; the relayer compares them."""
    second = _second_client(world, fork)
    _look(world)
    assert not _frozen(world, HUB, world.clients[HUB, SH])
    for client_id in (world.clients[HUB, ZJ], second):
        assert _frozen(world, HUB, client_id)
    ((chain_id, raw),) = world.evidence
    assert chain_id == "zj/0"
    heights = [CHECKPOINT.decode_header(h).height for h in
               (decode_evidence(raw).first, decode_evidence(raw).second)]  # fmt: skip
    assert len(set(heights)) == 1


def test_what_is_remembered_of_judgements_has_a_limit(
    world: World, fork: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.watch.MAX_JUDGED", 1)
    second = _second_client(world, fork)
    _look(world)
    assert _frozen(world, HUB, second)
    assert len(world.relayer(HUB).watch._judged) == 1


class _Lacking(Mapping[str, ClientType]):
    """Client types as an installation has them: one needs a package that is not there."""

    def __getitem__(self, name: str) -> ClientType:
        if name == "absent":
            raise NotFound(Reason.CLIENT_TYPE_UNKNOWN, "needs a package")
        return TYPES[name]

    def __iter__(self) -> Iterator[str]:
        return iter(["absent", *TYPES])

    def __len__(self) -> int:
        return 1 + len(TYPES)


def test_a_type_that_does_not_load_keeps_nobody_from_comparing(world: World, fork: World) -> None:
    """As in an installation without extras, whose relay joins plain ledgers."""
    world.relayer(HUB).watch._types = _Lacking()
    second = _second_client(world, fork)
    _look(world)
    assert _frozen(world, HUB, second)


@pytest.mark.parametrize(("ahead", "seconds"), [(0, 0), (3, -3600)])
def test_a_header_on_its_way_is_compared_with_every_client(
    world: World, fork: World, ahead: int, seconds: int
) -> None:
    """Another client has verified another header of that height, or a greater height of an
    earlier time; neither lane has anything to refuse."""
    body = f"{world.clients[ZJ, HUB]}\n{world.clock() + 600}\nhello".encode()
    world.nodes[ZJ].call("echo", "send", body)
    fork.close()
    earlier = World(world.path / "earlier", clock=Clock(world.clock.now + seconds))
    earlier.path.mkdir()
    earlier.node(ZJ, "relay", [ECHO])
    _grow(earlier, ZJ, world.nodes[ZJ].head.size + ahead)
    state, header = _newest(earlier, ZJ)
    earlier.close()
    second = world.nodes[HUB].create_client(state, header)
    world.relayer(HUB)._next_look = 1 << 40
    world.tick(HUB)
    assert _frozen(world, HUB, second)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])
    assert len(world.evidence) == 1


@pytest.mark.parametrize(
    ("seconds", "nanos", "refuted"),
    [(-1, 500, True), (0, 499, True), (0, 500, True), (0, 501, False), (1, 0, False)],
)
def test_times_are_compared_as_clients_compare_them(
    tmp_path: Path, seconds: int, nanos: int, refuted: bool
) -> None:
    """To the nanosecond, and the same time where the type has no equal times."""
    world = World(tmp_path)
    hub = world.node(HUB, "relay")
    lower = raw_header(5, "abcd", time=Timestamp(world.clock.now, 500))
    upper = raw_header(9, "abcd", time=Timestamp(world.clock.now + seconds, nanos))
    clients = [hub.create_client(COMETBFT_STATE, raw) for raw in (lower, upper)]
    world.relayer(HUB).watch.carried(clients[1], [upper], refused=False)
    assert [_frozen(world, HUB, client_id) for client_id in clients] == [refuted, refuted]
    assert len(world.evidence) == int(refuted)
    assert fsck(hub.store, TYPES, hub.origin)[1] == []
    world.close()


def test_a_ledger_that_shows_another_history_to_others(world: World, fork: World) -> None:
    """The other relay's client of the ledger was shown another head than this relay's."""
    world.connect(SH, ZJ)
    client_id = world.clients[SH, ZJ]
    size = get_client(world.nodes[SH].store, client_id).latest.height
    _grow(fork, ZJ, size)
    _put(fork, ZJ, "other")
    _put(world, ZJ, "own")
    status = world.chain(SH).client(client_id)
    state, header = _newest(fork, ZJ)
    forked = world.nodes[SH].create_client(state, header)
    assert status.latest_height < CHECKPOINT.decode_header(header).height
    _grow(world, ZJ, CHECKPOINT.decode_header(header).height)
    _look(world, 2)
    assert _frozen(world, SH, forked)
    assert _frozen(world, SH, client_id)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])
    assert len(world.evidence) == 1


def test_a_relay_whose_keys_showed_a_ledger_another_history(world: World, fork: World) -> None:
    """Found by comparing what the ledgers have verified of this very relay."""
    _grow(fork, HUB, 5)
    state, header = _newest(fork, HUB)
    forked = world.nodes[ZJ].create_client(state, header)
    _look(world)
    assert _frozen(world, ZJ, forked)
    for name in (ZJ, SH):
        assert _frozen(world, name, world.clients[name, HUB])
    assert [chain_id for chain_id, _ in world.evidence] == ["hub/0"]


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[tuple[World, World, Witness]]:
    """A network in which one node follows a ledger from its first entry on, as a witness; the same
    ledger with another history, of which the witness alone has been shown a head."""
    world, fork = World(tmp_path / "world"), World(tmp_path / "fork")
    for made in (world, fork):
        made.path.mkdir()
        made.node(ZJ, "ledger", [ECHO])
    for name, role in ((SH, "ledger"), (HUB, "relay")):
        world.node(name, role, [ECHO])
    world._follow(SH, ZJ, {})
    base = world.nodes[ZJ].head.size
    for name in (ZJ, SH):
        world.connect(name, HUB)
    _grow(world, ZJ, 6)
    world.settle(HUB)
    _grow(fork, ZJ, world.nodes[ZJ].head.size)
    witness = witness_of(world, SH)
    world.networks[SH].inner = LocalChain(world.nodes[SH], witness)
    assert ask(witness, fork.nodes[ZJ], world.clock.now, old=base).lines
    yield world, fork, witness
    for node in world.nodes.values():
        assert fsck(node.store, TYPES, node.origin)[1] == []
    for made in (world, fork):
        made.close()


Witnessed = tuple[World, World, Witness]


def _hash(raw: bytes) -> bytes:
    return CHECKPOINT.decode_header(raw).hash


def _all_clients(world: World) -> dict[tuple[str, str], bool]:
    return {(on, of): _frozen(world, on, c) for (on, of), c in world.clients.items()}


def test_a_head_that_only_a_witness_was_shown(witness: Witnessed) -> None:
    """No client has ever seen it: neither the witness's own nor the relay's."""
    world, fork, _ = witness
    clients = [head for on in (SH, HUB) for head in world.chain(on).verified_heads({"zj/0"})]
    assert _hash(_newest(fork, ZJ)[1]) not in [_hash(head.header) for head in clients]
    _look(world)
    frozen = {pair for pair, is_frozen in _all_clients(world).items() if is_frozen}
    assert frozen == {(SH, ZJ), (HUB, ZJ)}
    ((chain_id, raw),) = world.evidence
    assert chain_id == "zj/0"
    (shown,) = (h for h in world.networks[SH].verified_heads({"zj/0"}) if h.cosigned)
    assert _hash(shown.header) == _hash(_newest(fork, ZJ)[1])
    assert shown.header in (decode_evidence(raw).first, decode_evidence(raw).second)
    before = world.sizes()
    _look(world, 3)
    assert (len(world.evidence), world.sizes()) == (1, before)


def test_a_chain_that_answers_with_another_height_is_asked_again(witness: Witnessed) -> None:
    """What it shows then says nothing of the head that is compared."""
    world, fork, seen = witness
    size = fork.nodes[ZJ].head.size
    for made in (world, fork):
        _grow(made, ZJ, size + 3)
    assert ask(seen, fork.nodes[ZJ], world.clock.now, old=size).lines
    evasive = _Evasive(world.networks[ZJ].inner)
    world.relayer(HUB).add_lane(world.clients[HUB, ZJ], evasive)
    _look(world)
    assert world.evidence == []
    evasive.evades = False
    _look(world)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])


class _Evasive(MemoryChain):
    """Answers with the first header whenever one is asked for by its height."""

    evades = True

    def headers(self, trusted_height: int, height: int, *more: object) -> Sequence[bytes]:
        if self.evades and not trusted_height:
            height = 1
        return super().headers(trusted_height, height, *more)  # type: ignore[arg-type]


def test_a_head_that_this_node_itself_was_shown_as_a_witness(witness: Witnessed) -> None:
    world, fork, _ = witness
    world.networks[SH].reachable = False
    world.tick(HUB)
    own = witness_of(world, HUB)
    world.networks[HUB].inner = LocalChain(world.nodes[HUB], own)
    _look(world, 2)
    assert world.evidence == []
    size = get_client(world.nodes[HUB].store, world.clients[HUB, ZJ]).latest.height
    own._seen.save("zj/0", CHECKPOINT.decode_header(fork.chain(ZJ).headers(0, size)[-1]))
    _look(world)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])
    assert [chain_id for chain_id, _ in world.evidence] == ["zj/0"]


@pytest.mark.parametrize("damaged", ["no json", "a directory"])
def test_what_a_witness_cannot_read_stops_no_lane(witness: Witnessed, damaged: str) -> None:
    """Whoever asks for a co-signature is told; what its clients have verified is told as ever."""
    world, fork, seen = witness
    (path,) = (world.path / f"{SH}.witness").glob("*.seen")
    path.unlink()
    path.mkdir() if damaged == "a directory" else path.write_text(damaged)
    heads = world.networks[SH].verified_heads({"zj/0", "hub/0"})
    assert [(head.client_id, head.cosigned) for head in heads] == [
        (world.clients[SH, ZJ], False),
        (world.clients[SH, HUB], False),
    ]
    refused(Reason.STALE_RESTORE, ask, seen, fork.nodes[ZJ], world.clock.now)
    _look(world, 2)
    assert not any(lane.stopped[0] for lane in world.relayer(HUB).lanes)
    assert world.evidence == []


def test_a_witness_that_tells_nonsense_accuses_nobody(witness: Witnessed) -> None:
    """Heads that too few signed, that strangers signed, of no chain, and no heads at all; as many
    as one likes. The clients that could judge are not asked about each of them."""
    world, fork, _ = witness
    true = CHECKPOINT.decode_header(_newest(fork, ZJ)[1])
    (fork.path / "strange").mkdir()
    strange = World(fork.path / "strange", signers={ZJ: keys_of("strangers")})
    strange.node(ZJ, "ledger", [ECHO])
    _grow(strange, ZJ, true.height)
    lies = [
        CHECKPOINT.encode_header(replace(true, signatures=true.signatures[:1])),
        _newest(strange, ZJ)[1],
        b"",
        b"no header",
        bytes(1000),
    ]
    strange.close()
    liar = _Liar(LocalChain(world.nodes[SH]))
    world.relayer(HUB).add_lane(world.clients[HUB, SH], liar)
    told = 0
    for lie in lies:
        liar.told = [VerifiedHead(world.clients[SH, ZJ], lie, cosigned=True)] * (MAX_HEADS - 9)
        _look(world)
        assert world.evidence == []
        assert not any(_all_clients(world).values())
        assert liar.accused <= MAX_REFUSED
        told += liar.accused
        liar.accused = 0
    assert told
    liar.told = [VerifiedHead(world.clients[SH, ZJ], raw, cosigned=True)
                 for raw in (*lies, _newest(fork, ZJ)[1])]  # fmt: skip
    _look(world)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])


def test_what_agrees_freezes_nothing_and_rests(world: World) -> None:
    world.connect(SH, ZJ)
    state, header = _newest(world, ZJ)
    world.nodes[HUB].create_client(state, header)
    before = world.sizes()
    _look(world, 5)
    assert world.sizes() == before
    assert world.evidence == []
    assert not any(_frozen(world, HUB, c) for c in (world.clients[HUB, ZJ], "checkpoint-2"))


def test_two_headers_that_nobody_signed_are_no_evidence(world: World) -> None:
    liar = _Liar(world.networks[SH])
    world.relayer(HUB).add_lane(world.clients[HUB, SH], liar)
    _, header = _newest(world, ZJ)
    decoded = CHECKPOINT.decode_header(header)
    liar.header = CHECKPOINT.encode_header(replace(decoded, signatures=decoded.signatures[:1]))
    _look(world, 3)
    assert world.evidence == []
    assert not _frozen(world, HUB, world.clients[HUB, ZJ])


class _Liar(MemoryChain):
    """Says that its clients have verified what they have not, or that it has co-signed it."""

    header = b""
    told: Sequence[VerifiedHead] = ()
    accused = 0

    def verified_heads(self, chain_ids: Collection[str]) -> list[VerifiedHead]:
        heads = super().verified_heads(chain_ids)
        if self.told:
            return [*self.told, *heads]
        lies = [self.header, b"", b"no header", bytes(1000)]
        return [replace(h, header=lie) for h in heads for lie in lies]

    def accuse(self, client_id: str, evidence: bytes) -> None:
        self.accused += 1
        super().accuse(client_id, evidence)


def test_a_chain_out_of_reach_is_looked_at_later(world: World, fork: World) -> None:
    second = _second_client(world, fork)
    world.networks[ZJ].reachable = False
    world.tick(HUB)
    _look(world, 2)
    world.networks[ZJ].reachable = True
    _look(world, 3)
    assert _frozen(world, HUB, second)


@pytest.mark.parametrize("restarted", [False, True])
def test_who_did_not_answer_is_told_again(world: World, fork: World, restarted: bool) -> None:
    """Also by a relayer that was started anew, out of the node's journal."""
    world.connect(SH, ZJ)
    second = _second_client(world, fork)
    world.networks[SH].plan = lambda call: Fault.REQUEST_LOST if call == "accuse" else None
    _look(world)
    assert _frozen(world, HUB, second)
    assert not _frozen(world, SH, world.clients[SH, ZJ])
    world.networks[SH].plan = no_faults
    if restarted:
        world.restart(HUB)
    _look(world)
    assert _frozen(world, SH, world.clients[SH, ZJ])
    told = world.networks[SH].calls["accuse"]
    _look(world, 2)
    assert world.networks[SH].calls["accuse"] == told
    assert len(world.evidence) == 1


def test_a_client_here_that_could_not_take_evidence_is_given_it_again(
    world: World, fork: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other ledger took it; meanwhile this node could not write."""
    world.connect(SH, ZJ)
    second = _second_client(world, fork)

    def fails(client_id: str, evidence: bytes) -> None:
        raise Unavailable(Reason.DATABASE_UNREACHABLE, "the database does not answer")

    monkeypatch.setattr(world.relayer(HUB).watch, "_submit", fails)
    _look(world)
    assert _frozen(world, SH, world.clients[SH, ZJ])
    assert not _frozen(world, HUB, second)
    monkeypatch.setattr(world.relayer(HUB).watch, "_submit", world.nodes[HUB].submit_misbehaviour)
    _look(world)
    assert _frozen(world, HUB, second)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])


def test_evidence_is_given_again_where_no_lane_works(
    world: World, fork: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client is frozen, which stops its lane; the other could not be, and nobody answers."""
    second = _second_client(world, fork)
    submit = world.nodes[HUB].submit_misbehaviour

    def fails(client_id: str, evidence: bytes) -> None:
        if client_id == second:
            raise Unavailable(Reason.DATABASE_UNREACHABLE, "the database does not answer")
        submit(client_id, evidence)

    monkeypatch.setattr(world.relayer(HUB).watch, "_submit", fails)
    _look(world)
    assert _frozen(world, HUB, world.clients[HUB, ZJ])
    assert not _frozen(world, HUB, second)
    monkeypatch.setattr(world.relayer(HUB).watch, "_submit", submit)
    for network in world.networks.values():
        network.reachable = network is world.networks[HUB]
    world.tick(HUB)
    _look(world)
    assert _frozen(world, HUB, second)


class _TwoFaced(MemoryChain):
    """Shows the heads of another chain of that name."""

    def __init__(self, inner: Chain, shown: Chain) -> None:
        super().__init__(inner)
        self.latest_height = shown.latest_height  # type: ignore[method-assign]
        self.headers = shown.headers  # type: ignore[method-assign]


def test_a_lane_that_failed_before_asks_about_a_refused_header(world: World, fork: World) -> None:
    """A chain out of reach came back with another history: its lane counts as stopped still."""
    client_id = world.clients[HUB, ZJ]
    _grow(fork, ZJ, get_client(world.nodes[HUB].store, client_id).latest.height + 1)
    faced = _TwoFaced(world.chain(ZJ), fork.chain(ZJ))
    world.relayer(HUB).add_lane(client_id, faced)
    world.clock.advance(31 * DAY)  # a refresh is due
    faced.reachable = False
    world.tick(HUB)
    faced.reachable = True
    world.clock.advance(MAX_SIDE_DELAY)
    world.tick(HUB)
    assert _frozen(world, HUB, client_id)


def test_what_knows_nothing_of_others_is_not_asked(world: World) -> None:
    assert isinstance(world.networks[ZJ], KnowingChain)
    assert isinstance(world.chain(ZJ), KnowingChain)
    bare = MemoryChain(_Bare())  # type: ignore[arg-type]
    assert bare.verified_heads({"zj/0"}) == ()
    bare.accuse("checkpoint-0", b"")


class _Bare:
    chain_id = "bare"
