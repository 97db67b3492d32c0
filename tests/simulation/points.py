"""Every fault point of one scenario: each commit and each call out, with each act.

The scenario is run once to count its effects. Then, for every effect and each of {request lost,
reply lost, crash before, crash after}: run, start again what went down, drain, check everything.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulation.drain import Drain
from tests.simulation.fate import EXHAUSTED, Act, Single
from tests.simulation.options import Edge, Options
from tests.simulation.run import silence
from tests.simulation.world import World

SCENARIO = Options(
    seed=0,
    ticks=0,
    nodes=("hub", "zj", "sh"),
    edges=(Edge("hub", "zj", "near"), Edge("hub", "sh", "far")),
    witnessed="hub",
    witness_quorum=2,
)
_TURNS = 5
_SECONDS = 20


def run_point(at: int, act: Act | None) -> list[str]:
    """Runs the scenario with one act at one effect; the effects that it met. Raises Broken."""
    fate = Single(at, act)
    with silence():
        world = World(SCENARIO, fate)
        try:
            _play(world)
            Drain(world).run()
        finally:
            world.close()
    return fate.seen


def points() -> Iterator[tuple[int, Act, str]]:
    """(effect, act, what it is) for every effect of the scenario."""
    for at, what in enumerate(run_point(-1, None)):
        for act in EXHAUSTED:
            yield at, act, what


def _play(world: World) -> None:
    """Packets both ways over both lanes: received, answered later, refused, sent on, expired; a
    set that changes; and a node that is started again."""
    world.fate.enabled = True
    for turn in range(_TURNS):
        now = world.clock.now
        if turn == 0:
            for name, to in (("zj", "hub"), ("hub", "zj"), ("hub", "sh"), ("sh", "hub")):
                world.users.send(name, to, "tally", _value(world, "echo"), now + 600, again=True)
            world.users.send("zj", "hub", "rally", _rally(world, 2), now + 600, again=True)
        if turn == 1:
            world.users.send("zj", "hub", "tally", _value(world, "defer"), now + 600, again=True)
            world.users.send("sh", "hub", "tally", _value(world, "fail"), now + 600, again=False)
            _part(world, False)
            world.users.send("hub", "zj", "tally", _value(world, "echo"), now + 10, again=True)
        if turn == 2:
            _part(world, True)
            world.operators.rotate(world.processes["zj"])
        world.clock.now += _SECONDS
        for name, observer in world.observers.items():
            world.users.answer(name, list(observer.deferred), 1.0)
        world.turn()
        world.check()
        world.restart_all()


def _part(world: World, reachable: bool) -> None:
    """Cuts every way, or heals it; witnesses are asked by ways of their own."""
    for wires in world.wires.values():
        for wire in wires:
            wire.memory.reachable = reachable


def _value(world: World, command: str) -> str:
    return f"{command}:{len(world.users.intents) + 1}"


def _rally(world: World, hops: int) -> str:
    return f"{hops}:{len(world.users.intents) + 1}:hub,sh,hub,zj"
