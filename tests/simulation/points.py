"""Every fault point of some scenarios: each commit and each call out, with each act.

A scenario is run once to count its effects. Then, for every effect and each of {request lost,
reply lost, crash before, crash after}: run, start again what went down, drain, check everything.

    records   packets both ways over two lanes, answered at once, later, not at all; a new set
    money     settlements between two ledgers that witness their relay: committed, refused on one
              side, timed out on the other, netted in a window; a deposit, a withdrawal
    upkeep    (tests.simulation.upkeep) a chain is connected, keys change, a backlog is cleared
    stolen    (tests.simulation.repairs) two histories are caught and told; clients recovered
    lapsed    (the same) entries that are lost for good, the next epoch, a night too long
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from relay.errors import Reason
from tests.simulation.drain import Drain
from tests.simulation.fate import EXHAUSTED, Act, Single
from tests.simulation.money.options import Money
from tests.simulation.options import Edge, Options
from tests.simulation.repairs import Repaired, play_lapsed, play_stolen, play_witnessed
from tests.simulation.run import silence
from tests.simulation.upkeep import Upkeep, UpkeepDrain, play_upkeep
from tests.simulation.world import World

_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is played, and in which network."""

    name: str
    options: Options
    turns: int
    play: Callable[[World, int], None]
    """Begins what begins in that turn."""
    met: tuple[str, ...] = ()
    """Marks without which it has not been played to its end."""
    world: type[World] = World
    drain: Callable[[Any], Drain] = Drain
    answers: bool = True
    """Whether what was deferred is answered with the next turn."""


def run_point(scenario: Scenario, at: int, act: Act | None) -> list[str]:
    """Runs the scenario with one act at one effect; the effects that it met. Raises Broken."""
    fate = Single(at, act)
    with silence():
        world = scenario.world(scenario.options, fate)
        world.reasons.down.add(Reason.LIMIT_EXCEEDED)  # a file beside the keys cannot be written
        try:
            _play(world, scenario)
            scenario.drain(world).run()
            missing = [mark for mark in scenario.met if not world.marks[mark]]
            assert not missing, f"not met: {missing}"
        finally:
            world.close()
    return fate.seen


def points(scenario: Scenario) -> Iterator[tuple[int, Act, str]]:
    """(effect, act, what it is) for every effect of the scenario."""
    for at, what in enumerate(run_point(scenario, -1, None)):
        for act in EXHAUSTED:
            yield at, act, what


def _play(world: World, scenario: Scenario) -> None:
    world.fate.enabled = True
    for turn in range(scenario.turns):
        scenario.play(world, turn)
        world.clock.now += _SECONDS
        for name, observer in world.observers.items() if scenario.answers else ():
            world.users.answer(name, list(observer.deferred), 1.0)
        world.turn()
        world.check()
        world.restart_all()


# --- records


def _play_records(world: World, turn: int) -> None:
    """Packets both ways over both lanes: received, answered later, refused, sent on, expired; a
    set that changes; and a node that is started again."""
    now = world.clock.now
    if turn == 0:
        for name, to in (("zj", "hub"), ("hub", "zj"), ("hub", "sh"), ("sh", "hub")):
            world.users.send(name, to, "tally", _value(world, "echo"), now + 600, again=True)
        world.users.send("zj", "hub", "rally", _rally(world, 2), now + 600, again=True)
    if turn == 1:
        world.users.send("zj", "hub", "tally", _value(world, "defer"), now + 600, again=True)
        world.users.send("sh", "hub", "tally", _value(world, "fail"), now + 600, again=False)
        _part(world, "", False)
        world.users.send("hub", "zj", "tally", _value(world, "echo"), now + 10, again=True)
    if turn == 2:
        _part(world, "", True)
        world.operators.rotate(world.processes["zj"])


def _part(world: World, chain: str, reachable: bool) -> None:
    """Cuts every way to a chain (empty: to all), or heals it; witnesses are asked by ways of
    their own."""
    for (_, remote), wires in world.wires.items():
        for wire in wires if chain in ("", remote) else ():
            wire.memory.reachable = reachable


def _value(world: World, command: str) -> str:
    return f"{command}:{len(world.users.intents) + 1}"


def _rally(world: World, hops: int) -> str:
    return f"{hops}:{len(world.users.intents) + 1}:hub,sh,hub,zj"


_RECORDS = Options(
    seed=0,
    ticks=0,
    nodes=("hub", "zj", "sh"),
    edges=(Edge("hub", "zj", "near"), Edge("hub", "sh", "far")),
    witnessed="hub",
    witness_quorum=2,
)

# --- money

_POOR = 400_000
"""Funds of each account. The payer gets as much again, so that what the maker cannot pay is locked
on one side and refused on the other."""


def _play_money(world: World, turn: int) -> None:
    """See the module docstring; `zj` pays, `sh` is paid."""
    assert world.money is not None
    users, now = world.money.users, world.clock.now

    def instruct(name: str, bill: int, life: int, *, netted: bool = False) -> None:
        users.instruct("hub", ["zj"], "sh", bill, name, now + life, fee=7, netted=netted)

    if turn == 0:
        users.deposit("zj", "payer", _POOR)
        instruct("q-right", 118_000, 900)
        instruct("q-poor", 300_000, 900)
        users.open_window("hub", now + 900)
    if turn == 1:
        instruct("q-first", 20_000, 900, netted=True)
        instruct("q-second", 30_000, 900, netted=True)
        _part(world, "sh", False)
        instruct("q-late", 5_000, 30)
    if turn == 2:
        users.cut_off("hub")
        users.withdraw("sh", "maker-cny", 1_000, now)
    if turn == 4:
        _part(world, "sh", True)
        users.open_window("hub", now + 60)  # nobody cuts it off: the node does


_MONEY = replace(_RECORDS, edges=(Edge("hub", "zj", "near"), Edge("hub", "sh", "near")))
_UPKEEP = replace(_MONEY, witnessed="", witness_quorum=0)

SCENARIOS = {
    one.name: one
    for one in (
        Scenario("records", _RECORDS, 5, _play_records),
        Scenario(
            "money",
            replace(_MONEY, money=Money(funds=_POOR)),
            9,
            _play_money,
            tuple(f"money: {what}" for what in ("committed", "ended refunded", "ended nothing")),
        ),
        Scenario(
            "upkeep",
            _UPKEEP,
            5,
            play_upkeep,
            ("sent done",),
            Upkeep,
            UpkeepDrain,
            answers=False,
        ),
        Scenario(
            "stolen",
            replace(_UPKEEP, edges=(*_MONEY.edges, Edge("zj", "sh", "far"))),
            9,
            play_stolen,
            ("duty: trust again",),
            Repaired,
            UpkeepDrain,
        ),
        Scenario(
            "witnessed",
            replace(
                _RECORDS,
                nodes=("hub", "zj"),
                edges=(Edge("hub", "zj", "far"),),
                witness_quorum=1,
            ),
            5,
            play_witnessed,
            ("duty: ask a witness",),
            Repaired,
            UpkeepDrain,
        ),
        Scenario(
            "lapsed",
            replace(
                _UPKEEP,
                nodes=("hub", "zj"),
                edges=_MONEY.edges[:1],
                trusting_period=7200,
            ),
            16,
            play_lapsed,
            ("duty: skip", "duty: sleep"),
            Repaired,
            UpkeepDrain,
        ),
    )
}
