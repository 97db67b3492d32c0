"""What the turns of a lane did: counts and reasons, for the log, the pace and the tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

_log = structlog.get_logger("lianqiao.lane")


@dataclass(slots=True)
class SideReport:
    """What one turn of one side did: counts and a reason, so that it can be logged."""

    headers: int = 0
    """Headers delivered."""
    deliveries: int = 0
    done: int = 0
    """Items that took effect."""
    repeated: int = 0
    """Items that had taken effect before."""
    waiting: int = 0
    """Items that are tried again later."""
    dead: int = 0
    """Items that became dead letters."""
    refused: dict[str, int] = field(default_factory=dict)
    """How many of those that wait or are dead, by reason."""
    reason: str = ""
    """Why the side stopped, a reason of relay.errors; empty where it did not."""
    detail: str = ""
    more: bool = False
    """Whether another turn has work already."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.deliveries or self.waiting or self.dead or self.reason)


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What one turn of a lane did."""

    client_id: str
    outward: SideReport = field(default_factory=SideReport)
    inward: SideReport = field(default_factory=SideReport)
    aside: SideReport = field(default_factory=SideReport)
    """The items that were set aside until a younger head was there, delivered after that."""

    @property
    def sides(self) -> tuple[SideReport, SideReport, SideReport]:
        """All parts of the turn, in order."""
        return self.outward, self.inward, self.aside

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell."""
        return all(side.idle for side in self.sides)

    @property
    def busy(self) -> bool:
        """Whether anything was delivered."""
        return any(side.deliveries for side in self.sides)

    @property
    def more(self) -> bool:
        """Whether another turn has work already."""
        return any(side.more for side in self.sides)

    @property
    def reason(self) -> str:
        """Why a side stopped; empty where none did."""
        return next((side.reason for side in self.sides if side.reason), "")


def log_turn(report: LaneReport, told: str = "") -> str:
    """One line for a turn that did something: counts and reasons, never content.

    Returns the reason for which a side stopped. Given as `told` with the next report, it is no
    warning again.
    """
    if report.idle:
        return told
    line: dict[str, object] = {}
    for name, side in zip(("out", "in", "aside"), report.sides, strict=True):
        counts = ("headers", "deliveries", "done", "repeated", "waiting", "dead", "refused")
        line |= {f"{name}_{c}": getattr(side, c) for c in counts if getattr(side, c)}
        if side.reason:
            line |= {f"{name}_reason": side.reason, f"{name}_detail": side.detail[:200]}
    level = _log.info
    if report.reason:
        level = _log.debug if report.reason == told else _log.warning
    level("lane", client_id=report.client_id, **line)
    return report.reason
