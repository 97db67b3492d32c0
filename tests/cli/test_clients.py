"""What is said of a client that is not active: its state, and what to do next."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from relay.cli.clients import advice_for, shown, state_of
from relay.light.types import ClientState, ConsensusState
from relay.views import ClientView, LaneView, RecoveryView

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
RECOVERING = replace(VIEW, frozen=True, recovery=RecoveryView(VIEW.state, 5, 2**40))


@pytest.mark.parametrize(
    ("view", "lane", "state", "says"),
    [
        (replace(VIEW, frozen=True), None, "frozen", "clients recover checkpoint-0 --from"),
        (replace(VIEW, expires=int(time.time())), None, "expired", "--node 127.0.0.1:7100"),
        (VIEW, LOST, "unreachable", "no node of zj/0 answers at 127.0.0.1:7101"),
        (VIEW, STUCK, "active", "MALFORMED: listed out of order"),
        (RECOVERING, LOST, "recovering", "clients recover checkpoint-0 --cancel"),
    ],
)
def test_what_to_do_next(view: ClientView, lane: LaneView | None, state: str, says: str) -> None:
    assert state_of(view, lane) == state
    assert shown(view, lane)["status"] == state
    assert says in advice_for(view, lane, NODE)


def test_an_active_client_asks_for_nothing() -> None:
    assert (state_of(VIEW), advice_for(VIEW, None, NODE)) == ("active", "")
