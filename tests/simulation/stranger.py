"""An untrusted relayer: it submits old deliveries, changed ones, and ones of its own making.

It can read every chain and submit to every chain, as anybody can. Whatever it submits, a node may
only do what is true; the oracle looks at what came of it, and here nothing is expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from relay.chain import Delivery, DeliveryResult, Item, PacketStep, Step
from relay.errors import LianqiaoError
from relay.evidence import Evidence as Heads
from relay.light.misbehaviour import Evidence, encode_evidence
from relay.steps import item_of, proven_paths
from tests.simulation.fate import Crash
from tests.simulation.money.stranger import changed, forged, is_money
from tests.simulation.network import Door
from tests.simulation.options import Options
from tests.simulation.process import Process

KEPT = 400
"""Deliveries that are remembered, by node."""
_DELIVERED = (Step.RECEIVE, Step.ACKNOWLEDGE, Step.TIMEOUT, Step.EXPIRE)


class Stranger:
    """See the module docstring."""

    def __init__(
        self,
        options: Options,
        doors: Mapping[str, Door],
        clients: Mapping[tuple[str, str], str],
        random: Random,
        marks: Counter[str],
    ) -> None:
        self._options = options
        self._doors = doors
        self._clients = clients
        self._random = random
        self._marks = marks
        self._seen: dict[str, list[Delivery]] = {name: [] for name in doors}
        self.speaks = False
        """Whether the delivery that is being made is the stranger's."""

    def keep(self, process: Process, deliveries: Sequence[Delivery]) -> None:
        """Remembers what others deliver; what does not fit takes the place of another."""
        seen = self._seen[process.name]
        for delivery in deliveries:
            if len(seen) < KEPT:
                seen.append(delivery)
            else:
                seen[self._random.randrange(KEPT)] = delivery

    def act(self) -> None:
        """What it does in one tick."""
        for kind in ("replay", "change", "own"):
            for name in self._options.nodes:
                if self._random.random() < getattr(self._options, kind):
                    delivery = getattr(self, f"_{kind}")(name)
                    if delivery is not None:
                        self._marks[f"stranger: {kind}"] += 1
                        self.submit(name, delivery)
        for (on, of), client_id in self._clients.items():
            if of == self._options.witnessed and self._random.random() < self._options.own:
                self._too_early(on, of, client_id)
            if self._random.random() < self._options.accuse:
                self._accuse(on, of, client_id)

    def _accuse(self, on: str, of: str, client_id: str) -> None:
        """Two heads of one history as evidence against it: no node may freeze for that."""
        judge = self._doors[on].process
        chain = self._doors[of].process.chain
        if judge.node is None or chain is None:
            return
        try:
            low, head = self._doors[on].client(client_id).latest_height, chain.latest_height()
            first = chain.headers(0, low, self._options.algorithm)[-1]
            second = chain.headers(0, head, self._options.algorithm)[-1]
            self._marks["stranger: accuse"] += 1
            judge.node.submit_misbehaviour(client_id, encode_evidence(Evidence(first, second)))
        except LianqiaoError as err:
            self._marks[f"accuse {err.reason}"] += 1
        except Crash:
            judge.crash()

    def _too_early(self, on: str, of: str, client_id: str) -> None:
        """A head that is signed and not shown yet: somebody inside hands it out."""
        node = self._doors[of].process.node
        if node is None:
            return
        try:
            status = self._doors[on].client(client_id)
            inside = Heads(node.store, node.tiles)
            low, high = status.latest_height, node.head.size
            headers = inside.headers(low, high, status.algorithm, status.witnesses)
        except LianqiaoError:
            return
        self._marks["stranger: too early"] += 1
        self.submit(on, Delivery(client_id, tuple(headers)))

    def submit(self, name: str, delivery: Delivery) -> Sequence[DeliveryResult]:
        """Submits as a stranger; the answer, or nothing where none came."""
        self.speaks = True
        try:
            return self._doors[name].submit([delivery])
        except (LianqiaoError, Crash):
            return ()
        finally:
            self.speaks = False

    # --- old ones

    def _replay(self, name: str) -> Delivery | None:
        seen = self._seen[name]
        return self._random.choice(seen) if seen else None

    # --- changed ones

    def _change(self, name: str) -> Delivery | None:
        delivery = self._replay(name)
        if delivery is None:
            return None
        random, other = self._random, self._random.choice(self._seen[name])
        kind = random.randrange(8)
        if kind == 0:
            return replace(delivery, headers=other.headers)
        if kind == 1:
            return replace(delivery, height=other.height)
        if kind == 2:
            return replace(delivery, proof=other.proof)
        if kind == 3:
            return replace(delivery, items=other.items)
        if kind == 4:
            return replace(delivery, client_id=other.client_id, headers=delivery.headers[:-1])
        if kind == 5 and delivery.headers:
            return replace(delivery, headers=tuple(map(self._flip, delivery.headers)))
        if not delivery.items:
            return delivery
        at = random.randrange(len(delivery.items))
        items = list(delivery.items)
        items[at] = self._changed(items[at])
        return replace(delivery, items=tuple(items))

    def _changed(self, item: Item) -> Item:
        random, packet = self._random, item.packet
        if is_money(item) and random.random() < 0.7:
            return changed(item, random)
        kind = random.randrange(6)
        if kind == 0:
            return replace(item, step=random.choice(_DELIVERED))
        if kind == 1:
            sequence = max(1, packet.sequence + random.choice((-1, 1, 100)))
            return replace(item, packet=replace(packet, sequence=sequence))
        if kind == 2:
            later = packet.timeout_timestamp + random.choice((-100, 100))
            return replace(item, packet=replace(packet, timeout_timestamp=later))
        if kind == 3:
            payload = replace(packet.payloads[0], value=packet.payloads[0].value + b"0")
            return replace(item, packet=replace(packet, payloads=(payload,)))
        if kind == 4:
            return replace(item, acknowledgements=(b"forged",))
        turned = replace(
            packet,
            source_client=packet.destination_client,
            destination_client=packet.source_client,
        )
        return replace(item, packet=turned)

    def _flip(self, raw: bytes) -> bytes:
        at = self._random.randrange(len(raw))
        return raw[:at] + bytes((raw[at] ^ 1 << self._random.randrange(8),)) + raw[at + 1 :]

    # --- its own

    def _own(self, name: str) -> Delivery | None:
        """True claims about any step of a neighbour's history, under its newest head or one that
        the client has already; each asked for in any way that the claims allow. Sometimes about
        what the neighbour sent to somebody else, whose client has the same name there."""
        random = self._random
        neighbours = [of for on, of in self._clients if on == name]
        of = random.choice(neighbours)
        source, destination = self._doors[of], self._doors[name]
        client_id = self._clients[name, of]
        try:
            status = destination.client(client_id)
            theirs = self._clients[of, name]
            if random.random() < 0.3:
                theirs = random.choice([c for (on, _), c in self._clients.items() if on == of])
            steps = self._some_steps(source, theirs)
            head = source.latest_height()
            height = random.choice((head, status.latest_height))
            steps = [step for step in steps if step.height <= height]
            items = [self._as_asked(item_of(step)) for step in steps]
            if not items:
                return None
            headers: tuple[bytes, ...] = ()
            if height > status.latest_height:
                headers = tuple(source.headers(status.latest_height, height, status.algorithm))
            proof = source.prove(proven_paths(items), height)
        except LianqiaoError:
            return None
        return Delivery(client_id, headers, height, proof, tuple(self._forged(name, items)))

    def _forged(self, name: str, items: list[Item]) -> list[Item]:
        """With one packet of money put in place of another, under the proof of what is true."""
        at = self._random.randrange(len(items))
        if self._options.money is None or self._random.random() < 0.5 or not is_money(items[at]):
            return items
        others = [item for seen in self._seen[name] for item in seen.items if is_money(item)]
        what, items[at] = forged(items[at], others, self._random)
        self._marks[f"stranger: forged {what}"] += 1
        return items

    def _some_steps(self, source: Door, client_id: str) -> list[PacketStep]:
        newest = source.packets(client_id, max(0, source.latest_height() - 60), 30)
        old = source.packets(client_id, self._random.randrange(source.latest_height()), 5)
        steps = list(newest if self._random.random() < 0.7 else old)
        decisions = [step for step in steps if step.entries]
        if decisions and self._random.random() < 0.5:
            steps = decisions[-2:]  # on their way, perhaps
        count = min(len(steps), self._random.randint(1, 6))
        return sorted(self._random.sample(steps, count), key=lambda step: step.cursor)

    def _as_asked(self, item: Item) -> Item:
        if item.entries and self._random.random() < 0.3:
            return replace(item, entries=())
        if is_money(item) and self._random.random() < 0.3:
            return changed(item, self._random)
        if item.step is Step.RECEIVE and self._random.random() < 0.5:
            return replace(item, step=Step.EXPIRE)
        return item
