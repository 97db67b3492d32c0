"""Why a packet is open, as commands tell it of real nodes, of their lanes, and of dead letters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.cli.lanes import Lanes
from relay.local import LocalChain
from relay.relayer import Relayer
from tests.cli.conftest import Run
from tests.service import nodes

CLIENT = "checkpoint-0"
NAME = f"{CLIENT}/1"


@dataclass
class Pair:
    """A ledger, and a relay that has its lane."""

    folder: Path
    clock: nodes.Clock
    zj: nodes.Running
    hub: nodes.Running
    relayer: Relayer

    def trace(self, run: Run, *also: str, node: nodes.Running | None = None) -> list[Any]:
        """Why it is open, as --json says; the text must say the same, with what is next."""
        asked = (node or self.zj).address
        args = ["packets", "trace", NAME, "--node", asked]
        args += [word for address in also for word in ("--also", address)]
        found = run(*args, "--json").json["why_open"]
        text = run(*args).out
        for why in found:
            assert f"  {why['chain']}: {why['reason']}: {why['detail']}\n" in text
            assert f"    next: {why['next']}\n" in text
        return list(found)

    def turn(self) -> None:
        """The next second, at all three."""
        self.clock.now += 61
        self.zj.node.tick()
        self.hub.node.tick()
        self.relayer.tick(self.clock.now)


@pytest.fixture
def pair(tmp_path: Path, run: Run) -> Iterator[Pair]:
    # The nodes are in this process, and standard output is the commands'; `run` puts it back.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    clock = nodes.Clock()
    zj = nodes.run(tmp_path / "zj", "zj", "ledger", clock=clock)
    lanes = Lanes(tmp_path / "lanes.json", ())
    hub = nodes.run(tmp_path / "hub", "hub", "relay", clock=clock, lanes=lanes)
    here, there = nodes.join(zj, hub)
    assert (here, there) == (CLIENT, CLIENT)
    relayer = Relayer(hub.node.store, LocalChain(hub.node))
    lanes.start(relayer)
    hub.client.register_lane(CLIENT, zj.address)
    made = Pair(tmp_path, clock, zj, hub, relayer)
    yield made
    for node in (zj, hub):
        node.stop()


def reasons(found: list[Any]) -> list[tuple[str, str]]:
    return [(why["chain"], why["reason"]) for why in found]


def test_a_packet_on_its_way_and_one_that_has_come(pair: Pair, run: Run) -> None:
    nodes.send(pair.zj, CLIENT, "one")
    (alone,) = pair.trace(run)
    assert alone["reason"] == "ACKNOWLEDGEMENT_PENDING"
    assert f"packets trace {NAME}/out --node {pair.zj.address} --also" in alone["next"]
    (both,) = pair.trace(run, pair.hub.address)
    assert (both["chain"], both["reason"]) == ("hub", "PACKET_NOT_FOUND")
    assert f"packets clear {CLIENT} --from 1 --to 1 --node {pair.hub.address}" in both["next"]
    pair.relayer.tick(pair.clock.now)
    assert pair.trace(run, pair.hub.address) == []


def test_a_frozen_client_of_the_other_chain(pair: Pair, run: Run) -> None:
    nodes.send(pair.zj, CLIENT, "one")
    pair.hub.client.submit_misbehaviour(CLIENT, nodes.fork(pair.zj))
    pair.relayer.tick(pair.clock.now)
    (why,) = pair.trace(run, pair.hub.address)
    assert (why["chain"], why["reason"]) == ("hub", "CLIENT_FROZEN")
    assert f"clients recover {CLIENT} --from ADDRESS --node {pair.hub.address}" in why["next"]
    # Of what the relay itself sends, its own lane tells.
    nodes.send(pair.zj, CLIENT, "two")
    pair.zj.client.submit_misbehaviour(CLIENT, nodes.fork(pair.hub))
    assert reasons(pair.trace(run)) == [("zj", "CLIENT_FROZEN")]


def test_a_node_that_does_not_answer_loses_nothing_of_the_others(pair: Pair, run: Run) -> None:
    nodes.send(pair.zj, CLIENT, "one")
    args = ["packets", "trace", NAME, "--node", pair.zj.address, "--also", "127.0.0.1:9"]
    done = run(*args)
    assert (done.code, done.reason) == (1, "CHAIN_UNREACHABLE")
    assert "commitment written" in done.out
    assert "  127.0.0.1:9: CHAIN_UNREACHABLE: no node answers" in done.out
    done = run(*args, "--json")
    assert done.code == 1
    assert [step["step"] for step in done.json["steps"]] == ["send"]
    assert ("127.0.0.1:9", "CHAIN_UNREACHABLE") in reasons(done.json["why_open"])


def test_a_lane_that_reaches_nobody_is_told_with_its_packet(pair: Pair, run: Run) -> None:
    nodes.send(pair.hub, CLIENT, "one")
    pair.hub.client.register_lane(CLIENT, "127.0.0.1:9")
    pair.relayer.tick(pair.clock.now)
    found = pair.trace(run, node=pair.hub)
    assert reasons(found) == [("hub", "CHAIN_UNREACHABLE")]
    assert "no node of zj/0 answers at 127.0.0.1:9" in found[0]["next"]


def test_an_answer_that_does_not_reach_who_asked(pair: Pair, run: Run) -> None:
    nodes.send(pair.zj, CLIENT, "one")
    nodes.carry(pair.zj, pair.hub, CLIENT)
    (coming,) = pair.trace(run, pair.hub.address)
    assert (coming["chain"], coming["reason"]) == ("hub", "ACKNOWLEDGEMENT_PENDING")
    assert coming["detail"] == "received there; that is not known here yet"
    assert f"clients lanes --node {pair.hub.address}" in coming["next"]
    asked = ["packets", "trace", f"{NAME}/in", "--node", pair.hub.address]
    asked += ["--also", pair.zj.address, "--json"]
    (same,) = run(*asked).json["why_open"]
    assert same["detail"] == "received here; that is not known there yet"
    pair.zj.client.submit_misbehaviour(CLIENT, nodes.fork(pair.hub))
    pair.relayer.tick(pair.clock.now)
    found = run(*asked).json["why_open"]
    assert reasons(found) == [("hub", "CLIENT_FROZEN"), ("zj", "CLIENT_FROZEN")]


def test_two_histories_that_used_one_sequence(pair: Pair, run: Run) -> None:
    """What the trial of an operator met: after a fork was recovered from, the packet of the new
    history stayed open without a word."""
    nodes.send(pair.zj, CLIENT, "of the history that was lost")
    pair.relayer.tick(pair.clock.now)
    again = nodes.run(pair.folder / "again", "zj", "ledger", clock=pair.clock)
    try:
        nodes.follow(again, pair.hub)
        again.client.register_counterparty(CLIENT, CLIENT)
        pair.hub.client.submit_misbehaviour(CLIENT, nodes.fork(pair.zj))
        head = again.client.head()
        (anchor,) = again.client.headers(0, head.size)
        pair.hub.client.propose_recovery(CLIENT, nodes.pin(again), anchor, 3600)
        nodes.send(again, CLIENT, "of the history that holds")
        pair.hub.client.register_lane(CLIENT, again.address)
        recovering = pair.trace(run, pair.hub.address, node=again)
        assert ("hub", "RECOVERY_PENDING") in reasons(recovering)
        pair.clock.now += 3600
        pair.zj = again
        pair.turn()
        pair.turn()
        found = pair.trace(run, pair.hub.address)
        assert set(reasons(found)) == {("hub", "COMMITMENT_MISMATCH")}
        assert any("to be received was given up" in why["detail"] for why in found)
        (twice,) = [why for why in found if f"as {NAME}/in" in why["detail"]]
        assert f"packets show {NAME}/in --node {pair.hub.address}" in twice["next"]
        assert "lianqiao clients skip CLIENT NEXT" in twice["next"]
        listed = run("packets", "list", "--state", "sent", "--node", again.address)
        assert f"why a packet is open: lianqiao packets trace {NAME}/out --node" in listed.out
        letters = run("packets", "undelivered", "--client", CLIENT, "--node", pair.hub.address)
        assert "given up" in letters.out
        assert "COMMITMENT_MISMATCH" in letters.out
    finally:
        again.stop()


def test_a_list_says_of_open_packets_how_it_stands_with_their_client(pair: Pair, run: Run) -> None:
    nodes.send(pair.zj, CLIENT, "one")
    pair.zj.client.submit_misbehaviour(CLIENT, nodes.fork(pair.hub))
    args = ["packets", "list", "--node", pair.zj.address]
    assert f"{CLIENT}: the keys of hub/0 signed" in run(*args).out
    (told,) = run(*args, "--json").json["clients"]
    assert (told["client_id"], told["state"]) == (CLIENT, "frozen")
    assert f"clients recover {CLIENT}" in told["next"]


def test_packets_of_a_client_that_is_not_there(pair: Pair, run: Run) -> None:
    for command in ("list", "undelivered"):
        done = run("packets", command, "--client", "checkpoint-7", "--node", pair.hub.address)
        assert (done.code, done.reason) == (1, "CLIENT_NOT_FOUND")
    done = run("packets", "undelivered", "--node", pair.zj.address)
    assert (done.code, done.reason) == (1, "NOT_PERMITTED")


def test_status_counts_what_judges_nothing_and_what_stands_still(pair: Pair, run: Run) -> None:
    args = ["status", "--node", pair.hub.address]
    assert run(*args, "--json").json["not_active"] == []
    assert "clients       1\n" in run(*args).out
    pair.hub.client.register_lane(CLIENT, "127.0.0.1:9")
    pair.relayer.tick(pair.clock.now)
    listing = f"lianqiao clients list --node {pair.hub.address}"
    assert f"clients       1 (1 unreachable: {listing})\n" in run(*args).out
    (told,) = run(*args, "--json").json["not_active"]
    assert (told["client_id"], told["state"]) == (CLIENT, "unreachable")
    assert (told["reason"], "127.0.0.1:9" in told["next"]) == ("CHAIN_UNREACHABLE", True)
    pair.hub.client.submit_misbehaviour(CLIENT, nodes.fork(pair.zj))
    assert f"clients       1 (1 frozen: {listing})\n" in run(*args).out


def test_clear_says_what_is_in_its_way_and_where_to_look_next(pair: Pair, run: Run) -> None:
    args = ["packets", "clear", CLIENT, "--node", pair.hub.address]
    out = run(*args, "--from", "1000000", "--to", "2000000").out
    assert f"nothing of {CLIENT} waits from sequence 1000000 to 2000000" in out
    assert "taken up again" not in out
    for command in ("list", "undelivered"):
        assert f"packets {command} --client {CLIENT} --node {pair.hub.address}\n" in out
    (lane,) = pair.relayer.lanes
    lane.stopped = ("INVALID_CONSISTENCY", "the newer tree does not extend the older one")
    assert f"\n{CLIENT}: its lane stands still, INVALID_CONSISTENCY" in run(*args).out
    (told,) = run(*args, "--json").json["not_active"]
    assert (told["state"], told["reason"]) == ("active", "INVALID_CONSISTENCY")
    assert "(1 stopped: lianqiao clients list" in run("status", "--node", pair.hub.address).out
    nodes.send(pair.hub, CLIENT, "forgotten")
    pair.relayer.outbox.save(CLIENT, "out", cursor=10**6)
    assert "0 that were given up, 1 that waited nowhere" in run(*args).out


def test_refusals_that_an_installed_program_must_explain_itself(pair: Pair, run: Run) -> None:
    """No README lies beside it."""
    on = ("--node", pair.zj.address)
    nodes.send(pair.zj, CLIENT, "one")
    done = run("clients", "skip", CLIENT, "1", *on)
    assert (done.code, done.reason) == (1, "SEQUENCE_USED")
    assert "to a greater NEXT" in done.err
    done = run("packets", "resend", "--port", "registry", *on)
    assert (done.code, done.reason) == (1, "PORT_NOT_FOUND")
    assert "no contract runs on port registry" in done.err
    assert "contracts of this node: echo" in done.err
