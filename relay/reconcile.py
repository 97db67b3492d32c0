"""Whether a relay's books and the ledgers' agree: nothing open, missing, double or otherwise wrong.

Pure, over verified records (relay.books) or any other Reader of them. For each settlement at the
relay, and for each lock at a ledger, what must stand on the other side is computed and compared;
each side's own books are audited by its contract's rules (every posting has its twin, sums are
zero, balances follow from lines, decisions from answers).

That a record is proven says who wrote it, not that it makes sense: one that cannot be read is a
break of that chain's books, and keeps nothing else from being compared.

| break | means |
| --- | --- |
| OPEN | not decided, or not done everywhere, as of these books |
| MISSING | one side has written what must stand on the other, and does not |
| DOUBLE | written twice: a lock of two settlements, a quote or a reference used twice |
| MISMATCH | both sides speak of it, and not alike |
| BOOKS | one side's own books do not add up, or its chain's state is not what they come to |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from relay.contracts.base import Reader
from relay.contracts.escrow import End, Held, Line, find_end, find_held, movements, read_line
from relay.contracts.escrow.audit import audit as audit_escrow
from relay.contracts.escrow.books import POSTINGS
from relay.contracts.payloads import Ended, Ruling
from relay.contracts.settlement import (
    SettlementStatus,
    SettlementView,
    find_cut_off,
    find_settlement,
    net_set,
    retried_locks,
)
from relay.contracts.settlement.audit import audit as audit_settlement
from relay.contracts.undelivered import count_held
from relay.errors import LianqiaoError, Reason

_PAGE = 1000
_Lines = dict[tuple[str, bytes], list[Line]]
"""Lines of one ledger by (relay, reference)."""
_Again = dict[bytes, frozenset[str]]
"""Ledgers that were asked again to lock, by the id that they locked under."""
_UNREADABLE = (LianqiaoError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What reading a record fails with that its chain wrote as it pleased."""


class Kind(StrEnum):
    """What kind of break."""

    OPEN = "OPEN"
    MISSING = "MISSING"
    DOUBLE = "DOUBLE"
    MISMATCH = "MISMATCH"
    BOOKS = "BOOKS"


@dataclass(frozen=True, slots=True, order=True)
class Break:
    """One thing that is not as it should be."""

    chain: str
    subject: str
    """The settlement in hex, or what else it is about."""
    kind: Kind
    detail: str


@dataclass(frozen=True, slots=True)
class Side:
    """One chain's records."""

    chain: str
    state: Reader
    findings: tuple[str, ...] = ()
    """What its chain itself says otherwise (relay.books.Proven)."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was compared, and what was found."""

    settlements: int
    committed: int
    aborted: int
    lines: int
    breaks: tuple[Break, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing is wrong or open."""
        return not self.breaks


def reconcile(relay: Side, ledgers: Sequence[Side]) -> Reconciled:
    """Compares one relay's records with those of its ledgers."""
    by_name = {side.chain: side for side in ledgers}
    found: list[Break] = [
        Break(relay.chain, "books", Kind.BOOKS, said)
        for said in audit_settlement(relay.state, relay.chain)
    ]
    views: list[SettlementView] = []
    again: _Again = {}
    for key, _ in _all(relay.state, b"instruction/"):
        found += _read(relay.chain, _name(key), _view(relay, key, views, again))
    for view in views:
        found += _settlement(relay.chain, view, by_name, again[view.under])
    found += _used_once(relay.chain, views)
    known = {view.under: view for view in views}
    lines = 0
    for side in ledgers:
        wrong = [*audit_escrow(side.state), *side.findings]
        found += [Break(side.chain, "books", Kind.BOOKS, said) for said in wrong]
        held: _Lines = {}
        for where, value in _all(side.state, b"line/"):
            found += _read(side.chain, _name(where), _line(where, value, held))
        lines += sum(map(len, held.values()))
        for where, value in _all(side.state, b"lock/"):
            found += _read(side.chain, _name(where), _lock(side, relay, known, held, where, value))
    rulings = [view.decision.ruling for view in views if view.decision]
    return Reconciled(
        settlements=len(views),
        committed=rulings.count(Ruling.COMMIT),
        aborted=rulings.count(Ruling.ABORT),
        lines=lines,
        breaks=tuple(sorted(set(found))),
    )


def _all(state: Reader, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    after = b""
    while page := state.scan(prefix, after=after, limit=_PAGE):
        yield from page
        after = page[-1][0]


def _name(key: bytes) -> str:
    """A key of somebody else's, as it can be shown."""
    return ascii(key.decode(errors="replace"))[1:-1][:200]


def _read(chain: str, subject: str, found: Iterable[Break]) -> Iterator[Break]:
    """What was found, and that a record of it cannot be read, where that ends it."""
    try:
        yield from found
    except _UNREADABLE as error:
        said = ascii(str(error))[1:-1][:200]
        yield Break(chain, subject, Kind.BOOKS, f"a record cannot be read: {said}")


def _view(relay: Side, key: bytes, views: list[SettlementView], again: _Again) -> Iterator[Break]:
    """Adds what an instruction's key tells to `views`, and who was asked again to `again`."""
    view = find_settlement(relay.state, bytes.fromhex(key.decode().split("/")[1]))
    again[view.under] = retried_locks(relay.state, view.under)
    views.append(view)
    yield from ()


def _line(where: bytes, value: bytes, lines: _Lines) -> Iterator[Break]:
    """Adds a line to those of what it refers to. References are chosen by whoever moves money: of
    a settlement are those alone that were posted for its relay."""
    line = read_line(where, value)
    lines.setdefault((line.relay, line.reference), []).append(line)
    yield from ()


def _settlement(
    relay: str, view: SettlementView, ledgers: dict[str, Side], again: frozenset[str]
) -> Iterator[Break]:
    """What the relay says of one settlement, against the ledgers."""
    name = view.signed.instruction.settlement.hex()
    if view.status not in (SettlementStatus.SETTLED, SettlementStatus.RETURNED):
        yield Break(relay, name, Kind.OPEN, f"is {view.status}")
    for ledger in view.signed.instruction.ledgers:
        side = ledgers.get(ledger)
        if side is None:
            yield Break(ledger, name, Kind.MISSING, "no books of this ledger were given")
            continue
        yield from _read(ledger, name, _on_ledger(relay, view, side, ledger in again))


def _on_ledger(relay: str, view: SettlementView, side: Side, again: bool) -> Iterator[Break]:
    name, ledger = view.signed.instruction.settlement.hex(), side.chain
    held = find_held(side.state, relay, view.under)
    end = find_end(side.state, relay, view.under)
    yield from _locked(ledger, name, view, held, end, again)
    yield from _posts(ledger, name, view, held)
    yield from _ended(ledger, name, view, held, end)


def _locked(
    ledger: str,
    name: str,
    view: SettlementView,
    held: Held | None,
    end: End | None,
    again: bool,
) -> Iterator[Break]:
    answer = next((a for a in view.answers if a.ledger == ledger), None)
    if answer is not None and answer.accepted and held is None:
        yield Break(ledger, name, Kind.MISSING, "the relay was told of a lock that is not there")
    if answer is not None and not answer.accepted and held is not None:
        # A ledger that is asked twice may refuse once and lock once, in either order. The answer
        # that comes first decides, and what was locked is given back, or will be.
        back = end is not None and end.ended is Ended.REFUNDED
        will = end is None and view.status is SettlementStatus.ABORTED
        twice = (again and (back or will)) or (back and answer.reason is Reason.SETTLEMENT_DECIDED)
        if not twice:
            yield Break(ledger, name, Kind.MISMATCH, "locked, and the relay was told it is not")
    if held is not None and not held.window and held.digest != view.signed.instruction.digest:
        yield Break(ledger, name, Kind.MISMATCH, "locked for another instruction")


def _posts(ledger: str, name: str, view: SettlementView, held: Held | None) -> Iterator[Break]:
    """A lock's postings are what its signed instruction gives: principal, rounding, fee."""
    signed = view.signed.instruction
    if held is None or held.window:
        return
    try:
        due = tuple(movements(signed, ledger))
    except LianqiaoError as error:
        yield Break(ledger, name, Kind.MISMATCH, str(error))
        return
    if held.movements != due:
        yield Break(ledger, name, Kind.MISMATCH, "would post something else than was signed")


def _window_posts(relay: Side, side: Side, under: str, held: Held) -> Iterator[Break]:
    """The same of a netting window: the net of everything that was signed into it."""
    record = find_cut_off(relay.state, held.window)
    if record is None:
        yield Break(relay.chain, under, Kind.MISSING, "a net lock without a cut-off")
        return
    due = {(t.debtor, t.creditor, t.amount) for t in net_set(relay.state, record, side.chain)}
    if {(m.debtor, m.creditor, m.amount) for m in held.movements} != due:
        yield Break(side.chain, under, Kind.MISMATCH, "would post something else than was signed")


def _ended(
    ledger: str, name: str, view: SettlementView, held: Held | None, end: End | None
) -> Iterator[Break]:
    decision = view.decision
    told = next((d for d in view.done if d.ledger == ledger), None)
    if end is None:
        if held is not None:
            yield Break(ledger, name, Kind.OPEN, "locked, and neither released nor refunded")
        if told is not None:
            yield Break(
                ledger, name, Kind.MISSING, "the relay was told of an end that is not there"
            )
        return
    if decision is None:
        yield Break(ledger, name, Kind.MISMATCH, "ended without a decision of the relay")
        return
    due = Ended.NOTHING
    if held is not None:
        due = Ended.RELEASED if decision.ruling is Ruling.COMMIT else Ended.REFUNDED
    if end.ruling is not decision.ruling or end.ended is not due:
        yield Break(ledger, name, Kind.MISMATCH, f"decided {decision.ruling}, and {end.ended} here")
    if told is not None and (told.ended, told.time) != (end.ended, end.time):
        yield Break(ledger, name, Kind.MISMATCH, "the relay was told of another end")


def _used_once(relay: str, views: Sequence[SettlementView]) -> Iterator[Break]:
    seen: dict[tuple[str, ...], bytes] = {}
    for view in views:
        instruction = view.signed.instruction
        quote = instruction.quote
        for what in (("quote", quote.maker, quote.id), ("uetr", instruction.uetr)):
            if seen.setdefault(what, instruction.settlement) != instruction.settlement:
                name = instruction.settlement.hex()
                yield Break(relay, name, Kind.DOUBLE, f"{' '.join(what)} was used before")


def _lock(
    side: Side,
    relay: Side,
    known: dict[bytes, SettlementView],
    lines: _Lines,
    where: bytes,
    value: bytes,
) -> Iterator[Break]:
    """What one ledger says of a lock, against the relay and against its own lines."""
    _, of, settlement = where.decode().split("/")
    if of != relay.chain:
        return  # another relay's: reconciled with that one's books
    under = bytes.fromhex(settlement)
    if under not in known:
        yield Break(side.chain, settlement, Kind.MISSING, "the relay knows of no such settlement")
    held = Held.decode(value)
    if held.window:
        yield from _read(relay.chain, settlement, _window_posts(relay, side, settlement, held))
    yield from _moved(side, settlement, held, relay.chain, lines.get((relay.chain, under), []))


def _moved(
    side: Side, settlement: str, held: Held, relay: str, lines: Sequence[Line]
) -> Iterator[Break]:
    """The lines of one settlement are those that its lock and its end give, each once."""
    end = find_end(side.state, relay, bytes.fromhex(settlement))
    postings = [line for line in lines if line.entry in POSTINGS]
    moved = sum(line.amount for line in postings if line.amount > 0)
    due = 0
    if end is not None and end.ended is Ended.RELEASED:
        due = sum(movement.amount for movement in held.movements)
    if moved != due:
        kind = Kind.DOUBLE if moved > due else Kind.MISSING
        yield Break(side.chain, settlement, kind, f"{moved} minor units moved where {due} are due")
    free = sum(line.hold for line in lines)
    still = sum(hold.amount for hold in held.holds) if end is None else 0
    if free != still:
        yield Break(side.chain, settlement, Kind.MISMATCH, "holds are not what the lock says")


def read_undelivered(state: Reader) -> int:
    """How many packets the relay has set aside because it could not send them."""
    return count_held(state)
