"""A whole simulation: a network made from options, a phase of faults, a phase that must drain.

    phase 1   every tick: time passes, ways part and heal, processes start again, sets rotate,
              users and the stranger act, every node and every relayer has its turn in an order of
              its own; then the invariants
    phase 2   faults stop; within DRAIN_TICKS every packet is closed and every lane at rest, then
              everything is checked again, with the product's own fsck

Everything is drawn from one random.Random(seed); the same seed does the same.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from relay.chain import Delivery, DeliveryResult, Outcome
from relay.channel import Channel
from relay.errors import LianqiaoError, Reason
from relay.light.types import ClientState
from relay.node import Node
from relay.relayer import Relayer
from tests.simulation.contracts import Rally, Tally
from tests.simulation.drain import Drain
from tests.simulation.fate import Chance, Crash, Fate, Single
from tests.simulation.fork import ALWAYS, Fork, twin_directory
from tests.simulation.network import Door, Wire
from tests.simulation.options import Edge, Options
from tests.simulation.oracle import Broken, Observer
from tests.simulation.pairs import Pairs
from tests.simulation.process import Process, memory_directory
from tests.simulation.reasons import Reasons
from tests.simulation.stranger import Stranger
from tests.simulation.users import Users

START = 1_790_000_000


@dataclass(slots=True)
class Clock:
    """The simulated time, and how far each process is off."""

    now: int = START

    def of(self, drift: dict[str, int], name: str) -> Callable[[], int]:
        """The clock on the wall of one process."""
        return lambda: self.now + drift.get(name, 0)


class World:
    """One simulation. `run()` does it all; `close()` when done."""

    def __init__(self, options: Options, fate: Fate | None = None) -> None:
        self.options = options
        self.random = Random(f"world {options.seed}")
        self.marks: Counter[str] = Counter()
        self.clock = Clock()
        self.drift: dict[str, int] = {}
        self.directory = memory_directory()
        self.fate: Chance | Single = fate or Chance(  # type: ignore[assignment]
            self.random, options.commits, options.calls, self.marks, self._be_slow
        )
        self.liars: set[str] = set()
        self.forks: dict[str, Fork] = {}
        self.down: dict[str, int] = {}
        """Process -> when it is started again."""
        self.parted: dict[tuple[str, str], int] = {}
        """(relayer's process, chain) -> when the way heals."""
        self.backups: list[tuple[str, Path]] = []
        self.clients: dict[tuple[str, str], str] = {}
        self.wires: dict[tuple[str, str], list[Wire]] = {}
        self.hasty = self.random.choice(options.nodes) if options.hasty else ""
        try:
            self._make()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def _make(self) -> None:
        options = self.options
        self.processes = {name: self._process(name, self.directory) for name in options.nodes}
        self.doors = {name: Door(process, self) for name, process in self.processes.items()}
        self.observers: dict[str, Observer] = {}
        for name, process in self.processes.items():
            process.create()
            self.observers[name] = Observer(name, process.path, process.mark_path)
            self._start(process)
        for edge in options.edges:
            self._connect(edge)
        for name in options.nodes:
            self._run_relayers(name)
        self.pairs = Pairs(self.observers, self.clients, self.liars, self.hasty)
        self.users = Users(options, self.processes, self.clients, self.random, self.marks)
        self.stranger = Stranger(options, self.doors, self.clients, self.random, self.marks)
        self.reasons = Reasons(options)

    # --- making it

    def _process(self, name: str, directory: Path) -> Process:
        return Process(
            name,
            "relay" if name == self.options.nodes[0] else "ledger",
            directory,
            clock=self.clock.of(self.drift, name),
            fate=self.fate,
            algorithm=self.options.algorithm,
            contracts=[Tally(), Rally()],
            signed=self._signed,
            tick_seconds=self.options.tick_seconds,
        )

    def _signed(self, process: Process, body: bytes) -> None:
        self.observers[process.name].sign(body)

    def _start(self, process: Process) -> None:
        node = process.start()
        if process.name == self.hasty:
            node.channel = _HastyChannel(node.chain_id, node.clients, node.contracts)

    def _connect(self, edge: Edge) -> None:
        ends = ((edge.near, edge.far), (edge.far, edge.near))
        for on, of in ends:
            chain = self.doors[of]
            anchor = chain.headers(0, chain.latest_height(), self.options.algorithm)[-1]
            state = ClientState(
                "checkpoint",
                f"{of}/0",
                algorithm=self.options.algorithm,
                trusting_period=self.options.trusting_period,
            )
            self.clients[on, of] = self.node(on).create_client(state, anchor)
        for on, of in ends:
            self.node(on).register_counterparty(self.clients[on, of], self.clients[of, on])

    def node(self, name: str) -> Node:
        """The node of a process that runs."""
        node = self.processes[name].node
        assert node is not None
        return node

    def _run_relayers(self, name: str) -> None:
        """New relayers in a process that was started, with new wires."""
        process, node = self.processes[name], self.node(name)
        home = Door(process, self, own=True)
        process.relayers = []
        for _ in range(1 + self.options.second_relayer):
            lanes = []
            for remote in self._carried_by(name):
                wire = Wire(name, self.doors[remote], self.fate)
                self.wires.setdefault((name, remote), []).append(wire)
                lanes.append((self.clients[name, remote], wire))
            if lanes:
                relayer = Relayer(
                    node.store,
                    home,
                    lanes,
                    heads_needed=node.heads_needed,
                    submit_misbehaviour=node.submit_misbehaviour,
                )
                process.relayers.append(relayer)

    def _carried_by(self, name: str) -> Iterator[str]:
        for edge in self.options.edges:
            if edge.near == name and edge.carrier in ("near", "both"):
                yield edge.far
            if edge.far == name and edge.carrier in ("far", "both"):
                yield edge.near

    # --- what passes doors

    def submitted(self, process: Process, deliveries: Sequence[Delivery]) -> None:
        """See tests.simulation.network.Books."""
        if not self.stranger.speaks:
            self.stranger.keep(process, deliveries)

    def answered(
        self,
        process: Process,
        deliveries: Sequence[Delivery],
        results: Sequence[DeliveryResult],
    ) -> None:
        """See tests.simulation.network.Books."""
        for delivery, result in zip(deliveries, results, strict=True):
            split = self.pairs.is_split(process.name, delivery.client_id)
            for answer in (result.headers, *result.items):
                if answer.outcome is Outcome.REFUSED:
                    self.reasons.refused(answer, process.name, self.stranger.speaks, split)
            for item, answer in zip(delivery.items, result.items, strict=True):
                self.marks[f"{item.step} {answer.reason or answer.outcome}"] += 1

    # --- running it

    def run(self) -> None:
        """Both phases. Raises Broken."""
        for _ in range(self.options.ticks):
            self.tick()
        Drain(self).run()

    def tick(self) -> None:
        """One tick of the phase of faults."""
        self.marks["ticks"] += 1
        self.fate.enabled = True
        self.clock.now += self.random.randint(0, self.options.step_seconds)
        self._weather()
        self._operators()
        self.users.want(self.clock.now)
        self.turn()
        self.stranger.act()
        self._two_heads()
        self.check()

    def check(self) -> None:
        """The invariants of every tick."""
        self.marks["entries"] += self.pairs.look()

    def turn(self) -> None:
        """Everybody who runs has a turn."""
        self.users.call()
        names = list(self.options.nodes)
        self.random.shuffle(names)
        for name in names:
            with self.alive(self.processes[name]) as process:
                if process.node is None:
                    continue
                with self.unanswered(process):
                    process.node.tick()
                for relayer in list(process.relayers):
                    for report in relayer.tick(process.clock()):
                        self.reasons.stopped(report, process.name, self._split(name, report))

    def _split(self, name: str, report: object) -> bool:
        return self.pairs.is_split(name, report.client_id)  # type: ignore[attr-defined]

    @contextmanager
    def alive(self, process: Process) -> Iterator[Process]:
        """What a process does until it is killed."""
        try:
            yield process
        except Crash as crash:
            if crash.name != process.name:
                raise RuntimeError(f"{crash.name} died inside {process.name}") from crash
            process.crash()

    @contextmanager
    def unanswered(self, process: Process) -> Iterator[None]:
        """An action of an operator that may fail for want of a database."""
        try:
            yield
        except LianqiaoError as err:
            self.reasons.operator(err, process.name)

    # --- faults

    def _be_slow(self) -> None:
        self.clock.now += self.random.randint(1, 5)

    def _weather(self) -> None:
        """Ways part and heal, clocks run off, processes start again, what is late arrives."""
        random, options, now = self.random, self.options, self.clock.now
        for name, process in self.processes.items():
            if process.node is None:
                self.marks["crash"] += name not in self.down
                at = self.down.setdefault(name, now + random.randint(0, options.downtime_seconds))
                if at <= now:
                    self.restart(name)
            if options.drift_seconds and random.random() < 0.1:
                self.drift[name] = random.randint(-options.drift_seconds, options.drift_seconds)
        for way, wires in self.wires.items():
            if self.parted.get(way, 0) <= now and random.random() < options.partition:
                self.parted[way] = now + random.randint(*options.partition_seconds)
                self.marks["partition"] += 1
            for wire in wires:
                wire.memory.reachable = self.parted.get(way, 0) <= now
                if random.random() < 0.2:
                    wire.arrive()

    def restart(self, name: str) -> None:
        """Starts a process on its database; it may die of that."""
        process = self.processes[name]
        self.down.pop(name, None)
        try:
            self._start(process)
        except Crash:
            process.crash()
        except LianqiaoError as err:
            process.stop()
            self.reasons.operator(err, name)
        else:
            self._run_relayers(name)

    def restart_all(self) -> None:
        """Starts every process that is down."""
        for name, process in self.processes.items():
            if process.node is None:
                self.restart(name)

    def _operators(self) -> None:
        """Sets rotate, backups are made, and somebody tries to start a node on one."""
        random, options = self.random, self.options
        for name, process in self.processes.items():
            running = process.node is not None and name not in self.forks
            if random.random() < options.rotation and running:
                self.rotate(process)
            if random.random() < options.backup:
                path = self.directory / f"{name}-{len(self.backups)}.backup"
                self.backups.append((name, process.copy(path)))
            for client_id, sequence in list(self.observers[name].deferred):
                self.users.answer(name, [(client_id, sequence)], 0.2)
        if self.backups and random.random() < options.stale:
            self._start_on_backup(*random.choice(self.backups))

    def rotate(self, process: Process) -> None:
        """The next keys are put beside those in force, the node starts with both, then the set
        is announced."""
        process.stop()
        announced = process.add_keys()
        self.restart(process.name)
        with self.alive(process), self.unanswered(process):
            if process.node is not None:
                process.node.announce_set(announced)
                self.marks["rotation"] += 1

    def _start_on_backup(self, name: str, path: Path) -> None:
        """A node on a copy from before its last signature must refuse to start."""
        process = self.processes[name]
        observer = Observer(name, path, process.mark_path)
        observer.look()
        stored, signed = max(observer.bodies), max(self.observers[name].signed)
        observer.close()
        if stored >= signed:
            return
        process.stop()
        self.marks["stale restore"] += 1
        try:
            with self.alive(process):
                process.start(path)
        except LianqiaoError as err:
            if err.reason is not Reason.STALE_RESTORE:
                raise Broken("stale restore", f"{name} refuses with {err.reason}") from err
        else:
            raise Broken("stale restore", f"{name} starts at size {stored} and has signed {signed}")
        with self.alive(process):
            self.restart(name)

    # --- two heads

    def _two_heads(self) -> None:
        options, random = self.options, self.random
        if not options.two_heads:
            return
        if not self.forks and random.random() < 2 / options.ticks:
            self._fork(random.choice(options.nodes))
        for fork in self.forks.values():
            if random.random() < 0.3:
                fork.grow(self.clients, random, self.clock.now)
            if random.random() < 0.2:
                self._show_twin(fork)
            if random.random() < 0.05:
                self.accuse(fork)

    def _fork(self, name: str) -> None:
        process = self.processes[name]
        twin = self._process(name, twin_directory(self.directory, name))
        twin.fate, twin.tick_seconds = Single(), ALWAYS
        self.check()
        self.liars.add(name)
        self.forks[name] = Fork(process, twin, self.observers[name])
        self.marks["two heads"] += 1
        for (_, remote), wires in self.wires.items():
            if remote == name and self.random.random() < 0.5:
                for wire in wires:
                    wire.memory.inner = Door(twin, self)

    def _show_twin(self, fork: Fork) -> None:
        """Somebody shows the second history to a counterparty that can be reached."""
        name = fork.process.name
        judges = [on for on, of in self.clients if of == name]
        judge = self.random.choice(judges)
        client_id = self.clients[judge, name]
        door, twin = self.doors[judge], Door(fork.twin, self)
        try:
            status = door.client(client_id)
            headers = twin.headers(
                status.latest_height, twin.latest_height(), self.options.algorithm
            )
        except LianqiaoError:
            return
        self.stranger.submit(judge, Delivery(client_id, tuple(headers)))

    def accuse(self, fork: Fork) -> None:
        """Shows the evidence to every counterparty that runs."""
        evidence = fork.conflict(self.options.algorithm)
        if evidence is None:
            return
        for (on, of), client_id in self.clients.items():
            judge = self.processes[on]
            if of != fork.process.name or judge.node is None:
                continue
            if client_id in self.observers[on].frozen:
                self.marks["frozen"] += 1
                continue
            with self.alive(judge), self.unanswered(judge):
                fork.accuse(judge, client_id, evidence, self.options.algorithm)

    def close(self) -> None:
        """Ends every process and removes what they wrote."""
        for fork in self.forks.values():
            fork.close()
        for process in self.processes.values():
            process.stop()
        for observer in self.observers.values():
            observer.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class _HastyChannel(Channel):
    """Another program on a ledger: it writes sentinels without looking at its clock."""

    def expire(self, tx, packet, proven, now):  # type: ignore[no-untyped-def]
        """See Channel."""
        return super().expire(tx, packet, proven, max(now, packet.timeout_timestamp))
