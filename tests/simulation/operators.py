"""What operators do: they change keys, make backups, start a node on an old copy, sleep a long
night, and give new heads to clients that could judge no more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relay.errors import LianqiaoError, Reason
from relay.evidence import Evidence
from relay.query import get_client
from relay.recovery import MIN_DELAY
from relay.store.cosignatures import AT_ONCE
from tests.simulation.oracle import Broken, Observer
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

_NOT_THIS_HEAD = (Reason.CLIENT_EXPIRED, Reason.HEADER_FROM_FUTURE, Reason.LIMIT_EXCEEDED)
_PATIENCE = 120
"""Seconds after which a recovery that was due and is pending still has been refused."""


class Operators:
    """Everybody who may log in to a node."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._backups: list[tuple[str, Path]] = []

    def act(self) -> None:
        """What they do in one tick of the phase of faults."""
        world = self._world
        random, options = world.random, world.options
        if random.random() < options.night:
            # Nobody is awake, so no client is refreshed: those that are not must be recovered.
            world.clock.now += options.trusting_period + random.randint(0, 600)
            world.marks["night"] += 1
        for name, process in world.processes.items():
            running = process.node is not None and name not in world.forks
            if random.random() < options.rotation and running:
                self.rotate(process)
            if random.random() < options.backup:
                path = world.directory / f"{name}-{len(self._backups)}.backup"
                self._backups.append((name, process.copy(path)))
                world.marks["backup"] += 1
            for client_id, sequence in list(world.observers[name].deferred):
                world.users.answer(name, [(client_id, sequence)], 0.2)
        if self._backups and random.random() < options.stale:
            self._start_on_backup(*random.choice(self._backups))
        if random.random() < 0.5:
            self.recover()

    def rotate(self, process: Process) -> None:
        """The next keys are put beside those in force, the node starts with both, then the set
        is announced."""
        world = self._world
        process.stop()
        announced = process.add_keys()
        world.restart(process.name)
        with world.alive(process), world.unanswered(process):
            if process.node is not None:
                process.node.announce_set(announced)
                world.marks["rotation"] += 1

    def _start_on_backup(self, name: str, path: Path) -> None:
        """A node on a copy from before its last signature must refuse to start."""
        world = self._world
        process = world.processes[name]
        observer = Observer(name, path, process.mark_path)
        observer.look()
        stored, signed = max(observer.bodies), max(world.observers[name].signed)
        observer.close()
        if stored >= signed:
            return
        process.stop()
        world.marks["stale restore"] += 1
        try:
            with world.alive(process):
                process.start(path)
        except LianqiaoError as err:
            if err.reason is not Reason.STALE_RESTORE:
                raise Broken("stale restore", f"{name} refuses with {err.reason}") from err
        else:
            raise Broken("stale restore", f"{name} starts at size {stored} and has signed {signed}")
        with world.alive(process):
            world.restart(name)

    # --- recovery

    def recover(self) -> bool:
        """Proposes a recovery of every client that has expired, with the newest head of its chain,
        compared by other means: whether any waits for its delay."""
        world, waiting = self._world, False
        for on, of, client_id in world.all_clients:
            process = world.processes[on]
            if process.node is None or of in world.liars:
                continue
            with world.alive(process), world.unanswered(process):
                waiting = self._recover(process, of, client_id) or waiting
        return waiting

    def _recover(self, process: Process, of: str, client_id: str) -> bool:
        world, node = self._world, process.node
        assert node is not None
        view = get_client(node.store, client_id)
        now = max(process.clock(), node.head.time)
        if view.recovery is not None:
            if now > view.recovery.due + _PATIENCE:
                # Another night: the proposed head has grown too old, and is withdrawn.
                node.cancel_recovery(client_id)
                world.marks["recovery cancelled"] += 1
            return True
        chain = world.processes[of].node
        if view.frozen or chain is None or now < view.expires:
            return False
        # A witness that has slept co-signs nothing, so no younger head is shown until its own
        # client was recovered: the operators of that node show it one (relay/README.md).
        bare = (process.name, of) in world.bare and client_id == world.bare[process.name, of]
        evidence = Evidence(chain.store, chain.tiles, AT_ONCE if bare else chain.shown)
        height = evidence.latest_height()
        raw = evidence.headers(0, height, view.state.algorithm, view.state.witnesses)[-1]
        world.reasons.recovering.add(frozenset((process.name, of)))
        try:
            node.propose_recovery(client_id, view.state, raw, MIN_DELAY)
        except LianqiaoError as err:
            # Heads that are too old themselves, or will be: the chain makes a younger one first.
            if err.reason not in _NOT_THIS_HEAD:
                raise
            return True
        world.marks["recovery"] += 1
        return True
