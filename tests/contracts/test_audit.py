"""Every sentence of the audit of money, each by records that are wrong in that one way.

The books are made by hand: 1000 were deposited on `a` and 100 of them paid to `b`; another lock was
refunded, one is open, and one decision found nothing here. What is wrong is told, nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from relay.canonical import encode
from relay.contracts.base import key
from relay.contracts.escrow import CONTRACT, Held, last_line
from relay.contracts.escrow.audit import audit
from relay.contracts.escrow.books import Books, Entry, Line, nostro, read_line
from relay.contracts.escrow.keys import End, Hold, Movement
from relay.contracts.payloads import CutOff, Ended, LockAnswer, Ruling
from relay.errors import Reason
from tests.contracts.ledger import Ledger
from tests.contracts.money_flow import Flow, terms
from tests.contracts.money_world import HOSPITAL, instruction, signed
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refused

HK, HUB = "hk-money", "hub"
PAID, BACK, OPEN, NOTHING = (digest(name) for name in ("paid", "back", "open", "nothing"))
LOCK = {name: f"lock/{HUB}/{name.hex()}" for name in (PAID, BACK, OPEN, NOTHING)}
OF = {name: f"lock {HUB}/{name.hex()}" for name in (PAID, BACK)}
ENDED = {name: f"ended/{HUB}/{name.hex()}" for name in (PAID, BACK, OPEN, NOTHING)}


def lock_of(settlement: bytes, amount: int) -> Held:
    move = Movement(Entry.PRINCIPAL, "a", "b", amount)
    return Held(digest("signed"), "", "", (Hold("a", amount, amount),), (move,), (), NOW)


def end_of(settlement: bytes, ended: Ended, ruling: Ruling = Ruling.COMMIT) -> bytes:
    return End(digest("decision"), ruling, ended, NOW).encode()


@pytest.fixture
def books() -> Ledger:
    ledger = Ledger(HK, CONTRACT, now=NOW)
    ledger.call("currency.open", encode({"currency": "HKD"}))
    for name in ("a", "b", "nostro"):  # an account may have the name; the ledger's own has a colon
        ledger.call("account.open", encode(terms(name, "HKD", "owner", HOSPITAL)))
    Books(ledger, NOW, digest("deposit")).post(Entry.DEPOSIT, nostro("HKD"), "a", 1000)
    Books(ledger, NOW, digest("other")).post(Entry.DEPOSIT, nostro("HKD"), "nostro", 7)
    for name, amount in ((PAID, 100), (BACK, 50), (OPEN, 30)):
        Books(ledger, NOW, name, HUB).hold("a", amount, amount)
        ledger.put(LOCK[name].encode(), lock_of(name, amount).encode())
    Books(ledger, NOW, PAID, HUB).post(Entry.PRINCIPAL, "a", "b", 100, held=100)
    Books(ledger, NOW, BACK, HUB).refund("a", 50, 50, NOW)
    ledger.put(ENDED[PAID].encode(), end_of(PAID, Ended.RELEASED))
    ledger.put(ENDED[BACK].encode(), end_of(BACK, Ended.REFUNDED, Ruling.ABORT))
    ledger.put(ENDED[NOTHING].encode(), end_of(NOTHING, Ended.NOTHING, Ruling.ABORT))
    return ledger


def put_line(ledger: Ledger, line: Line) -> None:
    ledger.written[key("line", line.account, f"{line.number:012d}")] = line.encode()


def alter(ledger: Ledger, account: str, number: int, **changes: object) -> None:
    name = key("line", account, f"{number:012d}")
    put_line(ledger, replace(read_line(name, ledger.written[name]), **changes))  # type: ignore[arg-type]


def add(ledger: Ledger, account: str, entry: Entry, **changes: int | str) -> None:
    """One line more, which adds up whatever it says."""
    last = last_line(ledger, account)
    amount, hold = int(changes.get("amount", 0)), int(changes.get("hold", 0))
    put_line(
        ledger,
        replace(
            last,
            number=last.number + 1,
            entry=entry,
            amount=amount,
            hold=hold,
            balance=last.balance + amount,
            held=last.held + hold,
            twin=str(changes.get("twin", "")),
            reference=digest("more"),
            relay=HUB,
            time=NOW,
        ),
    )


def test_books_that_are_right(books: Ledger) -> None:
    assert list(audit(books)) == []


def skip_a_number(books: Ledger) -> None:
    line = last_line(books, "a")
    del books.written[key("line", "a", f"{line.number:012d}")]
    put_line(books, replace(line, number=line.number + 1))


def more_held_than_there_is(books: Ledger) -> None:
    add(books, "b", Entry.LOCK, hold=101)


def less_held_than_nothing(books: Ledger) -> None:
    add(books, "b", Entry.LOCK, hold=-1)


def twin_of_a_hold(books: Ledger) -> None:
    add(books, "b", Entry.LOCK, twin="a")


def amount_of_a_hold(books: Ledger) -> None:
    add(books, "b", Entry.LOCK, amount=5)


def no_twin(books: Ledger) -> None:
    add(books, "b", Entry.ASSIGNED, amount=5)


def no_amount(books: Ledger) -> None:
    add(books, "b", Entry.ASSIGNED, twin="a")


def lock_that_frees(books: Ledger) -> None:
    add(books, "a", Entry.LOCK, hold=-1)


def refund_that_holds(books: Ledger) -> None:
    add(books, "a", Entry.REFUND, hold=1)


def pair(books: Ledger, debtor: str, creditor: str, entry: Entry = Entry.ASSIGNED) -> None:
    add(books, debtor, entry, amount=-5, twin=creditor)
    add(books, creditor, entry, amount=5, twin=debtor)


def nobodys_account(books: Ledger) -> None:
    pair(books, "b", "other:HKD")


def paid_without_a_lock(books: Ledger) -> None:
    pair(books, "b", "a", Entry.FEE)


def lock_of_nothing(books: Ledger) -> None:
    lock = replace(lock_of(OPEN, 30), movements=())
    books.written[LOCK[OPEN].encode()] = lock.encode()


def hold_of_nothing(books: Ledger) -> None:
    """As netting leaves it, and no fault."""
    lock = lock_of(OPEN, 30)
    lock = replace(lock, holds=(*lock.holds, Hold("b", 0, 10)))
    books.written[LOCK[OPEN].encode()] = lock.encode()


def no_lock(books: Ledger) -> None:
    del books.written[LOCK[OPEN].encode()]


def hold_on_another(books: Ledger) -> None:
    lock = replace(
        lock_of(OPEN, 30),
        holds=(Hold("b", 30, 30),),
        movements=(Movement(Entry.FEE, "b", "a", 30),),
    )
    books.written[LOCK[OPEN].encode()] = lock.encode()


def ending(name: bytes, ended: Ended, ruling: Ruling) -> Callable[[Ledger], None]:
    def change(books: Ledger) -> None:
        books.written[ENDED[name].encode()] = end_of(name, ended, ruling)

    return change


def paid_in_part(books: Ledger) -> None:
    lock = lock_of(PAID, 100)
    parts = (replace(lock.movements[0], amount=90), Movement(Entry.FEE, "a", "b", 10))
    books.written[LOCK[PAID].encode()] = replace(lock, movements=parts).encode()


def refunded_in_part(books: Ledger) -> None:
    books.written[LOCK[BACK].encode()] = lock_of(BACK, 40).encode()


def no_currency(books: Ledger) -> None:
    del books.written[key("account", "b", f"{1:08d}")]


MORE = f"lock {HUB}/{digest('more').hex()}"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (skip_a_number, ["a line 7: follows line 5"]),
        (more_held_than_there_is, ["b line 2: below zero", "b: 101 held, 0 locked"]),
        (
            less_held_than_nothing,
            [
                "a record of escrow cannot be read: MALFORMED: held: must be an integer between 0"
                " and 9007199254740991"
            ],
        ),
        (twin_of_a_hold, ["b line 2: not a posting, or not a hold"]),
        (
            amount_of_a_hold,
            ["b line 2: not a posting, or not a hold", "HKD: balances come to 5, not to zero"],
        ),
        (
            no_twin,
            ["b line 2: not a posting, or not a hold", "HKD: balances come to 5, not to zero"],
        ),
        (no_amount, ["b line 2: not a posting, or not a hold"]),
        (lock_that_frees, ["a line 7: holds where it should free", "a: 29 held, 30 locked"]),
        (
            refund_that_holds,
            [
                "a line 7: holds where it should free",
                "a: 31 held, 30 locked",
                f"{MORE}: refund of a twice or without a lock",
            ],
        ),
        (
            nobodys_account,
            [
                "HKD: balances come to -5, not to zero",
                "other:HKD (no terms): balances come to 5, not to zero",
            ],
        ),
        (paid_without_a_lock, [f"{MORE}: fee of b twice or without a lock"]),
        (
            no_currency,
            [
                "HKD: balances come to -100, not to zero",
                "b (no terms): balances come to 100, not to zero",
            ],
        ),
        (lock_of_nothing, [f"{LOCK[OPEN]}: holds something else than it would release"]),
        (hold_of_nothing, []),
        (no_lock, ["a: 30 held, 0 locked"]),
        (hold_on_another, ["a: 30 held, 0 locked", "b: 0 held, 30 locked"]),
        (
            ending(PAID, Ended.REFUNDED, Ruling.COMMIT),
            [
                f"{ENDED[PAID]}: refunded by a commit",
                f"{OF[PAID]}: principal of a twice or without a lock",
                f"{OF[PAID]}: refund of a not at all",
            ],
        ),
        (
            ending(PAID, Ended.NOTHING, Ruling.COMMIT),
            [
                f"{ENDED[PAID]}: nothing by a commit",
                f"{OF[PAID]}: principal of a twice or without a lock",
            ],
        ),
        (
            ending(BACK, Ended.RELEASED, Ruling.ABORT),
            [
                f"{ENDED[BACK]}: released by a abort",
                f"{OF[BACK]}: principal of a not at all",
                f"{OF[BACK]}: refund of a twice or without a lock",
            ],
        ),
        (ending(NOTHING, Ended.NOTHING, Ruling.COMMIT), [f"{ENDED[NOTHING]}: nothing by a commit"]),
        (
            ending(NOTHING, Ended.REFUNDED, Ruling.ABORT),
            [f"{ENDED[NOTHING]}: refunded by a abort"],
        ),
        (
            paid_in_part,
            [
                f"{OF[PAID]}: fee of a not at all",
                f"{OF[PAID]}: principal of a not at all",
                f"{OF[PAID]}: principal of a twice or without a lock",
            ],
        ),
        (
            refunded_in_part,
            [
                f"{OF[BACK]}: refund of a not at all",
                f"{OF[BACK]}: refund of a twice or without a lock",
            ],
        ),
    ],
)
def test_books_that_are_wrong(
    books: Ledger, change: Callable[[Ledger], None], wanted: list[str]
) -> None:
    change(books)
    assert list(audit(books)) == wanted


def test_a_line_that_does_not_add_up(books: Ledger) -> None:
    alter(books, "nostro", 1, balance=8)
    assert list(audit(books)) == [
        "nostro line 1: does not add up",
        "HKD: balances come to 1, not to zero",
    ]
    alter(books, "nostro", 1, balance=7, held=1)
    assert list(audit(books)) == ["nostro line 1: does not add up", "nostro: 1 held, 0 locked"]


def test_a_posting_that_is_not_the_same_on_both_sides(books: Ledger) -> None:
    alter(books, "b", 1, time=NOW + 1)
    found = list(audit(books))
    assert found == ["a to b: a posting without its twin"] * 2
    alter(books, "b", 1, twin="nostro", time=NOW)
    assert list(audit(books)) == [
        "a to b: a posting without its twin",
        "nostro to b: a posting without its twin",
    ]


def test_books_that_cannot_be_read(books: Ledger) -> None:
    books.written[key("line", "a", "x")] = b"{}"
    [found] = list(audit(books))[-1:]
    assert found.startswith("a record of escrow cannot be read")


# --- of a relay


def told(relay: Ledger) -> list[str]:
    return list(relay.contract.audit(relay, relay.chain_id))  # type: ignore[attr-defined]


def test_records_of_a_relay_that_do_not_follow() -> None:
    flow, given = Flow(), instruction()
    flow.instruct(signed(given))
    flow.settle()
    hub, one = flow.hub, given.settlement.hex()
    assert told(hub) == []
    uetr, quote = f"uetr/{given.uetr}", f"quote/maker-1/{given.quote.id}"
    answer = f"answer/{one}/{HK}"
    late = replace(LockAnswer.decode(hub.written[answer.encode()]), time=NOW + 1)
    not_kept = [f"decision/{one}: names an answer of {HK} that is not kept"]
    another = encode({"settlement": "ab" * 32})
    for name, value, wanted in (
        (uetr, None, [f"{uetr}: not used by settlement {one}"]),
        (uetr, another, [f"{uetr}: not used by settlement {one}"]),
        (quote, None, [f"{quote}: not used by settlement {one}"]),
        (quote, another, [f"{quote}: not used by settlement {one}"]),
        (answer, None, not_kept),
        (answer, late.encode(), not_kept),
        (f"done/{one}/{HK}", None, []),  # not done yet
        (f"instruction/{one}", b"{}", ["a record of settlement cannot be read: 'signed'"]),
    ):
        kept = hub.written.pop(name.encode())
        if value is not None:
            hub.written[name.encode()] = value
        assert told(hub) == wanted
        hub.written[name.encode()] = kept
    hub.written[b"instruction/" + b"ab" * 32] = hub.written[f"instruction/{one}".encode()]
    assert told(hub) == [f"instruction/{'ab' * 32}: holds another settlement"]


def test_a_cut_off_that_holds_what_was_not_accepted() -> None:
    flow = Flow()
    deadline = NOW + DAY
    flow.hub.call("window.open", encode({"deadline": deadline, "window": "w"}))
    flow.instruct(signed(instruction(window="w", deadline=deadline)))
    record = CutOff.decode(flow.hub.call("window.cut_off", encode({"window": "w"})))
    assert told(flow.hub) == []
    [member] = record.members
    for changed in (
        replace(member, digest=digest("another")),
        replace(member, settlement=digest("another")),
        replace(member, ledgers=(HK,)),
    ):
        flow.hub.written[b"cut-off/w"] = replace(record, members=(changed,)).encode()
        assert told(flow.hub) == ["cut-off/w: holds an instruction that was not accepted"]


def test_nothing_more_is_let_go_than_is_held(books: Ledger) -> None:
    """Thirty are held of `a`, and hundreds are free."""
    one_too_many = Books(books, NOW, digest("more"), HUB)
    refused(
        Reason.FUNDS_MISSING,
        lambda: one_too_many.post(Entry.PRINCIPAL, "a", "b", 31, held=31),
    )
    Books(books, NOW, digest("all"), HUB).post(Entry.PRINCIPAL, "a", "b", 30, held=30)
