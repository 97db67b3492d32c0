"""The watched clock: a step while the node runs stops it, small corrections do not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from relay.cli.clock import MAX_STEP, Clock
from relay.errors import Reason, Unavailable


@dataclass
class Machine:
    """A clock on the wall and the time since it was started."""

    wall: float = 1_790_000_000.0
    up: float = 50.0

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.up += seconds


def _clock(machine: Machine) -> Clock:
    return Clock(lambda: machine.wall, lambda: machine.up)


def test_time_passes() -> None:
    machine = Machine()
    clock = _clock(machine)
    machine.pass_time(10 * 365 * 86_400.5)
    assert clock() == int(machine.wall)


@pytest.mark.parametrize(
    ("step", "way"), [(MAX_STEP + 1, "forward"), (-MAX_STEP - 1, "back"), (10**9, "forward")]
)
def test_a_step_stops_until_it_is_taken_back(step: int, way: str) -> None:
    machine = Machine()
    clock = _clock(machine)
    clock()
    machine.wall += step
    for _ in range(3):
        machine.pass_time(100)
        with pytest.raises(Unavailable) as err:
            clock()
        assert err.value.reason is Reason.CLOCK_JUMPED
        assert f"{way} by {abs(step)} s" in err.value.detail
        assert "start the node again" in err.value.hint
    assert _clock(machine)() == int(machine.wall)
    machine.wall -= step
    assert clock() == int(machine.wall)


def test_small_corrections_are_taken_over_one_by_one() -> None:
    machine = Machine()
    clock = _clock(machine)
    for _ in range(10):
        machine.wall += MAX_STEP - 1
        assert clock() == int(machine.wall)
    machine.wall -= MAX_STEP - 1
    assert clock() == int(machine.wall)
