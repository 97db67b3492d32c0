"""The node before an EVM ledger: what it posts, what it makes of the chain, what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.evm import calls
from adapters.evm.engine.logs import Logs, Place
from adapters.evm.engine.node import LedgerNode
from adapters.evm.practice.chain import KEYS
from adapters.evm.rpc import Rpc
from adapters.evm.sender import Sender
from relay.canonical import encode
from relay.chain import Step
from relay.contracts.base import key
from relay.contracts.payloads import Action, Attestation
from relay.contracts.recognition import CONTRACT as RECOGNITION
from relay.contracts.registry import CONTRACT as REGISTRY
from relay.contracts.registry import RequestStatus, find_request
from relay.errors import LianqiaoError, Reason
from relay.host import HostState
from relay.light.types import ClientState
from relay.node import create
from relay.query import list_packets
from relay.relayer import Relayer
from relay.signing import CheckpointSigner, HighWaterMark
from relay.views import PacketState
from tests.adapters.evm.ledger import EvmLedger, install
from tests.adapters.evm.test_endpoint import relayer_of, rest
from tests.contracts.world import HOSPITAL, RECORD, attestation, digest, request
from tests.databases import everyday_url, new_store, open_store
from tests.echo import ECHO
from tests.refusals import refused
from tests.world import keys_of, set_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NAME = "sz-money"


class Before:
    """A node before the ledger, with an account of its own."""

    def __init__(self, ledger: EvmLedger, path: Path, account: int = 1) -> None:
        self.ledger = ledger
        (path / "account.hex").write_text(KEYS[account])
        self.path, self.sender = path, Sender(path / "account.hex", 10**12)
        self.node = self.open(fresh=True)

    def open(self, *, fresh: bool, name: str = "node", rpc: Rpc | None = None) -> LedgerNode:
        """The node, on a new database or the one that is there."""
        keys = keys_of(NAME, 1)
        url = everyday_url(self.path / f"{name}.db")
        store = new_store(url) if fresh else open_store(url)
        if fresh:
            create(store, NAME, "ledger", set_of(keys, NAME), epoch=0, now=self.now())
        mark = HighWaterMark(self.path / f"{name}.mark")
        return LedgerNode(
            rpc=rpc or self.ledger.rpc,
            endpoint=self.ledger.endpoint.address,
            registry=self.ledger.registry.address,
            relay="hub/0",
            sender=self.sender,
            from_block=1,
            chain_id=NAME,
            role="ledger",
            store=store,
            signer=CheckpointSigner([(f"{NAME}-0", keys[0])], mark),
            client_types={},
            contracts={"registry": REGISTRY},
            clock=self.ledger.world.clock,
        )

    def now(self) -> int:
        return self.ledger.world.clock.now

    def call(self, method: str, **body: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.node.call("registry", method, encode(body)))
        return found

    def admit(self) -> None:
        me = "0x" + self.sender.address.hex()
        self.ledger.transact("Registry", "registerInstitution", me, True)

    def register(self) -> None:
        keys = [HOSPITAL.dated(end=self.now() + 10**8)]
        body = {"institution": "zj-h1", "version": 1, "keys": keys}
        self.call("institution.register", **body)

    def signed(self, name: str = "record", **changes: Any) -> Attestation:
        return attestation(ledger=NAME, commitment=digest(name), issued=self.now() - 60, **changes)

    def attest(self, *given: Attestation, relays: tuple[str, ...] = ("hub",)) -> dict[str, Any]:
        listed = [one.to_json() for one in given]
        return self.call("attest", attestations=listed, relays=list(relays))

    def records(self, node: LedgerNode | None = None) -> list[tuple[bytes, bytes]]:
        """All that the contract knows."""
        node = node or self.node
        with node.store.reading() as tx:
            return list(HostState(node.channel, tx, "registry", self.now()).scan(b""))

    def get(self, *parts: str | bytes) -> bytes | None:
        with self.node.store.reading() as tx:
            return HostState(self.node.channel, tx, "registry", self.now()).get(key(*parts))

    def nonce(self) -> int:
        return self.sender._mined(self.ledger.rpc)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EvmLedger]:
    install(monkeypatch)
    made = EvmLedger(tmp_path, [ECHO, RECOGNITION])
    yield made
    made.close()


@pytest.fixture
def before(ledger: EvmLedger, tmp_path: Path) -> Iterator[Before]:
    (tmp_path / "front").mkdir()
    made = Before(ledger, tmp_path / "front")
    made.admit()
    yield made
    made.node.close()


def test_what_is_attested_crosses_and_the_answer_is_kept(before: Before) -> None:
    before.register()
    one, two = before.signed("one"), before.signed("two")
    told = before.attest(one, two)["attested"]
    assert [t["new"] for t in told] == [True, True]
    assert [t["packets"][0]["sequence"] for t in told] == [1, 2]
    nonce = before.nonce()
    assert [t["packets"] for t in before.attest(one, two)["attested"]] == [[], []]
    assert before.nonce() == nonce  # nothing is posted for what is there
    rest(before.ledger, relayer_of(before.ledger))
    before.node.read()
    for attested in (one, two):
        kept = before.get("announced", attested.commitment, "new", "hub")
        assert kept is not None
        assert json.loads(kept)["accepted"] is True
    assert {v.state for _, v in list_packets(before.node.store)} == {PacketState.ACKNOWLEDGED}


def test_what_is_not_announced_is_on_the_chain_all_the_same(before: Before) -> None:
    before.register()
    before.attest(*(before.signed(f"r{i}") for i in range(60)), relays=())
    assert list_packets(before.node.store) == []
    other = before.open(fresh=True, name="other")
    other.read()
    assert before.records(other) == before.records()
    assert len([k for k, _ in before.records() if k.startswith(b"attestation/")]) == 60
    other.close()


def test_a_refusal_costs_nothing_and_writes_nothing(before: Before) -> None:
    before.register()
    nonce, records = before.nonce(), before.records()
    stranger = before.signed(institution="zj-h9")
    refused(Reason.NOT_PERMITTED, lambda: before.attest(stranger))
    elsewhere = attestation(ledger="zj-medical", issued=before.now() - 60)
    refused(Reason.CHAIN_ID_MISMATCH, lambda: before.attest(elsewhere))
    refused(Reason.CLIENT_NOT_FOUND, lambda: before.attest(before.signed(), relays=("other",)))
    refused(Reason.NOT_FOUND, lambda: before.call("no such call"))
    refused(Reason.PORT_NOT_FOUND, lambda: before.node.call("escrow", "open", b"{}"))
    assert (before.nonce(), before.records()) == (nonce, records)


def test_an_account_that_is_not_admitted_posts_nothing(ledger: EvmLedger, tmp_path: Path) -> None:
    before = Before(ledger, tmp_path, account=2)
    refused(Reason.NOT_PERMITTED, before.register)
    assert before.records() == []
    before.node._sender = None
    refused(Reason.CONFIG_INVALID, before.register)
    before.node.close()


def test_nobody_is_joined_to_the_node(before: Before) -> None:
    state = ClientState("checkpoint", "hub/0")
    refused(Reason.NOT_PERMITTED, lambda: before.node.create_client(state, b""))
    refused(Reason.NOT_PERMITTED, lambda: before.node.deliver([]))


def test_what_others_posted_is_here_too(before: Before, tmp_path: Path) -> None:
    """Two institutions, a node each: one ledger."""
    (tmp_path / "second").mkdir()
    second = Before(before.ledger, tmp_path / "second", account=2)
    second.admit()
    before.register()
    second.node.read()
    second.attest(second.signed())
    before.node.read()
    assert before.records() == second.records()
    retracted = before.signed(action=Action.RETRACT, items=())
    retracted = HOSPITAL.sign(replace(retracted, items=()))
    before.call("retract", attestations=[retracted.to_json()], relays=["hub"])
    second.node.read()
    assert second.get("retraction", RECORD) is not None
    refused(
        Reason.RECORD_REVISED,
        lambda: second.call(
            "amend",
            attestations=[second.signed("later", action=Action.AMEND, previous=RECORD).to_json()],
            relays=[],
        ),
    )
    second.node.close()


def test_nonsense_on_the_chain_stops_nobody(before: Before) -> None:
    """Whoever is admitted can post what he likes: it is a packet, and no record."""
    until = before.now() + 600
    forged = before.signed(by=HOSPITAL).encode()[:-1] + b" }"
    values = [b"no json", b'{"type":"attestation"}', forged, b'{"type":"outcome"}']
    before.ledger.transact("Registry", "post", values, "recognition-1", until, False)
    before.ledger.transact("Registry", "record", [b"", b"{}", b'{"method":"attest"}', b"\xff" * 99])
    before.node.read()
    assert before.records() == []
    assert [v.packet.sequence for _, v in list_packets(before.node.store)] == [1, 2, 3, 4]
    before.register()
    before.attest(before.signed())
    rest(before.ledger, relayer_of(before.ledger))
    before.node.read()
    assert before.get("announced", RECORD, "new", "hub") is not None


def test_what_timed_out_is_sent_again_and_a_request_is_reported(before: Before) -> None:
    before.register()
    before.attest(before.signed())
    asked = request(relay="hub", origin=NAME, institution="zj-h1", time=before.now())
    before.call("request", request=asked.to_json(), timeout_seconds=60)
    before.ledger.world.clock.advance(3 * 3600)
    rest(before.ledger, relayer_of(before.ledger))
    before.node.read()
    states = {v.packet.sequence: v.state for _, v in list_packets(before.node.store)}
    assert states == {
        1: PacketState.TIMED_OUT, 2: PacketState.TIMED_OUT, 3: PacketState.ACKNOWLEDGED,
    }  # fmt: skip
    with before.node.store.reading() as tx:
        state = HostState(before.node.channel, tx, "registry", before.now())
        assert find_request(state, asked.request).status is RequestStatus.TIMED_OUT
    again = before.call("request", request=asked.to_json(), timeout_seconds=600)
    assert (again["status"], again["sequence"]) == ("SENT", 4)
    rest(before.ledger, relayer_of(before.ledger))
    before.node.read()
    with before.node.store.reading() as tx:
        state = HostState(before.node.channel, tx, "registry", before.now())
        decided = find_request(state, asked.request)
    assert decided.status is RequestStatus.DECIDED
    assert decided.decision is not None  # the hub has no rules: refused, and told so


def test_a_client_that_judges_no_more_posts_nothing(before: Before) -> None:
    before.register()
    before.ledger.world.clock.advance(91 * 86_400)
    before.ledger.anvil.mine()
    refused(Reason.CLIENT_EXPIRED, lambda: before.attest(before.signed()))
    assert before.get("attestation", RECORD) is None


def test_the_tables_are_made_again_from_the_chain(before: Before) -> None:
    before.register()
    before.attest(*(before.signed(f"r{i}") for i in range(5)))
    rest(before.ledger, relayer_of(before.ledger))
    entry = {"commitment": digest("a").hex(), "institution": "zj-h1", "purpose": "TREAT"}
    before.call("access", entries=[{**entry, "kind": "found"}])
    before.node.read()
    again = before.open(fresh=True, name="again")
    again.read()
    assert before.records(again) == before.records()
    assert [v for _, v in list_packets(again.store)] == [
        replace(v, height=w.height)
        for (_, v), (_, w) in zip(
            list_packets(before.node.store), list_packets(again.store), strict=True
        )
    ]
    again.close()
    before.node.close()
    before.node = before.open(fresh=False)
    before.node.read()
    assert before.get("attestation", digest("r0")) is not None
    before.attest(before.signed("after the restart"))


# --- a node of the chain that leaves something out


class Lying(Rpc):
    """A node that does not show the last log of what it is asked for, while it is told to."""

    def __init__(self, ledger: EvmLedger) -> None:
        super().__init__([ledger.anvil.address, ledger.anvil.address])
        self.lies = True

    def ask(self, method: str, params: Any) -> Any:
        """See Rpc."""
        found = super().ask(method, params)
        return found[:-1] if self.lies and method == "eth_getLogs" else found


def test_a_step_that_is_left_out_is_noticed(before: Before) -> None:
    before.register()
    before.attest(before.signed("one"))
    before.attest(before.signed("two"))
    rpc = Lying(before.ledger)
    other = before.open(fresh=True, name="lied-to", rpc=rpc)
    refused(Reason.CHAIN_UNREACHABLE, other.read)
    assert before.records(other) == []
    rpc.lies = False
    other.read()
    assert before.records(other) == before.records()
    other.close()


def test_a_step_cannot_be_moved_out_of_what_is_read(before: Before) -> None:
    """Counted, and in no block: so it would never come into the tables."""

    class Moving(Lying):
        def ask(self, method: str, params: Any) -> Any:
            found = Rpc.ask(self, method, params)
            if method == "eth_getLogs" and self.lies:
                found[-1] = {**found[-1], "blockNumber": hex(10**6)}
            return found

    before.register()
    before.attest(before.signed("one"))
    other = before.open(fresh=True, name="lied-to", rpc=Moving(before.ledger))
    assert "not asked for" in refused(Reason.CHAIN_UNREACHABLE, other.read).detail
    assert before.records(other) == []
    other.close()


def test_a_step_in_the_middle_cannot_be_left_out(before: Before) -> None:
    before.register()
    before.attest(before.signed("one"), before.signed("two"))
    logs = Logs(before.ledger.rpc, before.ledger.endpoint.address, before.ledger.registry.address)
    with pytest.raises(LianqiaoError) as err:
        logs.read(0, logs.head(), Place(-1, 1))
    assert err.value.reason is Reason.CHAIN_UNREACHABLE
    blocks, _ = logs.read(0, logs.head(), Place(-1))
    steps = [t for b in blocks for t in b.told if getattr(t, "step", None) is Step.SEND]
    assert len(steps) == 2


def test_the_lane_notices_it_too(before: Before) -> None:
    before.register()
    before.attest(before.signed("one"))
    chain: Any = before.ledger.chain
    honest, chain._steps._rpc = chain._steps._rpc, Lying(before.ledger)
    refused(Reason.CHAIN_UNREACHABLE, lambda: chain.packets("checkpoint-0", 0, 10))
    chain._steps._rpc = honest
    assert len(chain.packets("checkpoint-0", 0, 10)) == 1
    assert isinstance(relayer_of(before.ledger), Relayer)


def test_a_large_batch_goes_out_in_several_calls(before: Before) -> None:
    before.register()
    count = calls.MAX_ITEMS + 5
    told = before.attest(*(before.signed(f"r{i}") for i in range(count)))["attested"]
    assert [t["packets"][0]["sequence"] for t in told] == list(range(1, count + 1))
    listed = [v.packet for _, v in list_packets(before.node.store)]
    shown = {Attestation.decode(p.payloads[0].value).commitment: p.sequence for p in listed}
    for one in told:
        assert shown[bytes.fromhex(one["commitment"])] == one["packets"][0]["sequence"]
