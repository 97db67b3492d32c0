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
from relay.contract import Contract
from relay.errors import LianqiaoError
from relay.evidence import Evidence
from relay.light.checkpoint import parse_body
from relay.light.types import ClientState, Witness
from relay.node import Node
from relay.relayer import Relayer
from relay.store.cosignatures import AT_ONCE
from tests.simulation.audits import Audits
from tests.simulation.contracts import Rally, Tally
from tests.simulation.drain import Drain
from tests.simulation.fate import Chance, Crash, Fate, Single
from tests.simulation.forger import Forger
from tests.simulation.fork import ALWAYS, Fork, twin_directory
from tests.simulation.money.programs import contracts_of
from tests.simulation.money.story import MoneyStory
from tests.simulation.network import Door, Wire
from tests.simulation.operators import Operators
from tests.simulation.options import Edge, Options
from tests.simulation.oracle import Observer
from tests.simulation.pairs import Pairs
from tests.simulation.process import TYPES, Process, memory_directory
from tests.simulation.reasons import Reasons
from tests.simulation.stranger import Stranger
from tests.simulation.users import Users
from tests.simulation.witnesses import Witnesses

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
        self.clients: dict[tuple[str, str], str] = {}
        """(on, of) -> client id, of those that carry packets."""
        self.bare: dict[tuple[str, str], str] = {}
        """Those by which a witness knows whom it witnesses."""
        self.witnesses = Witnesses(options, self.directory, self.fate, self._side)
        self.operators = Operators(self)
        self.audits = Audits(self)
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
        self._pin_witnessed()
        for edge in options.edges:
            self._connect(edge)
        for name in options.nodes:
            self._run_relayers(name)
        ends = {(on, client): of for on, of, client in self.all_clients}
        self.pairs = Pairs(
            self.observers, self.clients, ends, self.liars, self.hasty, self.witnesses
        )
        self.users = Users(options, self.processes, self.clients, self.random, self.marks)
        self.stranger = Stranger(options, self.doors, self.clients, self.random, self.marks)
        self.forger = Forger(options, self.doors, self.clients, self.observers, self.marks)
        self.reasons = Reasons(options, self._has_rotated, self.hasty, self.marks)
        self.money = None if options.money is None else MoneyStory(self, options.money)

    def _has_rotated(self, name: str) -> bool:
        return self.processes[name].generation > 1

    # --- making it

    @property
    def all_clients(self) -> Iterator[tuple[str, str, str]]:
        """(on, of, client id) of every client."""
        for (on, of), client_id in [*self.clients.items(), *self.bare.items()]:
            yield on, of, client_id

    def _process(self, name: str, directory: Path) -> Process:
        return Process(
            name,
            "relay" if name == self.options.nodes[0] else "ledger",
            directory,
            clock=self.clock.of(self.drift, name),
            fate=self.fate,
            algorithm=self.options.algorithm,
            contracts=[Tally(), Rally(), *self._money_contracts(name)],
            signed=self._signed,
            tick_seconds=self.options.tick_seconds,
            shown=self.witnesses.shown if name == self.options.witnessed else AT_ONCE,
        )

    def _money_contracts(self, name: str) -> list[Contract]:
        money = self.options.money
        return [] if money is None else contracts_of(name, money)

    def _signed(self, process: Process, body: bytes) -> None:
        self.observers[process.name].sign(body)

    def _start(self, process: Process) -> None:
        node = process.start()
        if process.name == self.hasty:
            node.channel = _HastyChannel(node.chain_id, node.clients, node.contracts)
            node.channel.marks = self.marks
        self.witnesses.started(process, self.processes)

    def _pin_witnessed(self) -> None:
        """Each witness pins the node whose heads it co-signs."""
        if self.witnesses.node:
            node = self.node(self.witnesses.node)
            shown = Evidence(node.store, node.tiles)
            raw = shown.headers(0, node.head.size, self.options.algorithm)[-1]
            for name in self.witnesses.names:
                state = self._state(node.chain_id)
                self.bare[name, node.chain_id] = self.node(name).create_client(state, raw)

    def _state(self, of: str, witnesses: tuple[Witness, ...] = (), quorum: int = 0) -> ClientState:
        return ClientState(
            "checkpoint",
            f"{of}/0",
            algorithm=self.options.algorithm,
            trusting_period=self.options.trusting_period,
            witnesses=witnesses,
            witness_quorum=quorum,
        )

    def _connect(self, edge: Edge) -> None:
        ends = ((edge.near, edge.far), (edge.far, edge.near))
        for on, of in ends:
            self.cosign(self.processes[of])
            chain, state = self.doors[of], self._state(of, *self.witnesses.required(of))
            height = chain.latest_height()
            anchor = chain.headers(0, height, state.algorithm, state.witnesses)[-1]
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
                    client_types=TYPES,
                    keep_evidence=self._kept,
                )
                process.relayers.append(relayer)
                self.marks["second relayer"] += len(process.relayers) == 2

    def _kept(self, chain_id: str, evidence: bytes) -> None:
        self.marks["caught by a relayer"] += 1

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
            name, split = process.name, self.pairs.is_split(process.name, delivery.client_id)
            pair, stranger = self.pairs.pair(name, delivery.client_id), self.stranger.speaks
            for answer in (result.headers, *result.items, result.sent):
                if answer.outcome is Outcome.REFUSED:
                    self.reasons.refused(answer, pair, name, stranger=stranger, split=split)
            for item, answer in zip(delivery.items, result.items, strict=True):
                self.marks[f"{item.step} {answer.reason or answer.outcome}"] += 1
            if delivery.sent:
                self.marks[f"sent {result.sent.reason or result.sent.outcome}"] += 1

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
        self.operators.act()
        self.users.want(self.clock.now)
        if self.money is not None:
            self.money.users.want(self.clock.now)
        self.turn()
        self.stranger.act()
        self._two_heads()
        self.check()
        self.audits.sometimes()

    def check(self) -> None:
        """The invariants of every tick."""
        self.marks["entries"] += self.pairs.look()
        if self.money is not None:
            self.money.oracle.look()

    def turn(self) -> None:
        """Everybody who runs has a turn."""
        self.users.call()
        if self.money is not None:
            self.money.users.call()
        if self.fate.enabled:  # before anybody carries what was just sent
            self.forger.act(self.clock.now, self.stranger.submit, self.pairs.is_split)
        names = list(self.options.nodes)
        self.random.shuffle(names)
        for name in names:
            with self.alive(self.processes[name]) as process:
                if process.node is None:
                    continue
                with self.unanswered(process):
                    process.node.tick()
                self.cosign(process)
                for relayer in list(process.relayers):
                    for report in relayer.tick(process.clock()):
                        pair = self.pairs.pair(name, report.client_id)
                        split = self.pairs.is_split(name, report.client_id)
                        self.reasons.stopped(report, pair, name, split=split)

    def cosign(self, process: Process) -> None:
        """A process asks its witnesses about what they have not co-signed yet."""
        for cosigning in list(process.cosignings):
            self.marks["cosigned"] += cosigning.tick(process.clock())

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
                self.marks["drift"] += 1
        for witness, asked in self.witnesses.wires.items():
            for wire in asked:
                wire.reachable = self.parted.get((wire.owner, witness), 0) <= now
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
            if random.random() < 0.5:
                self.cosign(fork.twin)
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
        self.witnesses.started(twin, self.processes)
        self.forks[name].grow(self.clients, self.random, self.clock.now)
        self.marks["two heads"] += 1
        for (_, remote), wires in self.wires.items():
            if remote == name and self.random.random() < 0.5:
                for wire in wires:
                    wire.memory.inner = Door(twin, self)

    def _side(self, name: str, body: bytes) -> int:
        """See tests.simulation.witnesses.Side."""
        fork, size = self.forks.get(name), parse_body(body).size
        if fork is None or size <= fork.size:
            return 0
        return 1 if self.observers[name].signed.get(size) == body else 2

    def _show_twin(self, fork: Fork) -> None:
        """Somebody shows the second history to a counterparty that can be reached."""
        name = fork.process.name
        judges = [(on, client_id) for on, of, client_id in self.all_clients if of == name]
        judge, client_id = self.random.choice(judges)
        door, twin = self.doors[judge], Door(fork.twin, self)
        try:
            status = door.client(client_id)
            headers = twin.headers(
                status.latest_height, twin.latest_height(), status.algorithm, status.witnesses
            )
        except LianqiaoError:
            return
        self.stranger.submit(judge, Delivery(client_id, tuple(headers)))

    def accuse(self, fork: Fork) -> None:
        """Shows the evidence to every counterparty that runs."""
        evidence = fork.conflict(self.options.algorithm)
        if evidence is None:
            return
        for on, of, client_id in self.all_clients:
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

    marks: Counter[str]

    def expire(self, tx, packet, proven, now):  # type: ignore[no-untyped-def]
        """See Channel."""
        written = super().expire(tx, packet, proven, max(now, packet.timeout_timestamp))
        self.marks["hasty"] += written and now < packet.timeout_timestamp
        return written
