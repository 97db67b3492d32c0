"""Four institutions replicate a money ledger on real CometBFT; settlements cross it and a ledger
of one node while parts of both, and the relayer between them, are killed. The books agree."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from relay.contracts.settlement import SettlementStatus
from relay.demo.clearing.story import HK, HUB, SZ, Cast, closed, set_up
from relay.demo.ports import free_ports
from relay.demo.stage import Process, Stage
from relay.errors import Reason, Refused
from relay.fixings import fixing, last_day
from relay.money_views import Shown
from tests.adapters.engine.network import Network, Validator, eventually, lianqiao
from tests.adapters.engine.test_network import heights, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class ReplicatedLedger(Stage):
    """The stage of the settlement story; its first ledger is four replicas with their CometBFT."""

    replicated = True
    network: Network

    def start(self) -> None:
        """See Stage; the ledger's process is the first replica."""
        nodes = self.directory / "nodes"
        self.network = Network(nodes, role="ledger", chain=HK)
        self.network.make(4)
        self.network.found()
        for name in (HUB, SZ):
            (port,) = free_ports(1)
            where, address = nodes / name, f"127.0.0.1:{port}"
            role = self.roles[name]
            self.command(
                "init", str(where), "--chain-id", name, "--role", role, "--listen", address
            )
            self.processes[name] = self._serve(name, where, address)
            self._wait_serving(name)
        self.network.start()
        first = self.network.validators[0]
        assert first.process is not None
        log = nodes / f"{first.directory.name}.log"
        self.processes[HK] = Process(first.directory, first.address, first.process, log)

    def check(self) -> None:
        """Replicas are killed here on purpose."""


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cast]:
    roles = {HK: "ledger", SZ: "ledger", HUB: "relay"}
    stage = ReplicatedLedger(tmp_path_factory.mktemp("money") / "demo", keep=True, roles=roles)
    stage.prepare()
    with stage:
        try:
            yield set_up(stage, fixing("CNY", "HKD", last_day()), lambda *_: None)
        finally:
            stage.processes.pop(HK, None)
            stage.network.stop()


def network(cast: Cast) -> Network:
    assert isinstance(cast.stage, ReplicatedLedger)
    return cast.stage.network


def both(one: Validator) -> None:
    """A machine that loses power: CometBFT and its application."""
    one.kill_comet()
    one.kill()


def again(one: Validator) -> None:
    one.start()
    one.revive()


def locked(shown: Shown) -> bool:
    return bool(shown.view.answers)


def decided(shown: Shown) -> bool:
    return shown.view.decision is not None


def begun(shown: Shown) -> bool:
    return True


def ended(cast: Cast, settlement: bytes) -> SettlementStatus:
    """How it ended, whatever has to be started again for it."""

    def done() -> Shown | None:
        shown = cast.stage.node(HUB).settlement(settlement)
        return shown if closed(shown) else None

    shown: Shown = network(cast).eventually(done)
    return shown.view.status


def settle_while(
    cast: Cast, until: Callable[[Shown], bool], kill: Callable[[], None], start: Callable[[], None]
) -> SettlementStatus:
    """A settlement of which something is killed at a step, and started again."""
    one = cast.begin()
    cast.wait(one.settlement, until)
    kill()
    time.sleep(0.5)
    start()
    return ended(cast, one.settlement)


def kill_relayer(cast: Cast) -> None:
    cast.stage.kill(HUB)


STEPS = pytest.mark.parametrize("until", [begun, locked, decided])


@STEPS
def test_a_validator_is_killed(cast: Cast, until: Callable[[Shown], bool]) -> None:
    """One of four is not missed: what was begun ends before it is back."""
    fourth = network(cast).validators[3]
    one = cast.begin()
    cast.wait(one.settlement, until)
    both(fourth)
    assert ended(cast, one.settlement) is SettlementStatus.SETTLED
    again(fourth)
    network(cast).eventually(lambda: network(cast).head(fourth))


@STEPS
def test_the_replica_that_the_relay_asks_is_killed(
    cast: Cast, until: Callable[[Shown], bool]
) -> None:
    first = network(cast).validators[0]
    cast.stage._drop(HK)
    status = settle_while(cast, until, lambda: both(first), lambda: again(first))
    assert status is SettlementStatus.SETTLED


def test_a_lane_goes_on_by_another_replica(cast: Cast) -> None:
    """The one that it goes through is gone, and the next; nobody does anything about it."""
    chain = network(cast)
    hub = cast.stage.processes[HUB].address
    reached = [part for one in chain.validators for part in ("--address", one.address)]
    first = chain.validators[0]
    join = ("connect", "--node", first.address, "--relay", hub)
    assert "connected already" in cast.stage.command(*join, *reached)
    for gone in chain.validators[:2]:
        one = cast.begin()
        cast.stage._drop(HK)
        both(gone)
        assert ended(cast, one.settlement) is SettlementStatus.SETTLED
        gone.start()
        chain.eventually(lambda gone=gone: chain.head(gone))
    # Its own CometBFT answers a little later than it.
    chain.eventually(lambda: cast.stage.command(*join))


@STEPS
def test_an_application_alone_is_killed(cast: Cast, until: Callable[[Shown], bool]) -> None:
    """Its CometBFT waits for it, or ends and is started again as by a service manager."""
    first = network(cast).validators[0]
    assert settle_while(cast, until, first.kill, first.start) is SettlementStatus.SETTLED


@STEPS
def test_the_relayer_is_killed(cast: Cast, until: Callable[[Shown], bool]) -> None:
    def start() -> None:
        cast.stage.restart(HUB)

    assert settle_while(cast, until, lambda: kill_relayer(cast), start) is SettlementStatus.SETTLED


def test_a_disk_is_full_for_a_while(cast: Cast) -> None:
    """No block is committed there, the others go on, and it goes on with them afterwards."""
    chain = network(cast)
    third = chain.validators[2]
    assert third.process is not None
    serving = children(third.process.pid)[0]
    unlimited = resource.prlimit(serving, resource.RLIMIT_FSIZE)
    told = third.directory.parent / f"{third.directory.name}.comet.log"
    failures = told.read_bytes().count(b"CONSENSUS FAILURE")
    one = cast.begin()
    resource.prlimit(serving, resource.RLIMIT_FSIZE, (0, unlimited[1]))
    try:
        assert ended(cast, one.settlement) is SettlementStatus.SETTLED
        eventually(lambda: told.read_bytes().count(b"CONSENSUS FAILURE") > failures)
        stood = chain.head(third)
        assert stood < chain.head(chain.validators[0])
    finally:
        resource.prlimit(serving, resource.RLIMIT_FSIZE, unlimited)

    chain.eventually(lambda: chain.head(third) >= chain.head(chain.validators[0]))
    assert chain.head(third) > stood


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_without_its_quorum_a_ledger_waits_and_nothing_is_lost(cast: Cast) -> None:
    """Two of four are away: no block, no lock, no refusal. What had its time before they are back
    is refunded on both sides, by the time of the block that they make then."""
    away = network(cast).validators[2:]
    for one in away:
        both(one)
    waits, late = cast.begin(), short(cast)
    expires = late.view.signed.instruction.quote.expires
    while time.time() <= expires + 1:
        time.sleep(0.1)
    shown = cast.stage.node(HUB).settlement(waits.settlement)
    assert not decided(shown)
    assert HK not in {answer.ledger for answer in shown.view.answers}
    for one in away:
        again(one)
    assert ended(cast, waits.settlement) is SettlementStatus.SETTLED
    assert ended(cast, late.settlement) is SettlementStatus.RETURNED
    found = cast.stage.node(HUB).settlement(late.settlement).view.decision
    assert found is not None
    assert found.reason is Reason.TIMED_OUT


def short(cast: Cast) -> Shown:
    """A settlement whose quote ends soon; a slow machine gets a longer one."""
    for seconds in (8, 40):
        with suppress(Refused):
            return cast.begin(seconds=seconds)
    return cast.begin(seconds=200)


def test_the_books_of_all_agree(cast: Cast) -> None:
    """After all that: each replica's books, proven from signed heads, and their files alone."""
    chain, stage = network(cast), cast.stage

    def caught_up() -> bool:
        resting = not any(stage.node(name).status().packets_open for name in (HUB, SZ))
        return resting and len(heights(chain)) == 1

    stage._drop(HK)
    chain.eventually(caught_up)
    trust = ("--trust", str(stage.trust_file), "--json")
    others = [w for n in (HUB, SZ) for w in ("--node", stage.processes[n].address)]
    told = []
    for number, one in enumerate(chain.validators):
        books = stage.directory / f"books-{number}.json"
        nodes = (*others, "--node", one.address)
        stage.command("reconcile", *nodes, "--save", str(books), *trust)
        told.append(json.loads(stage.command("reconcile", str(books), *trust)))
    assert all(one["agrees"] and one["breaks"] == [] for one in told)
    assert len({(one["settlements"], one["lines"]) for one in told}) == 1
    total = {"HKD": 0, "CNY": 0}
    for name in (HK, SZ):
        for account in stage.node(name).accounts():
            assert account.held == 0
            total[account.currency] += account.balance
    assert total == {"HKD": 0, "CNY": 0}, "what was paid in stands against its nostro"
    assert len({tuple(rows(one)) for one in chain.validators}) == 1
    chain.stop()
    for one in chain.validators:
        lianqiao("fsck", "--config", one.directory / "config.toml")
