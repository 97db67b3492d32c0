"""The settlement story with a money ledger on an EVM chain, and the cheats that are tried on it.

What is tried goes through the chain's adapter, with a key that anybody has: whoever delivers to an
endpoint needs no permission, and gets nothing that was not proven.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from relay.chain import Chain, Delivery, Item, Step
from relay.contracts.payloads import DecisionNotice, Ruling, decision_key
from relay.demo.clearing.story import HK, HUB, Cast, closed
from relay.demo.evm import CHAIN, EvmStage
from relay.demo.stage import Stage
from relay.errors import NotFound, Reason
from relay.keys import SigningKey
from relay.light.types import Claim
from relay.money_views import AccountView, Shown
from relay.packet import Packet, commitment_path
from relay.paths import record_path
from relay.registry import connect_chain
from relay.views import Direction

STILL_SECONDS = 3.0


class MoneyStage(EvmStage):
    """An EvmStage whose Hong Kong dollars lie on the chain."""

    on_chain = (HK,)
    currencies = ("HKD",)

    def key(self, name: str) -> SigningKey:
        """See Stage: of the one kind that an EVM verifies."""
        if name not in self.keys:
            self.keys[name] = SigningKey.generate("secp256k1")
            self.keys[name].save(self.directory / "keys" / f"{name}.pem")
        return self.keys[name]

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """A context in which the chain's node answers nothing."""
        running = self.processes[CHAIN].running
        os.kill(running.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(running.pid, signal.SIGCONT)


Plan = tuple[str, str, Callable[[], str]]
"""(text, what it must be answered, how it is tried)."""


def on_chain(stage: Stage) -> MoneyStage | None:
    """The stage, where one of its ledgers lies on a chain."""
    return stage if isinstance(stage, MoneyStage) else None


def cheats_on_chain(cast: Cast, good: Shown) -> list[Plan]:
    """What is tried on the endpoint of the chain; nothing where there is none."""
    stage = on_chain(cast.stage)
    if stage is None:
        return []
    endpoint = _Endpoint(cast, stage, good)
    return [
        ("lock_on_chain", "INVALID_PROOF", endpoint.forged_lock),
        ("decision_on_chain", "INVALID_PROOF", endpoint.forged_decision),
        ("again_on_chain", "noop", endpoint.released_again),
    ]


class _Endpoint:
    """The chain's endpoint, and what the relay sent to it for one settlement."""

    def __init__(self, cast: Cast, stage: MoneyStage, good: Shown) -> None:
        self._cast, self._stage = cast, stage
        settings = {name: value for name, value in stage.foreign.items() if name != "key"}
        self._chain: Chain = connect_chain("evm", settings)
        (sent,) = [p for p in good.packets if p.ledger == HK]
        hub = stage.node(HUB)
        self._lock = hub.packet(sent.client_id, sent.sequence, Direction.OUT).packet
        self._decision = self._told(sent.client_id, good.settlement)

    def _told(self, client_id: str, settlement: bytes) -> Packet:
        for view in self._stage.node(HUB).packets(client_id=client_id):
            value = view.packet.payloads[0].value
            if b'"decision_notice"' in value and settlement.hex().encode() in value:
                return view.packet
        raise NotFound(Reason.PACKET_NOT_FOUND, "no decision was sent to the chain")

    def _deliver(self, item: Item, genuine: Packet) -> str:
        """Hands an item to the endpoint, with the proof of a packet that the relay did send."""
        client_id = genuine.destination_client
        height = self._chain.client(client_id).latest_height
        path = commitment_path(genuine.source_client, genuine.sequence)
        proof = self._stage.node(HUB).prove([path], height)
        (result,) = self._chain.submit([Delivery(client_id, (), height, proof, (item,))])
        return result.items[0].reason or result.items[0].outcome.value

    def _forge(self, genuine: Packet, value: bytes, entries: tuple[Claim, ...] = ()) -> str:
        """A packet that the relay never sent."""
        payload = replace(genuine.payloads[0], value=value)
        forged = replace(genuine, sequence=genuine.sequence + 1_000_000, payloads=(payload,))
        forged = replace(forged, timeout_timestamp=int(time.time()) + 600)
        return self._deliver(Item(Step.RECEIVE, forged, (), entries), genuine)

    def forged_lock(self) -> str:
        """The lock that was settled, asked for once more under a sequence of its own."""
        return self._forge(self._lock, self._lock.payloads[0].value)

    def forged_decision(self) -> str:
        """What was committed is told as aborted, with a record that the relay never wrote."""
        notice = DecisionNotice.decode(self._decision.payloads[0].value)
        turned = replace(notice, decision=replace(notice.decision, ruling=Ruling.ABORT))
        path = record_path("settlement", decision_key(turned.decision.settlement))
        entry = Claim(path, turned.decision.encode())
        return self._forge(self._decision, turned.encode(), (entry,))

    def released_again(self) -> str:
        """The decision that released the money, once more; nothing may move."""
        before = self._accounts()
        answered = self._deliver(Item(Step.RECEIVE, self._decision), self._decision)
        return answered if self._accounts() == before else "money moved"

    def _accounts(self) -> list[AccountView]:
        """As they stand on the chain now: the node reads on to its newest block to prove them, and
        may else be some blocks behind it."""
        node = self._stage.node(HK)
        node.prove_book_steps(self._chain.latest_height())
        return list(node.accounts())


def stood_still(cast: Cast, stage: MoneyStage, step: str) -> str:
    """The chain answers nothing for a while when a settlement is at a step."""
    if step == "before":
        with stage.standing_still():
            begun = cast.begin()
            time.sleep(STILL_SECONDS)
    else:
        begun = cast.begin()
        cast.wait(
            begun.settlement,
            lambda s: bool(s.view.answers) if step == "locked" else s.view.decision is not None,
        )
        with stage.standing_still():
            time.sleep(STILL_SECONDS)
    return cast.wait(begun.settlement, closed).view.status.value
