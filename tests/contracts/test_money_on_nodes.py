"""Settlement on real nodes: databases, journals, proofs, the relay's own relayer, and fsck."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.canonical import Json, encode
from relay.chain import Item, Outcome, Step
from relay.contract import Contract
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.escrow import find_end, find_held, last_line
from relay.contracts.payloads import Ruling, SignedInstruction, decision_key
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.contracts.settlement import SettlementStatus, SettlementView, find_settlement
from relay.errors import LianqiaoError, Reason
from relay.fsck import fsck
from relay.light.types import Claim
from relay.packet import Packet
from relay.paths import record_path
from relay.steps import item_of
from tests.contracts.money_flow import ACCOUNTS, PLENTY, kind_of, policy, terms
from tests.contracts.money_world import BILL, EXPIRES, HK, HUB, SZ, decision, instruction, signed
from tests.contracts.test_on_nodes import Window
from tests.contracts.world import DAY, NOW, digest
from tests.refusals import refusing
from tests.world import TYPES, Clock, World

ONE = instruction(fee=500).settlement
CONTRACTS: dict[str, Contract] = {"escrow": ESCROW, "settlement": SETTLEMENT}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two money ledgers and a relay with accounts and funds; journals and books checked after."""
    made = World(tmp_path, Clock(NOW))
    for ledger in (HK, SZ):
        made.node(ledger, "ledger", [ESCROW])
    made.node(HUB, "relay", [SETTLEMENT])
    for ledger in (HK, SZ):
        made.connect(HUB, ledger)
    call(made, HUB, "rates.policy", policy())
    for ledger in (HK, SZ):
        for account, (code, owner, person) in ACCOUNTS[ledger].items():
            call(made, ledger, "currency.open", {"currency": code})
            asked = terms(account, code, owner, person)
            call(made, ledger, "account.open", asked)
            call(made, HUB, "account.register", {**asked, "ledger": ledger})
            body = {"account": account, "amount": PLENTY, "currency": code}
            reference = digest(f"{ledger} {account}").hex()
            call(made, ledger, "deposit", {**body, "reference": reference})
    yield made
    for node in made.nodes.values():
        _, findings = fsck(node.store, TYPES, node.origin, contracts=CONTRACTS)
        assert findings == []
    made.close()


def call(world: World, name: str, method: str, body: Json) -> bytes:
    port = "settlement" if name == HUB else "escrow"
    return world.nodes[name].call(port, method, encode(body))


def instruct(world: World, given: SignedInstruction) -> bytes:
    return call(world, HUB, "instruct", {"signed": given.to_json()})


def view(world: World, settlement: bytes = ONE) -> SettlementView:
    return find_settlement(Window(world.nodes[HUB], "settlement"), settlement)


def balance(world: World, ledger: str, account: str) -> int:
    return last_line(Window(world.nodes[ledger], "escrow"), account).balance


def test_a_bill_is_settled_on_both_sides(world: World) -> None:
    answer = instruct(world, signed(instruction(fee=500)))
    assert instruct(world, signed(instruction(fee=500))) == answer
    world.settle(HUB)
    found = view(world)
    assert found.status is SettlementStatus.SETTLED
    assert balance(world, SZ, "hospital") == PLENTY + BILL
    assert balance(world, HK, "insurer") == PLENTY - 139_152 - 500
    assert balance(world, HK, "hk-fees") == PLENTY + 500


def test_a_lock_refused_on_one_side_is_refunded_on_the_other(world: World) -> None:
    big = instruction(bill=PLENTY + 1)
    instruct(world, signed(big))
    world.settle(HUB)
    found = view(world, big.settlement)
    assert found.status is SettlementStatus.RETURNED
    assert found.decision is not None
    assert found.decision.reason is Reason.FUNDS_MISSING
    assert balance(world, HK, "insurer") == PLENTY


def test_a_lock_that_timed_out_aborts(world: World) -> None:
    instruct(world, signed(instruction(fee=500)))
    world.networks[SZ].reachable = False
    world.tick(HUB)
    world.tick(HUB)
    assert view(world).answers, "the one that is reached has locked"
    world.clock.now = EXPIRES + 1
    world.networks[SZ].reachable = True
    world.clock.advance(600)
    world.settle(HUB, seconds=5)
    found = view(world)
    assert found.decision is not None
    assert found.decision.reason is Reason.TIMED_OUT
    assert found.status is SettlementStatus.RETURNED
    end = find_end(Window(world.nodes[SZ], "escrow"), HUB, ONE)
    assert end is not None
    assert end.ended == "nothing"
    with refusing(Reason.QUOTE_EXPIRED):
        instruct(world, signed(instruction("two")))  # its quote has expired meanwhile


def test_a_decision_that_timed_out_is_sent_again(world: World) -> None:
    """A ledger is away for hours with money locked; then it hears of the decision."""
    instruct(world, signed(instruction(fee=500)))
    _locked_everywhere(world)
    world.networks[SZ].reachable = False
    world.settle(HUB, seconds=1)
    assert view(world).status is SettlementStatus.COMMITTED
    first = len(_decisions(world))
    world.clock.advance(4 * 3600)
    world.networks[SZ].reachable = True
    for _ in range(40):
        world.tick(HUB)
        world.clock.advance(60)
        if view(world).closed:
            break
    assert view(world).status is SettlementStatus.SETTLED
    assert len(_decisions(world)) == first + 1
    assert balance(world, SZ, "hospital") == PLENTY + BILL


def _locked_everywhere(world: World) -> None:
    """Carries the locks by hand, and their answers back, so that all is decided and not told."""
    for ledger in (HK, SZ):
        world.relay_once(HUB, ledger)
    for ledger in (HK, SZ):
        world.relay_once(ledger, HUB)
    assert view(world).status is SettlementStatus.COMMITTED


def _decisions(world: World) -> list[Packet]:
    found = []
    for ledger in (HK, SZ):
        steps = world.chain(HUB).packets(world.clients[HUB, ledger], -1, 1000)
        found += [s.packet for s in steps if s.step is Step.SEND]
    return [packet for packet in found if kind_of(packet) == "decision_notice"]


def _telling(world: World, ledger: str) -> Item:
    """The decision for a ledger, as an honest relayer would deliver it."""
    steps = world.chain(HUB).packets(world.clients[HUB, ledger], -1, 1000)
    return item_of(next(s for s in steps if kind_of(s.packet) == "decision_notice"))


def test_a_decision_is_taken_with_its_record_and_not_without(world: World) -> None:
    instruct(world, signed(instruction(fee=500)))
    _locked_everywhere(world)
    item = _telling(world, SZ)
    [entry] = item.entries
    assert entry.path == record_path("settlement", decision_key(ONE))
    hub = Window(world.nodes[HUB], "settlement")
    other = hub.get(b"instruction/" + ONE.hex().encode())
    assert other is not None
    elsewhere = Claim(record_path("settlement", b"instruction/" + ONE.hex().encode()), other)
    size = world.nodes[SZ].head.size
    for entries, reason in (
        ((), Reason.ENTRY_MISSING),
        ((elsewhere,), Reason.ENTRY_MISSING),
        ((Claim(entry.path, decision(Ruling.ABORT).encode()),), Reason.INVALID_PROOF),
    ):
        [answer] = world.deliver(HUB, SZ, [replace(item, entries=entries)])
        assert answer.outcome is Outcome.REFUSED
        assert answer.reason == reason, answer
    assert balance(world, SZ, "hospital") == PLENTY
    held = find_held(Window(world.nodes[SZ], "escrow"), HUB, ONE)
    assert held is not None
    assert find_end(Window(world.nodes[SZ], "escrow"), HUB, ONE) is None
    assert world.nodes[SZ].head.size >= size
    [done] = world.deliver(HUB, SZ, [item])
    assert done.outcome is Outcome.DONE
    [again] = world.deliver(HUB, SZ, [item])
    assert again.outcome is Outcome.NOOP
    assert balance(world, SZ, "hospital") == PLENTY + BILL
    world.settle(HUB)


def test_a_relay_that_tells_another_decision_than_it_wrote_moves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relay.contracts.settlement import decide
    from tests.contracts.test_settlement_orders import _two_faced

    monkeypatch.setattr(decide, "send_decision", _two_faced)
    instruct(world, signed(instruction(fee=500)))
    world.settle(HUB)
    monkeypatch.undo()
    assert view(world).status is SettlementStatus.COMMITTED
    assert find_end(Window(world.nodes[SZ], "escrow"), HUB, ONE) is None
    assert balance(world, SZ, "maker-cny") == PLENTY
    # What it wrote is what counts: told so, the ledger does it.
    call(world, HUB, "resend", {"limit": 10})
    world.settle(HUB)
    assert view(world).status is SettlementStatus.SETTLED
    assert balance(world, SZ, "hospital") == PLENTY + BILL


def test_netting_on_real_nodes(world: World) -> None:
    deadline = NOW + DAY // 2
    call(world, HUB, "window.open", {"deadline": deadline, "window": "w-1"})
    given = [
        replace(instruction(n, bill=b), window="w-1", deadline=deadline)
        for n, b in (("one", 100_000), ("two", 70_000))
    ]
    for one in given:
        instruct(world, signed(one))
    call(world, HUB, "window.cut_off", {"window": "w-1"})
    world.settle(HUB)
    assert {view(world, one.settlement).status for one in given} == {SettlementStatus.SETTLED}
    assert balance(world, SZ, "hospital") == PLENTY + 170_000


def test_nothing_is_half_written_where_a_lock_cannot_be_sent(world: World) -> None:
    size = world.nodes[HUB].head.size
    far = instruction()
    legs = (replace(far.legs[0], ledger="elsewhere"), far.legs[1])
    strange = {("elsewhere", "insurer"): ACCOUNTS[HK]["insurer"][2]}
    asked = terms("insurer", "HKD", "hk-insurer", ACCOUNTS[HK]["insurer"][2])
    maker = terms("maker-hkd", "HKD", "maker-1", ACCOUNTS[HK]["maker-hkd"][2])
    for one in (asked, maker):
        call(world, HUB, "account.register", {**one, "ledger": "elsewhere"})
    size = world.nodes[HUB].head.size
    with pytest.raises(LianqiaoError) as err:
        instruct(world, signed(replace(far, legs=legs), owners=strange))
    assert err.value.reason is Reason.CLIENT_NOT_FOUND
    assert world.nodes[HUB].head.size == size


def test_fsck_finds_books_that_do_not_add_up(world: World) -> None:
    """A bug that posts to one side only is found by the ledger's own fsck."""
    from relay.contracts.escrow.books import Books

    real = Books._write

    def forgetful(self: Books, account: str, *rest: Any) -> None:
        if account != "hospital":
            real(self, account, *rest)

    instruct(world, signed(instruction(fee=500)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Books, "_write", forgetful)
        world.settle(HUB)
    node = world.nodes[SZ]
    _, findings = fsck(node.store, TYPES, node.origin, contracts=CONTRACTS)
    found = [f.detail for f in findings if f.where == "contract escrow"]
    assert any("without its twin" in detail for detail in found), findings
    assert any("not to zero" in detail for detail in found)
    world.nodes.pop(SZ).close()


def test_a_settlement_writes_few_records(world: World) -> None:
    """Nine at the relay, six on each ledger; one more where a fee is posted, and one with the first
    lock of a relay, which hears of accounts from then on."""

    def records() -> dict[str, int]:
        ports = {HUB: "settlement", HK: "escrow", SZ: "escrow"}
        return {
            name: len(Window(world.nodes[name], port).scan(b"", limit=10_000))
            for name, port in ports.items()
        }

    instruct(world, signed(instruction("first")))
    world.settle(HUB)
    before = records()
    instruct(world, signed())
    world.settle(HUB)
    assert view(world).status is SettlementStatus.SETTLED
    assert {name: count - before[name] for name, count in records().items()} == {
        HUB: 9,
        HK: 6,
        SZ: 6,
    }
