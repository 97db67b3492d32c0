"""What a check of a node finds, and how much it looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    where: str
    detail: str


@dataclass(slots=True)
class Counts:
    """How much was looked at so far."""

    entries: int = 0
    checkpoints: int = 0
    headers: int = 0
    proofs: int = 0
    packets: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """How much was looked at."""

    entries: int
    checkpoints: int
    headers: int
    proofs: int
    packets: int
    books: tuple[str, ...] = ()
    """Ports of contracts whose own records were added up (relay.audit)."""


Progress = Callable[[str, int, int], None]
"""(what, done, of)"""


def quiet(_what: str, _done: int, _of: int) -> None:
    """Tells of no progress."""
