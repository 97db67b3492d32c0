"""Deliveries from one chain to one client of another, and what becomes of them.

A delivery brings the headers that the client lacks and one proof under the last of them. Where
the proof fails, halves are tried until the item at fault stands alone and the others have passed.
Where another relayer moved the client meanwhile, the delivery is made anew from where the client
is now. Where a header is too far from the trusted one to be proven, headers between are presented
first, each half way, until every step verifies. What no item is at fault for (a frozen or expired
client, a header that is refused, a chain that does not answer) is raised: the whole side of the
lane waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.chain import (
    Chain,
    ClientStatus,
    Delivery,
    DeliveryResult,
    DoubtedChain,
    Outcome,
    StatingChain,
    Submission,
    states_as_of_head,
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
from relay.lane_report import SideReport
from relay.outbox import Waiting
from relay.steps import OF_THE_CLIENT, OF_THE_HEADER, OF_THE_PROOF, proven_paths, refusal

MAX_BRIDGE = 64
"""Deliveries of headers that lead a client to one height, at most."""
RACES = 3
"""How often a delivery is made anew because another relayer moved the client meanwhile."""

Carried = Callable[[str, Sequence[bytes], bool], None]


def _nothing(_: str, __: Sequence[bytes], ___: bool) -> None:
    """For destinations whose stored headers are not at hand."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two client ids of a side: the source's client of the destination, and the reverse."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class Deliveries:
    """From `source` to `destination`."""

    source: Chain
    destination: Chain
    carried: Carried = _nothing
    """Told of headers that were given to the destination: (its client, the raw headers, whether
    they were refused)."""

    def submit(
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
        first = self.submit(ends, waiting[:half], report)
        return first + self.submit(ends, waiting[half:], report)

    def _attempt(
        self, ends: Ends, waiting: Sequence[Waiting], report: SideReport
    ) -> list[Submission]:
        items = tuple(w.item for w in waiting)
        paths = proven_paths(items)
        status = self.status(ends)
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
            if result.headers.reason == Reason.NOT_ENOUGH_TRUST:
                self._bridge(ends, status, height, report)
            before, status = status, self._status_after(ends, status, result)
            if status is before:
                return list(result.items)
            if race + 1 == RACES:
                break
        raise Conflict(Reason.CONFLICT, "another relayer moves the same client all the time")

    # --- the destination's client

    def status(self, ends: Ends) -> ClientStatus:
        """The destination's client. Raises Refused(CLIENT_FROZEN), CLIENT_NOT_FOUND."""
        status = self.destination.client(ends.destination)
        if status.frozen:
            raise Refused(Reason.CLIENT_FROZEN, "the client is frozen", client_id=ends.destination)
        return status

    def _lead(self, status: ClientStatus, height: int) -> tuple[int, tuple[bytes, ...]]:
        """(height to prove under, headers to deliver): none where the client's head covers it."""
        if height <= status.latest_height:
            return status.latest_height, ()
        headers = self.source.headers(
            status.latest_height, height, status.algorithm, status.witnesses
        )
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
        now_there = self.status(ends)
        if now_there.latest_height != status.latest_height:
            return now_there
        raise Refused(reason_of(refused.reason), refused.detail, client_id=ends.destination)

    def _result(self, delivery: Delivery, results: Sequence[DeliveryResult]) -> DeliveryResult:
        """The one answer there must be; refused headers are looked at for what they prove."""
        if len(results) != 1 or len(results[0].items) != len(delivery.items):
            raise Malformed("a chain answered another number of items than it was given")
        if delivery.headers:
            refused = results[0].headers.outcome is Outcome.REFUSED
            self.carried(delivery.client_id, delivery.headers, refused)
            if results[0].headers.reason in OF_THE_HEADER and isinstance(self.source, DoubtedChain):
                self.source.doubt()
        return results[0]

    def update(self, ends: Ends, height: int, report: SideReport) -> None:
        """Gives the destination's client the head of `height`, if it is newer than its own."""
        status = self.status(ends)
        if height <= status.latest_height:
            return
        _, headers = self._lead(status, height)
        delivery = Delivery(ends.destination, headers)
        result = self._result(delivery, self.destination.submit([delivery]))
        report.deliveries += 1
        report.headers += len(headers) if result.headers.outcome is Outcome.DONE else 0
        if result.headers.reason == Reason.NOT_ENOUGH_TRUST:
            self._bridge(ends, status, height, report)
        else:
            self._status_after(ends, status, result)

    def complete(self, ends: Ends, height: int, before: int, report: SideReport) -> None:
        """Gives the destination's client the youngest statement of what the source had sent, under
        the head of `height` at least, about sequences up to `before`; nothing where it knows that
        much already, or where the source states nothing."""
        source = self.source
        if not isinstance(source, StatingChain):
            self.update(ends, height, report)
            return
        known = self.status(ends).latest_height
        sent = tuple(source.sent(ends.source, max(height, known), before))
        if not sent:
            return
        if height > known and (
            states_as_of_head(source) or sent != tuple(source.sent(ends.source, known, before))
        ):
            self.update(ends, height, report)
            known = self.status(ends).latest_height
        proof = source.prove([claim.path for claim in sent], known)
        delivery = Delivery(ends.destination, (), known, proof, (), sent)
        answer = self._result(delivery, self.destination.submit([delivery])).sent
        report.deliveries += 1
        if answer.outcome is Outcome.REFUSED:
            reason = reason_of(answer.reason).value
            report.refused[reason] = report.refused.get(reason, 0) + 1

    def _bridge(self, ends: Ends, status: ClientStatus, height: int, report: SideReport) -> None:
        """Leads the client to `height` in steps that it can verify: half the way, and so on.

        A chain that shows more changes of its set than one answer holds is followed as far as the
        answer leads. Raises the refusal of a step that cannot be halved, or LIMIT_EXCEEDED.
        """
        targets = [height]
        for _ in range(MAX_BRIDGE):
            low, target = status.latest_height, targets[-1]
            lead = self._lead(status, target)[1]
            refused = self._step(ends, lead, report) if lead else None
            if refused is not None and len(lead) > 1:
                refused = self._step(ends, lead[:-1], report)
            elif refused is not None and target - low > 1:
                if refused.reason is not Reason.NOT_ENOUGH_TRUST:
                    raise refused
                targets.append((low + target) // 2)
                continue
            if refused is not None:
                raise refused
            status = self.status(ends)
            targets = [t for t in targets if t > status.latest_height]
            if not targets:
                return
        raise Exhausted(
            Reason.LIMIT_EXCEEDED,
            f"{MAX_BRIDGE} deliveries of headers did not lead to height {height}",
            client_id=ends.destination,
        )

    def _step(self, ends: Ends, headers: Sequence[bytes], report: SideReport) -> Refused | None:
        """Delivers headers alone; the refusal, where there is one."""
        delivery = Delivery(ends.destination, tuple(headers))
        answer = self._result(delivery, self.destination.submit([delivery])).headers
        report.deliveries += 1
        if answer.outcome is Outcome.REFUSED:
            return Refused(reason_of(answer.reason), answer.detail, client_id=ends.destination)
        report.headers += len(headers) if answer.outcome is Outcome.DONE else 0
        return None


def reason_of(text: str) -> Reason:
    """A peer's reason; INTERNAL for one that this version does not know."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.INTERNAL
