"""The relayer: a lane for each chain that this node's clients follow, each at its own pace.

    lane = local client id + the remote chain behind it
         = the side `out` (local to remote) and the side `in` (remote to local), see relay.lane

A relayer is never trusted and never needed twice: what it delivers is verified by whoever gets it,
and what was delivered before is a no-op. So lanes need no coordination, a crash at any moment
costs repeated deliveries at most, and another relayer may serve the same clients.

At its first turn, and after each time that a chain was out of reach, a lane compares what the node
knows with what the lane has read, and closes the gaps: own packets that are open but wait nowhere
are taken up again, and a hole in the received sequences has the remote chain read a second time
from its beginning, beside what is new (which costs no-ops). So has an own packet that is open long
after it must have timed out: its answer was read and lost. An operator asks for all of this, for
some sequences or all, by `lianqiao packets clear`.

A contract that judges by what a chain had sent until a short while ago says so before it is asked
(`heads_needed`). Then the lane of that chain is run first, with all its packets up to its newest
head and its statement of what it has sent, and the packet is delivered after that; also where none
was to be had, since the contract has a reason of its own for that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from relay.chain import MAX_BATCH, Chain, Step
from relay.contract import HeadNeed
from relay.deliveries import Deliveries, Ends
from relay.errors import LianqiaoError, NotFound, Reason, Refused
from relay.lane import MAX_WAITING, Side
from relay.lane_report import LaneReport, SideReport, log_turn
from relay.light.checkpoint_client import CHECKPOINT
from relay.light.types import ClientType
from relay.outbox import Outbox, Waiting, printable
from relay.pace import Leased, Wait, run_lanes
from relay.packet import MAX_INT, MAX_TIMEOUT_AHEAD, Packet
from relay.steps import item_of
from relay.store import Store
from relay.views import Cleared
from relay.watch import COMPARE_SECONDS, Keep, Submit, Watch

OUT, IN = "out", "in"
PATIENCE = 30
"""Seconds from when a chain stops answering in which packets that want more of it wait for it."""
MAX_LANES = 1000
OVERDUE = MAX_TIMEOUT_AHEAD + 3600
"""Seconds after which a packet that was sent must have been answered, or have timed out."""
_log = structlog.get_logger("lianqiao.lane")

HeadsNeeded = Callable[[Sequence[Packet]], Sequence[Sequence[HeadNeed]]]
DEFAULT_TYPES: Mapping[str, ClientType] = {CHECKPOINT.name: CHECKPOINT}


def _nobody(client_id: str, evidence: bytes) -> None:
    raise Refused(Reason.NOT_PERMITTED, "this relayer gives evidence to no client of its node")


def _nowhere(chain_id: str, evidence: bytes) -> None:
    """Evidence that was taken is on the journals of those who took it."""


def _alone(client_id: str, now: int) -> bool:
    """For a process that shares its database with no other."""
    return True


def _no_needs(packets: Sequence[Packet]) -> Sequence[Sequence[HeadNeed]]:
    """For a node whose contracts never ask for a younger head."""
    return [()] * len(packets)


class Lane:
    """One local client and the chain that it follows."""

    def __init__(self, client_id: str, remote: Chain, relayer: Relayer) -> None:
        self.client_id = client_id
        self.remote = remote
        self._relayer = relayer
        local, outbox = relayer.local, relayer.outbox
        away, home = Deliveries(local, remote), Deliveries(remote, local, relayer.watch.carried)
        self.outward = Side(client_id, OUT, away, outbox)
        self.inward = Side(client_id, IN, home, outbox, relayer.set_aside)
        self._counterparty = ""
        self._compared = self._failed = False
        self._known_holes = 0
        self.stopped = ("", "")
        """(reason, detail) for which the lane stands still; empty where it does not."""
        self._not_before = 0

    def tick(self, now: int) -> LaneReport:
        """One turn: what comes in, what of it was set aside, then what goes out, so that answers
        leave in the turn in which their questions came."""
        if now < self._not_before:
            return LaneReport(self.client_id)
        try:
            ours, theirs = self._ends()
            self._compare(now)
        except LianqiaoError as err:
            self._not_before = now + 1
            self.stopped = err.reason.value, printable(err.detail)
            stopped = SideReport(reason=err.reason.value, detail=err.detail)
            return LaneReport(self.client_id, outward=stopped)
        inward, aside = self.inward.tick(theirs, now)
        late = SideReport()
        if aside:
            behind = self._relayer.meet(aside, now)
            ready = [w for w in aside if w.cursor not in behind]
            late = self.inward.deliver(theirs, ready, now) if ready else late
        outward, _ = self.outward.tick(ours, now)
        failing = self.outward.failing or self.inward.failing
        self._note(failing, inward, late, outward)
        self._relayer.look_around(now)
        self._compared = self._compared and not (self._failed and not failing)
        self._failed = failing
        return LaneReport(self.client_id, outward, inward, late)

    def news_after(self) -> tuple[str, int]:
        """See relay.pace.Turning."""
        return self._ends()[0].destination, self._relayer.outbox.cursor(self.client_id, IN)

    def _note(self, failing: bool, *reports: SideReport) -> None:
        """Remembers why a side stopped until none does."""
        if not failing:
            self.stopped = ("", "")
        for report in reports:
            if report.reason:
                self.stopped = report.reason, printable(report.detail)

    def wake(self) -> None:
        """Takes the next turn of both sides without a delay."""
        self._not_before = 0
        self.inward.wake()
        self.outward.wake()

    def has_just_gone(self, now: int) -> bool:
        """Whether the remote chain stopped answering less than PATIENCE seconds ago."""
        return self.inward.failing and now < self.inward.failing_since + PATIENCE

    def bring_complete(self, now: int) -> bool:
        """Carries the remote chain's packets up to its newest head, then what it says it has sent.

        Whether that is done, or cannot be done now; False while there is more to carry.
        """
        try:
            _, theirs = self._ends()
        except LianqiaoError:
            return True
        report = self.inward.bring_complete(theirs, now)
        log_turn(LaneReport(self.client_id, inward=report))
        return not report.more

    def _ends(self) -> tuple[Ends, Ends]:
        """(ends of the outward side, ends of the inward side). Raises CLIENT_NOT_FOUND,
        COUNTERPARTY_UNKNOWN."""
        theirs = self._counterparty or self._ask_counterparty()
        return Ends(self.client_id, theirs), Ends(theirs, self.client_id)

    def _ask_counterparty(self) -> str:
        status = self._relayer.local.client(self.client_id)
        self._counterparty = status.counterparty_client_id
        if not self._counterparty:
            raise Refused(
                Reason.COUNTERPARTY_UNKNOWN,
                f"{self.client_id} has no counterparty yet",
                hint="lianqiao connect registers counterparties on both sides",
                client_id=self.client_id,
            )
        return self._counterparty

    def _compare(self, now: int) -> None:
        """Closes the gaps between the node's packets and what this lane has read, once."""
        if self._compared:
            return
        outbox, client_id = self._relayer.outbox, self.client_id
        holes = outbox.missing_receipts(client_id, IN)
        first = not self._failed and not self._known_holes
        lost = first and outbox.open_before(client_id, now - OVERDUE)
        if holes > self._known_holes or lost:
            outbox.reread(client_id, IN)
        # What a whole second reading leaves open are sequences that its chain skipped.
        self._known_holes = max(holes, 0)
        self._relayer.take_up(client_id, now)
        self._compared = True


class Relayer:
    """The lanes of one node. `tick(now)` runs each once; `run` runs each at its own pace."""

    def __init__(
        self,
        store: Store,
        local: Chain,
        lanes: Iterable[tuple[str, Chain]] = (),
        *,
        heads_needed: HeadsNeeded = _no_needs,
        submit_misbehaviour: Submit | None = None,
        client_types: Mapping[str, ClientType] = DEFAULT_TYPES,
        keep_evidence: Keep | None = None,
    ) -> None:
        """`store` is the local node's; `lanes` are (local client id, remote chain) pairs.

        `submit_misbehaviour` gives evidence to a client of the node, `keep_evidence` keeps it for
        people; headers of `client_types` are compared.
        """
        self.local = local
        self.outbox = Outbox(store)
        self._store = store
        self._heads_needed = heads_needed
        self._next_look = 0
        self.watch = Watch(
            store,
            local,
            client_types,
            self._working,
            self._behind,
            submit_misbehaviour or _nobody,
            keep_evidence or _nowhere,
        )
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()
        for client_id, remote in lanes:
            self.add_lane(client_id, remote)

    @property
    def lanes(self) -> Sequence[Lane]:
        """The lanes, in order of their client ids."""
        return [self._lanes[name] for name in sorted(self._lanes)]

    def add_lane(self, client_id: str, remote: Chain) -> None:
        """Serves another chain from now on, also while `run` runs; replaces a lane of that id.

        Raises Refused(LIMIT_EXCEEDED).
        """
        if len(self._lanes) >= MAX_LANES and client_id not in self._lanes:
            raise Refused(Reason.LIMIT_EXCEEDED, f"a relayer runs at most {MAX_LANES} lanes")
        with self._lock:
            self._lanes = {**self._lanes, client_id: Lane(client_id, remote, self)}

    def remove_lane(self, client_id: str) -> None:
        """Stops serving a chain; what waits for it stays in the outbox."""
        with self._lock:
            self._lanes = {k: v for k, v in self._lanes.items() if k != client_id}

    def tick(self, now: int) -> list[LaneReport]:
        """One turn of every lane, one after the other."""
        reports = []
        for lane in self.lanes:
            reports.append(lane.tick(now))
            log_turn(reports[-1])
        return reports

    def run(
        self,
        stop: threading.Event,
        clock: Callable[[], int],
        wait: Wait | None = None,
        leased: Leased = _alone,
    ) -> None:
        """Runs every lane in a thread of its own until `stop` is set (relay.pace).

        `clock` gives integer seconds; `wait(seconds)` returns earlier, and True, where the local
        chain has grown (default: sleeps); `leased(client id, now)` whether this process runs that
        lane (relay.store.leases; default: all of them).
        """
        run_lanes(lambda: self.lanes, stop, clock, wait or stop.wait, leased)

    # --- gaps

    def take_up(self, client_id: str, now: int, sequences: tuple[int, int] = (1, MAX_INT)) -> int:
        """Has own packets that are open, read and wait nowhere delivered again; how many."""
        outbox = self.outbox
        forgotten = outbox.forgotten_sends(client_id, OUT, MAX_WAITING, sequences)
        if len(forgotten) > MAX_BATCH:
            outbox.reread(client_id, OUT)
        elif forgotten:
            steps = [self.local.packets(client_id, cursor - 1, 1)[0] for cursor in forgotten]
            again = [Waiting(s.cursor, item_of(s), s.height, not_before=now) for s in steps]
            outbox.save(client_id, OUT, waiting=again)
        return len(forgotten)

    def clear(self, client_id: str, now: int, sequences: tuple[int, int] = (1, MAX_INT)) -> Cleared:
        """Takes undelivered packets up again now: what waits, dead letters, what was forgotten.

        `sequences`, both included, of either direction. What is new keeps its pace: a backlog has
        a bounded part of each turn. Raises NotFound(CLIENT_NOT_FOUND).
        """
        self.local.client(client_id)
        counts = [self.outbox.revive_all(client_id, side, now, sequences) for side in (OUT, IN)]
        forgotten = self.take_up(client_id, now, sequences)
        missing = self.outbox.missing_receipts(client_id, IN) > 0
        reread = bool(missing or forgotten) and self.outbox.reread(client_id, IN)
        lane = self._lanes.get(client_id)
        if lane is not None:
            lane.wake()
        waiting, dead = (sum(of) for of in zip(*counts, strict=True))
        return Cleared(waiting, dead, forgotten, reread)

    # --- younger heads

    def set_aside(self, waiting: Sequence[Waiting]) -> set[int]:
        """Cursors of those whose contracts want more of a chain than is known to be here."""
        return {cursor for cursor, clients in self._unmet(waiting).items() if clients}

    def meet(self, aside: Sequence[Waiting], now: int) -> set[int]:
        """Runs the lane of each chain of which more is wanted, once.

        Returns the cursors of those that wait on: for a lane with more to carry, or for a chain
        that has just stopped answering, since a node that starts again is no reason to refuse for
        good. What would expire meanwhile waits for neither: a chain that always has more to carry
        would keep open for ever what another asks about it.
        """
        unmet = self._unmet(aside)
        behind, gone = set[str](), set[str]()
        for client_id in sorted(set().union(*unmet.values())):
            lane = self._lanes.get(client_id)
            if lane is not None and not lane.bring_complete(now):
                behind.add(client_id)
            if lane is not None and lane.has_just_gone(now):
                gone.add(client_id)
        lasting = {
            one.cursor for one in aside if now + PATIENCE <= one.item.packet.timeout_timestamp
        }
        return {
            cursor
            for cursor, clients in unmet.items()
            if clients & (behind | gone) and cursor in lasting
        }

    def _unmet(self, waiting: Sequence[Waiting]) -> dict[int, set[str]]:
        """By cursor, the clients that are not known to be complete up to when contracts want."""
        received = [w for w in waiting if w.item.step is Step.RECEIVE]
        needs = self._heads_needed([w.item.packet for w in received])
        met = {need: self._is_met(need) for need in {need for of in needs for need in of}}
        return {
            one.cursor: {need.client_id for need in of if not met[need]}
            for one, of in zip(received, needs, strict=True)
        }

    def _is_met(self, need: HeadNeed) -> bool:
        try:
            return self.local.client(need.client_id).complete_time >= need.time
        except NotFound:
            return True  # nothing can be fetched for it: the contract says what that means

    # --- two histories

    def look_around(self, now: int) -> None:
        """Compares what clients elsewhere know of the chains that are followed here, if it is time
        (relay.watch)."""
        with self._lock:
            if now < self._next_look:
                return
            self._next_look = now + COMPARE_SECONDS
        self.watch.look_around()

    def _behind(self, client_id: str) -> Chain | None:
        lane = self._lanes.get(client_id)
        return None if lane is None else lane.remote

    def _working(self) -> list[tuple[str, Chain]]:
        """The chains that answer."""
        return [(lane.client_id, lane.remote) for lane in self.lanes if not lane.stopped[0]]
