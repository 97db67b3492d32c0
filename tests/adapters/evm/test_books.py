"""The books of an EVM ledger through a node before it: asked, proven, reconciled, and forged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from adapters.evm.books.proven import BOOKS
from adapters.evm.books.steps import HISTORY_SLOT, BookStep, named_by
from adapters.evm.engine.logs import CALLED, Called, Logs, Place
from adapters.evm.engine.node import LedgerNode
from adapters.evm.escrow import terms_argument
from adapters.evm.practice.chain import KEYS
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.books import Books, Proven, decode_books, encode_books, verify_books
from relay.canonical import Json, encode
from relay.contracts.escrow import CONTRACT as ESCROW
from relay.contracts.escrow import last_line
from relay.contracts.escrow.audit import audit
from relay.contracts.payloads import Money
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.settlement import CONTRACT as SETTLEMENT
from relay.contracts.settlement import SettlementStatus
from relay.errors import LianqiaoError, Reason
from relay.host import HostState
from relay.light.client import consensus_of
from relay.light.types import ClientState
from relay.node import create
from relay.packet import be64
from relay.reconcile import Kind, Side, reconcile
from relay.settling import Party, sign_withdrawal
from relay.signing import CheckpointSigner, HighWaterMark
from relay.store import Store
from relay.trust import Trust, TrustedChain
from tests.adapters.evm.ledger import install
from tests.adapters.evm.money import MAKER_K, STRANGER_K, UNIT, Holder, MoneyLedger
from tests.adapters.evm.test_escrow_lines import PAID, paying
from tests.adapters.evm.test_pvp import Pvp
from tests.contracts.money_flow import PLENTY, policy, terms
from tests.contracts.money_world import BILL, HK, HUB, LINES, SZ
from tests.contracts.test_itemised import OVER
from tests.contracts.test_on_nodes import Window
from tests.contracts.world import NOW
from tests.databases import everyday_url, new_store
from tests.world import TYPES, keys_of, set_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Front:
    """A node before `sz-money`, whose key owns the endpoint and holds the accounts."""

    def __init__(self, pvp: Pvp, path: Path, key: int = 0) -> None:
        self.pvp, self.evm, self.path = pvp, pvp.evm, path
        path.mkdir()
        (path / "account.hex").write_text(KEYS[key])
        self.sender = Sender(path / "account.hex", 10**12)
        self.node = self.open("node")

    def open(
        self, name: str, rpc: Rpc | None = None, money: bool = True, store: Store | None = None
    ) -> LedgerNode:
        """On a new database, or `store`; told of the escrow, or not."""
        keys, evm = keys_of(SZ, 1), self.evm
        if store is None:
            store = new_store(everyday_url(self.path / f"{name}.db"))
            create(store, SZ, "ledger", set_of(keys, SZ), epoch=0, now=evm.world.clock.now)
        return LedgerNode(
            rpc=rpc or evm.rpc,
            endpoint=evm.endpoint.address,
            registry=evm.registry.address,
            escrow=evm.escrow.address if money else None,
            chain=evm.chain,  # type: ignore[arg-type]
            relay="hub/0",
            sender=self.sender,
            from_block=1,
            chain_id=SZ,
            role="ledger",
            store=store,
            signer=CheckpointSigner(
                [(f"{SZ}-0", keys[0])], HighWaterMark(self.path / f"{name}.mark")
            ),
            client_types={},
            contracts={"registry": REGISTRY, **({"escrow": ESCROW} if money else {})},
            clock=evm.world.clock,
        )

    def call(self, method: str, body: dict[str, Any]) -> Json:
        found: Json = json.loads(self.node.call("escrow", method, encode(body)))
        return found

    def move(self, method: str, account: str, amount: int, reference: bytes) -> Json:
        body = {
            "account": account, "amount": amount, "currency": "CNY", "reference": reference.hex(),
        }  # fmt: skip
        return self.call(method, body)

    def withdraw(
        self, account: str, amount: int, name: bytes, by: Holder = MAKER_K, ledger: str = SZ
    ) -> None:
        now = self.evm.world.clock.now
        signed = sign_withdrawal(
            Party(ledger, account),
            Money("CNY", amount),
            withdrawal=name,
            time=now,
            signer=by._signing,
        )
        self.call("withdraw", {"withdrawal": signed.to_json()})

    def records(self, node: LedgerNode | None = None) -> list[tuple[bytes, bytes]]:
        node = node or self.node
        with node.store.reading() as tx:
            return list(HostState(node.channel, tx, "escrow", 0).scan(b""))

    def line(self, account: str) -> tuple[int, int]:
        """(balance, held) in the node's tables."""
        with self.node.store.reading() as tx:
            line = last_line(HostState(self.node.channel, tx, "escrow", 0), account)
        return line.balance, line.held

    # --- as an auditor

    @property
    def state(self) -> ClientState:
        """What is pinned of the chain, its escrow with it."""
        own = self.evm.deployed["Escrow"]
        more = {"escrow": "0x" + own.address.hex(), "escrow-code": "0x" + own.code_hash.hex()}
        pinned = {**dict(self.evm.state.parameters), **more}
        return replace(self.evm.state, parameters=tuple(sorted(pinned.items())))

    def trust(self, **changes: Any) -> Trust:
        """A head of the chain from before there was money."""
        raw = self.evm.chain.headers(0, 1, self.state.algorithm)[-1]
        anchor = consensus_of(TYPES["evm"].decode_header(raw))
        return Trust((TrustedChain(replace(self.state, **changes), anchor),))

    def books(self) -> Books:
        """As `fetch_books` makes them."""
        proven = self.node.prove_steps(1)
        records = tuple((be64(n), step) for n, step in self.node.steps(0, 10_000))
        assert len(records) == proven.steps
        return Books(f"{SZ}/0", "escrow", proven.height, proven.headers, records, proven.proofs)

    def verify(self, books: Books, trust: Trust | None = None) -> Proven:
        now = self.evm.world.clock.now
        given = trust or self.trust()
        return verify_books(books, given, TYPES.__getitem__, now, {"evm": BOOKS})


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    path = tmp_path_factory.mktemp("books")
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        evm = MoneyLedger(path, [SETTLEMENT], now=NOW)
        made = Front(Pvp(evm), path / "front")
        yield made
        made.pvp.check()
        made.node.close()
        evm.close()


def refused(reason: Reason, run: Callable[[], object]) -> LianqiaoError:
    with pytest.raises(LianqiaoError) as err:
        run()
    assert err.value.reason is reason, err.value
    return err.value


def settle(front: Front, name: str) -> None:
    order = front.pvp.instruction(name)
    front.pvp.instruct(order)
    front.pvp.rest()
    assert front.pvp.view(order).status is SettlementStatus.SETTLED


def test_the_node_tells_what_the_chain_has(front: Front) -> None:
    settle(front, "one")
    front.node.read()
    for account, there in front.evm.balances().items():
        assert front.line(account) == there, account
    assert front.line("nostro:CNY")[0] == -sum(b for b, _ in front.evm.balances().values())
    other = front.open("other")
    other.read()
    assert front.records(other) == front.records()
    assert list(audit(Proven(SZ, "escrow", 1, 1, dict(front.records())))) == []
    other.close()


def test_books_of_all_three_agree(front: Front) -> None:
    """Locked and committed, locked and aborted, refused: nothing open, missing or double."""
    settle(front, "agreed")
    order = front.pvp.instruction("too-much", bill=2 * PLENTY // 3 * 2)
    front.pvp.instruct(order)
    front.pvp.rest()
    books = decode_books(encode_books([front.books()]))[0]
    proven = front.verify(books)
    assert proven.findings == ()
    hub = Window(front.pvp.hub, "settlement")
    hk = Window(front.pvp.hk, "escrow")
    sides = [Side(HK, hk), Side(SZ, proven, proven.findings)]
    assert reconcile(Side(HUB, hub), sides).breaks == ()
    wrong = reconcile(Side(HUB, hub), [sides[0], Side(SZ, proven, ("said",))])
    assert [(b.chain, b.kind, b.detail) for b in wrong.breaks] == [(SZ, Kind.BOOKS, "said")]


def test_what_is_left_out_or_changed_is_noticed(front: Front) -> None:
    settle(front, "forged")
    front.evm.anvil.mine()
    true = front.books()
    front.verify(true)
    deposits = [
        n for n, (_, raw) in enumerate(true.records)
        if BookStep.decode(raw).answer is None and b"hospital" in raw
    ]  # fmt: skip
    steps = [raw for _, raw in true.records]

    def numbered(listed: list[bytes]) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((be64(n), raw) for n, raw in enumerate(listed, 1))

    def changed(at: int, **more: Any) -> list[bytes]:
        return [
            replace(BookStep.decode(raw), **more).encode() if n == at else raw
            for n, raw in enumerate(steps)
        ]

    last, opening = len(steps) - 1, deposits[0]
    more = BookStep.decode(steps[deposits[-1]])
    for listed in (
        steps[:-1],
        steps[1:],
        [*steps, steps[-1]],
        [*steps[:-2], steps[-1], steps[-2]],
        changed(last, time=BookStep.decode(steps[last]).time + 1),
        changed(last, by=bytes(20)),
        changed(last, answer=b"{}"),
        changed(deposits[-1], data=more.data[:67] + b"\x01" + more.data[68:]),
        [raw for n, raw in enumerate(steps) if n != opening],
    ):
        given = replace(true, records=numbered(listed))
        refused(Reason.BUNDLE_INCOMPLETE, lambda given=given: front.verify(given))
    gap = replace(true, records=(*true.records[:-1], (be64(len(steps) + 1), steps[-1])))
    refused(Reason.BUNDLE_INCOMPLETE, lambda: front.verify(gap))
    ((words, proof),) = true.proofs
    for proofs in ((), ((words - 1, proof),), ((words, proof), (1, proof))):
        bad = replace(true, proofs=proofs)
        refused(Reason.BUNDLE_INCOMPLETE, lambda bad=bad: front.verify(bad))


def test_a_proof_is_of_the_pinned_escrow_and_head(front: Front) -> None:
    front.evm.anvil.mine()
    true = front.books()
    ((words, _),) = true.proofs
    escrow, chain, height = front.evm.escrow.address, front.evm.chain, true.height
    slots = named_by([BookStep.decode(raw) for _, raw in true.records]).slots()
    assert len(slots) == words
    prove: Any = chain.prove_storage  # type: ignore[attr-defined]
    for bad in (
        prove(front.evm.token, slots, height),
        prove(escrow, slots, height - 1),
        prove(escrow, slots[1:], height),
        prove(escrow, [*slots, b"\1" * 32], height),
    ):
        given = replace(true, proofs=((words, bad),))
        refused(Reason.INVALID_PROOF, lambda given=given: front.verify(given))
    other = {**dict(front.state.parameters), "escrow-code": "0x" + "11" * 32}
    trust = front.trust(parameters=tuple(sorted(other.items())))
    refused(Reason.INVALID_PROOF, lambda: front.verify(true, trust))
    assert front.evm.state.parameters != front.state.parameters
    trust = front.trust(parameters=front.evm.state.parameters)
    refused(Reason.MALFORMED, lambda: front.verify(true, trust))
    refused(Reason.MALFORMED, lambda: front.verify(replace(true, proofs=((words, b""),))))


def test_a_balance_that_the_steps_do_not_come_to_is_found(front: Front) -> None:
    """As if the contract had a fault: its storage is changed behind its back."""
    front.evm.anvil.mine()
    named = named_by([BookStep.decode(raw) for _, raw in front.books().records])
    assert named.currencies == ("CNY",)
    at = 4 + named.accounts.index("hospital")
    slot = named.slots()[at]
    where = "0x" + front.evm.escrow.address.hex()
    word = int(front.evm.anvil.ask("eth_getStorageAt", where, "0x" + slot.hex(), "latest"), 16)
    more = (word + 5 + (7 << 64)).to_bytes(32, "big")
    front.evm.anvil.ask("anvil_setStorageAt", where, "0x" + slot.hex(), "0x" + more.hex())
    front.evm.anvil.mine()
    balance, held = front.line("hospital")
    assert front.verify(front.books()).findings == (
        f"balance of hospital: the chain says {balance + 5}, the books {balance}",
        f"held of hospital: the chain says {held + 7}, the books {held}",
    )
    front.evm.anvil.ask(
        "anvil_setStorageAt", where, "0x" + slot.hex(), "0x" + word.to_bytes(32, "big").hex()
    )
    front.evm.anvil.mine()
    assert front.verify(front.books()).findings == ()


@dataclass
class Forgetful:
    """A node of the chain that does not show the calls of the escrow."""

    rpc: Rpc

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rpc, name)

    def ask(self, method: str, params: Any) -> Any:
        """See Rpc."""
        found = self.rpc.ask(method, params)
        if method != "eth_getLogs":
            return found
        seen = [log for log in found if log["topics"][0] == CALLED]
        return [log for log in found if log not in seen[-1:]]


def test_a_node_that_leaves_out_a_call_is_noticed(front: Front) -> None:
    lied_to = front.open("lied-to", rpc=Forgetful(front.evm.rpc))  # type: ignore[arg-type]
    refused(Reason.CHAIN_UNREACHABLE, lied_to.read)
    assert front.records(lied_to) == []
    lied_to.close()
    logs = Logs(
        front.evm.rpc, front.evm.endpoint.address, front.evm.registry.address,
        front.evm.escrow.address,
    )  # fmt: skip
    blocks, place = logs.read(0, logs.head(), Place(-1))
    assert any(isinstance(told, Called) for block in blocks for told in block.told)
    where = "0x" + front.evm.escrow.address.hex()
    kept = front.evm.anvil.ask("eth_getStorageAt", where, "0x" + HISTORY_SLOT.hex(), "latest")
    assert "0x" + place.history.hex() == kept


def test_what_the_escrow_cannot_do_is_refused_before_any_lock(front: Front) -> None:
    """By the relay, whose client says of which kind the ledger is."""
    pvp = front.pvp
    order = pvp.instruction("unable")
    given = replace(order, window="w-1", deadline=order.quote.expires + 600)
    body: Json = {"deadline": given.deadline, "window": "w-1"}
    pvp.hub.call("settlement", "window.open", encode(body))
    error = refused(Reason.LEDGER_UNABLE, lambda: pvp.instruct(given))
    assert "without a window" in error.hint
    assert not pvp.turn()


def test_the_lines_of_a_bill_are_posted_on_the_chain(front: Front) -> None:
    """Paid there; the difference stands in the node's lines, and all three books agree."""
    pvp = front.pvp
    pvp.hub.call(
        "settlement", "rates.policy", encode(policy(name="hkd-cny", bill="HKD", payable="CNY"))
    )
    for name, lines, due in (
        ("short", LINES, [("principal", 1 - PAID), ("rounding", -1)]),
        ("over", OVER, [("principal", -1 - PAID), ("rounding_back", 1)]),
    ):
        order, soon = paying(name, lines), pvp.world.clock.now + 600
        offer = replace(order.quote, expires=soon, policy="hkd-cny")
        order = replace(order, quote=offer, deadline=soon)
        pvp.instruct(order)
        pvp.rest()
        assert pvp.view(order).status is SettlementStatus.SETTLED
        front.node.read()
        found = [json.loads(raw) for key, raw in front.records() if key[:14] == b"line/hospital/"]
        of = [one for one in found if one["reference"] == order.settlement.hex()]
        assert [(one["entry"], one["amount"]) for one in of if one["amount"]] == due
    proven = front.verify(front.books())
    assert proven.findings == ()
    hub, hk = Window(pvp.hub, "settlement"), Window(pvp.hk, "escrow")
    assert reconcile(Side(HUB, hub), [Side(HK, hk), Side(SZ, proven)]).breaks == ()


def test_a_node_that_is_told_of_the_escrow_late_reads_the_chain_again(front: Front) -> None:
    before = front.open("late", money=False)
    before.read()
    refused(Reason.PORT_NOT_FOUND, lambda: before.call("escrow", "deposit", b"{}"))
    refused(Reason.CONFIG_INVALID, lambda: before.prove_steps(1))
    late = front.open("late", store=before.store)
    front.evm.anvil.mine()
    error = refused(Reason.CHAIN_UNREACHABLE, late.read)
    assert "lianqiao evm reread" in error.hint
    late.close()


# --- what is asked through the node


def test_money_comes_and_goes_through_the_node(front: Front) -> None:
    before, tokens = front.line("hospital")[0], front.evm.tokens(front.evm.me)
    name = os.urandom(32)
    first = front.move("deposit", "hospital", 500, name)
    assert front.line("hospital")[0] == before + 500
    assert front.move("deposit", "hospital", 500, name) == first
    assert front.evm.tokens(front.evm.me) == tokens - 500 * UNIT
    error = refused(Reason.REQUEST_ID_REUSED, lambda: front.move("deposit", "hospital", 501, name))
    assert "reference" in error.detail
    # what was posted and not answered, and is asked again: by the chain's own word, too
    front.evm.escrow.deposit("hospital", 500, name)
    refused(Reason.REQUEST_ID_REUSED, lambda: front.evm.escrow.deposit("hospital", 501, name))
    out = os.urandom(32)
    front.withdraw("maker-cny", 200, out)
    front.withdraw("maker-cny", 200, out)
    refused(Reason.REQUEST_ID_REUSED, lambda: front.withdraw("maker-cny", 201, out))
    assert front.evm.tokens(front.evm.me) == tokens - 300 * UNIT
    front.evm.check_books()
    assert front.verify(front.books()).findings == ()


def test_what_the_contract_refuses_is_refused_before_it_costs(front: Front) -> None:
    nonce = front.sender._mined(front.evm.rpc)
    refused(Reason.ACCOUNT_NOT_FOUND, lambda: front.move("deposit", "nobody", 1, os.urandom(32)))
    refused(Reason.FUNDS_MISSING, lambda: front.withdraw("maker-cny", 10**14, os.urandom(32)))
    refused(Reason.FUNDS_MISSING, lambda: front.move("assign", "hospital", 1, os.urandom(32)))
    name = os.urandom(32)
    refused(Reason.UNKNOWN_SIGNER, lambda: front.withdraw("maker-cny", 1, name, STRANGER_K))
    refused(Reason.CHAIN_ID_MISMATCH, lambda: front.withdraw("maker-cny", 1, name, ledger=HK))
    error = refused(Reason.NOT_PERMITTED, lambda: front.call("currency.open", {"currency": "USD"}))
    assert "lianqiao evm currency" in error.hint
    assert front.call("currency.open", {"currency": "CNY"})
    refused(Reason.NOT_FOUND, lambda: front.call("no such", {}))
    assert front.sender._mined(front.evm.rpc) == nonce


def test_accounts_are_opened_and_changed_through_the_node(front: Front, tmp_path: Path) -> None:
    body = terms("new", "CNY", "sz-new", MAKER_K)
    front.call("account.open", body)
    assert front.evm.escrow.holder("new") == front.sender.address
    front.call("account.open", body)  # the same again
    later = {**terms("new", "CNY", "sz-new", MAKER_K, 2), "holder": "0x" + "22" * 20}
    front.call("account.open", later)
    assert front.evm.escrow.holder("new") == b"\x22" * 20
    third = terms("new", "CNY", "sz-new", MAKER_K, 3)
    front.call("account.open", third)
    assert front.evm.escrow.holder("new") == b"\x22" * 20, "who holds it stays"
    error = refused(Reason.NOT_PERMITTED, lambda: front.move("deposit", "new", 1, os.urandom(32)))
    assert "holder" in error.hint
    refused(Reason.MALFORMED, lambda: front.call("account.open", {**third, "holder": "0x11"}))
    refused(Reason.CONFLICT, lambda: front.call("account.open", {**third, "version": 7}))
    other = Front(front.pvp, tmp_path / "second", key=1)
    error = refused(
        Reason.NOT_PERMITTED, lambda: other.call("account.open", terms("x", "CNY", "y", MAKER_K))
    )
    assert "owner" in error.hint
    poor = {**terms("poor", "CNY", "y", MAKER_K), "holder": "0x" + other.sender.address.hex()}
    front.call("account.open", poor)
    error = refused(Reason.FUNDS_MISSING, lambda: other.move("deposit", "poor", 5, os.urandom(32)))
    assert "must hold as much of the token" in error.hint
    other.node._desk._sender = None  # type: ignore[union-attr]
    refused(Reason.CONFIG_INVALID, lambda: other.move("deposit", "poor", 5, os.urandom(32)))
    other.node.close()


def test_a_token_that_lost_its_cover_is_no_fault_of_the_books(front: Front) -> None:
    front.evm.transact("Token", "burn", "0x" + front.evm.escrow.address.hex(), UNIT)
    order = front.pvp.instruction("uncovered", bill=BILL)
    front.pvp.instruct(order)
    front.pvp.rest()
    view = front.pvp.view(order)
    assert view.decision is not None
    assert view.decision.reason is Reason.FUNDS_MISSING
    front.evm.transact("Token", "mint", "0x" + front.evm.escrow.address.hex(), UNIT)
    assert front.verify(front.books()).findings == ()
    assert front.line("maker-cny")[1] == 0


def test_what_the_contract_here_would_not_do_is_told(front: Front) -> None:
    """The chain takes a name that no other ledger would: it is kept apart, and told."""
    odd = Front(front.pvp, front.path / "odd")
    named = list(terms_argument(terms("odd", "CNY", "sz-odd", MAKER_K), front.evm.me))
    named[0] = "nostro:CNY"
    front.evm.transact("Escrow", "openAccount", tuple(named))
    odd.node.read()
    with odd.node.store.reading() as tx:
        (kept,) = HostState(odd.node.channel, tx, "evm", 0).scan(b"differs/")
    assert b"refused here" in kept[1]
    said, follows = odd.verify(odd.books()).findings
    assert said.startswith(f"step {len(odd.books().records)}: done on the chain")
    assert follows.startswith("balance of nostro:CNY: the chain says 0")
    odd.node.close()
