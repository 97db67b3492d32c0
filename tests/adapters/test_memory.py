"""Planned faults: what arrives, what does not, and what the caller is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.memory.chain import Fault, MemoryChain, Plan, connect, no_faults, offer
from relay.chain import Item, Outcome, Step
from relay.errors import LianqiaoError, Reason
from tests.echo import ECHO
from tests.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.node("zj", "ledger", [ECHO])
    made.node("hub", "relay", [ECHO])
    made.connect("zj", "hub")
    yield made
    made.close()


def _first(name: str, fault: Fault) -> Plan:
    """This fault for the first call of that name."""
    left = [fault]
    return lambda called: left.pop() if called == name and left else None


def _unreachable(call: Callable[[], object]) -> None:
    with pytest.raises(LianqiaoError) as err:
        call()
    assert err.value.reason is Reason.CHAIN_UNREACHABLE


def _deliveries(world: World, count: int) -> list[object]:
    client_id = world.clients["hub", "zj"]
    made = []
    for i in range(count):
        world.nodes["hub"].call("echo", "send", f"{client_id}\n{world.clock() + 60}\n{i}".encode())
        step = world.chain("hub").packets(client_id, 0, 10)[-1]
        made.append(world.delivery("hub", "zj", [Item(Step.RECEIVE, step.packet)]))
    return made


def test_a_lost_request_has_no_effect(world: World) -> None:
    chain, (delivery,) = world.networks["zj"], _deliveries(world, 1)
    before = world.sizes()
    chain.plan = _first("submit", Fault.REQUEST_LOST)
    _unreachable(lambda: chain.submit([delivery]))
    assert world.sizes() == before
    assert chain.calls["submit"] == 0


def test_a_lost_reply_had_its_effect(world: World) -> None:
    chain, (delivery,) = world.networks["zj"], _deliveries(world, 1)
    chain.plan = _first("submit", Fault.REPLY_LOST)
    _unreachable(lambda: chain.submit([delivery]))
    (result,) = chain.submit([delivery])
    assert [a.outcome for a in result.items] == [Outcome.NOOP]


def test_a_duplicate_arrives_twice(world: World) -> None:
    chain, (delivery,) = world.networks["zj"], _deliveries(world, 1)
    chain.plan = _first("submit", Fault.DUPLICATE)
    (result,) = chain.submit([delivery])
    assert [a.outcome for a in result.items] == [Outcome.NOOP]
    assert chain.calls["submit"] == 2


def test_a_late_submission_arrives_after_the_next(world: World) -> None:
    chain, (first, second) = world.networks["zj"], _deliveries(world, 2)
    chain.plan = _first("submit", Fault.LATE)
    _unreachable(lambda: chain.submit([first]))
    (result,) = chain.submit([second])
    assert [a.outcome for a in result.items] == [Outcome.DONE]
    # The first one came after it; its header had been passed, its item had not.
    (result,) = chain.submit([world.delivery("hub", "zj", first.items)])  # type: ignore[attr-defined]
    assert [a.outcome for a in result.items] == [Outcome.DONE]
    assert chain.calls["submit"] == 3


def test_a_question_that_comes_late_is_lost(world: World) -> None:
    chain = world.networks["zj"]
    chain.plan = _first("latest_height", Fault.LATE)
    _unreachable(chain.latest_height)
    assert chain.latest_height() == world.nodes["zj"].head.size


def test_a_partition_ends(world: World) -> None:
    chain = world.networks["zj"]
    chain.reachable = False
    _unreachable(chain.latest_height)
    chain.reachable = True
    assert chain.latest_height() == world.nodes["zj"].head.size


def test_what_is_offered_is_found(world: World) -> None:
    chain = MemoryChain(world.chain("zj"), no_faults)
    offer("here", chain)
    assert connect({"address": "here"}) is chain


@pytest.mark.parametrize("settings", [{}, {"address": "nowhere"}])
def test_what_is_not_offered_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(LianqiaoError) as err:
        connect(settings)
    assert err.value.reason is Reason.CONFIG_INVALID
