"""The engine without CometBFT: real gRPC ABCI, real databases, blocks decided by the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import delete, update

from adapters.cometbft.engine import abci_pb2 as pb
from adapters.cometbft.engine import application
from adapters.cometbft.engine.asked import MAX_EXPIRY
from relay.actions import (
    Action,
    AnnounceSet,
    Call,
    CreateClient,
    Deliver,
    RegisterCounterparty,
    RunDue,
    Tick,
)
from relay.canonical import encode
from relay.chain import Item, Outcome, Step
from relay.contracts.payloads import CutOff, cut_off_key
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.host import HostState
from relay.keys import SigningKey
from relay.light.types import ClientState, Validator, ValidatorSet
from relay.packet import be64
from relay.paths import request_path, request_value
from relay.powers import ChangePowers, Power
from relay.store import RequestRow, tables
from tests.adapters.engine.replicas import CHAIN, Replica, asked
from tests.echo import Echo
from tests.world import START, World, keys_of, set_of


def at(seconds: int) -> Timestamp:
    """A block time."""
    return Timestamp(seconds=seconds)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[Replica]]:
    """Two of them, after the genesis."""
    made = [Replica(tmp_path / f"{i}.db", [Echo()]) for i in range(2)]
    assert made[0].init() == made[1].init()
    yield made
    for one in made:
        one.stop()


def put(number: int, by: int = 0, **how: object) -> bytes:
    """An operator's call that writes one key."""
    return asked(Call("echo", "put", b"k%d\n\nv" % number), number, by, **how)  # type: ignore[arg-type]


def story(world: World) -> list[list[bytes]]:
    """Blocks that make a client of a real ledger, and deliver two packets of it, one twice."""
    zj = world.node("zj", contracts=[Echo()])
    chain = world.chain("zj")
    header = chain.headers(0, chain.latest_height())[-1]
    create = asked(CreateClient(ClientState("checkpoint", zj.origin), header), 1)
    name = asked(RegisterCounterparty("checkpoint-0", "checkpoint-0"), 2)
    hub = world.node("other")
    hub_chain = world.chain("other")
    anchor = hub_chain.headers(0, hub_chain.latest_height())[-1]
    on_zj = zj.create_client(ClientState("checkpoint", hub.origin), anchor)
    zj.register_counterparty(on_zj, "checkpoint-0")
    for value in (b"one", b"two"):
        zj.call("echo", "send", f"{on_zj}\n{START + 600}\n".encode() + value)
    height = chain.latest_height()
    headers = tuple(chain.headers(chain_height(header), height))
    items = [Item(Step.RECEIVE, step.packet) for step in chain.packets(on_zj, -1, 10)]
    from relay.chain import Delivery
    from relay.packet import commitment_path

    paths = [commitment_path(i.packet.source_client, i.packet.sequence) for i in items]
    whole = Delivery("checkpoint-0", headers, height, chain.prove(paths, height), tuple(items))
    first = Delivery("checkpoint-0", headers, height, chain.prove(paths[:1], height), (items[0],))
    return [
        [create, name, put(3)],
        [],
        [asked(Deliver((first,)), 4), put(5, 1)],
        [asked(Deliver((whole,)), 6, 2), asked(Deliver((first,)), 7, 3)],
    ]


def chain_height(header: bytes) -> int:
    from relay.light.checkpoint_client import CHECKPOINT

    return CHECKPOINT.decode_header(header).height


def test_the_same_blocks_make_the_same_state_whatever_was_checked_before(
    replicas: list[Replica], tmp_path: Path
) -> None:
    left, right = replicas
    blocks = story(World(tmp_path))
    for height, txs in enumerate(blocks, 1):
        for raw in txs:
            left.check(raw)  # the other one never sees it before the block
        for raw in reversed(txs):
            left.check(raw)
        chosen = list(left.abci.PrepareProposal(
            pb.RequestPrepareProposal(
                txs=txs, max_tx_bytes=1 << 20, height=height, time=at(START + height)
            )
        ).txs)  # fmt: skip
        assert chosen == txs
        judged = right.abci.ProcessProposal(
            pb.RequestProcessProposal(txs=txs, height=height, time=at(START + height))
        )
        assert judged.status == pb.ResponseProcessProposal.ACCEPT
        answers = [one.block(height, txs, START + height) for one in replicas]
        assert answers[0] == answers[1]
        assert len(answers[0].app_hash) == 40
        assert all(result.code == 0 for result in answers[0].tx_results), answers[0]
        right.restart()
    assert left.rows() == right.rows()
    assert left.fsck() == right.fsck() == []
    assert left.result(blocks[0][0]).answer == "checkpoint-0"
    (done,) = left.result(blocks[3][0]).answer
    assert [i.outcome for i in done.items] == [Outcome.NOOP, Outcome.DONE]
    assert left.check(blocks[3][0]) == "CONFLICT"


def test_a_process_that_ends_between_finalize_and_commit_has_written_nothing(
    replicas: list[Replica],
) -> None:
    left, right = replicas
    before = left.rows()
    executed = left.finalize(1, [put(1), put(2)])
    assert left.rows() == before
    left.restart()
    assert left.rows() == before
    assert left.info()[0] == 0
    with pytest.raises(grpc.RpcError):
        left.abci.Commit(pb.RequestCommit())
    assert left.info()[0] == 0, "CometBFT begins anew"
    assert left.block(1, [put(1), put(2)]) == executed == right.block(1, [put(1), put(2)])
    assert left.info() == right.info() == (1, executed.app_hash)
    left.restart()
    assert left.info() == right.info()
    assert left.block(2, [put(3)]) == right.block(2, [put(3)])
    assert left.rows() == right.rows()


def test_a_block_is_executed_once_more_where_it_was_not_committed(replicas: list[Replica]) -> None:
    left, right = replicas
    left.finalize(1, [put(1)], START + 100)
    left.finalize(1, [], START + 200)
    assert left.block(1, [put(2)]) == right.block(1, [put(2)])
    for height in (1, 3):
        with pytest.raises(grpc.RpcError):
            left.finalize(height, [])
        assert left.info() == right.info(), "CometBFT begins anew"
    assert left.block(2, []) == right.block(2, [])


def refused_calls(one: Replica) -> set[grpc.StatusCode]:
    """How every call is ended that CometBFT makes once it has begun."""
    calls: list[tuple[Any, Any]] = [
        (one.abci.CheckTx, pb.RequestCheckTx(tx=put(9))),
        (one.abci.PrepareProposal, pb.RequestPrepareProposal(max_tx_bytes=1, time=at(START))),
        (one.abci.ProcessProposal, pb.RequestProcessProposal(height=2, time=at(START))),
        (one.abci.FinalizeBlock, pb.RequestFinalizeBlock(height=2, time=at(START))),
        (one.abci.Commit, pb.RequestCommit()),
    ]
    found = set()
    for call, request in calls:
        with pytest.raises(grpc.RpcError) as refused:
            call(request)
        found.add(refused.value.code())
    return found


def test_a_chain_program_that_lost_its_application_begins_anew(replicas: list[Replica]) -> None:
    """It would stay where it was, without making blocks and without ending, if it were answered."""
    one, other = replicas
    for replica in replicas:
        replica.block(1, [put(1)])
    one.stop()
    one.start(begun=False)
    assert not one.application.met
    assert refused_calls(one) == {grpc.StatusCode.FAILED_PRECONDITION}
    assert one.info() == other.info()
    assert one.application.met
    assert one.block(2, [put(2)]) == other.block(2, [put(2)])


@pytest.mark.parametrize("method", ["finalize", "commit", "prepare", "process"])
def test_after_a_block_that_was_not_answered_too(
    replicas: list[Replica], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away, a full disk: it goes on from the last committed block."""
    one, other = replicas

    def away(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(one.application, method, away)
        with pytest.raises(grpc.RpcError) as refused:
            if method == "prepare":
                one.abci.PrepareProposal(pb.RequestPrepareProposal(time=at(START)))
            elif method == "process":
                one.abci.ProcessProposal(pb.RequestProcessProposal(height=1, time=at(START)))
            else:
                one.block(1, [put(1)])
        assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert refused_calls(one) == {grpc.StatusCode.FAILED_PRECONDITION}
    assert one.info()[0] == 0
    assert one.block(1, [put(1)]) == other.block(1, [put(1)])
    assert one.rows() == other.rows()


def test_genesis_is_written_once_and_asked_for_again_after_a_crash(tmp_path: Path) -> None:
    one = Replica(tmp_path / "one.db")
    first = one.init()
    assert first[:8] == be64(3)
    one.restart()
    assert one.info() == (0, b"")
    assert one.init() == first
    one.block(1, [])
    with pytest.raises(grpc.RpcError):
        one.init()
    one.stop()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x01", "MALFORMED"),
        (put(1)[:-1], "MALFORMED"),
        (put(1, chain="hub/1"), "CHAIN_ID_MISMATCH"),
        (put(1, 1, key=SigningKey.from_seed(b"x" * 32)), "INVALID_SIGNATURE"),
        (put(1, expiry=0), "TIMEOUT_ELAPSED"),
        (put(1, expiry=MAX_EXPIRY + 1), "TIMEOUT_TOO_FAR"),
        (
            asked(Call("echo", "put", b"k\n\nv"), 1, 7, key=keys_of("operator")[0]),
            "UNAUTHENTICATED",
        ),
    ],
)
def test_what_no_operator_signed_has_no_effect(
    replicas: list[Replica], raw: bytes, reason: str
) -> None:
    left, right = replicas
    # how far ahead a block to come may be is not known yet
    assert left.check(raw) == ("" if reason == "TIMEOUT_TOO_FAR" else reason)
    empty = pb.RequestPrepareProposal(txs=[raw], max_tx_bytes=1 << 20, time=at(START))
    assert not left.abci.PrepareProposal(empty).txs
    judged = right.abci.ProcessProposal(pb.RequestProcessProposal(txs=[raw], time=at(START)))
    assert judged.status == pb.ResponseProcessProposal.REJECT
    before = left.rows()
    (result,) = left.block(1, [raw]).tx_results
    assert (result.code, result.log) == (1, reason)
    assert len(left.rows()) == len(before) + 1, "the block's own row and nothing else"


def test_an_action_is_done_once(replicas: list[Replica]) -> None:
    left, _ = replicas
    raw = put(1)
    twice = pb.RequestProcessProposal(txs=[raw, raw], time=at(START))
    assert left.abci.ProcessProposal(twice).status == pb.ResponseProcessProposal.REJECT
    first, second = left.block(1, [raw, raw]).tx_results
    assert (first.code, second.code, second.log) == (0, 1, "REQUEST_ID_REUSED")
    assert left.check(raw) == "REQUEST_ID_REUSED"
    assert left.block(2, [raw]).tx_results[0].log == "REQUEST_ID_REUSED"


def test_what_is_answered_to_a_call_asked_again_is_under_the_app_hash(
    replicas: list[Replica],
) -> None:
    """It decides what the call does: a replica that was told otherwise by a snapshot would go on
    with another state, at the block that its teller chooses."""
    one, _ = replicas
    call = Call("echo", "put", b"k\n\nv", "once")
    first = one.block(1, [asked(call, 1)]).tx_results[0]
    again = one.block(2, [asked(call, 2)]).tx_results[0]
    written = [int.from_bytes(result.data, "big") for result in (first, again)]
    assert written[1] == written[0] + 1, "the nonce alone"
    with one.store.reading() as tx:
        row = tx.load(RequestRow, "once")
        assert row is not None
        kept = tx.get(request_path(CHAIN, "once"))
    assert kept == request_value(row.body_hash, row.response)
    assert one.fsck() == []
    table = tables.table(tables.Request)
    for change, said in (
        (update(table).values(response=b"other"), "differs"),
        (update(table).values(request_id="twice"), "differs"),
        (delete(table), "missing"),
    ):
        one.store.run(lambda tx, change=change: tx.connection.execute(change))
        assert said in " ".join(finding.detail for finding in one.fsck())


def test_what_was_refused_is_not_done_later(replicas: list[Replica]) -> None:
    left, _ = replicas
    early = asked(RegisterCounterparty("checkpoint-0", "x-0"), 1)
    assert left.block(1, [early]).tx_results[0].log == "CLIENT_NOT_FOUND"
    assert left.block(2, [early]).tx_results[0].log == "REQUEST_ID_REUSED"


def test_nobody_asks_for_what_the_chain_does_by_itself(replicas: list[Replica]) -> None:
    actions = [asked(Tick(), 1), asked(RunDue(), 2)]
    results = replicas[0].block(1, actions).tx_results
    assert [result.log for result in results] == ["NOT_PERMITTED"] * 2


def test_a_block_does_what_contracts_have_due_and_all_replicas_the_same(tmp_path: Path) -> None:
    """A netting window is cut off by the time of the block, and by nothing that anyone sends."""
    replicas = [Replica(tmp_path / f"{i}.db", [SETTLEMENT]) for i in range(2)]
    assert replicas[0].init() == replicas[1].init()
    body = encode({"cut_off": START + 60, "deadline": START + 120, "window": "day"})
    opened = asked(Call("settlement", "window.open", body), 1)
    for one in replicas:
        assert one.block(1, [opened], START + 1).tx_results[0].code == 0
        empty = one.block(2, [], START + 59)
        due = one.block(3, [], START + 60)
        after = one.block(4, [], START + 61)
        assert len({empty.app_hash, due.app_hash}) == 2
        assert due.app_hash == after.app_hash, "once"
        with one.store.reading() as tx:
            raw = HostState(one.channel, tx, "settlement", 0).get(cut_off_key("day"))
        assert raw is not None
        assert CutOff.decode(raw).time == START + 60
    assert replicas[0].rows() == replicas[1].rows()
    assert replicas[0].fsck() == replicas[1].fsck() == []
    for one in replicas:
        one.stop()


def powers(*changes: tuple[int, int]) -> ChangePowers:
    keys = keys_of("maker", 5)
    made = sorted((Power("ed25519", keys[i].public, p) for i, p in changes), key=lambda p: p.key)
    return ChangePowers(tuple(made))


def test_several_operators_decide_who_makes_blocks(tmp_path: Path) -> None:
    one = Replica(tmp_path / "one.db")
    one.init(quorum=3)
    change = powers((4, 10), (0, 0))
    first = one.block(1, [asked(change, 1, 0), asked(change, 2, 0)])
    assert [r.log for r in first.tx_results] == ["APPROVAL_PENDING"] * 2
    assert not first.validator_updates
    assert one.block(2, [asked(change, 3, 1)]).tx_results[0].log == "APPROVAL_PENDING"
    third = one.block(3, [asked(change, 4, 2)])
    assert third.tx_results[0].code == 0
    found = {bytes(u.pub_key.ed25519): u.power for u in third.validator_updates}
    keys = keys_of("maker", 5)
    assert found == {keys[4].public: 10, keys[0].public: 0}
    # decided is decided: the same again would remove nobody, and is not even approved of
    again = one.block(4, [asked(change, 5 + i, i) for i in range(3)])
    assert [r.log for r in again.tx_results] == ["NOT_FOUND"] * 3
    assert not again.validator_updates
    # and what can be done again needs as many again
    more = powers((4, 11))
    asked_again = [asked(more, 20 + i, i % 3) for i in range(4)]
    answer = one.block(5, asked_again)
    assert [r.log for r in answer.tx_results] == ["APPROVAL_PENDING"] * 2 + ["", "APPROVAL_PENDING"]
    assert one.fsck() == []
    one.stop()


def test_an_approval_that_is_too_old_does_not_count(tmp_path: Path) -> None:
    one = Replica(tmp_path / "one.db")
    one.init(quorum=2)
    change = powers((4, 10))
    week = 7 * 86_400
    one.block(1, [asked(change, 1, 0)])
    late = one.block(2, [asked(change, 2, 1, now=START + week)], START + week)
    assert late.tx_results[0].log == "APPROVAL_PENDING"
    again = one.block(3, [asked(change, 3, 0, now=START + week)], START + week)
    assert again.tx_results[0].code == 0
    one.stop()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (powers((0, 0), (1, 0), (2, 0), (3, 0)), "LIMIT_EXCEEDED"),
        (powers((4, 0)), "NOT_FOUND"),
        (ChangePowers(()), "MALFORMED"),
        (ChangePowers((Power("p256", b"k" * 33, 1),)), "MALFORMED"),
        (
            ChangePowers((Power("secp256k1", keys_of("new", 1, "secp256k1")[0].public, 1),)),
            "MALFORMED",
        ),
        (ChangePowers((Power("ed25519", bytes(32), 1),)), "WEAK_KEY"),
    ],
)
def test_a_change_that_would_stop_the_chain_is_refused(
    replicas: list[Replica], change: Action, reason: str
) -> None:
    answer = replicas[0].block(1, [asked(change, 1)])
    assert (answer.tx_results[0].log, len(answer.validator_updates)) == (reason, 0)


def test_a_validator_that_comes_and_goes_in_one_block_is_no_change(
    replicas: list[Replica],
) -> None:
    """Each change is sound, and CometBFT would stop for good if it were told to remove nobody."""
    one, other = replicas
    txs = [asked(powers((4, 10)), 1), asked(powers((0, 7), (4, 0)), 2)]
    answer = one.block(1, txs)
    assert [r.code for r in answer.tx_results] == [0, 0]
    maker = keys_of("maker")[0].public
    assert [(bytes(u.pub_key.ed25519), u.power) for u in answer.validator_updates] == [(maker, 7)]
    assert answer == other.block(1, txs)
    back = one.block(2, [asked(powers((1, 0)), 3), asked(powers((1, 9)), 4)])
    assert [u.power for u in back.validator_updates] == [9]
    gone = one.block(3, [asked(powers((1, 0)), 5)])
    assert [u.power for u in gone.validator_updates] == [0]
    assert one.fsck() == []


def test_operators_change_operators(tmp_path: Path) -> None:
    one = Replica(tmp_path / "one.db", [Echo()])
    one.init(quorum=2)
    others = set_of(keys_of("new", 2), "operator")
    few = AnnounceSet(set_of(keys_of("new", 1), "operator"))
    answer = one.block(1, [asked(few, 1, 0), asked(AnnounceSet(others), 2, 0)])
    assert [r.log for r in answer.tx_results] == ["LIMIT_EXCEEDED", "APPROVAL_PENDING"]
    old, new = put(4, 0), put(5, 0, key=keys_of("new", 2)[0])
    answer = one.block(2, [asked(AnnounceSet(others), 3, 1), old, new])
    assert [r.log for r in answer.tx_results] == ["", "INVALID_SIGNATURE", ""]
    one.restart()
    assert one.check(put(6, 0)) == "INVALID_SIGNATURE"
    assert one.check(put(6, 0, key=keys_of("new", 2)[0])) == ""
    one.stop()


def test_approvals_end_with_the_operators_who_gave_them(tmp_path: Path) -> None:
    """Whoever has stolen a key and asked by it has asked for nothing once it is replaced."""
    one = Replica(tmp_path / "one.db", [Echo()])
    one.init(quorum=2)
    change = powers((4, 10))
    keys = [keys_of("new", 1)[0], *keys_of("operator")[1:]]
    others = AnnounceSet(set_of(keys, "operator"))
    first = one.block(1, [asked(change, 1, 0), asked(others, 2, 1), asked(others, 3, 2)])
    assert [r.log for r in first.tx_results] == ["APPROVAL_PENDING", "APPROVAL_PENDING", ""]
    again = one.block(2, [asked(change, 4, 1), asked(change, 5, 0, key=keys[0])])
    assert [r.log for r in again.tx_results] == ["APPROVAL_PENDING", ""]
    assert not first.validator_updates
    assert again.validator_updates
    one.stop()


def test_an_operator_has_one_key_and_one_voice(replicas: list[Replica]) -> None:
    ((name, key),) = set_of(keys_of("new", 1), "operator").validators[0].keys
    second = keys_of("new", 1, "secp256k1")[0].public
    heavy = ValidatorSet((Validator("op", 2, ((name, key),)),))
    double = ValidatorSet((Validator("op", 1, ((name, key), ("secp256k1", second))),))
    answer = replicas[0].block(
        1, [asked(AnnounceSet(one), n) for n, one in enumerate((heavy, double))]
    )
    assert [r.log for r in answer.tx_results] == ["MALFORMED"] * 2


def test_no_operator_fills_what_waits_alone(
    replicas: list[Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = replicas
    monkeypatch.setattr(application, "MAX_WAITING_TXS", 3)
    assert [one.check(put(n)) for n in range(4)] == ["", "", "", "LIMIT_EXCEEDED"]
    assert one.check(put(9, 1)) == "", "another operator's"
    one.block(1, [])
    assert [one.check(put(n)) for n in range(4)] == ["", "", "", "LIMIT_EXCEEDED"]
    one.block(2, [put(0)])
    assert one.check(put(0)) == "REQUEST_ID_REUSED"
    monkeypatch.setattr(application, "MAX_WAITING_BYTES", 2 * len(put(1)))
    assert [one.check(put(n)) for n in (1, 2, 3)] == ["", "", "LIMIT_EXCEEDED"]


def test_a_proposal_keeps_within_its_limits(replicas: list[Replica]) -> None:
    txs = [put(i) for i in range(20)]
    limit = sum(len(raw) + 16 for raw in txs[:7])
    asked_for = pb.RequestPrepareProposal(txs=[txs[0], *txs], max_tx_bytes=limit, time=at(START))
    assert list(replicas[0].abci.PrepareProposal(asked_for).txs) == txs[:7]
