"""Four institutions replicate a relay on real CometBFT; records cross it while parts are killed."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.cometbft.engine.local_rpc import LocalRpc
from relay.client import NodeClient
from relay.contracts.catalogue import shipped
from relay.demo.generator import generate
from relay.demo.ports import free_ports
from relay.demo.stage import ASKING, RELAY, SOURCE, Process, Stage
from relay.demo.story import attest_all, build_request, cases_of_generated, introduce
from relay.ledger_views import RecognitionState
from relay.powers import Power
from relay.store import Store
from relay.store.dump import dump
from tests.adapters.engine.network import Network, Validator, eventually, ledger, lianqiao, ran
from tests.databases import postgresql_url

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
COUNT = 12


class Replicated(Stage):
    """The stage of the demonstration with a replicated relay in the middle."""

    network: Network

    def start(self) -> None:
        """The ledgers as ever; the relay's process is the first replica."""
        self.network = Network(self.directory / "nodes", chain=RELAY, interval=8)
        self.network.make(4)
        self.network.found()
        self.begin_ledgers()
        self.network.start()
        first = self.network.validators[0]
        assert first.process is not None
        log = self.directory / "nodes" / f"{first.directory.name}.log"
        self.processes[RELAY] = Process(first.directory, first.address, first.process, log)

    def begin_ledgers(self) -> None:
        """The two of them, served."""
        for name in (SOURCE, ASKING):
            (port,) = free_ports(1)
            where, address = self.directory / "nodes" / name, f"127.0.0.1:{port}"
            self.command(
                "init", str(where), "--chain-id", name, "--role", "ledger", "--listen", address
            )
            self.processes[name] = self._serve(name, where, address)
            self._wait_serving(name)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    made = Replicated(tmp_path_factory.mktemp("replicated") / "demo", keep=True)
    made.prepare()
    with made:
        made.start()
        try:
            yield made
        finally:
            relay = made.processes.pop(RELAY)
            made.network.stop()
            assert relay.address


def quiet(step: str, done: int, of: int) -> None:
    """Nobody watches."""


def heights(network: Network) -> set[int]:
    return {network.head(one) for one in network.validators}


def at_rest(*nodes: NodeClient) -> bool:
    return not any(node.status().packets_open for node in nodes)


def rows(one: Validator) -> list[tuple[Any, ...]]:
    store = Store(one.database) if one.database else Store.at(one.directory / "node.db")
    try:
        with store.read() as connection:
            return list(dump(connection))
    finally:
        store.close()


def test_records_cross_a_replicated_relay_whatever_is_killed(stage: Replicated) -> None:
    network = stage.network
    first, second, third, fourth = network.validators
    for name in (SOURCE, ASKING):
        said = stage.command(
            "connect", "--node", stage.processes[name].address, "--relay", first.address
        )
        assert "connected" in said
    now = int(time.time())
    introduce(stage, now)
    cases = cases_of_generated(
        generate(json.loads(shipped()), seed=5, now=now, count=COUNT, share=0)
    )
    source, asking = stage.node(SOURCE), stage.node(ASKING)
    # any replica may run lanes, and all do no more than one
    with first.client() as a, second.client() as b:
        for lane in a.lanes():
            b.register_lane(lane.client_id, lane.address, lane.adapter)

    # a validator's CometBFT is killed while attestations are on their way
    fourth.kill_comet()
    attest_all(stage, cases, now, quiet)
    eventually(lambda: at_rest(source))
    fourth.start_comet()

    # an application alone is killed: its CometBFT ends by itself, and both come back
    third.kill()
    requests = [build_request(stage, case, now) for case in cases]
    asking.request_recognition(requests[: COUNT // 2])
    third.start()
    # who makes blocks changes in mid-traffic
    with second.client() as node:
        made = json.loads((fourth.directory / "join.json").read_text())
        changed = Power("ed25519", bytes.fromhex(made["validator_key"]), 7)
        node.propose_powers([changed])
    # the relayer is killed, application and all; the second one goes on
    first.kill()
    asking.request_recognition(requests[COUNT // 2 :])

    def decided() -> bool:
        done = [v for v in asking.recognitions() if v.state is RecognitionState.DECIDED]
        return len(done) == COUNT

    network.eventually(decided)
    for case, request in zip(cases, requests, strict=True):
        case.request, case.view = request, asking.recognition(request.request)
        assert case.as_expected, case.view
    first.start()
    stage._drop(RELAY)

    def settled() -> bool:
        with first.client() as node:
            return at_rest(source, asking, node)

    network.eventually(settled)

    # one that joins late begins from a snapshot
    late = network.join_late()
    network.eventually(lambda: network.head(late) > 0)
    assert not list((late.directory / "snapshots").glob(".incoming"))

    network.eventually(lambda: len(heights(network)) == 1)
    with late.client() as node, second.client() as other:
        views = {d.request: d for d in (v.decision for v in node.decisions())}
        assert len(views) == COUNT
        assert views == {d.request: d for d in (v.decision for v in other.decisions())}
        assert [p.packet for p in node.packets()] == [p.packet for p in other.packets()]
    network.eventually(lambda: len({tuple(rows(one)) for one in network.validators}) == 1)
    powers = LocalRpc(second.rpc).validators(network.head(second))
    assert sorted(int(one["voting_power"]) for one in powers) == [7, 10, 10, 10]
    network.stop()
    for one in network.validators:
        lianqiao("fsck", "--config", one.directory / "config.toml")


def needs(one: Validator, quorum: int) -> bool:
    """Whether so many operators must agree, as one replica tells it."""
    with one.client() as node:
        return node.operators()[1] == quorum


def test_three_of_four_institutions_join_a_ledger(tmp_path: Path) -> None:
    """Each at his own replica, one of them on PostgreSQL: what the first was told is all that the
    others need, though the ledger has newer heads meanwhile."""
    network = Network(tmp_path, chain="shared", quorum=3)
    network.databases = {1: postgresql_url(tmp_path / "replica")}
    network.make(4)
    network.found()
    zj = ledger(tmp_path, "zj")
    zj.start()
    try:
        network.start()
        eventually(lambda: zj.client().status().head)
        one, two, three, four = network.validators
        command = ["connect", "--node", zj.address, "--relay", one.address, "--json"]
        told = ran(*command)
        assert told.returncode == 1, told.stdout
        said = json.loads(told.stderr.splitlines()[-1])
        assert (said["reason"], said["data"]["needed"]) == ("APPROVAL_PENDING", "3")
        line = shlex.split(said["data"]["next"])[1:]
        for replica, code in ((two, 1), (three, 0)):
            typed = [replica.address if part == one.address else part for part in line]
            assert ran(*typed, database=replica.database).returncode == code
        (ours,) = eventually(lambda: list(four.client().clients()))
        (theirs,) = zj.client().clients()
        assert ours.counterparty_client_id == theirs.client_id
        # three agree that two are enough from now on, and two make it three again
        for quorum, codes in ((2, (1, 1, 0)), (3, (1, 0))):
            change = ("operators", "change", "--quorum", str(quorum), "--node")
            for replica, code in zip((four, two, one), codes, strict=False):
                assert ran(*change, replica.address).returncode == code
            eventually(partial(needs, three, quorum))
        eventually(lambda: len(heights(network)) == 1)
        eventually(lambda: len({tuple(rows(one)) for one in network.validators}) == 1)
    finally:
        zj.stop()
        network.stop()
    for one in network.validators:
        lianqiao("fsck", "--config", one.directory / "config.toml", database=one.database)
