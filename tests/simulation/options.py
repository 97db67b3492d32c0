"""What a seed draws (swarm): the network, and each fault on or off with its strength.

A fault that is always on hides what happens without it: a relayer that is killed every minute
never fills an outbox. So every seed switches each fault by a coin of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from random import Random

from tests.simulation.cheap import CHEAP
from tests.simulation.fate import Act
from tests.simulation.money.options import Money, draw_money

DAY = 86_400
CARRIERS = ("near", "far", "both")
TICKS = 15
_STRENGTHS = (0.003, 0.01, 0.03)
_CALLS = {
    Act.LOST: 5.0,
    Act.UNSURE: 3.0,
    Act.DUPLICATE: 5.0,
    Act.LATE: 2.0,
    Act.SLOW: 2.0,
    Act.CRASH_BEFORE: 0.2,
    Act.CRASH_AFTER: 0.2,
}
_COMMITS = {
    Act.LOST: 2.0,
    Act.UNSURE: 2.0,
    Act.CONFLICT: 10.0,
    Act.CRASH_BEFORE: 1.0,
    Act.CRASH_AFTER: 1.0,
}
"""Likelihoods of an act in multiples of a drawn strength: a lost call is nothing special, a
crash at every tenth effect lets nothing happen any more."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Two nodes that follow each other, and whose relayer carries between them."""

    near: str
    far: str
    carrier: str
    """One of CARRIERS."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that a run does not decide by the way. Likelihoods are per tick unless said."""

    seed: int
    ticks: int
    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]
    algorithm: str = CHEAP
    commits: Mapping[Act, float] = field(default_factory=dict)
    """Likelihood of each act, per commit."""
    calls: Mapping[Act, float] = field(default_factory=dict)
    """Likelihood of each act, per call of a relayer."""
    partition: float = 0.0
    partition_seconds: tuple[int, int] = (20, 400)
    """Shortest and longest."""
    downtime_seconds: int = 60
    drift_seconds: int = 0
    """How far clocks are off, at most, either way. Clients tolerate ten seconds."""
    step_seconds: int = 10
    """Longest time between two ticks."""
    traffic: float = 0.5
    """New packets, per node."""
    timeout_seconds: int = 900
    """Longest timeout of a packet."""
    second_relayer: bool = False
    """Two relayers on each node that has one, on one store and without knowing each other."""
    replay: float = 0.0
    change: float = 0.0
    """Deliveries that an untrusted relayer submits: old ones as they are, and changed ones."""
    own: float = 0.0
    """Deliveries that it makes by itself, true ones and false ones."""
    forge: float = 0.0
    """Deliveries that are false in one place each, for each client."""
    accuse: float = 0.0
    """Evidence of nothing that it submits."""
    rotation: float = 0.0
    witnessed: str = ""
    """A node whose neighbours all co-sign its heads, and require co-signatures of it."""
    witness_quorum: int = 0
    """How many."""
    night: float = 0.0
    """Nights longer than the trusting period, in which every client expires."""
    two_heads: bool = False
    hasty: bool = False
    """One node runs another program: it writes sentinels without looking at its clock."""
    backup: float = 0.0
    stale: float = 0.0
    """Attempts to start a node on a backup."""
    trusting_period: int = 90 * DAY
    tick_seconds: int = 60
    money: Money | None = None
    """Settlement beside the rest, on every node; None: none."""

    def lines(self) -> list[str]:
        """The options as text, those that are off left out."""
        shown = []
        for one in fields(self):
            value = getattr(self, one.name)
            if value in (0, 0.0, False, "", None) and one.name != "seed":
                continue
            if one.name == "edges":
                value = ", ".join(f"{e.near}-{e.far} ({e.carrier})" for e in value)
            elif isinstance(value, Mapping):
                value = ", ".join(f"{act}={share:.3f}" for act, share in value.items()) or "none"
            elif one.name == "nodes":
                value = ", ".join(value)
            shown.append(f"{one.name}: {value}")
        return shown


def draw(seed: int, ticks: int = TICKS, algorithm: str = CHEAP, *, money: bool = False) -> Options:
    """The options of a seed, always the same; `money`: with settlement beside the rest."""
    random = Random(f"options {seed}")
    nodes, edges = _network(random)

    def sometimes(value: float) -> float:
        return value if random.random() < 0.5 else 0.0

    def acts(weights: Mapping[Act, float]) -> dict[Act, float]:
        drawn = {act: sometimes(random.choice(_STRENGTHS) * w) for act, w in weights.items()}
        return {act: share for act, share in drawn.items() if share}

    witnessed, quorum = _witnessed(random, edges)
    return Options(
        seed=seed,
        ticks=ticks,
        nodes=nodes,
        edges=edges,
        algorithm=algorithm,
        commits=acts(_COMMITS),
        calls=acts(_CALLS),
        partition=sometimes(random.choice((0.01, 0.05))),
        downtime_seconds=random.choice((5, 60, 300)),
        drift_seconds=int(sometimes(random.choice((3, 9, 40)))),
        step_seconds=random.choice((2, 10, 40)),
        traffic=random.choice((0.1, 0.3, 0.6)),
        timeout_seconds=random.choice((60, 300, 900)),
        second_relayer=random.random() < 0.2,
        replay=sometimes(random.choice((0.2, 0.6))),
        change=sometimes(random.choice((0.2, 0.6))),
        own=sometimes(random.choice((0.2, 0.6))),
        accuse=sometimes(random.choice((0.05, 0.2))),
        rotation=sometimes(random.choice((0.01, 0.05))),
        witnessed=witnessed,
        witness_quorum=quorum,
        night=sometimes(random.choice((0.0, 0.03))),
        two_heads=random.random() < 0.25,
        hasty=random.random() < 0.3,
        backup=sometimes(0.1),
        stale=sometimes(0.1),
        trusting_period=random.choice((7200, DAY, 90 * DAY)),
        tick_seconds=random.choice((15, 60, 600)),
        forge=Random(f"forge {seed}").choice((0.0, 0.3, 0.6)),
        money=draw_money(seed, nodes) if money else None,
    )


def _witnessed(random: Random, edges: tuple[Edge, ...]) -> tuple[str, int]:
    """(a node, how many of its neighbours must have co-signed), often none."""
    if random.random() < 0.5:
        return "", 0
    node = random.choice(edges).near
    neighbours = sum(node in (edge.near, edge.far) for edge in edges)
    return node, random.randint(1, neighbours)


def _network(random: Random) -> tuple[tuple[str, ...], tuple[Edge, ...]]:
    """A star around a relay, or a tree of relays; sometimes with one way more."""
    count = random.choice((2, 2, 3, 3, 4, 5))
    names = ("hub", "zj", "sh", "hk", "mo")[:count]
    star = random.random() < 0.6
    edges = []
    for number in range(1, count):
        near = names[0] if star else names[random.randrange(number)]
        edges.append(Edge(near, names[number], random.choice(CARRIERS)))
    known = {(e.near, e.far) for e in edges}
    spare = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if (a, b) not in known]
    if spare and random.random() < 0.3:
        edges.append(Edge(*random.choice(spare), random.choice(CARRIERS)))
    return names, tuple(edges)
