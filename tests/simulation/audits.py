"""The product's own fsck of nodes in a simulation: of each at the end, and of some on the way.

It reads a whole journal and verifies whatever is stored: of every node after every tick it would
make a seed longer by a third. So one node in five is drawn in each tick, whether its process runs
or was just killed, by a generator of its own: nothing else in a seed changes by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

from relay.errors import LianqiaoError
from relay.fsck import fsck
from relay.store import Store
from tests.simulation.money.story import AUDITED
from tests.simulation.oracle import Broken
from tests.simulation.process import TYPES, Process

if TYPE_CHECKING:
    from tests.simulation.world import World

SHARE = 0.2
"""Of the nodes, in each tick of the phase of faults. One look at all nodes costs 1.7 % of a seed of
15 ticks (with money 2.5 %, and 4 to 5 % at the end, when journals are longest), so these cost 8 %
and 9 %: measured on 2026-11-28 in seeds 0 to 39, and 0 to 13 with money, by processor time."""


class Audits:
    """See the module docstring."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"fsck {world.options.seed}")

    def sometimes(self) -> None:
        """Of the nodes that are drawn. Raises Broken.

        A head that is committed and could not be signed yet is no finding: the next start or tick
        signs it (`unsigned` is empty before a simulation ends)."""
        for name in self._world.processes:
            if self._random.random() < SHARE:
                self._world.marks["fsck on the way"] += 1
                observer = self._world.observers[name]
                observer.check_heads()  # what it finds is its own
                self._check(name, observer.unsigned())

    def all(self) -> None:
        """Of every node. Raises Broken."""
        for name in self._world.processes:
            self._check(name, [])

    def _check(self, name: str, unsigned: list[int]) -> None:
        excused = {f"checkpoint {size}" for size in unsigned}
        try:
            process = self._world.processes[name]
            with _store(process) as store:
                origin = f"{name}/{process.epoch}"
                _, findings = fsck(store, TYPES, origin, contracts=AUDITED)
        except LianqiaoError as err:
            raise Broken("fsck", f"{name}: {err}") from err
        found = [one for one in findings if one.where not in excused]
        if found:
            raise Broken("fsck", f"{name}: {found[:5]}")


@contextmanager
def _store(process: Process) -> Iterator[Store]:
    """What a process has on its disk."""
    if process.node is not None:
        yield process.node.store
        return
    store = Store.at(process.path)
    try:
        yield store
    finally:
        store.close()
