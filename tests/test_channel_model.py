"""The verbs against a model made of dicts: any order, replays and restarts included.

The model knows three things of a packet: when it times out, whether the receiver took it, expired
it or neither, and whether the sender has closed it. What the nodes answer must follow from that.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.chain import Item, Outcome, Step, Submission
from relay.errors import Reason
from relay.fsck import fsck
from relay.packet import Packet
from relay.query import get_packet, get_record, list_records
from relay.store import Direction, PacketState
from tests.echo import ECHO
from tests.world import TYPES, World


@dataclass
class Model:
    """One packet as it ought to be."""

    packet: Packet
    at_receiver: str = ""
    """"" | taken | expired."""
    answer: bytes = b""
    closed: str = ""
    """"" | acknowledged | timed_out."""


class Verbs(RuleBasedStateMachine):
    """zj sends to hub; every verb may be tried on every packet at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.world = World(self.path)
        self.world.node("zj", "ledger", [ECHO])
        self.world.node("hub", "relay", [ECHO])
        self.client, _ = self.world.connect("zj", "hub")
        self.models: list[Model] = []

    def teardown(self) -> None:
        for node in self.world.nodes.values():
            assert fsck(node.store, TYPES, node.origin)[1] == []
        self.world.close()
        shutil.rmtree(self.path)

    def _pick(self, draw: Any) -> Model:
        model: Model = draw(st.sampled_from(self.models))
        return model

    @rule(timeout=st.sampled_from([5, 60, 3600]), value=st.sampled_from([b"a", b"fail", b"crash"]))
    def send(self, timeout: int, value: bytes) -> None:
        body = f"{self.client}\n{self.world.clock() + timeout}\n".encode() + value
        sequence = int(self.world.nodes["zj"].call("echo", "send", body))
        assert sequence == len(self.models) + 1
        store = self.world.nodes["zj"].store
        packet = get_packet(store, self.client, sequence, Direction.OUT).packet
        self.models.append(Model(packet))

    @rule(seconds=st.sampled_from([1, 4, 30, 1000]))
    def wait(self, seconds: int) -> None:
        self.world.clock.advance(seconds)
        for node in self.world.nodes.values():
            node.tick()

    @rule(name=st.sampled_from(["zj", "hub"]))
    def restart(self, name: str) -> None:
        self.world.nodes[name].close()
        self.world.node(name, self.world.nodes[name].role, [ECHO])

    def _deliver(self, to: str, item: Item) -> Submission:
        of = "hub" if to == "zj" else "zj"
        return self.world.deliver(of, to, [item])[0]

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        model = self._pick(data.draw)
        answer = self._deliver("hub", Item(Step.RECEIVE, model.packet))
        if model.at_receiver == "taken":
            assert answer.outcome is Outcome.NOOP
        elif model.at_receiver == "expired":
            assert answer.reason == Reason.TIMED_OUT
        elif self.world.clock() >= model.packet.timeout_timestamp:
            assert answer.reason == Reason.TIMEOUT_ELAPSED
        else:
            assert answer.outcome is Outcome.DONE
            model.at_receiver = "taken"
            store = self.world.nodes["hub"].store
            view = get_packet(
                store, model.packet.destination_client, model.packet.sequence, Direction.IN
            )
            (model.answer,) = view.acknowledgements

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        model = self._pick(data.draw)
        answer = self._deliver("hub", Item(Step.EXPIRE, model.packet))
        if model.at_receiver == "taken":
            assert answer.reason == Reason.RECEIVED
        elif model.at_receiver == "expired":
            assert answer.outcome is Outcome.NOOP
        elif self.world.clock() < model.packet.timeout_timestamp:
            assert answer.reason == Reason.TIMEOUT_NOT_REACHED
        else:
            assert answer.outcome is Outcome.DONE
            model.at_receiver = "expired"

    @precondition(lambda self: any(m.at_receiver == "taken" for m in self.models))
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from([m for m in self.models if m.at_receiver == "taken"]))
        answer = self._deliver("zj", Item(Step.ACKNOWLEDGE, model.packet, (model.answer,)))
        if model.closed:
            assert answer.outcome is Outcome.NOOP
        else:
            assert answer.outcome is Outcome.DONE
            model.closed = "acknowledged"

    @precondition(lambda self: any(m.at_receiver == "expired" for m in self.models))
    @rule(data=st.data())
    def timeout(self, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from([m for m in self.models if m.at_receiver == "expired"]))
        answer = self._deliver("zj", Item(Step.TIMEOUT, model.packet))
        if model.closed:
            assert answer.outcome is Outcome.NOOP
        else:
            assert answer.outcome is Outcome.DONE
            model.closed = "timed_out"

    @invariant()
    def the_sender_knows_what_was_proven_and_no_more(self) -> None:
        store = self.world.nodes["zj"].store
        states = {"": PacketState.SENT, "acknowledged": PacketState.ACKNOWLEDGED}
        for model in self.models:
            view = get_packet(store, self.client, model.packet.sequence, Direction.OUT)
            assert view.state is states.get(model.closed, PacketState.TIMED_OUT)

    @invariant()
    def the_contract_ran_once_for_each_packet_taken(self) -> None:
        store = self.world.nodes["hub"].store
        taken = [
            m for m in self.models if m.at_receiver == "taken" and m.answer.startswith(b"echo:")
        ]
        assert len(list_records(store, "echo", b"received/")) == len(taken)
        for model in taken:
            key = f"received/{model.packet.destination_client}/{model.packet.sequence}".encode()
            assert get_record(store, "echo", key) == model.packet.payloads[0].value


TestVerbs = Verbs.TestCase
TestVerbs.settings = settings(
    max_examples=6,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
