"""Nodes killed in the middle and started again: nothing is lost, nothing is done twice.

The demonstration's own three processes. Each is killed (-9) at another moment of the story, once
while a call is under way; callers repeat what got no answer, as clients do. In the end counts,
packets and the access log say that everything happened exactly once, and `lianqiao fsck`
recomputes all three nodes from their journals.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from relay.client import NodeClient, connect
from relay.contracts.catalogue import shipped
from relay.contracts.payloads import Decision
from relay.demo.delivery import build_fetch, build_outcome
from relay.demo.generator import generate
from relay.demo.stage import ASKING, RELAY, SOURCE, Stage
from relay.demo.story import (
    RECEIVER,
    Case,
    attest_all,
    build_request,
    cases_of_generated,
    introduce,
)
from relay.disclosure.asks import Fetched
from relay.errors import Unavailable
from relay.ledger_views import RecognitionState
from relay.record.audit import Act
from relay.views import Direction, PacketState
from tests.e2e.conftest import command, environment, processes_of

pytestmark = pytest.mark.slow
"""Longer than a day's run should take; .ci/run has it."""

COUNT = 12
WAIT_SECONDS = 40
_T = TypeVar("_T")


def quiet(step: str, done: int, of: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = Stage(tmp_path_factory.mktemp("restart") / "demo", keep=True)
    made.prepare()
    with made:
        made.start()
        relay = made.processes[RELAY].address
        for name in (SOURCE, ASKING):
            made.command("connect", "--node", made.processes[name].address, "--relay", relay)
        introduce(made, int(time.time()))
        yield made


def until(what: Callable[[], _T]) -> _T:
    """What a call answers once it answers, and once its answer is not empty."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        try:
            found = what()
        except Unavailable:
            found = None
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that in time")


def killed_in(stage: Stage, name: str, seconds: float, call: Callable[[], _T]) -> _T:
    """Runs a call while a node is killed and started again; the call is repeated until answered."""

    def strike() -> None:
        time.sleep(seconds)
        stage.kill(name)
        stage.restart(name)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        return until(call)
    finally:
        thread.join()


def fresh(stage: Stage, name: str) -> NodeClient:
    """A client of its own, which no kill closes."""
    return connect(stage.processes[name].address, 10)


def test_nothing_is_lost_or_doubled_by_kill_9(stage: Stage) -> None:
    now = int(time.time())
    made = generate(json.loads(shipped()), seed=11, now=now, count=COUNT, share=0)
    cases = cases_of_generated(made)
    with (
        fresh(stage, SOURCE) as source,
        fresh(stage, RELAY) as relay,
        fresh(stage, ASKING) as asking,
    ):
        _attest(stage, cases, now, source)
        decisions = _decide(stage, cases, now, asking)
        _fetch(stage, decisions, source)
        _report(stage, cases, decisions, asking)
        until(lambda: not any(n.status().packets_open for n in (source, relay, asking)))
        _check_counts(cases, decisions, source, relay, asking)
        _check_packets(source, relay, asking)
        _check_access(decisions, source)
    _check_offline(stage)


def _attest(stage: Stage, cases: list[Case], now: int, source: NodeClient) -> None:
    """The relay dies with attestations on their way to it."""
    attest_all(stage, cases, now, quiet)
    stage.kill(RELAY)
    assert source.status().packets_open > 0
    stage.restart(RELAY)
    until(lambda: not source.status().packets_open)


def _decide(stage: Stage, cases: list[Case], now: int, asking: NodeClient) -> dict[bytes, Decision]:
    """The asking ledger dies in the middle of a call, the source while it is given grants."""
    requests = [build_request(stage, case, now) for case in cases]
    killed_in(stage, ASKING, 0.02, lambda: asking.request_recognition(requests))
    stage.kill(SOURCE)
    stage.restart(SOURCE)
    wanted = {request.request for request in requests}

    def decided() -> dict[bytes, Decision]:
        views = [v for v in asking.recognitions() if v.state is RecognitionState.DECIDED]
        found = {v.request.request: v.decision for v in views if v.decision is not None}
        return found if found.keys() == wanted else {}

    found = until(decided)
    for case, request in zip(cases, requests, strict=True):
        case.request, case.view = request, asking.recognition(request.request)
        assert case.findings == [(e.part, e.findings) for e in case.expected], case.name
    return found


def _fetch(stage: Stage, decisions: dict[bytes, Decision], source: NodeClient) -> None:
    """Every grant is good, after all this, for one fetch of all its parts."""
    until(lambda: len(list(source.grants())) == len(decisions))
    time.sleep(1.1)  # what was signed in the second before the restart is signed again
    fetches = [build_fetch(stage, d.commitment, d.grant, RECEIVER.id) for d in decisions.values()]
    answers = list(source.fetch_records(fetches))
    assert all(isinstance(answer, Fetched) for answer in answers), answers


def _report(
    stage: Stage, cases: list[Case], decisions: dict[bytes, Decision], asking: NodeClient
) -> None:
    """The relay dies while outcomes come in; each call is repeated until it is answered."""
    outcomes = [build_outcome(stage, case, again=None) for case in cases]
    strike = iter([lambda call: killed_in(stage, RELAY, 0.0, call)])
    for outcome in outcomes:
        run = next(strike, lambda call: until(call))
        run(lambda outcome=outcome: [asking.report_outcome(outcome)])
    assert [asking.report_outcome(outcome) for outcome in outcomes] == [None] * len(decisions)


def _check_counts(
    cases: list[Case],
    decisions: dict[bytes, Decision],
    source: NodeClient,
    relay: NodeClient,
    asking: NodeClient,
) -> None:
    records = list(source.records())
    assert len(records) == len({r.commitment for r in records}) == COUNT
    assert all([a.accepted for a in record.announcements] == [True] for record in records)
    assert len(list(asking.recognitions())) == COUNT
    made = [view.decision for view in relay.decisions()]
    assert {d.request: d for d in made} == decisions
    assert len(made) == len(list(relay.outcomes())) == COUNT
    grants = [notice.grant for notice in source.grants()]
    assert sorted(grants) == sorted(d.grant for d in decisions.values())
    counted = sum(count.count for count in relay.count_outcomes())
    assert counted == sum(len(d.recognised) for d in decisions.values())


def _check_packets(source: NodeClient, relay: NodeClient, asking: NodeClient) -> None:
    """Of every packet one end sent it and the other received it, once, without a gap."""
    for ledger in (source, asking):
        (view,) = [v for v in ledger.clients() if v.counterparty_client_id]
        here, there = view.client_id, view.counterparty_client_id
        for sender, receiver, ours, theirs in (
            (ledger, relay, here, there),
            (relay, ledger, there, here),
        ):
            sent = [p for p in sender.packets(client_id=ours) if p.direction is Direction.OUT]
            received = [
                p for p in receiver.packets(client_id=theirs) if p.direction is Direction.IN
            ]
            assert all(p.state is PacketState.ACKNOWLEDGED for p in sent)
            numbers = [p.packet.sequence for p in sent]
            assert numbers == list(range(1, len(numbers) + 1))
            assert sorted(p.packet.sequence for p in received) == numbers
            assert {p.packet for p in sent} == {p.packet for p in received}


def _check_access(decisions: dict[bytes, Decision], source: NodeClient) -> None:
    accesses = [entry.access for entry in source.access_log()]
    fetched = Counter(access.record for access in accesses if access.act is Act.FETCH)
    assert len(fetched) == len(decisions)
    assert set(fetched.values()) == {1}


def _check_offline(stage: Stage) -> None:
    """fsck of each database, once its node is stopped."""
    for name in (SOURCE, ASKING, RELAY):
        stage.kill(name)
    assert processes_of(stage.directory) == []
    checks = [
        subprocess.Popen(
            command("fsck", "--config", stage.processes[name].directory / "config.toml"),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in (SOURCE, ASKING, RELAY)
    ]
    for check in checks:
        told, _ = check.communicate(timeout=60)
        assert check.returncode == 0, told
        assert "all is as it should be" in told
    for name in (SOURCE, ASKING, RELAY):
        assert Path(stage.processes[name].directory, "node.db").exists()
