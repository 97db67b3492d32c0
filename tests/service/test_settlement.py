"""SettlementService and EscrowService as their users see them: real nodes, real gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.canonical import encode
from relay.contracts.escrow import Entry
from relay.contracts.payloads import Ended, Ruling, SignedInstruction
from relay.contracts.settlement import SettlementStatus
from relay.errors import LianqiaoError, Reason
from relay.money import Rate
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
from tests.service.clearing import Clearing, account_terms


@pytest.fixture(scope="module")
def clearing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clearing]:
    folder: Path = tmp_path_factory.mktemp("clearing")
    found = Clearing(folder)
    yield found
    found.stop()


def refused(reason: Reason, call: Callable[[], object]) -> None:
    with pytest.raises(LianqiaoError) as err:
        call()
    assert err.value.reason is reason


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


def test_rates_are_loaded_by_policy(clearing: Clearing) -> None:
    client = clearing.hub.client
    assert [p.version for p in client.rate_policies()] == [1]
    client.load_rate("cny-hkd", "2026-02-02", Rate(89511, 75905))
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
