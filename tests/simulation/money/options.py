"""What a seed with money draws beside the faults of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

INSISTENT, TWO_FACED, LAX = "insistent", "two-faced", "lax"
PROGRAMS = (INSISTENT, TWO_FACED, LAX)
"""See tests.simulation.money.programs."""


@dataclass(frozen=True, slots=True)
class Money:
    """Likelihoods are per tick and node, unless said."""

    traffic: float = 0.4
    """New instructions."""
    life_seconds: int = 300
    """Longest life of a quote."""
    wrong: float = 0.0
    """Share of instructions that nobody may take."""
    reuse: float = 0.0
    """Share whose quote was used before, perhaps through another relay."""
    netting: float = 0.0
    """Windows opened."""
    movements: float = 0.0
    """Deposits, and withdrawals by owners."""
    itemised: float = 0.0
    """Share of instructions with the lines of their bill."""
    returns: float = 0.0
    """Share that gives an earlier settlement back."""
    daily: int = 0
    """Most that a payer may lock in a day, minor units; 0: no limit. So the next two."""
    counterparty: int = 0
    """Most for one payee's owner."""
    officer: int = 0
    """Above this a day a second officer co-signs."""
    cosigned: float = 0.0
    """Share of instructions with a co-signature; of these a third is forged."""
    changes: float = 0.0
    """The payer's limits are changed, and relays are told of it."""
    funds: int = 400_000
    """On each account at the beginning, minor units; a bill is at most 200 000."""
    program: str = ""
    """One of PROGRAMS, or none: what one relay runs in place of the product's contract."""
    programmed: str = ""
    """Which."""

    def __str__(self) -> str:
        shown = (f"{name}={getattr(self, name)}" for name in self.__slots__)
        return ", ".join(one for one in shown if not one.endswith(("=", "=0.0", "=0")))

    @property
    def limited(self) -> bool:
        """Whether anything limits what a payer may lock."""
        return bool(self.daily or self.counterparty or self.officer)


def draw_money(seed: int, nodes: tuple[str, ...]) -> Money:
    """The options of a seed, always the same, and drawn apart from all others: a seed is the same
    network under the same faults with money and without."""
    random = Random(f"money options {seed}")

    def sometimes(value: float) -> float:
        return value if random.random() < 0.5 else 0.0

    program = random.choice(PROGRAMS) if random.random() < 0.7 else ""
    # The first node is in the middle of a star and has the most ledgers.
    other = random.choice(nodes)
    programmed = nodes[0] if random.random() < 0.7 else other
    # A relay that lies has to have something to lie about.
    traffic, life_seconds = (0.4, 120) if program else (0.2, 10)
    return Money(
        traffic=max(traffic, random.choice((0.2, 0.4, 0.8))),
        life_seconds=max(life_seconds, random.choice((10, 30, 120, 300))),
        wrong=0.4 if program == LAX else sometimes(random.choice((0.1, 0.4))),
        reuse=sometimes(random.choice((0.2, 0.5))),
        netting=sometimes(random.choice((0.1, 0.4))),
        movements=sometimes(random.choice((0.1, 0.4))),
        funds=random.choice((150_000, 400_000, 5_000_000)),
        program=program,
        programmed=programmed if program else "",
        itemised=random.choice((0.0, 0.5, 1.0)),
        returns=random.choice((0.0, 0.1, 0.3)),
        daily=int(sometimes(random.choice((150_000, 400_000, 1_000_000)))),
        counterparty=int(sometimes(random.choice((120_000, 300_000, 900_000)))),
        officer=int(sometimes(random.choice((1_000, 50_000, 200_000)))),
        cosigned=random.choice((0.3, 0.6, 0.9)),
        changes=random.choice((0.0, 0.05, 0.2)),
    )
