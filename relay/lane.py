"""One side of a lane: packet steps read from one chain, carried to one client of the other.

A side asks its source what happened after its cursor, delivers it in batches (relay.deliveries) and
saves the cursor together with what could not be finished. It holds nothing that is not in the
store: any number of sides, on any number of relayers, may carry the same steps, and only the first
has an effect.

A client is updated for a packet, for a refresh that is due (a third of its trusting period), or
because a contract or the proof of a timeout needs a younger head, and for nothing else. An update
is an entry on the destination: two chains that answered updates with updates would never rest.

A contract that asks as of when nothing was revoked needs more than a young head: that everything
its chain had sent by then is there. The side then carries all up to the newest head, and after it
the chain's own statement of what it has sent (relay.sent). What waits on this side, for a younger
head of another chain perhaps, is not there yet: the youngest statement that says nothing of it is
taken, so that two chains that need each other do not wait for each other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

from relay.chain import MAX_BATCH, Chain, Outcome
from relay.deliveries import Deliveries, Ends, reason_of
from relay.errors import Exhausted, LianqiaoError, Reason
from relay.lane_report import SideReport
from relay.outbox import Outbox, Waiting
from relay.steps import (
    after_answer,
    check_steps,
    delay,
    fitting,
    item_of,
    wants_young_proof,
)

MAX_PAGES = 16
"""Deliveries of new steps on one side in one tick; what is left follows in the next."""
BACKLOG = 250
"""Steps of a backlog in one tick, while there are new ones: what waits, or is read again."""
MAX_WAITING = 20_000
"""Unfinished steps of one side; past it the side stops reading until some are finished."""
MAX_SIDE_DELAY = 60
"""Seconds until a side that stopped is tried again, at most."""
PASSING_SECONDS = 1.0
"""How long another lane waits for a side that is in a turn. A chain may make its own last long."""
REFRESH_CHECK = 3600
"""Seconds after which the age of a client's head is looked at again, at most."""
STALE = f"{Reason.HEAD_STALE}: a younger head is fetched first"

SetAside = Callable[[Sequence[Waiting]], Collection[int]]
Head = Callable[[], int]
"""The source's newest signed height as of this turn; asked when it is needed first."""


def _none(_: Sequence[Waiting]) -> Collection[int]:
    """On destinations whose contracts this process cannot ask."""
    return ()


@dataclass(slots=True)
class _Turn:
    """What one turn works with."""

    ends: Ends
    now: int
    head: Head
    report: SideReport
    young: bool
    """Whether the client gets the newest head at the end, needed for a packet or not."""
    complete: bool = False
    """Whether it gets the statement of what the source has sent, too."""


class Side:
    """The way from one chain to the other. Thread-safe; errors of chains end in the report."""

    def __init__(
        self,
        lane: str,
        name: str,
        deliveries: Deliveries,
        outbox: Outbox,
        set_aside: SetAside = _none,
    ) -> None:
        """`lane` is the local client id, `name` `out` or `in`; `set_aside` gives the cursors of
        the items that wait for a younger head of some chain."""
        self.lane = lane
        self.name = name
        self._deliveries = deliveries
        self._outbox = outbox
        self._set_aside = set_aside
        self._lock = threading.Lock()
        self._failures = 0
        self.failing_since = 0
        """Seconds since 1970 UTC of the first of the turns that were stopped, where one was."""
        self._not_before = 0
        self._next_refresh = 0

    @property
    def source(self) -> Chain:
        """The chain that is read."""
        return self._deliveries.source

    @property
    def failing(self) -> bool:
        """Whether the last turn was stopped: by a chain out of reach, or a client that refuses."""
        return self._failures > 0

    def wake(self) -> None:
        """Takes the next turn without a delay."""
        self._not_before = 0

    def tick(self, ends: Ends, now: int) -> tuple[SideReport, list[Waiting]]:
        """One turn: what waits and is due, then what is new, then a refresh if one is due.

        Returns what it did, and the items set aside (they are in the outbox as well).
        """
        report, aside = SideReport(), list[Waiting]()
        with self._stopping(report, now) as awake:
            if awake:
                turn = self._turn(ends, now, report)
                turn.young = self._is_due_refresh(turn)
                aside = self._run(turn)
        return report, aside

    def bring_complete(self, ends: Ends, now: int) -> SideReport:
        """Carries everything up to the source's newest head, then its statement of what it has
        sent. Items that themselves wait for another chain stay aside.

        Asked by other chains' lanes: where this side is in a turn of its own that does not end
        soon, there is more to carry.
        """
        report = SideReport()
        with self._stopping(report, now, PASSING_SECONDS) as awake:
            if awake:
                turn = self._turn(ends, now, report)
                turn.complete = True
                self._run(turn)
        return report

    def deliver(self, ends: Ends, waiting: Sequence[Waiting], now: int) -> SideReport:
        """Delivers items of the outbox as they are, whether or not a younger head was found."""
        report = SideReport()
        with self._stopping(report, now) as awake:
            if awake:
                self._finish(self._turn(ends, now, report), waiting)
        return report

    def _turn(self, ends: Ends, now: int, report: SideReport) -> _Turn:
        return _Turn(ends, now, cache(self.source.latest_height), report, False)

    @contextmanager
    def _stopping(self, report: SideReport, now: int, patience: float = -1) -> Iterator[bool]:
        """Turns an error into a delay of this side; False while such a delay lasts, and where
        another turn goes on for longer than `patience` seconds (-1: is waited for)."""
        if not self._lock.acquire(timeout=patience):
            report.more = True
            yield False
            return
        try:
            if now < self._not_before:
                yield False
                return
            try:
                yield True
            except LianqiaoError as err:
                report.reason, report.detail = err.reason.value, err.detail
                self._not_before = now + min(MAX_SIDE_DELAY, delay(self._failures))
                if not self._failures:
                    self.failing_since = now
                self._failures += 1
            else:
                self._failures = self._not_before = 0
        finally:
            self._lock.release()

    # --- what a turn consists of

    def _run(self, turn: _Turn) -> list[Waiting]:
        """Where the client gets a young head, it is the head as it was before the listing, so
        that every step below it has been seen."""
        if turn.young or turn.complete:
            turn.head()
        aside = self._retry(turn, BACKLOG)
        young, before = turn.young, turn.report.deliveries
        aside += self._carry(turn)
        if turn.report.deliveries == before:  # nothing new would be kept waiting
            aside += self._retry(turn, MAX_BATCH - BACKLOG)
        self._reread(turn)
        if young and not turn.report.more:
            self._deliveries.update(turn.ends, turn.head(), turn.report)
        if turn.complete and not turn.report.more:
            before = self._outbox.lowest_waiting(self.lane, self.name)
            self._deliveries.complete(turn.ends, turn.head(), before, turn.report)
        # What was set aside is due still when what waits is looked at a second time.
        return list({waiting.cursor: waiting for waiting in aside}.values())

    def _retry(self, turn: _Turn, limit: int) -> list[Waiting]:
        """One attempt at what waits and is due; the items that still wait for a head."""
        due = self._outbox.due(self.lane, self.name, turn.now, limit)
        if not due:
            return []
        turn.young = turn.young or any(map(wants_young_proof, due))
        known = [w for w in due if w.height <= turn.head()]
        held = self._set_aside(known)
        ready = [w for w in known if w.cursor not in held]
        if held and len(due) == limit:  # what is due behind them has its turn before them now
            later = [replace(w, not_before=turn.now) for w in known if w.cursor in held]
            self._outbox.save(self.lane, self.name, waiting=later)
        # Where all that was looked at only waits, another look finds the same: were that "more",
        # two chains that need each other would wait for each other.
        turn.report.more = turn.report.more or (len(due) == limit and bool(ready))
        while ready:
            count = fitting(ready)
            self._finish(turn, ready[:count])
            ready = ready[count:]
        return [w for w in known if w.cursor in held]

    def _reread(self, turn: _Turn) -> None:
        """A bounded part of the second reading, where an operator or a gap asked for one."""
        after = self._outbox.rereading(self.lane, self.name)
        if after is None:
            return
        cursor = self._outbox.cursor(self.lane, self.name)
        steps = self.source.packets(turn.ends.source, after, BACKLOG)
        check_steps(steps, after, turn.ends.source, turn.ends.destination)
        old = [Waiting(s.cursor, item_of(s), s.height) for s in steps if s.cursor <= cursor]
        if old:
            kept = self._set_aside(old)
            held = [replace(w, not_before=turn.now, reason=STALE) for w in old if w.cursor in kept]
            ready = [w for w in old if w.cursor not in kept]
            while ready:
                count = fitting(ready)
                self._finish(turn, ready[:count])
                ready = ready[count:]
            if held:
                self._outbox.save(self.lane, self.name, waiting=held)
        more = bool(steps) and len(old) == len(steps)
        self._outbox.reread_to(self.lane, self.name, old[-1].cursor if more else None)
        turn.report.more = turn.report.more or more

    def _carry(self, turn: _Turn) -> list[Waiting]:
        """Delivers what is new, batch by batch, up to the head; the items set aside."""
        cursor, complete = self._outbox.cursor(self.lane, self.name), False
        read: list[Waiting] = []
        aside: list[Waiting] = []
        for _ in range(MAX_PAGES):
            complete = complete or self._read(turn, read, cursor)
            if read:
                count = fitting(read)
                batch = read[:count]
                del read[:count]
                cursor = batch[-1].cursor
                kept = self._set_aside(batch)
                held = [w for w in batch if w.cursor in kept]
                held = [replace(w, not_before=turn.now, reason=STALE) for w in held]
                ready = [w for w in batch if w.cursor not in kept]
                self._finish(turn, ready, cursor=cursor, held=held)
                aside += held
            if complete and not read:
                return aside
        turn.report.more = True
        return aside

    def _read(self, turn: _Turn, read: list[Waiting], cursor: int) -> bool:
        """Lists until more than one batch is at hand or there is no more below the head, which
        is what it answers; twice at most, so that no source makes a turn long by few steps."""
        for _ in range(2):
            if fitting(read) < len(read):
                return False
            after = read[-1].cursor if read else cursor
            steps = self.source.packets(turn.ends.source, after, MAX_BATCH)
            check_steps(steps, after, turn.ends.source, turn.ends.destination)
            below = [s for s in steps if s.height <= turn.head()]
            read += [Waiting(s.cursor, item_of(s), s.height) for s in below]
            if len(below) < len(steps) or not steps:
                return True
        return False

    def _finish(
        self,
        turn: _Turn,
        waiting: Sequence[Waiting],
        *,
        cursor: int | None = None,
        held: Sequence[Waiting] = (),
    ) -> None:
        """One delivery, and one save of what came of it."""
        report = turn.report
        answers = self._deliveries.submit(turn.ends, waiting, report) if waiting else []
        left, finished = list(held), []
        for one, answer in zip(waiting, answers, strict=True):
            report.done += answer.outcome is Outcome.DONE
            report.repeated += answer.outcome is Outcome.NOOP
            again = after_answer(one, answer, turn.now)
            if again is None:
                # What was read just now and took effect has no row to drop.
                if cursor is None or answer.outcome is not Outcome.DONE:
                    finished.append(one.cursor)
                continue
            left.append(again)
            reason = reason_of(answer.reason).value
            report.refused[reason] = report.refused.get(reason, 0) + 1
            report.dead += again.dead
            report.waiting += not again.dead
            report.more = report.more or again.not_before <= turn.now
        if cursor is not None:
            self._check_room(left)
        self._outbox.save(self.lane, self.name, cursor=cursor, waiting=left, finished=finished)

    def _check_room(self, left: Sequence[Waiting]) -> None:
        if left and self._outbox.size(self.lane, self.name) + len(left) > MAX_WAITING:
            raise Exhausted(
                Reason.LIMIT_EXCEEDED,
                f"more than {MAX_WAITING} steps of {self.lane} ({self.name}) wait",
                hint="see why they were refused; drop the dead letters that need no care",
            )

    def _is_due_refresh(self, turn: _Turn) -> bool:
        """Whether the client has had no header for a third of its trusting period."""
        if turn.now < self._next_refresh:
            return False
        status = self._deliveries.status(turn.ends)
        due = status.latest_time + status.trusting_period // 3
        self._next_refresh = min(max(due, turn.now + 1), turn.now + REFRESH_CHECK)
        return turn.now >= due
