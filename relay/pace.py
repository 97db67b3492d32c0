"""The pace of lanes: a thread for each, quick while there is work, quiet while there is none.

While a lane is busy it takes a turn every BUSY_POLL seconds. After QUIET_TURNS turns with nothing
to do it rests: until the local chain grows, or the remote chain tells that it has a new step
(where its adapter can wait for one), or REST_TURNS short pauses have passed, since retries and
refreshes fall due by time. So an idle relay asks a remote chain about every other second.

Nothing here is needed for correctness: a lane that is never woken finds everything by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import structlog

from relay.chain import Chain
from relay.errors import LianqiaoError
from relay.lane_report import LaneReport, log_turn

BUSY_POLL, REST_POLL = 0.02, 0.2
"""Seconds between two turns of a busy lane, and between two looks at whether a rest is over."""
QUIET_TURNS = 50
REST_TURNS = 10
WATCH_SECONDS = 30.0
"""How long a remote chain is asked to wait for a step, at most."""
WATCH_AGAIN = 5.0
"""Seconds after a watch that failed."""
NEW_LANES = 0.2
"""Seconds until a lane that was added is run, at most."""
FAULT_DELAY = 5.0
"""Seconds that a lane rests after a fault of our own."""
_log = structlog.get_logger("lianqiao.lane")

Leased = Callable[[str, int], bool]
"""Whether this process runs a lane, by its client id, now (relay.store.leases)."""
Wait = Callable[[float], object]
"""Waits so many seconds at most; true where it ended earlier because something has changed."""


@runtime_checkable
class WaitingChain(Protocol):
    """What a chain may offer besides relay.chain.Chain: to wait for a step."""

    def wait(self, client_id: str, after: int, seconds: float) -> bool:
        """Waits, `seconds` at most, for a step with cursor > `after`; whether there is one."""
        ...


class Turning(Protocol):
    """What this module needs of a lane."""

    client_id: str
    remote: Chain

    def tick(self, now: int) -> LaneReport:
        """One turn."""
        ...

    def news_after(self) -> tuple[str, int]:
        """(the remote chain's client, the cursor) after which a remote step is news."""
        ...


def run_lanes(
    lanes: Callable[[], Sequence[Turning]],
    stop: threading.Event,
    clock: Callable[[], int],
    wait: Wait,
    leased: Leased,
) -> None:
    """Runs each lane in a thread of its own until `stop` is set, also those added meanwhile."""
    paces: dict[Turning, Pace] = {}
    while not stop.wait(NEW_LANES):
        current = lanes()
        for lane in current:
            if lane not in paces:
                paces[lane] = Pace(lane, stop, clock, wait, leased)
                paces[lane].start()
        for lane in [lane for lane in paces if lane not in current]:
            paces.pop(lane).end()
    for pace in paces.values():
        pace.join()


class Pace:
    """One lane's thread, and the one that listens to its remote chain while the lane rests."""

    def __init__(
        self,
        lane: Turning,
        stop: threading.Event,
        clock: Callable[[], int],
        wait: Wait,
        leased: Leased,
    ) -> None:
        self._leased = leased
        self._lane = lane
        self._stop = stop
        self._clock = clock
        self._wait = wait
        self._ended = threading.Event()
        self._resting = threading.Event()
        self._news = threading.Event()
        self._told = ""
        name = f"lane-{lane.client_id}"
        self._turns = threading.Thread(target=self._run, name=name, daemon=True)
        self._watch = threading.Thread(target=self._listen, name=f"{name}-watch", daemon=True)

    def start(self) -> None:
        """Begins with a turn."""
        self._turns.start()
        if isinstance(self._lane.remote, WaitingChain):
            self._watch.start()

    def end(self) -> None:
        """Takes no further turn."""
        self._ended.set()

    def join(self) -> None:
        """Waits for the turn that is going on. A watch may outlast it; it changes nothing."""
        self._turns.join()

    def _over(self) -> bool:
        return self._stop.is_set() or self._ended.is_set()

    def _run(self) -> None:
        quiet = 0
        while not self._over():
            try:
                now = self._clock()
                if not self._leased(self._lane.client_id, now):
                    self._rest()
                    continue
                report = self._lane.tick(now)
            except Exception as err:  # a fault of ours or of an adapter must not end other lanes
                fault = {"kind": type(err).__name__, "exc_info": err}
                _log.error("fault", client_id=self._lane.client_id, **fault)
                self._stop.wait(FAULT_DELAY)
                continue
            self._told = log_turn(report, self._told)
            if report.more and not report.reason:
                continue
            quiet = 0 if report.busy else quiet + 1
            if quiet < QUIET_TURNS:
                self._wait(BUSY_POLL)
            elif self._rest():
                quiet = 0

    def _rest(self) -> bool:
        """A rest; whether news from the remote chain ended it."""
        self._resting.set()
        for _ in range(REST_TURNS):
            if self._wait(REST_POLL) or self._news.is_set() or self._over():
                break
        self._resting.clear()
        woken = self._news.is_set()
        self._news.clear()
        return woken

    def _listen(self) -> None:
        remote = self._lane.remote
        assert isinstance(remote, WaitingChain)
        while not self._over():
            if not self._resting.wait(REST_POLL) or self._news.is_set():
                self._stop.wait(REST_POLL / 4)
                continue
            try:
                if remote.wait(*self._lane.news_after(), WATCH_SECONDS):
                    self._news.set()
            except LianqiaoError:
                self._stop.wait(WATCH_AGAIN)  # the lane's own turn finds out why, and says so
