"""SettlementService and EscrowService as their users see them: real nodes, real gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.canonical import encode
from relay.contracts.escrow import Entry
from relay.contracts.payloads import Ended, Ruling, SignedInstruction
from relay.contracts.settlement import SettlementStatus
from relay.errors import NotFound, Reason
from relay.money import Rate
from tests.bench.count import counting
from tests.contracts.money_flow import PLENTY, policy
from tests.contracts.money_world import (
    BILL,
    HK,
    HUB,
    INSURER,
    SZ,
    instruction,
    signed,
    withdrawal,
)
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refused
from tests.service.clearing import Clearing, account_terms


@pytest.fixture(scope="module")
def clearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clearing]:
    folder: Path = tmp_path_factory.mktemp("clearing")
    found = Clearing(folder)
    yield found
    found.stop()


def settle(clearing: Clearing, given: SignedInstruction) -> bytes:
    clearing.hub.client.instruct(given)
    clearing.settle()
    return given.instruction.settlement


def test_every_step_of_a_settlement_is_told(clearing: Clearing) -> None:
    given = signed(instruction("told", fee=500))
    first = clearing.hub.client.instruct(given)
    assert first.view.status is SettlementStatus.LOCKING
    assert [p.ledger for p in first.packets] == [HK, SZ]
    assert clearing.hub.client.instruct(given) == first, "the same again has no effect"
    clearing.settle()
    shown = clearing.hub.client.settlement(given.instruction.settlement)
    assert shown == clearing.hub.client.settlement(uetr=given.instruction.uetr)
    assert shown.view.signed == given
    assert shown.view.status is SettlementStatus.SETTLED
    assert [a.ledger for a in shown.view.answers] == [HK, SZ]
    assert shown.view.decision is not None
    assert shown.view.decision.ruling is Ruling.COMMIT
    assert [(d.ledger, d.ended) for d in shown.view.done] == [
        (HK, Ended.RELEASED),
        (SZ, Ended.RELEASED),
    ]
    assert shown in list(clearing.hub.client.settlements())
    lock = clearing[HK].client.lock(HUB, shown.settlement)
    assert lock.held is not None
    assert lock.end is not None
    assert lock.held.uetr == given.instruction.uetr
    assert lock in list(clearing[HK].client.locks())


def test_lines_tie_to_the_account(clearing: Clearing) -> None:
    settle(clearing, signed(instruction("lines")))
    view = clearing[SZ].client.account("hospital")
    lines = list(clearing[SZ].client.lines("hospital"))
    assert [line.number for line in lines] == list(range(1, view.lines + 1))
    assert sum(line.amount for line in lines) == view.balance == lines[-1].balance
    everything = list(clearing[SZ].client.lines())
    assert sum(line.amount for line in everything) == 0, "every posting has its twin"
    assert {line.entry for line in lines} <= set(Entry)


def test_all_that_a_contract_wrote_is_told_page_by_page(clearing: Clearing) -> None:
    """What an auditor takes along: each entry once, in order of its key."""
    settlement = settle(clearing, signed(instruction("entries")))
    for entries in (
        list(clearing.hub.client.settlement_entries()),
        list(clearing[SZ].client.escrow_entries()),
    ):
        keys = [key for key, _ in entries]
        assert keys == sorted(set(keys))
        assert any(settlement.hex().encode() in key for key in keys)
        assert all(value for _, value in entries)
    refused(Reason.PORT_NOT_FOUND, lambda: list(clearing[SZ].client.settlement_entries()))
    refused(Reason.PORT_NOT_FOUND, lambda: list(clearing.hub.client.escrow_entries()))


def test_accounts_are_listed_with_the_ledgers_own(clearing: Clearing) -> None:
    found = {view.account: view for view in clearing[HK].client.accounts()}
    assert set(found) == {"hk-fees", "insurer", "maker-hkd", "nostro:HKD", "suspense:HKD"}
    assert sum(view.balance for view in found.values()) == 0
    assert found["nostro:HKD"].terms is None
    assert found["insurer"].terms == account_terms(HK, "insurer")


def test_a_deposit_counts_once(clearing: Clearing) -> None:
    client, reference = clearing[HK].client, digest("bank movement")
    first = client.deposit("hk-fees", "HKD", 5, reference)
    assert client.deposit("hk-fees", "HKD", 5, reference) == first
    refused(Reason.REQUEST_ID_REUSED, lambda: client.deposit("hk-fees", "HKD", 6, reference))
    for amount in (0, -1, 2**53):
        refused(
            Reason.AMOUNT_INVALID, lambda a=amount: client.deposit("hk-fees", "HKD", a, reference)
        )
    refused(Reason.CURRENCY_MISMATCH, lambda: client.deposit("hk-fees", "CNY", 5, digest("other")))
    refused(Reason.ACCOUNT_NOT_FOUND, lambda: client.deposit("nobody", "HKD", 5, digest("no")))
    assert client.account("hk-fees") == first


def test_a_relay_is_told_of_accounts_that_were_there_before_it(clearing: Clearing) -> None:
    clearing[HK].client.announce_accounts(["insurer"], [HUB])
    clearing.settle()
    [told] = clearing[HK].client.announcements("insurer")
    terms = clearing[HK].client.account("insurer").terms
    assert terms is not None
    assert (told.relay, told.version, told.reason) == (HUB, terms.version, "")
    nobody = clearing[HK].client
    refused(Reason.CLIENT_NOT_FOUND, nobody.announce_accounts, ["insurer"], ["hub-9"])


def test_a_node_that_keeps_its_books_has_no_steps_of_another_chain(clearing: Clearing) -> None:
    for ask in (
        lambda: list(clearing[HK].client.book_steps()),
        lambda: clearing[HK].client.prove_book_steps(0),
    ):
        refused(Reason.PORT_NOT_FOUND, ask, kind=NotFound, said="keeps its books itself")


def test_a_withdrawal_is_the_owners(clearing: Clearing) -> None:
    client = clearing[SZ].client
    before = client.account("hospital").balance
    wanted = withdrawal(amount=1000)
    assert client.withdraw(wanted).balance == before - 1000
    assert client.withdraw(wanted).balance == before - 1000
    stolen = withdrawal(INSURER, withdrawal=digest("stolen"))
    refused(Reason.UNKNOWN_SIGNER, lambda: client.withdraw(stolen))
    much = withdrawal(withdrawal=digest("much"), amount=PLENTY * 10)
    refused(Reason.FUNDS_MISSING, lambda: client.withdraw(much))
    refused(Reason.FUNDS_MISSING, lambda: client.assign("hospital", "CNY", 1, digest("suspense")))


def test_a_paused_lane_takes_nothing_new(clearing: Clearing) -> None:
    given = signed(instruction("paused"))
    clearing.hub.client.pause_lane(SZ, True)
    refused(Reason.LANE_PAUSED, lambda: clearing.hub.client.instruct(given))
    clearing.hub.client.pause_lane(SZ, False)
    assert settle(clearing, given)


def test_a_window_nets_what_it_holds(clearing: Clearing) -> None:
    client, deadline = clearing.hub.client, NOW + DAY // 2
    client.open_window("w-7", deadline)
    for name in ("net-a", "net-b"):
        client.instruct(signed(instruction(name, window="w-7", deadline=deadline)))
    (window,) = [w for w in client.windows() if w.window == "w-7"]
    assert (window.deadline, window.cut_off) == (deadline, None)
    record = client.cut_off("w-7")
    assert client.cut_off("w-7") == record
    assert len(record.members) == 2
    clearing.settle()
    assert [w.cut_off for w in client.windows() if w.window == "w-7"] == [record]
    shown = client.settlement(record.members[0].settlement)
    assert shown.view.status is SettlementStatus.SETTLED
    assert shown.view.under == record.settlement
    refused(Reason.NOT_FOUND, lambda: client.cut_off("never"))


def test_a_window_is_cut_off_by_the_tick_of_the_node(tmp_path: Path) -> None:
    """Nobody calls: the node's own clock does, once, and fsck runs the same again."""
    clearing = Clearing(tmp_path)
    try:
        client, node = clearing.hub.client, clearing.hub.node
        client.open_window("day", NOW + 7200, NOW + 3600)
        given = instruction("by-clock", window="day", deadline=NOW + 7200)
        client.instruct(signed(given))
        (window,) = client.windows()
        assert (window.due, window.cut_off) == (NOW + 3600, None)
        clearing.clock.now = NOW + 3599
        node.tick()
        assert [w.cut_off for w in client.windows()] == [None]
        clearing.clock.now = NOW + 3600
        node.tick()
        (window,) = client.windows()
        assert window.cut_off is not None
        assert window.cut_off.time == NOW + 3600
        size = client.head().size
        node.tick()
        assert client.head().size == size, "once"
        clearing.settle()
        assert client.settlement(given.settlement).view.status is SettlementStatus.SETTLED
    finally:
        clearing.stop()


@pytest.mark.slow
def test_a_window_filled_to_its_bound_is_carried_and_settles(tmp_path: Path) -> None:
    """What two-legged instructions fill; whatever follows from them fits its packets and proofs."""
    clearing = Clearing(tmp_path)
    try:
        client, deadline = clearing.hub.client, NOW + DAY // 2
        client.open_window("full", deadline)
        given = [
            signed(instruction(f"full-{n}", bill=1_000 + n, window="full", deadline=deadline))
            for n in range(256)
        ]
        results = client.instruct_each(given)
        taken = [r.shown for r in results if r.shown]
        assert 100 < len(taken) < 256
        assert {r.reason for r in results if not r.shown} == {"WINDOW_FULL"}
        record = client.cut_off("full")
        assert len(record.members) == len(taken)
        clearing.settle()
        shown = client.settlement(taken[-1].settlement)
        assert shown.view.status is SettlementStatus.SETTLED
        due = sum(one.view.signed.instruction.quote.bill.amount for one in taken)
        assert clearing[SZ].client.account("hospital").balance == PLENTY + due
    finally:
        clearing.stop()


def test_what_cannot_be_cut_off_now_ends_no_tick_and_is_tried_again(tmp_path: Path) -> None:
    clearing = Clearing(tmp_path)
    try:
        client, node = clearing.hub.client, clearing.hub.node
        client.open_window("day", NOW + 7200, NOW + 60)
        given = instruction("later", window="day", deadline=NOW + 7200)
        client.instruct(signed(given))
        clearing.clock.now = NOW + 60
        of_chain = node.clients.of_chain

        def gone(*_: object) -> str:
            raise NotFound(Reason.CLIENT_NOT_FOUND, "its client is frozen")

        node.clients.of_chain = gone  # type: ignore[method-assign]
        node.tick()  # with the tick that is due
        size = client.head().size
        node.tick()
        assert client.head().size == size, "what fails leaves nothing"
        assert [w.cut_off for w in client.windows()] == [None]
        node.clients.of_chain = of_chain  # type: ignore[method-assign]
        node.tick()
        clearing.settle()
        assert client.settlement(given.settlement).view.closed
    finally:
        clearing.stop()


def test_several_instructions_are_one_commit_and_each_stands_by_itself(clearing: Clearing) -> None:
    given = [signed(instruction(f"batch-{n}", bill=1_000 + n)) for n in range(20)]
    twice = signed(instruction("batch-x", quote=given[0].instruction.quote))
    engines = {HUB: clearing.hub.node.store.engine}
    with counting(engines) as counts:
        results = clearing.hub.client.instruct_each([*given, twice])
    assert len(counts.commits[HUB]) == 2, "what is asked, and the signature under its head"
    assert [r.shown.settlement for r in results[:-1] if r.shown] == [
        one.instruction.settlement for one in given
    ]
    assert (results[-1].shown, results[-1].reason) == (None, "QUOTE_USED")
    again = clearing.hub.client.instruct_each(given[:2])
    assert [r.shown for r in again] == [r.shown for r in results[:2]], "repeated, nothing happens"
    with counting({**engines, SZ: clearing[SZ].node.store.engine}) as counts:
        clearing.settle()
    for one in given:
        shown = clearing.hub.client.settlement(one.instruction.settlement)
        assert shown.view.status is SettlementStatus.SETTLED
    assert len(counts.commits[SZ]) <= 8, "twenty settlements come in a few deliveries"
    refused(Reason.MALFORMED, lambda: clearing.hub.client.instruct_each([]))


def test_an_answer_that_was_lost_is_asked_for_again(
    clearing: Clearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract fails once, as by a fault of the program: the packet is closed all the same."""
    given, seen = signed(instruction("stuck")), set()

    def fails(*arguments: Any) -> None:
        seen.add(arguments[1])
        raise ValueError("a fault")

    contract = type(clearing.hub.node.contracts["settlement"])
    with monkeypatch.context() as patch:
        patch.setattr(contract, "acknowledge", fails)
        settlement = settle(clearing, given)
    assert len(seen) == 2  # of each leg one, however often a commit was lost
    client = clearing.hub.client
    clearing.settle()
    assert client.settlement(settlement).view.status is SettlementStatus.LOCKING
    done = client.retry(settlement)
    assert ([p.ledger for p in done.packets], done.told) == ([HK, SZ], 0)
    clearing.settle()
    assert client.settlement(settlement).view.status is SettlementStatus.SETTLED
    refused(Reason.SETTLEMENT_DECIDED, lambda: client.retry(settlement))
    refused(Reason.NOT_FOUND, lambda: client.retry(digest("nothing")))


def test_a_ledger_tells_what_a_net_is_made_of(clearing: Clearing) -> None:
    client, deadline = clearing.hub.client, NOW + DAY // 2
    client.open_window("w-8", deadline)
    given = [instruction(n, bill=1_000, window="w-8", deadline=deadline) for n in ("pa", "pb")]
    client.instruct_each([signed(one) for one in given])
    record = client.cut_off("w-8")
    clearing.settle()
    found = clearing[SZ].client.lock(HUB, record.settlement, "hospital")
    assert [(p.uetr, p.amount) for p in found.netted] == [(one.uetr, 1_000) for one in given]
    assert clearing[SZ].client.lock(HUB, record.settlement).netted == ()


def test_rates_are_loaded_by_policy(clearing: Clearing) -> None:
    client = clearing.hub.client
    assert [p.version for p in client.rate_policies()] == [1]
    client.load_rate("cny-hkd", "2026-02-02", Rate(89511, 75905))
    assert [(r.day, r.rate) for r in client.rates("cny-hkd")] == [
        ("2026-02-02", Rate(89511, 75905))
    ]
    refused(Reason.POLICY_NOT_FOUND, lambda: list(client.rates("none")))
    refused(Reason.RATE_STALE, lambda: client.load_rate("cny-hkd", "2026-02-03", Rate(1, 1)))
    refused(Reason.POLICY_NOT_FOUND, lambda: client.load_rate("none", "2026-02-02", Rate(1, 1)))
    refused(Reason.CONFLICT, lambda: client.load_rate_policy(encode(policy(version=3))))


def test_what_was_refused_left_nothing(clearing: Clearing) -> None:
    client = clearing.hub.client
    refused(Reason.NOT_FOUND, lambda: client.settlement(digest("nothing")))
    refused(Reason.MALFORMED, lambda: client.settlement(digest("x"), "y"))
    refused(Reason.NOT_FOUND, lambda: clearing[HK].client.lock(HUB, digest("nothing")))
    before = clearing[HK].client.account("insurer")
    settle(clearing, signed(instruction("rich", bill=PLENTY * 2 + BILL)))
    assert clearing[HK].client.account("insurer").free == before.free
