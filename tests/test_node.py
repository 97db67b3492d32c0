"""One node: one way in, one body per size, one answer per request, whatever the restart."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import LianqiaoError, Reason, Unavailable
from relay.fsck import fsck
from relay.keys import SigningKey
from relay.light.checkpoint import chain_name, encode_body, parse_body, sign_body
from relay.light.checkpoint_client import CHECKPOINT, encode_header
from relay.light.misbehaviour import Evidence as HeadsEvidence
from relay.light.misbehaviour import encode_evidence
from relay.light.note import Note, encode_note, sort_signatures
from relay.light.types import ClientState
from relay.node import create
from relay.query import get_client, head, list_records
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store.identity import last_checkpoint
from tests.databases import new_store, sqlite_url
from tests.echo import ECHO
from tests.world import TYPES, World, keys_of, set_of


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path, url_of=sqlite_url)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    made.connect("zj", "hub")
    return made


def _put(world: World, key: str, on: str = "zj", request_id: str = "") -> bytes:
    return world.nodes[on].call("echo", "put", f"{key}\n\nvalue".encode(), request_id)


def _reason(world: World, act: object) -> Reason:
    assert callable(act)
    with pytest.raises(LianqiaoError) as err:
        act()
    return err.value.reason


# --- heads


def test_one_body_per_size_and_time_never_decreases(world: World) -> None:
    first = world.nodes["zj"].head
    world.clock.now -= 500
    _put(world, "a")
    second = world.nodes["zj"].head
    assert second.size == first.size + 1
    assert second.time == first.time


def test_calls_that_write_nothing_make_no_head(world: World) -> None:
    _put(world, "a")
    before = world.nodes["zj"].head
    _put(world, "a")
    assert world.nodes["zj"].head == before


def test_an_idle_node_ticks_when_its_head_is_old_and_not_before(world: World) -> None:
    node = world.nodes["zj"]
    assert not node.tick()
    world.clock.advance(59)
    assert not node.tick()
    world.clock.advance(1)
    assert node.tick()
    assert node.head.time == world.clock()
    assert not node.tick()


def test_a_body_committed_and_not_signed_is_signed_after_the_restart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = world.nodes["zj"]
    signed = node.head

    def crash(*_: object) -> str:
        raise SystemExit("killed between commit and signature")

    monkeypatch.setattr(node._heads.signer, "sign", crash)
    with pytest.raises(SystemExit):
        _put(world, "a")
    shown = head(node.store)
    assert shown is not None
    assert (shown.size, shown.note) == (signed.size, signed.note.encode())
    with node.store.read() as connection:
        committed = last_checkpoint(connection)
    assert committed is not None
    assert committed.size > signed.size
    assert not committed.note
    node.close()
    monkeypatch.undo()
    world.clock.advance(1000)
    again = world.node("zj", "ledger", [ECHO])
    assert list_records(again.store, "echo", b"a") == [(b"a", b"value")]
    assert again.head.note
    assert replace(again.head, note="") == committed
    assert fsck(again.store, TYPES, again.origin)[1] == []


def test_a_restart_goes_on_from_the_same_head(world: World) -> None:
    for n in range(300):
        _put(world, f"k{n:03}")
    head = world.nodes["zj"].head
    world.nodes["zj"].close()
    again = world.node("zj", "ledger", [ECHO])
    assert again.head == head
    _put(world, "more")
    assert fsck(again.store, TYPES, again.origin)[1] == []


def test_a_restored_old_copy_stays_stopped(world: World, tmp_path: Path) -> None:
    node = world.nodes["zj"]
    node.close()
    shutil.copy(tmp_path / "zj.db", tmp_path / "old.db")
    world.node("zj", "ledger", [ECHO])
    _put(world, "a")
    world.nodes["zj"].close()
    shutil.copy(tmp_path / "old.db", tmp_path / "zj.db")
    for rest in ("zj.db-wal", "zj.db-shm"):
        (tmp_path / rest).unlink(missing_ok=True)
    assert _reason(world, lambda: world.node("zj", "ledger", [ECHO])) is Reason.STALE_RESTORE


def test_a_journal_whose_mark_is_gone_stays_stopped(world: World, tmp_path: Path) -> None:
    """The mark is in no backup: an old copy on a new machine comes without one."""
    world.nodes["zj"].close()
    (tmp_path / "zj.mark").write_text('{"size": 0, "body": ""}')
    assert _reason(world, lambda: world.node("zj", "ledger", [ECHO])) is Reason.STALE_RESTORE


def test_a_signer_signs_one_body_of_a_size(tmp_path: Path) -> None:
    mark = HighWaterMark(tmp_path / "mark")
    keys = keys_of("zj")
    signer = CheckpointSigner([("zj-0", keys[0])], mark)
    mark.raise_to(5, b"body")
    mark.raise_to(5, b"body")
    with pytest.raises(LianqiaoError) as err:
        signer.sign(5, b"other", set_of(keys, "zj"))
    assert err.value.reason is Reason.STALE_RESTORE
    with pytest.raises(LianqiaoError) as err:
        HighWaterMark(tmp_path / "mark").raise_to(4, b"body")
    assert err.value.reason is Reason.STALE_RESTORE


def test_a_mark_that_cannot_be_read_stops_the_node(tmp_path: Path) -> None:
    (tmp_path / "mark").write_text("{")
    with pytest.raises(LianqiaoError) as err:
        HighWaterMark(tmp_path / "mark")
    assert err.value.reason is Reason.STALE_RESTORE


def test_a_database_of_another_chain_does_not_start(world: World, tmp_path: Path) -> None:
    world.nodes["zj"].close()
    (tmp_path / "zj.db").replace(tmp_path / "sh.db")
    (tmp_path / "sh.mark").write_text((tmp_path / "zj.mark").read_text())
    assert _reason(world, lambda: world.node("sh")) is Reason.WRONG_CHAIN


# --- calls


def test_a_request_id_answers_once(world: World) -> None:
    client_id = world.clients[("zj", "hub")]
    body = f"{client_id}\n{world.clock() + 60}\nhello".encode()
    node = world.nodes["zj"]
    first = node.call("echo", "send", body, "r-1")
    size = node.head.size
    assert node.call("echo", "send", body, "r-1") == first == b"1"
    assert node.head.size == size
    assert _reason(world, lambda: node.call("echo", "send", body + b"!", "r-1")) is (
        Reason.REQUEST_ID_REUSED
    )
    assert _reason(world, lambda: node.call("echo", "send", body, "r" * 65)) is Reason.MALFORMED


def test_calls_have_limits_and_ports(world: World) -> None:
    node = world.nodes["zj"]
    assert _reason(world, lambda: node.call("none", "put", b"")) is Reason.PORT_NOT_FOUND
    big = b"x" * (8 * 1024 * 1024 + 1)
    assert _reason(world, lambda: node.call("echo", "put", big)) is Reason.LIMIT_EXCEEDED
    long_key = b"k" * 513 + b"\n\nvalue"
    assert _reason(world, lambda: node.call("echo", "put", long_key)) is Reason.LIMIT_EXCEEDED


def test_calls_that_arrive_together_share_a_checkpoint(world: World) -> None:
    node = world.nodes["zj"]
    before = node.head.size
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: _put(world, f"key-{n}"), range(200)))
    assert node.head.size == before + 200
    with node.store.read() as connection:
        from sqlalchemy import text

        heads = connection.execute(text("select count(*) from checkpoint")).scalar_one()
    assert heads < 150
    assert fsck(node.store, TYPES, node.origin)[1] == []


def test_a_call_that_fails_undoes_itself_alone(world: World) -> None:
    node = world.nodes["zj"]
    body = f"{world.clients[('zj', 'hub')]}\n0\nhello".encode()
    assert _reason(world, lambda: node.call("echo", "send", body)) is Reason.TIMEOUT_ELAPSED
    with pytest.raises(ValueError, match="unpack"):
        node.call("echo", "send", b"bug")
    _put(world, "after")
    assert list_records(node.store, "echo", b"after") == [(b"after", b"value")]


# --- clients


def test_a_counterparty_is_named_once(world: World) -> None:
    node, client_id = world.nodes["zj"], world.clients[("zj", "hub")]
    node.register_counterparty(client_id, world.clients[("hub", "zj")])
    assert (
        _reason(world, lambda: node.register_counterparty(client_id, "checkpoint-5"))
        is Reason.COUNTERPARTY_EXISTS
    )
    assert (
        _reason(world, lambda: node.register_counterparty("checkpoint-5", "checkpoint-5"))
        is Reason.CLIENT_NOT_FOUND
    )


def test_one_client_speaks_for_a_chain_in_whatever_epoch(world: World) -> None:
    """Contracts know a chain by its id: a second client would let another speak for it."""
    node, chain = world.nodes["zj"], world.chain("hub")
    header = chain.headers(0, chain.latest_height())[-1]
    other = node.create_client(ClientState("checkpoint", world.nodes["hub"].origin), header)
    size = node.head.size
    with pytest.raises(LianqiaoError) as err:
        node.register_counterparty(other, "checkpoint-5")
    assert err.value.reason is Reason.CHAIN_BOUND
    assert err.value.data["client_id"] == world.clients["zj", "hub"]
    assert node.head.size == size
    with node.store.reading() as tx:
        assert node.clients.of_chain(tx, "hub") == world.clients["zj", "hub"]


@pytest.mark.parametrize(
    ("chain_id", "name"),
    [("hub/0", "hub"), ("hub/12", "hub"), ("a/7/0", "a/7"), ("hub-4", "hub-4"), ("a/b", "a/b")],
)
def test_the_name_of_a_chain_is_its_id_without_the_epoch(chain_id: str, name: str) -> None:
    assert chain_name(chain_id) == name


def test_a_client_of_an_unknown_type_is_refused(world: World) -> None:
    state = ClientState("tendermint", "hub/0")
    node = world.nodes["zj"]
    assert _reason(world, lambda: node.create_client(state, b"")) is Reason.CLIENT_TYPE_UNKNOWN


def test_a_client_of_another_chains_header_is_refused(world: World) -> None:
    chain = world.chain("hub")
    header = chain.headers(0, chain.latest_height())[-1]
    state = ClientState("checkpoint", "sh/0")
    node = world.nodes["zj"]
    assert _reason(world, lambda: node.create_client(state, header)) is Reason.CHAIN_ID_MISMATCH


def _two_heads(world: World, tmp_path: Path) -> bytes:
    """The hub's keys sign another body of the size that its client knows."""
    twin = World(tmp_path / "twin", clock=world.clock, url_of=sqlite_url)
    (tmp_path / "twin").mkdir()
    store = new_store(sqlite_url(tmp_path / "twin" / "hub.db"))
    create(store, "hub", "relay", set_of(keys_of("hub"), "hub"), epoch=0, now=world.clock() + 1)
    (tmp_path / "twin" / "hub.mark").write_text('{"size": 0, "body": ""}')
    twin.node("hub", "relay", [ECHO])
    first = world.chain("hub").headers(0, 1)[-1]
    second = twin.chain("hub").headers(0, 1)[-1]
    return encode_evidence(HeadsEvidence(first, second))


def test_two_heads_freeze_the_client_and_nothing_is_received(world: World, tmp_path: Path) -> None:
    node, client_id = world.nodes["zj"], world.clients[("zj", "hub")]
    evidence = _two_heads(world, tmp_path)
    node.submit_misbehaviour(client_id, evidence)
    assert get_client(node.store, client_id).frozen
    size = node.head.size
    node.submit_misbehaviour(client_id, evidence)
    assert node.head.size == size
    body = f"{client_id}\n{world.clock() + 60}\nhello".encode()
    assert _reason(world, lambda: node.call("echo", "send", body)) is Reason.CLIENT_FROZEN
    _put(world, "a", on="hub")
    delivery = world.delivery("hub", "zj", [])
    assert node.deliver([delivery])[0].headers.reason == Reason.CLIENT_FROZEN
    assert fsck(node.store, TYPES, node.origin)[1] == []


def test_what_is_no_misbehaviour_freezes_nothing(world: World) -> None:
    node, client_id = world.nodes["zj"], world.clients[("zj", "hub")]
    header = world.chain("hub").headers(0, 1)[-1]
    evidence = encode_evidence(HeadsEvidence(header, header))
    assert (
        _reason(world, lambda: node.submit_misbehaviour(client_id, evidence))
        is Reason.NOT_MISBEHAVIOUR
    )
    assert _reason(world, lambda: node.submit_misbehaviour(client_id, b"x")) is Reason.MALFORMED
    assert not get_client(node.store, client_id).frozen


def test_signatures_that_fail_one_by_one_leave_no_head_unsigned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signature of one head fails; the next time it succeeds and that of the next one fails."""
    node = world.nodes["zj"]
    sign = node._heads.signer.sign
    fails = iter((True, False, True))

    def failing(*arguments: object) -> str:
        if next(fails, False):
            raise Unavailable(Reason.DATABASE_UNREACHABLE, "planned")
        return sign(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(node._heads.signer, "sign", failing)
    for key in ("a", "b"):
        assert _reason(world, lambda key=key: _put(world, key)) is Reason.DATABASE_UNREACHABLE
    world.clock.now -= 50
    _put(world, "c")
    assert fsck(node.store, TYPES, node.origin)[1] == []


@pytest.mark.parametrize(("thirds", "frozen"), [(2, True), (4, False)])
def test_keys_retired_long_ago_cannot_freeze_a_client(
    world: World, thirds: int, frozen: bool
) -> None:
    """Whoever got hold of them signs two heads of today under the set of old."""
    node, client_id, hub = world.nodes["zj"], world.clients[("zj", "hub")], world.nodes["hub"]
    old_set, signers = hub._heads.set_of(hub.head), hub._heads.signer._signers[:]
    period = get_client(node.store, client_id).state.trusting_period
    new_keys = keys_of("hub-next")
    hub.announce_set(set_of(new_keys, "hub-next"))
    _hold(world, new_keys)

    def forged() -> bytes:
        body = replace(parse_body(hub.head.body), set_hash=CHECKPOINT.hash_validators(old_set))
        heads = []
        for key in (b"a", b"b"):
            raw = encode_body(replace(body, size=1000, root=key * 32, time=world.clock()))
            lines = sort_signatures([sign_body(name, one, raw) for name, one in signers])
            heads.append(encode_header(encode_note(Note(raw, lines)), old_set))
        return encode_evidence(HeadsEvidence(heads[0], heads[1]))

    for number in range(thirds):
        _put(world, f"a{number}", on="hub")
        assert world.deliver("hub", "zj", []) == ()
        world.clock.advance(period // 3 + 1)
    if not frozen:
        answer = _reason(world, lambda: node.submit_misbehaviour(client_id, forged()))
        assert answer is Reason.NOT_MISBEHAVIOUR
    else:
        node.submit_misbehaviour(client_id, forged())
    assert get_client(node.store, client_id).frozen is frozen


# --- sets


def _hold(world: World, new_keys: list[SigningKey]) -> None:
    """The relay holds the keys of the set in force and of the announced one side by side."""
    new = [(f"hub-next-{i}", key) for i, key in enumerate(new_keys)]
    world.nodes["hub"]._heads.signer._signers += new


def test_an_announced_set_signs_every_later_size(world: World) -> None:
    new_keys = keys_of("hub-next")
    new_set = set_of(new_keys, "hub-next")
    hub = world.nodes["hub"]
    old = hub.head
    hub.announce_set(new_set)
    change = hub.head
    assert change.set_hash == old.set_hash
    assert change.next_set_hash == CHECKPOINT.hash_validators(new_set)
    _hold(world, new_keys)
    _put(world, "a", on="hub")
    assert hub.head.set_hash == change.next_set_hash
    delivery = world.delivery("hub", "zj", [])
    assert len(delivery.headers) == 2
    result = world.nodes["zj"].deliver([delivery])[0]
    assert result.headers.reason == ""
    assert fsck(hub.store, TYPES, hub.origin)[1] == []


def test_a_head_after_a_set_change_is_not_believed_without_the_change(world: World) -> None:
    new_keys = keys_of("hub-next")
    hub = world.nodes["hub"]
    hub.announce_set(set_of(new_keys, "hub-next"))
    _hold(world, new_keys)
    _put(world, "a", on="hub")
    delivery = world.delivery("hub", "zj", [])
    skipping = replace(delivery, headers=delivery.headers[1:])
    answer = world.nodes["zj"].deliver([skipping])[0].headers
    assert answer.reason == Reason.NOT_ENOUGH_TRUST


def test_a_process_without_a_key_of_the_set_in_force_signs_nothing(world: World) -> None:
    """What was committed meanwhile is signed as soon as the keys are there."""
    new_keys = keys_of("hub-next")
    hub = world.nodes["hub"]
    hub.announce_set(set_of(new_keys, "hub-next"))
    signed = hub.head.size
    assert _reason(world, lambda: _put(world, "a", on="hub")) is Reason.CONFIG_INVALID
    assert hub.head.size == signed
    _hold(world, new_keys)
    _put(world, "b", on="hub")
    assert fsck(hub.store, TYPES, hub.origin)[1] == []
