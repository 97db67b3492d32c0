"""Nodes in whose upkeep something is always due: what operators do, while effects fail.

An operator has duties, in an order. A duty is tried with every turn until it was done: each looks
at how things stand first, as somebody does who was not answered, and may be done twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from relay.light.validators import set_hash
from relay.node import Node
from tests.simulation.drain import Drain
from tests.simulation.network import Wire
from tests.simulation.options import Edge
from tests.simulation.pairs import Pairs
from tests.simulation.world import World

Duty = Callable[[Node], bool]
"""Does it, or a part of it; whether all is done."""


class Upkeep(World):
    """A world whose operators have duties. Ways to `late` are made in the course of it."""

    late: tuple[str, ...] = ("sh",)

    def __init__(self, *arguments: object) -> None:
        self.duties: dict[str, list[tuple[str, Duty]]] = defaultdict(list)
        """Process -> what its operators have still to do: (what, how)."""
        self.doing = ""
        """The process of which a duty is being done."""
        self.joined: set[str] = set()
        """Of `late`, those that are connected."""
        super().__init__(*arguments)  # type: ignore[arg-type]

    def oblige(self, name: str, what: str, duty: Duty) -> None:
        """Something more is to be done by the operators of a node."""
        self.duties[name].append((what, duty))

    def oblige_next(self, name: str, what: str, duty: Duty) -> None:
        """As `oblige`, before all that waits, but for what is being done."""
        self.duties[name].insert(self.doing == name, (what, duty))

    def undone(self) -> list[str]:
        """What is still to be done."""
        return [f"{name}: {what}" for name, of in self.duties.items() for what, _ in of]

    def turn(self) -> None:
        """See World; operators first."""
        for name, due in list(self.duties.items()):
            process = self.processes[name]
            while due and process.node is not None:
                done, self.doing = False, name
                with self.alive(process), self.unanswered(process):
                    done = due[0][1](process.node)
                self.doing = ""
                if not done:
                    break
                self.marks[f"duty: {due.pop(0)[0]}"] += 1
        super().turn()

    # --- connecting under faults

    def _connect(self, edge: Edge) -> None:
        if edge.far not in self.late:
            super()._connect(edge)

    def _carried_by(self, name: str) -> Iterator[str]:
        return (to for to in super()._carried_by(name) if to not in self.late or to in self.joined)

    def connect(self, near: str, far: str) -> None:
        """Has operators do what `lianqiao connect` does, one step after the other."""
        anchors: dict[str, bytes] = {}

        def create(on: str, of: str, node: Node) -> None:
            if of not in anchors:
                chain = self.doors[of]
                anchors[of] = chain.headers(0, chain.latest_height(), self.options.algorithm)[-1]
            counterparty = self.clients.get((of, on), "")
            state = self._state(of)
            client_id = node.create_client(state, anchors[of], f"connect {of}", counterparty)
            self.clients[on, of] = client_id
            self._know_ends()

        def first(node: Node) -> bool:
            create(far, near, node)
            return True

        def second(node: Node) -> bool:
            if (far, near) not in self.clients or self.processes[far].node is None:
                return False
            create(near, far, node)
            return True

        def third(node: Node) -> bool:
            if (near, far) not in self.clients:
                return False
            node.register_counterparty(self.clients[far, near], self.clients[near, far])
            return True

        def serve(_: Node) -> bool:
            if self.duties[far]:
                return False
            self.joined.add(far)
            client_id = self.clients[near, far]
            for relayer in self.processes[near].relayers:
                if client_id not in [lane.client_id for lane in relayer.lanes]:
                    wire = Wire(near, self.doors[far], self.fate)
                    self.wires.setdefault((near, far), []).append(wire)
                    relayer.add_lane(client_id, wire)
            return True

        self.oblige(far, "create", first)
        self.oblige(near, "create bound", second)
        self.oblige(far, "register", third)
        self.oblige(near, "serve", serve)

    def _know_ends(self) -> None:
        ends = {(on, client): of for on, of, client in self.all_clients}
        self.pairs = Pairs(
            self.observers, self.clients, ends, self.liars, self.hasty, self.witnesses
        )

    # --- other duties

    def send(self, name: str, to: str, command: str, life: int = 600) -> None:
        """Has a packet sent when all that is due before it was done."""

        def ask(_: Node) -> bool:
            value = f"{command}:{len(self.users.intents) + 1}"
            self.users.send(name, to, "tally", value, self.clock.now + life, again=True)
            return True

        self.oblige(name, "send", ask)

    def rotate(self, name: str) -> None:
        """Gives a node its next keys, and has their set announced."""
        process = self.processes[name]
        process.stop()
        announced = process.add_keys()
        self.restart(name)

        def announce(node: Node) -> bool:
            if node.head.next_set_hash != set_hash(announced):
                node.announce_set(announced)
            return True

        self.oblige_next(name, "announce", announce)

    def answer_each(self, name: str) -> None:
        """Has everything that was deferred answered by one call."""
        asked: list[bytes] = []

        def answer(node: Node) -> bool:
            waiting = self.observers[name].deferred
            bodies = [f"{client}\n{number}\nlater:{number}".encode() for client, number in waiting]
            asked.extend(body for body in bodies if body not in asked)
            return bool(asked) and bool(node.call_each("tally", "answer", asked))

        self.oblige(name, "answer each", answer)

    def clear(self, name: str, to: str) -> None:
        """Has a backlog cleared: `lianqiao packets clear`."""

        def clear(_: Node) -> bool:
            for relayer in self.processes[name].relayers:
                cleared = relayer.clear(self.clients[name, to], self.clock.now)
                self.marks["cleared: forgotten"] += cleared.forgotten
            return True

        self.oblige(name, "clear", clear)


# --- the scenario


def play_upkeep(world: World, turn: int) -> None:
    """Two nodes connect while a third one is served already; keys change; what was read and waits
    for an answer is taken up again by hand, a backlog is cleared, many answers leave at once."""
    assert isinstance(world, Upkeep)
    if turn == 0:
        world.connect("hub", "sh")
        world.send("zj", "hub", "fresh")
        world.send("hub", "sh", "defer")
        world.send("hub", "sh", "defer")
    if turn == 1:
        world.send("sh", "hub", "echo")
        world.rotate("hub")
    if turn == 3:
        world.send("sh", "hub", "fresh")
        world.send("hub", "zj", "echo")
        world.clear("hub", "sh")
        world.answer_each("sh")


class UpkeepDrain(Drain):
    """Nothing is drained while something is still to be done."""

    def __init__(self, world: Upkeep) -> None:
        super().__init__(world)
        self._upkeep = world

    def _left(self) -> list[str]:
        return super()._left() + self._upkeep.undone()
