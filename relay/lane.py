"""One side of a lane: packet steps read from one chain, carried to one client of the other.

A side asks its source what happened after its cursor, makes one delivery of it (the headers that
the destination's client lacks, one proof, up to MAX_BATCH items) and saves the cursor together
with what could not be finished. It holds nothing that is not in the store: any number of sides, on
any number of relayers, may carry the same steps, and only the first has an effect.

A client is updated for a packet, for a refresh that is due (a third of its trusting period), or
because a contract needs a younger head, and for nothing else. An update is an entry on the
destination: two chains that answered updates with updates would never rest.

A head is only made younger when every packet below it has been carried: "no revocation as of
height h" is read from what was delivered, so h must not run ahead of the deliveries.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from relay.chain import (
    MAX_BATCH,
    Chain,
    ClientStatus,
    Delivery,
    DeliveryResult,
    Outcome,
    Submission,
)
from relay.errors import (
    Conflict,
    Exhausted,
    LianqiaoError,
    Malformed,
    Reason,
    Refused,
    Unavailable,
)
from relay.outbox import Outbox, Waiting
from relay.steps import (
    OF_THE_CLIENT,
    OF_THE_PROOF,
    after_answer,
    check_steps,
    delay,
    fitting,
    item_of,
    proven_path,
    refusal,
)

MAX_PAGES = 16
"""Deliveries of new steps on one side in one tick; what is left follows in the next."""
MAX_WAITING = 20_000
"""Unfinished steps of one side; past it the side stops reading until some are finished."""
MAX_SIDE_DELAY = 60
"""Seconds until a side that stopped is tried again, at most."""
REFRESH_CHECK = 3600
"""Seconds after which the age of a client's head is looked at again, at most."""
RACES = 3
"""How often a delivery is made anew because another relayer moved the client meanwhile."""

SetAside = Callable[[Sequence[Waiting]], Collection[int]]
Conflicting = Callable[[ClientStatus, Sequence[bytes]], None]


def _none(_: Sequence[Waiting]) -> Collection[int]:
    """On destinations whose contracts this process cannot ask."""
    return ()


def _nothing(_: ClientStatus, __: Sequence[bytes]) -> None:
    """For destinations whose stored headers are not at hand."""


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
class Ends:
    """The two client ids of a side: the source's client of the destination, and the reverse."""

    source: str
    destination: str


@dataclass(slots=True)
class Side:
    """The way from one chain to the other. Thread-safe; errors of chains end in the report."""

    lane: str
    """The local client id that names the lane."""
    name: str
    """`out`: local to remote; `in`: remote to local."""
    source: Chain
    destination: Chain
    outbox: Outbox
    set_aside: SetAside = _none
    """Cursors of the items that wait for a younger head of some chain."""
    conflicting: Conflicting = _nothing
    """Told of headers that the destination's client refused: (its status, the raw headers)."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _failures: int = 0
    _not_before: int = 0
    _next_refresh: int = 0

    def tick(self, ends: Ends, now: int) -> tuple[SideReport, list[Waiting]]:
        """One turn: what waits and is due, then what is new, then a refresh if one is due.

        Returns what it did, and the items set aside (they are in the outbox as well).
        """
        report, aside = SideReport(), list[Waiting]()
        with self._stopping(report, now) as awake:
            if awake:
                head = self.source.latest_height()
                aside += self._retry(ends, head, now, report)
                aside += self._carry(ends, head, now, report)
                self._refresh(ends, head, now, report)
        return report, aside

    def bring_young(self, ends: Ends, now: int) -> SideReport:
        """Carries everything up to the source's newest head, then gives the client that head.

        Items that themselves wait for a younger head stay aside, so that two chains that need
        each other's do not wait for each other.
        """
        report = SideReport()
        with self._stopping(report, now) as awake:
            if awake:
                head = self.source.latest_height()
                self._retry(ends, head, now, report)
                self._carry(ends, head, now, report)
                if not report.more:
                    self._update(ends, head, report)
        return report

    def deliver(self, ends: Ends, waiting: Sequence[Waiting], now: int) -> SideReport:
        """Delivers items of the outbox as they are, whether or not a younger head was found."""
        report = SideReport()
        with self._stopping(report, now) as awake:
            if awake:
                self._finish(ends, waiting, now, report)
        return report

    @contextmanager
    def _stopping(self, report: SideReport, now: int) -> Iterator[bool]:
        """Turns an error into a delay of this side; False while such a delay lasts."""
        if now < self._not_before:
            yield False
            return
        try:
            yield True
        except LianqiaoError as err:
            report.reason, report.detail = err.reason.value, err.detail
            self._not_before = now + min(MAX_SIDE_DELAY, delay(self._failures))
            self._failures += 1
        else:
            self._failures = self._not_before = 0

    # --- what a turn consists of

    def _retry(self, ends: Ends, head: int, now: int, report: SideReport) -> list[Waiting]:
        """One attempt at what waits and is due; the items that still wait for a head."""
        due = self.outbox.due(self.lane, self.name, now, MAX_BATCH)
        known = [w for w in due if w.height <= head]
        held = self.set_aside(known) if known else ()
        aside = [w for w in known if w.cursor in held]
        ready = [w for w in known if w.cursor not in held]
        while ready:
            count = fitting(ready)
            self._finish(ends, ready[:count], now, report)
            ready = ready[count:]
        report.more = report.more or len(due) == MAX_BATCH
        return aside

    def _carry(self, ends: Ends, head: int, now: int, report: SideReport) -> list[Waiting]:
        """Delivers what is new, page by page, up to `head`; the items set aside."""
        cursor = self.outbox.cursor(self.lane, self.name)
        aside: list[Waiting] = []
        for _ in range(MAX_PAGES):
            steps = self.source.packets(ends.source, cursor, MAX_BATCH)
            check_steps(steps, cursor, ends.source, ends.destination)
            fresh = [Waiting(s.cursor, item_of(s), s.height) for s in steps if s.height <= head]
            if not fresh:
                return aside
            fresh = fresh[: fitting(fresh)]
            cursor = fresh[-1].cursor
            stale = f"{Reason.HEAD_STALE}: a younger head is fetched first"
            kept = self.set_aside(fresh)
            held = [replace(w, not_before=now, reason=stale) for w in fresh if w.cursor in kept]
            ready = [w for w in fresh if w.cursor not in kept]
            self._finish(ends, ready, now, report, cursor=cursor, held=held)
            aside += held
        report.more = True
        return aside

    def _finish(
        self,
        ends: Ends,
        waiting: Sequence[Waiting],
        now: int,
        report: SideReport,
        *,
        cursor: int | None = None,
        held: Sequence[Waiting] = (),
    ) -> None:
        """One delivery, and one save of what came of it."""
        with self._lock:
            answers = self._submit(ends, waiting, report) if waiting else []
            left, finished = list(held), []
            for one, answer in zip(waiting, answers, strict=True):
                report.done += answer.outcome is Outcome.DONE
                report.repeated += answer.outcome is Outcome.NOOP
                again = after_answer(one, answer, now)
                if again is None:
                    # What was read just now and took effect has no row to drop.
                    if cursor is None or answer.outcome is not Outcome.DONE:
                        finished.append(one.cursor)
                    continue
                left.append(again)
                report.dead += again.dead
                report.waiting += not again.dead
                report.more = report.more or again.not_before <= now
            self._check_room(left)
            self.outbox.save(self.lane, self.name, cursor=cursor, waiting=left, finished=finished)

    def _check_room(self, left: Sequence[Waiting]) -> None:
        if left and self.outbox.size(self.lane, self.name) + len(left) > MAX_WAITING:
            raise Exhausted(
                Reason.LIMIT_EXCEEDED,
                f"more than {MAX_WAITING} steps of {self.lane} ({self.name}) wait",
                hint="see why they were refused; drop the dead letters that need no care",
            )

    def _submit(
        self, ends: Ends, waiting: Sequence[Waiting], report: SideReport
    ) -> list[Submission]:
        """The answer to each item. A proof that fails is tried on halves, until the item that
        is at fault stands alone and the others have passed."""
        answers = self._attempt(ends, waiting, report)
        refused = {a.reason for a in answers if a.outcome is Outcome.REFUSED}
        one_for_all = not any(a.outcome is Outcome.DONE for a in answers)
        if len(waiting) == 1 or not one_for_all or not refused & OF_THE_PROOF:
            return answers
        half = len(waiting) // 2
        first = self._submit(ends, waiting[:half], report)
        return first + self._submit(ends, waiting[half:], report)

    def _attempt(
        self, ends: Ends, waiting: Sequence[Waiting], report: SideReport
    ) -> list[Submission]:
        items = tuple(w.item for w in waiting)
        paths = [proven_path(item) for item in items]
        status = self._status(ends)
        for race in range(RACES):
            height, headers = self._lead(status, max(w.height for w in waiting))
            try:
                proof = self.source.prove(paths, height)
                delivery = Delivery(ends.destination, headers, height, proof, items)
                results = self.destination.submit([delivery])
            except (Unavailable, Conflict, Exhausted):
                raise
            except LianqiaoError as err:
                if err.reason.value not in OF_THE_PROOF:
                    raise
                return [refusal(err)] * len(items)
            result = self._result(delivery, results)
            report.deliveries += 1
            report.headers += len(headers) if result.headers.outcome is Outcome.DONE else 0
            before, status = status, self._status_after(ends, status, result)
            if status is before:
                return list(result.items)
            if race + 1 == RACES:
                break
        raise Conflict(Reason.CONFLICT, "another relayer moves the same client all the time")

    # --- the destination's client

    def _status(self, ends: Ends) -> ClientStatus:
        status = self.destination.client(ends.destination)
        if status.frozen:
            raise Refused(Reason.CLIENT_FROZEN, "the client is frozen", client_id=ends.destination)
        return status

    def _lead(self, status: ClientStatus, height: int) -> tuple[int, tuple[bytes, ...]]:
        """(height to prove under, headers to deliver): none where the client's head covers it."""
        if height <= status.latest_height:
            return status.latest_height, ()
        headers = self.source.headers(status.latest_height, height, status.algorithm)
        return height, tuple(headers)

    def _status_after(
        self, ends: Ends, status: ClientStatus, result: DeliveryResult
    ) -> ClientStatus:
        """`status` itself where the answers stand; a newer one where the client was moved by
        another relayer meanwhile. Raises what stops the side."""
        refused = result.headers if result.headers.outcome is Outcome.REFUSED else None
        if refused is None:
            refused = next((a for a in result.items if a.reason in OF_THE_CLIENT), None)
        if refused is None:
            return status
        now_there = self._status(ends)
        if now_there.latest_height != status.latest_height:
            return now_there
        raise Refused(_reason(refused.reason), refused.detail, client_id=ends.destination)

    def _result(self, delivery: Delivery, results: Sequence[DeliveryResult]) -> DeliveryResult:
        """The one answer there must be; refused headers are looked at for what they prove."""
        if len(results) != 1 or len(results[0].items) != len(delivery.items):
            raise Malformed("a chain answered another number of items than it was given")
        if results[0].headers.outcome is Outcome.REFUSED:
            self.conflicting(self.destination.client(delivery.client_id), delivery.headers)
        return results[0]

    def _update(self, ends: Ends, height: int, report: SideReport) -> None:
        """Gives the destination's client the head of `height`, if it is newer than its own."""
        with self._lock:
            status = self._status(ends)
            if height <= status.latest_height:
                return
            _, headers = self._lead(status, height)
            delivery = Delivery(ends.destination, headers)
            result = self._result(delivery, self.destination.submit([delivery]))
            report.deliveries += 1
            report.headers += len(headers) if result.headers.outcome is Outcome.DONE else 0
            self._status_after(ends, status, result)

    def _refresh(self, ends: Ends, head: int, now: int, report: SideReport) -> None:
        """Updates a client that has had no header for a third of its trusting period."""
        if now < self._next_refresh or report.more:
            return
        status = self._status(ends)
        due = status.latest_time + status.trusting_period // 3
        if now >= due:
            self._update(ends, head, report)
            due = now + 1
        self._next_refresh = min(due, now + REFRESH_CHECK)


def _reason(text: str) -> Reason:
    """A peer's reason; INTERNAL for one that this version does not know."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.INTERNAL
