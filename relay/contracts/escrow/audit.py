"""Whether the books of a ledger agree with themselves: what `lianqiao fsck` asks of an escrow.

Everything is summed up again from the first line on. That what is written was also allowed (the
signatures, the decisions) is shown by the packets, which `fsck` verifies for every contract alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from relay.contracts.accounts import find_terms
from relay.contracts.base import Reader
from relay.contracts.escrow.books import POSTINGS, Entry, Line, read_line
from relay.contracts.escrow.keys import End, Held, decode_netted
from relay.contracts.escrow.postings import held as held_of
from relay.contracts.payloads import Ended, Ruling
from relay.errors import LianqiaoError

_PAGE = 1000
_SETTLED = (Entry.PRINCIPAL, Entry.FEE, Entry.ROUNDING, Entry.NET)
"""What a settlement takes from an account of which it held as much."""
_Posting = tuple[str, str, bytes, str, int, int]
"""(debtor, creditor, reference, relay, amount, time)"""


def audit(state: Reader) -> Iterator[str]:
    """One sentence for each thing that is wrong; nothing where the books are right."""
    try:
        postings: Counter[_Posting] = Counter()
        totals: Counter[str] = Counter()
        held: dict[str, int] = {}
        lines = (read_line(name, value) for name, value in _all(state, b"line/"))
        for account, chain in groupby(lines, key=lambda line: line.account):
            last = None
            for line in chain:
                yield from _line(line, last)
                _pair(line, postings)
                last = line
            assert last is not None
            totals[_currency(state, account)] += last.balance
            held[account] = last.held
        yield from (
            f"{a} to {c}: a posting without its twin"
            for (a, c, *_), n in sorted(postings.items())
            if n
        )
        yield from (
            f"{code}: balances come to {total}, not to zero"
            for code, total in sorted(totals.items())
            if total
        )
        yield from _locks(state, held)
    except (LianqiaoError, ValueError, LookupError) as err:
        yield f"a record of escrow cannot be read: {err}"


def _all(state: Reader, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    after = b""
    while page := state.scan(prefix, after=after, limit=_PAGE):
        yield from page
        after = page[-1][0]


def _currency(state: Reader, account: str) -> str:
    own, colon, code = account.partition(":")
    if colon and own in ("nostro", "suspense"):
        return code
    terms = find_terms(state, account)
    return f"{account} (no terms)" if terms is None else terms.currency


def _line(line: Line, before: Line | None) -> Iterator[str]:
    """What one line says, against the one before it."""
    where = f"{line.account} line {line.number}"
    number, balance, held = (before.number, before.balance, before.held) if before else (0, 0, 0)
    if line.number != number + 1:
        yield f"{where}: follows line {number}"
    if (line.balance, line.held) != (balance + line.amount, held + line.hold):
        yield f"{where}: does not add up"
    own = line.account.startswith("nostro:")
    if line.free < 0 and not own:
        yield f"{where}: below zero"
    posting = line.entry in POSTINGS
    if posting != bool(line.twin) or posting != bool(line.amount):
        yield f"{where}: not a posting, or not a hold"
    if (line.entry is Entry.LOCK and line.hold < 0) or (
        line.entry is not Entry.LOCK and line.hold > 0
    ):
        yield f"{where}: holds where it should free"


def _pair(line: Line, postings: Counter[_Posting]) -> None:
    """Counts both sides of each posting against each other."""
    if line.twin and line.amount:
        pays = line.amount < 0
        ends = (line.account, line.twin) if pays else (line.twin, line.account)
        same = (*ends, line.reference, line.relay, abs(line.amount), line.time)
        postings[same] += 1 if pays else -1


def _locks(state: Reader, held: dict[str, int]) -> Iterator[str]:
    """Every lock ends at most once, as its decision says; what is held is what is open."""
    due: Counter[str] = Counter()
    for name, value in _all(state, b"lock/"):
        lock = Held.decode(value)
        ended = state.get(b"ended/" + name.removeprefix(b"lock/"))
        if lock.window:
            yield from _netted(state, name, lock)
        if ended is None:
            for hold in lock.holds:
                due[hold.account] += hold.amount
            locked = Counter({hold.account: hold.amount for hold in lock.holds})
            if locked != Counter(held_of(lock.movements)):  # none counts as 0
                yield f"{name.decode()}: holds something else than it would release"
    for account in sorted(due.keys() | held.keys()):
        if due[account] != held.get(account, 0):
            yield f"{account}: {held.get(account, 0)} held, {due[account]} locked"
    for name, value in _all(state, b"ended/"):
        end = End.decode(value)
        was_locked = state.get(b"lock/" + name.removeprefix(b"ended/")) is not None
        due_end = Ended.NOTHING
        if was_locked:
            due_end = Ended.RELEASED if end.ruling is Ruling.COMMIT else Ended.REFUNDED
        if end.ended is not due_end or (end.ruling is Ruling.COMMIT and not was_locked):
            yield f"{name.decode()}: {end.ended} by a {end.ruling}"
    yield from _ends(state)


def _netted(state: Reader, name: bytes, lock: Held) -> Iterator[str]:
    """What a window's net lock moves on an account is what its instructions come to there."""
    due = Counter[str]()
    for movement in lock.movements:
        due[movement.debtor] -= movement.amount
        due[movement.creditor] += movement.amount
    prefix = b"netted/" + name.removeprefix(b"lock/") + b"/"
    for where, value in _all(state, prefix):
        due[where.removeprefix(prefix).decode()] -= sum(m.amount for m in decode_netted(value))
    for account, left in sorted(due.items()):
        if left:
            yield f"{name.decode()}: {account} is {left} off what was netted"


def _ends(state: Reader) -> Iterator[str]:
    """Every posting of a settlement, and every refund, is one that an ended lock names, once."""
    seen: Counter[tuple[str, bytes, str, str, int]] = Counter()
    for name, value in _all(state, b"line/"):
        line = read_line(name, value)
        reference = (line.relay, line.reference)
        if line.entry in _SETTLED and line.amount < 0:
            seen[(*reference, line.entry, line.account, -line.amount)] += 1
        elif line.entry is Entry.ROUNDING_BACK and line.amount > 0:
            # By who gets it: who pays it may have been closed, and suspense in his place.
            seen[(*reference, line.entry, line.account, line.amount)] += 1
        elif line.entry is Entry.REFUND:
            seen[(*reference, line.entry, line.account, -line.hold)] += 1
    for name, value in _all(state, b"ended/"):
        _, relay, settlement = name.decode().split("/")
        raw = state.get(b"lock/" + name.removeprefix(b"ended/"))
        if raw is None:
            continue
        lock, end = Held.decode(raw), End.decode(value)
        reference = (relay, bytes.fromhex(settlement))
        if end.ended is Ended.RELEASED:
            for one in lock.movements:
                back = one.entry is Entry.ROUNDING_BACK
                who = one.creditor if back else one.debtor
                seen[(*reference, one.entry, who, one.amount)] -= 1
        elif end.ended is Ended.REFUNDED:
            for hold in lock.holds:
                seen[(*reference, Entry.REFUND, hold.account, hold.amount)] -= 1
    for (relay, reference_id, entry, account, _), count in sorted(seen.items()):
        if count:
            what = "twice or without a lock" if count > 0 else "not at all"
            yield f"lock {relay}/{reference_id.hex()}: {entry} of {account} {what}"
