"""The phase without faults: everything must come to an end, and then to rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.outbox import Outbox
from relay.query import get_client
from relay.store import Direction, PacketState
from tests.simulation.money.records import PORTS
from tests.simulation.oracle import Broken

if TYPE_CHECKING:
    from tests.simulation.world import World

DRAIN_TICKS = 90
"""Ticks of up to a minute in which everything must be closed: a timeout is at most a quarter of
an hour away, and a lane that failed often rests for five minutes."""
DRAIN_TICKS_OF_MONEY = 180
"""A decision that a hasty node refused is sent again after its timeout, an hour later."""
STEP_SECONDS = 45
DELAY_SECONDS = 600
"""More where a recovery waits for its delay."""
REST_TICKS = 3
_OPEN = (PacketState.SENT, PacketState.DEFERRED)


class Drain:
    """See the module docstring."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self) -> None:
        """Raises Broken where something is left, moves without end, or does not check."""
        world = self._world
        self._stop_faults()
        for _ in range(DRAIN_TICKS if world.money is None else DRAIN_TICKS_OF_MONEY):
            if self._is_drained() and self._rests():
                break
            self._tick()
        else:
            raise Broken("liveness", "; ".join(self._left()) or "the lanes do not rest")
        for observer in world.observers.values():
            observer.check_heads()
            observer.check_signed()
        world.audits.all()
        self._users()
        if world.money is not None:
            world.money.finish()

    def _stop_faults(self) -> None:
        world = self._world
        world.fate.enabled = False
        world.drift.clear()
        world.parted.clear()
        world.restart_all()
        for wires in world.wires.values():
            for wire in wires:
                wire.memory.reachable = True
                wire.arrive()
        for asked in world.witnesses.wires.values():
            for way in asked:
                way.reachable = True
        for fork in world.forks.values():
            world.accuse(fork)

    def _tick(self) -> None:
        world = self._world
        world.clock.now += STEP_SECONDS
        if world.operators.recover():
            world.clock.now += DELAY_SECONDS
        for name, observer in world.observers.items():
            world.users.answer(name, list(observer.deferred), 1.0)
        if world.money is not None:
            world.money.tick()
        world.turn()
        world.check()
        for fork in world.forks.values():
            fork.catch_up()
            world.check()
            world.accuse(fork)
        world.check()
        for observer in world.observers.values():
            observer.check_heads()

    # --- the end

    def _has_expired(self, on: str, client_id: str) -> bool:
        """Then it accepts nothing; that of a liar is not recovered."""
        view = get_client(self._world.node(on).store, client_id)
        return self._world.clock.now >= view.expires

    def _is_drained(self) -> bool:
        return not self._left()

    def _left(self) -> list[str]:
        """What is open still."""
        world, left = self._world, []
        if world.money is not None:
            left += world.money.left()
        if not world.users.resting:
            left.append("users wait for answers")
        for name, observer in world.observers.items():
            if observer.unsigned():
                left.append(f"{name}: heads {observer.unsigned()} are not signed")
            node = world.node(name)
            if name not in world.liars and node.shown_size != node.head.size:
                left.append(f"{name}: {node.shown_size} of {node.head.size} is co-signed")
            for (client_id, direction, sequence), packet in observer.fold.packets.items():
                split = world.pairs.is_split(name, client_id)
                if packet.state in _OPEN and not (split and direction is Direction.OUT):
                    left.append(f"{name}: {client_id} {direction} {sequence} is {packet.state}")
            for letter in Outbox(world.node(name).store).letters():
                if not world.pairs.is_split(name, letter.client_id):
                    waiting = letter.waiting
                    left.append(
                        f"{name}: {letter.client_id} {letter.side} {waiting.item.step} "
                        f"{waiting.item.packet.sequence} waits: {waiting.reason}"
                    )
        for fork in world.forks.values():
            for on, of, client_id in world.all_clients:
                # Who requires witnesses, or has expired, may not know the set that signed both.
                blind = world.witnesses.is_required_by(on, of) or self._has_expired(on, client_id)
                follows = not (world.options.rotation and blind)
                frozen = client_id in world.observers[on].frozen
                if of == fork.process.name and follows and not frozen:
                    left.append(f"{on}: {client_id} follows a liar and is not frozen")
        return left[:20]

    def _rests(self) -> bool:
        """Whether nothing is written and nothing is submitted any more, but for split pairs."""
        world = self._world
        for _ in range(REST_TICKS):
            world.clock.now += 1
            for name, process in world.processes.items():
                for relayer in process.relayers:
                    for report in relayer.tick(world.clock.now):
                        split = world.pairs.is_split(name, report.client_id)
                        if not report.idle and not split:
                            return False
        before = world.marks["entries"]
        world.check()
        return world.marks["entries"] == before or bool(world.liars)

    def _users(self) -> None:
        """Every packet that was wanted was sent once, refused, or may be missing."""
        world = self._world
        sent = self._sent_numbers()
        for intent in world.users.intents:
            found = sent.get((intent.node, intent.port, intent.number), [])
            if intent.sequence and found != [intent.sequence]:
                raise Broken("users", f"{intent} was answered, and there is {found}")
            if intent.refused and found:
                raise Broken("users", f"{intent} was refused, and there is {found}")
            if len(found) > 1:
                raise Broken("users", f"{intent} was sent more than once: {found}")
        for name, observer in world.observers.items():
            for where, client_id, sequence in observer.onward:
                if (client_id, Direction.OUT, sequence) not in observer.fold.packets:
                    raise Broken("users", f"{name}: {where!r} sent {client_id} {sequence} on")

    def _sent_numbers(self) -> dict[tuple[str, str, int], list[int]]:
        """(node, port, number of an intent) -> sequences of the packets that carry it, leaving
        out those that were sent on."""
        from relay.packet_bytes import decode_packet

        world = self._world
        found: dict[tuple[str, str, int], list[int]] = {}
        for name, observer in world.observers.items():
            onward = {(client_id, sequence) for _, client_id, sequence in observer.onward}
            for key in observer.fold.packets:
                client_id, direction, sequence = key
                if direction is Direction.IN or (client_id, sequence) in onward:
                    continue
                payload = decode_packet(bytes(observer.row(key).packet)).payloads[0]
                if payload.source_port in PORTS:
                    continue
                number = int(payload.value.split(b":")[1])
                place = found.setdefault((name, payload.source_port, number), [])
                place.append(sequence)
        return found
