"""Payment against payment between an EVM ledger and a lianqiao ledger, through a real relay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from relay.canonical import Json, encode
from relay.chain import Chain, Delivery, DeliveryResult, Item, Step
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.escrow import last_line
from relay.contracts.payloads import Instruction, Lock, decision_key
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.contracts.settlement import SettlementStatus, SettlementView, find_settlement
from relay.contracts.undelivered import payload_for
from relay.errors import Reason, Unavailable
from relay.fsck import fsck
from relay.light.types import Claim, ClientState
from relay.packet import Packet, receipt_path
from relay.paths import record_path
from relay.relayer import Relayer
from relay.steps import item_of, proven_paths
from tests.adapters.evm.ledger import install
from tests.adapters.evm.money import ALL_ACCOUNTS, MoneyLedger, signed_here
from tests.contracts.money_flow import PLENTY, kind_of, policy, terms
from tests.contracts.money_world import BILL, HK, HUB, SZ, instruction, quote
from tests.contracts.test_on_nodes import Window
from tests.contracts.world import NOW, digest
from tests.world import TYPES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PAID = 139_152


class Deaf:
    """A chain that is read, and takes nothing while it is `deaf`: nobody is told anything there."""

    def __init__(self, inner: Chain) -> None:
        self._inner, self.deaf = inner, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def submit(self, deliveries: Sequence[Delivery]) -> Sequence[DeliveryResult]:
        if self.deaf:
            raise Unavailable(Reason.CHAIN_UNREACHABLE, "deaf")
        return self._inner.submit(deliveries)


class Pvp:
    """`sz-money` on an EVM, `hk-money` on a lianqiao node, the relay `hub` between them."""

    def __init__(self, evm: MoneyLedger) -> None:
        self.evm, self.world, self.hub = evm, evm.world, evm.hub
        self.world.clients[HUB, SZ] = evm.on_hub
        self.hk = self.world.node(HK, "ledger", [ESCROW])
        on_hub = self.world._follow(HUB, HK, {})
        local = self.world.chain(HUB)
        head = local.headers(0, local.latest_height(), "secp256k1")[-1]
        state = ClientState("checkpoint", self.hub.origin, algorithm="secp256k1")
        on_hk = self.hk.create_client(state, head)
        self.hub.register_counterparty(on_hub, on_hk)
        self.hk.register_counterparty(on_hk, on_hub)
        self.hub.call("settlement", "rates.policy", encode(policy()))
        for ledger in (HK, SZ):
            for account, (code, owner, person) in ALL_ACCOUNTS[ledger].items():
                asked = terms(account, code, owner, person)
                self.hub.call("settlement", "account.register", encode({**asked, "ledger": ledger}))
                if ledger == HK:
                    self._open(asked, code, account)
        node = self.hub
        self.way = Deaf(evm.chain)
        self.relayer = Relayer(
            node.store,
            self.world.networks[HUB],
            [(evm.on_hub, cast(Chain, self.way)), (on_hub, self.world.networks[HK])],
            heads_needed=node.heads_needed,
            submit_misbehaviour=node.submit_misbehaviour,
            client_types=node.client_types,
        )

    def _open(self, asked: dict[str, Any], code: str, account: str) -> None:
        self.hk.call("escrow", "currency.open", encode({"currency": code}))
        self.hk.call("escrow", "account.open", encode(asked))
        body: Json = {
            "account": account, "amount": PLENTY, "currency": code,
            "reference": digest(account).hex(),
        }  # fmt: skip
        self.hk.call("escrow", "deposit", encode(body))

    def instruction(self, name: str, seconds: int = 600, bill: int = BILL) -> Instruction:
        offer = quote(bill, id=f"q-{name}", expires=self.world.clock.now + seconds)
        return instruction(name, quote=offer)

    def instruct(self, order: Instruction) -> None:
        self.hub.call("settlement", "instruct", encode({"signed": signed_here(order).to_json()}))

    def turn(self) -> bool:
        """One turn of both lanes, after a new block; whether anything was done."""
        self.evm.anvil.mine()
        self.world.clock.advance(2)
        reports = self.relayer.tick(self.world.clock.now)
        return not all(report.idle and not report.more for report in reports)

    def rest(self) -> None:
        for _ in range(40):
            if not self.turn():
                return
        raise AssertionError("the lanes do not rest")

    def view(self, order: Instruction) -> SettlementView:
        return find_settlement(Window(self.hub, "settlement"), order.settlement)

    def balances(self) -> dict[str, int]:
        """Of both ledgers; what is held is part of it."""
        state = Window(self.hk, "escrow")
        here = {a: last_line(state, a).balance for a in ALL_ACCOUNTS[HK]}
        return {**here, **{a: b for a, (b, _) in self.evm.balances().items()}}

    def held(self) -> dict[str, int]:
        state = Window(self.hk, "escrow")
        here = {a: last_line(state, a).held for a in ALL_ACCOUNTS[HK]}
        return {a: h for a, h in {**here, **self.held_there()}.items() if h}

    def held_there(self) -> dict[str, int]:
        return {a: h for a, (_, h) in self.evm.balances().items()}

    def moved(self, before: dict[str, int]) -> dict[str, int]:
        return {a: b - before[a] for a, b in self.balances().items() if b != before[a]}

    def item(self, kind: str, order: Instruction, ledger: str = SZ) -> Item:
        """The newest packet of a kind for a ledger, as an honest relayer would deliver it."""
        steps = self.world.chain(HUB).packets(self.world.clients[HUB, ledger], -1, 1000)
        of = [
            s for s in steps
            if s.step is Step.SEND and kind_of(s.packet) == kind
            and order.settlement.hex().encode() in s.packet.payloads[0].value
        ]  # fmt: skip
        return item_of(of[-1])

    def delivery(self, items: tuple[Item, ...], shown: tuple[Item, ...] = ()) -> Delivery:
        """A delivery of `items`, with the true proof of them, or of `shown` in their place."""
        local, status = self.world.chain(HUB), self.evm.chain.client("checkpoint-0")
        height = local.latest_height()
        headers = tuple(
            local.headers(status.latest_height, height, "secp256k1")
            if height > status.latest_height
            else ()
        )
        proof = local.prove(proven_paths(shown or items), height)
        return Delivery("checkpoint-0", headers, height, proof, items)

    def deliver(self, delivery: Delivery) -> list[str]:
        (result,) = self.evm.chain.submit([delivery])
        return [i.reason or i.outcome.value for i in result.items]

    def check(self) -> None:
        """Books that agree: with themselves, with the relay, with the token."""
        self.evm.check_books()
        for node in (self.hub, self.hk):
            contracts = {"escrow": ESCROW, "settlement": SETTLEMENT}
            _, findings = fsck(node.store, TYPES, node.origin, contracts=contracts)
            assert findings == []


@pytest.fixture(scope="module")
def pvp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pvp]:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        evm = MoneyLedger(tmp_path_factory.mktemp("evm"), [SETTLEMENT], now=NOW)
        made = Pvp(evm)
        yield made
        made.check()
        evm.close()


def test_both_are_paid(pvp: Pvp) -> None:
    before, order = pvp.balances(), pvp.instruction("both")
    pvp.instruct(order)
    pvp.rest()
    view = pvp.view(order)
    assert view.status is SettlementStatus.SETTLED
    assert pvp.moved(before) == {
        "insurer": -PAID, "maker-hkd": PAID, "maker-cny": -BILL, "hospital": BILL,
    }  # fmt: skip
    assert pvp.held() == {}
    pvp.check()


def test_neither_is_paid_where_the_evm_ledger_refuses(pvp: Pvp) -> None:
    before, order = pvp.balances(), pvp.instruction("refused", bill=2 * PLENTY // 3 * 2)
    pvp.instruct(order)
    pvp.rest()
    view = pvp.view(order)
    assert view.status is SettlementStatus.RETURNED
    assert view.decision is not None
    assert view.decision.reason is Reason.FUNDS_MISSING
    assert pvp.moved(before) == {}
    assert pvp.held() == {}


def test_neither_is_paid_where_the_other_ledger_refuses(pvp: Pvp) -> None:
    body = terms("insurer", *ALL_ACCOUNTS[HK]["insurer"], 2, limits={"daily": PAID})
    pvp.hk.call("escrow", "account.open", encode(body))
    before, order = pvp.balances(), pvp.instruction("limited")
    pvp.instruct(order)
    pvp.rest()
    view = pvp.view(order)
    assert view.status is SettlementStatus.RETURNED
    assert view.decision is not None
    assert view.decision.reason is Reason.LIMIT_REACHED
    assert {d.ledger: d.ended for d in view.done}[SZ] == "refunded"
    assert pvp.moved(before) == {}
    assert pvp.held() == {}
    pvp.hk.call("escrow", "account.open", encode({**body, "version": 3, "limits": NO_LIMITS}))


NO_LIMITS = {"counterparty": 0, "daily": 0, "officer": 0, "regulator": 0}


def test_a_lock_that_never_arrived_is_proven_absent(pvp: Pvp) -> None:
    """The EVM proves that there is no receipt; the other side is refunded."""
    before, order = pvp.balances(), pvp.instruction("late", seconds=30)
    pvp.instruct(order)
    late = pvp.item("lock", order)
    pvp.world.clock.advance(40)
    pvp.rest()
    view = pvp.view(order)
    assert view.status is SettlementStatus.RETURNED
    assert view.decision is not None
    assert view.decision.reason is Reason.TIMED_OUT
    assert {d.ledger: d.ended for d in view.done}[SZ] == "nothing"
    assert pvp.moved(before) == {}
    assert pvp.deliver(pvp.delivery((late,))) == [Reason.TIMEOUT_ELAPSED]
    path = receipt_path("checkpoint-0", late.packet.sequence)
    from adapters.evm.light.crypto import keccak

    assert not any(pvp.evm.chain._view("written", keccak(path))[0])  # type: ignore[attr-defined]


def test_a_decision_is_taken_with_its_record_and_once(pvp: Pvp) -> None:
    before = pvp.balances()
    order = pvp.instruction("shown")
    pvp.instruct(order)
    hand = pvp.item("lock", order)
    assert pvp.deliver(pvp.delivery((hand,))) == ["done"]
    assert pvp.deliver(pvp.delivery((hand,))) == ["noop"]
    other = replace(hand.packet, timeout_timestamp=hand.packet.timeout_timestamp + 1)
    assert pvp.deliver(pvp.delivery((replace(hand, packet=other),), (hand,))) == [
        Reason.COMMITMENT_MISMATCH
    ]
    assert pvp.held_there()["maker-cny"] == BILL
    pvp.way.deaf = True
    for _ in range(20):
        pvp.turn()
        if pvp.view(order).decision is not None:
            break
    assert pvp.view(order).status is SettlementStatus.COMMITTED
    telling = pvp.item("decision_notice", order)
    [entry] = telling.entries
    assert entry.path == record_path("settlement", decision_key(order.settlement))
    instructed = b"instruction/" + order.settlement.hex().encode()
    found = Window(pvp.hub, "settlement").get(instructed)
    assert found is not None
    stray = Claim(record_path("settlement", instructed), found)
    for entries in ((), (stray,), (entry, stray), (stray, entry)):
        less = replace(telling, entries=entries)
        assert pvp.deliver(pvp.delivery((less,))) == [Reason.ENTRY_MISSING]
    true = pvp.delivery((telling,))
    forged = replace(telling, entries=(Claim(entry.path, b"abort"),))
    assert pvp.deliver(replace(true, items=(forged,))) == [Reason.INVALID_PROOF]
    assert pvp.held_there()["maker-cny"] == BILL, "no trace of what was refused"
    assert pvp.deliver(replace(true, items=(telling, telling))) == ["done", "noop"]
    assert pvp.deliver(true) == ["noop"]
    assert pvp.moved(before)["hospital"] == BILL
    pvp.way.deaf = False
    pvp.rest()
    assert pvp.view(order).status is SettlementStatus.SETTLED
    assert pvp.moved(before)["hospital"] == BILL


def test_what_the_relay_never_sent_locks_nothing(pvp: Pvp) -> None:
    """A forged inclusion, and a true proof of another packet."""
    order, held = pvp.instruction("forged"), pvp.held()
    value = Lock(HUB, SZ, signed_here(order)).encode()
    payload = payload_for("escrow", "settlement", value)
    at = pvp.world.clock.now + 500
    forged = Item(Step.RECEIVE, Packet(10**6, pvp.evm.on_hub, "checkpoint-0", at, (payload,)))
    real = pvp.instruction("real")
    pvp.instruct(real)
    true = pvp.item("lock", real)
    assert pvp.deliver(pvp.delivery((forged,), (true,))) == [Reason.INVALID_PROOF]
    assert pvp.held() == held
    pvp.rest()
    assert pvp.view(real).status is SettlementStatus.SETTLED


def test_many_at_once(pvp: Pvp) -> None:
    """Locks and decisions, more than one call may hold; every one of them on both sides."""
    before = pvp.balances()
    orders = [pvp.instruction(f"many-{i}", bill=1000 + i) for i in range(18)]
    for order in orders:
        pvp.instruct(order)
    pvp.rest()
    assert all(pvp.view(o).status is SettlementStatus.SETTLED for o in orders)
    assert pvp.moved(before)["hospital"] == sum(o.quote.bill.amount for o in orders)
    assert pvp.held() == {}
