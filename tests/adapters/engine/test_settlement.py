"""Money across replicated chains: a ledger and a relay of several institutions, and a ledger of
one. Blocks are the test's own; the same on real CometBFT: test_network.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.cometbft.light.zip215 import ED25519
from relay.books import verify_books
from relay.canonical import Json, encode
from relay.client.books import fetch_books
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.escrow import last_line
from relay.contracts.payloads import ESCROW_PORT, SETTLEMENT_PORT
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.contracts.settlement import SettlementStatus, SettlementView, find_settlement
from relay.errors import LianqiaoError, Reason
from relay.fsck import fsck
from relay.light.client import anchor
from relay.light.types import ClientState
from relay.local import LocalChain
from relay.reconcile import Side, reconcile
from relay.relayer import Relayer
from relay.trust import Trust, TrustedChain
from tests.adapters.engine.chain import Chain, Single
from tests.contracts.money_flow import ACCOUNTS, PLENTY, policy, terms
from tests.contracts.money_world import BILL, EXPIRES, HK, HUB, SZ, instruction, signed
from tests.contracts.test_on_nodes import Window
from tests.contracts.world import DAY, NOW, digest
from tests.databases import UrlOf
from tests.world import TYPES, Clock, World

FEE = 500


class Money:
    """`hk-money` and `hub` replicated by three institutions each, `sz-money` of one."""

    def __init__(self, path: Path, url_of: UrlOf) -> None:
        """The first replica of each chain has a database of `url_of`, the others of SQLite: what
        they hold must not depend on it."""
        self.clock = Clock(NOW)
        urls = {name: [url_of(path / f"first-of-{name}.db")] for name in (HUB, HK)}
        self.hub = Chain(
            path / HUB, self.clock, name=HUB, contracts=lambda: [SETTLEMENT], urls=urls[HUB]
        )
        self.hk = Chain(
            path / HK, self.clock, name=HK, role="ledger", contracts=lambda: [ESCROW], urls=urls[HK]
        )
        self.sz = Single(World(path, self.clock), SZ, contracts=[ESCROW])
        self.nodes: dict[str, Any] = {
            HUB: self.hub.nodes[0], HK: self.hk.nodes[0], SZ: self.sz.node
        }  # fmt: skip
        self.lanes = {name: self._join(name) for name in (HK, SZ)}
        self.relayers = [self._relayer(number) for number in range(2)]
        self._open()

    def state(self, name: str) -> tuple[ClientState, bytes]:
        """What others pin of a chain, and its newest header."""
        node = self.nodes[name]
        chain = LocalChain(node)
        if name == SZ:
            state = ClientState("checkpoint", node.origin)
            return state, chain.headers(0, chain.latest_height())[-1]
        state = node.evidence().client_state(node.origin)
        return state, chain.headers(0, chain.latest_height(), ED25519)[-1]

    def _join(self, ledger: str) -> str:
        there = self.nodes[ledger].create_client(*self.state(HUB))
        here: str = self.nodes[HUB].create_client(*self.state(ledger), "", there)
        self.nodes[ledger].register_counterparty(there, here)
        return here

    def _relayer(self, number: int) -> Relayer:
        """The relayer of one institution of the relay; several do no more than one."""
        node = self.hub.nodes[number]
        made = Relayer(
            node.store,
            LocalChain(node),  # type: ignore[arg-type]
            heads_needed=node.heads_needed,
            submit_misbehaviour=node.submit_misbehaviour,
            client_types=TYPES,
        )
        # each reaches another replica of the ledger
        made.add_lane(self.lanes[HK], LocalChain(self.hk.nodes[number]))  # type: ignore[arg-type]
        made.add_lane(self.lanes[SZ], LocalChain(self.sz.node))
        return made

    def call(self, name: str, method: str, body: Json, number: int = 0) -> bytes:
        port = SETTLEMENT_PORT if name == HUB else ESCROW_PORT
        chains = {HUB: self.hub, HK: self.hk}
        node = chains[name].nodes[number] if name in chains else self.nodes[name]
        answer: bytes = node.call(port, method, encode(body))
        return answer

    def _open(self) -> None:
        self.call(HUB, "rates.policy", policy())
        for ledger in (HK, SZ):
            for account, (code, owner, person) in ACCOUNTS[ledger].items():
                self.call(ledger, "currency.open", {"currency": code})
                asked = terms(account, code, owner, person)
                self.call(ledger, "account.open", asked)
                self.call(HUB, "account.register", {**asked, "ledger": ledger})
                body = {"account": account, "amount": PLENTY, "currency": code}
                reference = digest(f"{ledger} {account}").hex()
                self.call(ledger, "deposit", {**body, "reference": reference})

    def settle(self, seconds: int = 1) -> None:
        """Turns of both relayers until neither does anything."""
        for _ in range(60):
            reports = [r for one in self.relayers for r in one.tick(self.clock())]
            if all(report.idle and not report.more for report in reports):
                return
            self.clock.advance(seconds)
        raise AssertionError(f"no rest: {reports}")

    def view(self, settlement: bytes, number: int = 0) -> SettlementView:
        return find_settlement(Window(self.hub.nodes[number], SETTLEMENT_PORT), settlement)  # type: ignore[arg-type]

    def balance(self, ledger: str, account: str) -> int:
        return last_line(Window(self.nodes[ledger], ESCROW_PORT), account).balance

    def check(self) -> None:
        """Replicas hold the same, journals and books are sound."""
        for chain in (self.hub, self.hk):
            assert len({tuple(one.rows()) for one in chain.institutions}) == 1
            assert [one.fsck() for one in chain.institutions] == [[]] * 3
        contracts = {ESCROW_PORT: ESCROW}
        assert fsck(self.sz.node.store, TYPES, self.sz.node.origin, contracts=contracts)[1] == []

    def stop(self) -> None:
        for one in (self.hub, self.hk, self.sz):
            one.stop()


@pytest.fixture
def money(tmp_path: Path, urls: UrlOf) -> Iterator[Money]:
    made = Money(tmp_path, urls)
    yield made
    made.check()
    made.stop()


def test_a_bill_is_settled_across_the_kinds(money: Money) -> None:
    given = signed(instruction(fee=FEE))
    body = {"signed": given.to_json()}
    first = money.call(HUB, "instruct", body)
    assert money.call(HUB, "instruct", body, 1) == first, "by whichever institution it comes"
    money.settle()
    settlement = given.instruction.settlement
    views = {money.view(settlement, number) for number in range(3)}
    assert {one.status for one in views} == {SettlementStatus.SETTLED}
    assert len(views) == 1
    assert money.balance(SZ, "hospital") == PLENTY + BILL
    assert money.balance(HK, "insurer") == PLENTY - 139_152 - FEE
    assert money.balance(HK, "hk-fees") == PLENTY + FEE
    (one,) = views
    assert one.decision is not None
    assert NOW <= one.accepted <= one.decision.decided <= one.closed <= money.clock()


@pytest.mark.slow
def test_what_one_ledger_refuses_is_refunded_on_the_other(money: Money) -> None:
    big = instruction(bill=PLENTY + 1)
    money.call(HUB, "instruct", {"signed": signed(big).to_json()})
    money.settle()
    found = money.view(big.settlement)
    assert found.status is SettlementStatus.RETURNED
    assert found.decision is not None
    assert found.decision.reason is Reason.FUNDS_MISSING
    assert (money.balance(HK, "insurer"), money.balance(SZ, "hospital")) == (PLENTY, PLENTY)


@pytest.mark.slow
def test_a_lock_times_out_by_the_time_of_the_blocks(money: Money) -> None:
    """The quote runs out while no relayer works; every replica judges by the block alone."""
    given = instruction(fee=FEE)
    money.call(HUB, "instruct", {"signed": signed(given).to_json()})
    money.clock.now = EXPIRES + 1
    money.hk.block()
    money.settle(seconds=30)
    found = money.view(given.settlement)
    assert found.status is SettlementStatus.RETURNED
    assert found.decision is not None
    assert found.decision.reason is Reason.TIMED_OUT
    with pytest.raises(LianqiaoError) as refused:
        late = signed(instruction("two")).to_json()
        money.call(HUB, "instruct", {"signed": late})
    assert refused.value.reason is Reason.QUOTE_EXPIRED


@pytest.mark.slow
def test_a_window_is_netted_by_the_blocks(money: Money) -> None:
    deadline = NOW + DAY // 2
    money.call(HUB, "window.open", {"deadline": deadline, "window": "w-1"})
    given = [
        replace(instruction(n, bill=b), window="w-1", deadline=deadline)
        for n, b in (("one", 100_000), ("two", 70_000))
    ]
    for number, one in enumerate(given):
        money.call(HUB, "instruct", {"signed": signed(one).to_json()}, number)
    money.call(HUB, "window.cut_off", {"window": "w-1"}, 2)
    money.settle()
    assert {money.view(one.settlement).status for one in given} == {SettlementStatus.SETTLED}
    assert money.balance(SZ, "hospital") == PLENTY + 170_000


@pytest.mark.slow
def test_a_window_is_cut_off_by_a_block_and_by_nobody(money: Money) -> None:
    """Its time comes: the block does it, at every replica in the same way, whoever proposes it."""
    deadline, cut = NOW + DAY // 2, NOW + DAY // 4
    body = {"cut_off": cut, "deadline": deadline, "window": "w-2"}
    money.call(HUB, "window.open", body)
    one = replace(instruction("one", bill=100_000), window="w-2", deadline=deadline)
    money.call(HUB, "instruct", {"signed": signed(one).to_json()})
    money.clock.now = cut - 1
    money.hub.block()
    assert not money.view(one.settlement).answers
    money.clock.now = cut
    money.hub.block()
    money.settle()
    assert money.view(one.settlement).status is SettlementStatus.SETTLED
    assert money.balance(SZ, "hospital") == PLENTY + 100_000


@pytest.mark.slow
def test_the_books_are_proven_and_agree(money: Money) -> None:
    """As `lianqiao reconcile` does it: each institution's own replica is asked, nobody believed."""
    trust = Trust(
        tuple(
            TrustedChain(state, anchor(TYPES[state.client_type], state, raw, NOW)[0])
            for state, raw in (money.state(name) for name in (HUB, HK, SZ))
        )
    )
    money.call(HUB, "instruct", {"signed": signed(instruction(fee=FEE)).to_json()})
    money.settle()
    found = []
    for number in range(2):
        with (
            money.hub.institutions[number].client() as hub,
            money.hk.institutions[number + 1].client() as hk,
            money.sz.client() as sz,
        ):
            books = [
                fetch_books(hub, SETTLEMENT_PORT, trust),
                fetch_books(hk, ESCROW_PORT, trust),
                fetch_books(sz, ESCROW_PORT, trust),
            ]
        proven = [verify_books(b, trust, TYPES.__getitem__, money.clock()) for b in books]
        relay, *ledgers = (Side(one.chain_id, one) for one in proven)
        agreed = reconcile(relay, ledgers)
        assert agreed.breaks == ()
        found.append((agreed.settlements, agreed.committed))
    assert found == [(1, 1)] * 2


def test_a_chain_that_rested_judges_by_the_present(tmp_path: Path) -> None:
    """The first block after a rest has the time from before it; what is asked comes in the next."""
    clock = Clock(NOW)
    chain = Chain(tmp_path / HUB, clock, name=HUB, contracts=lambda: [SETTLEMENT], late=True)
    try:
        node = chain.nodes[0]
        node.call(SETTLEMENT_PORT, "lane.pause", encode({"ledger": HK}))
        clock.advance(3600)
        with pytest.raises(LianqiaoError) as refused:
            body = {"deadline": NOW + 1800, "window": "w-1"}
            node.call(SETTLEMENT_PORT, "window.open", encode(body))
        assert refused.value.reason is Reason.TIMEOUT_ELAPSED
        height = node.shown_size
        node.call(SETTLEMENT_PORT, "window.open", encode({**body, "deadline": NOW + 7200}))
        assert node.shown_size <= height + 2, "a chain at work is not woken"
        assert [one.fsck() for one in chain.institutions] == [[]] * 3
    finally:
        chain.stop()


def test_a_chain_program_that_has_to_begin_anew_is_asked_something(tmp_path: Path) -> None:
    """By that it ends (adapters.cometbft.engine.service); one that has begun is left alone."""
    chain = Chain(tmp_path / HUB, Clock(NOW), name=HUB, contracts=lambda: [SETTLEMENT])
    try:
        one, other, _ = chain.nodes
        height = one.shown_size
        assert not one.application.met
        one.tick()
        assert (asked := one.shown_size) > height
        one.application.met = True
        one.tick()
        assert one.shown_size == asked
        chain.institutions[1].rpc.close()
        other.tick()  # it is gone already
    finally:
        chain.stop()


# --- who may do what, where several institutions run the ledger or the relay


OPEN = terms("insurer", *ACCOUNTS[HK]["insurer"])
DEPOSIT = {
    "account": "insurer", "amount": 5, "currency": "HKD", "reference": digest("a movement").hex()
}  # fmt: skip


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Chain, Chain]]:
    """A ledger and a relay that two of their three institutions decide for."""
    clock = Clock(NOW)
    ledger = Chain(
        tmp_path / HK, clock, name=HK, role="ledger", quorum=2, contracts=lambda: [ESCROW]
    )
    relay = Chain(tmp_path / HUB, clock, name=HUB, quorum=2, contracts=lambda: [SETTLEMENT])
    yield ledger, relay
    ledger.stop()
    relay.stop()


def asks(chain: Chain, number: int, method: str, body: Json) -> str:
    """One institution calls a money contract; the reason, or nothing."""
    (port,) = chain.nodes[0].contracts
    try:
        chain.nodes[number].call(port, method, encode(body))
    except LianqiaoError as error:
        return str(error.reason)
    return ""


def test_no_institution_makes_money_by_itself(shared: tuple[Chain, Chain]) -> None:
    """What one operator may do alone on a journal of his own takes several where several answer
    for it: nobody can be debited by a key that one institution has chosen."""
    ledger, relay = shared
    steps: list[tuple[Chain, str, dict[str, Any]]] = [
        (ledger, "currency.open", {"currency": "HKD"}),
        (ledger, "account.open", OPEN),
        (ledger, "deposit", DEPOSIT),
        (relay, "rates.policy", policy()),
        (relay, "account.register", {**OPEN, "ledger": HK}),
    ]
    for chain, method, body in steps:
        assert asks(chain, 0, method, body) == "APPROVAL_PENDING", method
        assert asks(chain, 0, method, body) == "APPROVAL_PENDING", "once more is no second voice"
        assert asks(chain, 2, method, body) == "", method
        # what is done already is answered, and moves nothing
        assert asks(chain, 1, method, body) == "", method
    books = Window(ledger.nodes[1], ESCROW_PORT)  # type: ignore[arg-type]
    assert last_line(books, "insurer").balance == 5
    other = {**DEPOSIT, "amount": 6}
    assert asks(ledger, 0, "deposit", other) == "REQUEST_ID_REUSED", "refused before it is approved"
    for chain in (ledger, relay):
        assert len({tuple(one.rows()) for one in chain.institutions}) == 1
        assert [one.fsck() for one in chain.institutions] == [[]] * 3


def test_any_institution_pauses_a_lane_and_several_resume_it(shared: tuple[Chain, Chain]) -> None:
    _, relay = shared
    assert asks(relay, 1, "lane.pause", {"ledger": HK}) == ""
    assert asks(relay, 1, "lane.resume", {"ledger": HK}) == "APPROVAL_PENDING"
    assert asks(relay, 2, "lane.resume", {"ledger": HK}) == ""


def test_what_services_ask_of_a_node_a_replica_has(shared: tuple[Chain, Chain]) -> None:
    """They were written for a node of one process; what is missing shows only when it is asked."""
    import re

    import relay as package

    root = Path(package.__file__).parent
    files = [*(root / "service").glob("*.py"), *(root / "record").glob("*.py")]
    files += [root / f"{n}.py" for n in ("local", "travelling", "bundle_writer", "query", "server")]
    asked = {name for f in files for name in re.findall(r"\b_?node\.([a-z_]+)", f.read_text())}
    assert {"store", "call", "evidence", "shown"} <= asked
    made = shared[0].nodes[0]
    assert sorted(name for name in asked if not hasattr(made, name)) == []


def test_every_call_is_either_for_one_or_for_several() -> None:
    """A call that is added is decided upon here: does it change whom the contract believes?"""
    from relay.contracts.recognition import contract as recognition
    from relay.contracts.registry import contract as registry
    from relay.contracts.settlement import contract as settlement

    by_one = {
        "escrow": {"withdraw", "account.announce", "resend"},
        "registry": {"announce", "request", "outcome", "access", "resend"},
        "settlement": {
            "lane.pause", "window.open", "window.cut_off", "instruct", "retry", "resend"
        },
    }  # fmt: skip
    from relay.contracts.escrow import contract as escrow

    for module in (escrow, registry, settlement):
        contract = module.CONTRACT
        assert by_one[contract.port] | contract.operator_methods == set(module._CALLS)
        assert not by_one[contract.port] & contract.operator_methods
    assert recognition.CONTRACT.operator_methods == {"policy.load"}
