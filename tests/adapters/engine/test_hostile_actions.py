"""What one operator signs, whatever it is: every replica refuses it alike, on any database, and
goes on. SQLite fails at numbers of 2^63 and PostgreSQL at text with a zero, so neither gets there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.cometbft.engine import abci_pb2 as pb
from relay import action_bytes
from relay.actions import Action, Call, CancelRecovery, Deliver, SkipSequences, SubmitMisbehaviour
from relay.chain import Delivery, Item, Step
from relay.errors import Reason
from relay.light.types import MAX_INT, Claim
from relay.packet import Packet, Payload
from tests.adapters.engine.replicas import Replica, asked
from tests.databases import UrlOf
from tests.echo import Echo
from tests.refusals import refusing
from tests.world import START

ZERO = "a\0b"


def item(step: Step, sequence: int = 1, client: str = "checkpoint-0") -> Item:
    payload = Payload("echo", "echo", "v1", "text", b"v")
    return Item(step, Packet(sequence, client, client, START + 600, (payload,)))


def deliver(client: str = "checkpoint-0", height: int = 1, *items: Item) -> Deliver:
    return Deliver((Delivery(client, (), height, b"", items),))


HOSTILE: dict[str, Action] = {
    "a height": deliver("checkpoint-0", MAX_INT + 1, item(Step.RECEIVE)),
    "a height of a statement": Deliver(
        (Delivery("checkpoint-0", (), 2**64 - 1, b"", (), (Claim(b"p", b"v"),)),)
    ),
    "a sequence received": deliver("checkpoint-0", 1, item(Step.RECEIVE, MAX_INT + 1)),
    "a sequence sent": deliver("checkpoint-0", 1, item(Step.ACKNOWLEDGE, 2**64 - 1)),
    "a client": deliver(ZERO, 1, item(Step.RECEIVE)),
    "a sender": deliver("checkpoint-0", 1, item(Step.TIMEOUT, 1, ZERO)),
    "a request": Call("echo", "put", b"k\n\nv", ZERO),
    "a client to recover": CancelRecovery(ZERO),
    "a client to freeze": SubmitMisbehaviour(ZERO, b"evidence"),
    "a next sequence": SkipSequences("checkpoint-0", MAX_INT + 1),
}


@pytest.fixture
def replica(tmp_path: Path, urls: UrlOf) -> Iterator[Replica]:
    made = Replica(tmp_path / "one.db", [Echo()], url=urls(tmp_path / "one.db"))
    made.init()
    yield made
    made.stop()


def test_what_databases_take_differently_has_no_encoding(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    for action in HOSTILE.values():
        with refusing(Reason.MALFORMED):
            action_bytes.encode_action(action)
    with monkeypatch.context() as patch:  # as a program of his own would write it
        patch.setattr(action_bytes, "_number", lambda number: number)
        patch.setattr(action_bytes, "_text", lambda text: text)
        raws = {name: asked(action, n) for n, (name, action) in enumerate(HOSTILE.items())}
    for name, raw in raws.items():
        assert replica.check(raw) == "MALFORMED", name
    results = replica.block(1, list(raws.values())).tx_results
    assert [(r.code, r.log) for r in results] == [(1, "MALFORMED")] * len(raws)
    assert replica.application.met
    sound = asked(deliver("checkpoint-0", MAX_INT, item(Step.RECEIVE, MAX_INT)), 99)
    assert replica.check(sound) == ""
    (result,) = replica.block(2, [sound]).tx_results
    assert (result.code, result.log) == (1, "CLIENT_NOT_FOUND")


def test_a_check_that_fails_ends_nothing(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of CheckTx ends CometBFT, and a transaction is checked on every replica."""

    def broken(raw: bytes) -> None:
        raise OverflowError("of a library")

    raw = asked(Call("echo", "put", b"k\n\nv"), 1)
    with monkeypatch.context() as patch:
        patch.setattr(replica.application, "check", broken)
        answer = replica.abci.CheckTx(pb.RequestCheckTx(tx=raw))
        assert (answer.code, answer.log) == (1, "INTERNAL")
    assert replica.application.met
    assert replica.check(raw) == ""
