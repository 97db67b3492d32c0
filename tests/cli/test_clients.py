"""What is said of a client that is not active: its state, and what to do next."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from relay.cli.clients import advice_for, shown, state_of
from relay.light.types import ClientState, ConsensusState
from relay.views import ClientView, LaneView, RecoveryView
from tests.cli.conftest import Run
from tests.service import nodes

NODE = "127.0.0.1:7100"
ZERO = bytes(32)
VIEW = ClientView(
    client_id="checkpoint-0",
    state=ClientState("checkpoint", "zj/0"),
    latest=ConsensusState(5, 1, ZERO, ZERO, ZERO, ZERO),
    counterparty_client_id="checkpoint-3",
    frozen=False,
    expires=2**40,
)
LANE = LaneView("checkpoint-0", "lianqiao", "127.0.0.1:7101")
LOST = replace(LANE, reason="CHAIN_UNREACHABLE", detail="no node answers")
STUCK = replace(LANE, reason="MALFORMED", detail="listed out of order")
FORKED = replace(LANE, reason="INVALID_CONSISTENCY", detail="the newer tree does not extend it")
RECOVERING = replace(VIEW, frozen=True, recovery=RecoveryView(VIEW.state, 5, 2**40))
OVERDUE = replace(VIEW, recovery=RecoveryView(VIEW.state, 5, 9))


@pytest.mark.parametrize(
    ("view", "lane", "state", "says"),
    [
        (replace(VIEW, frozen=True), None, "frozen", "clients recover checkpoint-0 --from"),
        (replace(VIEW, expires=int(time.time())), None, "expired", "--node 127.0.0.1:7100"),
        (VIEW, LOST, "unreachable", "no node of zj/0 answers at 127.0.0.1:7101"),
        (VIEW, STUCK, "active", "MALFORMED: listed out of order"),
        (VIEW, FORKED, "active", "run there: lianqiao epoch open --forked. Then here: lianqiao"),
        (RECOVERING, LOST, "recovering", "clients recover checkpoint-0 --cancel"),
        (RECOVERING, None, "recovering", "follows zj/0 from "),
        (OVERDUE, None, "recovering", "was due 1970-01-01 00:00:09Z and is refused"),
        (OVERDUE, None, "recovering", "then propose a fresh head: lianqiao clients recover"),
    ],
)
def test_what_to_do_next(view: ClientView, lane: LaneView | None, state: str, says: str) -> None:
    assert state_of(view, lane) == state
    assert shown(view, lane)["status"] == state
    assert says in advice_for(view, lane, NODE)


def test_an_active_client_asks_for_nothing() -> None:
    assert (state_of(VIEW), advice_for(VIEW, None, NODE)) == ("active", "")


def test_a_frozen_client_is_shown_recovered_and_left_again(tmp_path: Path, run: Run) -> None:
    clock = nodes.Clock()
    ledger = nodes.run(tmp_path / "ledger", "zj", "ledger", clock=clock)
    relay = nodes.run(tmp_path / "relay", "hub", "relay", clock=clock)
    try:
        here, _ = nodes.join(ledger, relay)
        (tmp_path / "e").write_bytes(nodes.fork(relay))
        on_ledger = ("--node", ledger.address)
        assert run("clients", "accuse", here, tmp_path / "e", *on_ledger).code == 0
        listed = run("clients", "list", *on_ledger).out
        assert f"clients recover {here} --from ADDRESS --node {ledger.address}" in listed
        clock.now += 100
        relay.node.tick()
        head = relay.client.head()
        args = ("clients", "recover", here, *on_ledger)
        done = run(*args, "--from", relay.address, "--delay", "48")
        assert done.code == 0
        assert f"size {head.size}, root {head.root.hex()}" in done.out
        assert "takes effect" in run("clients", "show", here, *on_ledger).out
        view = ledger.client.client(here)
        assert state_of(view) == "recovering"
        assert view.recovery is not None
        assert view.recovery.due == clock.now + 48 * 3600
        assert "it is frozen" in run(*args, "--cancel").out
        assert '"status": "recovering"' in run(*args, "--from", relay.address, "--json").out
        clock.now += 86_400
        ledger.node.tick()
        assert state_of(ledger.client.client(here)) == "active"
        done = run("clients", "skip", here, "9", *on_ledger)
        assert f"the next packet of {here} has sequence 9\n" in done.out
    finally:
        ledger.stop()
        relay.stop()
