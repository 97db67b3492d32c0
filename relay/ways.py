"""Every way into a node, each as an action (relay.actions), whatever engine runs them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from relay import actions, recovery
from relay.chain import Delivery, DeliveryResult
from relay.channel import Channel
from relay.contract import CONTRACT_FAILURES, HeadNeed
from relay.errors import Denied, LianqiaoError, Malformed, Reason
from relay.host import HostState
from relay.light.types import ClientState, ValidatorSet
from relay.packet import Packet
from relay.powers import Power
from relay.store import Store, Transaction


class Ways(ABC):
    """What can be asked of a node. Engines supply `run`."""

    store: Store
    channel: Channel

    @abstractmethod
    def run(self, action: actions.Action) -> Any:
        """Applies an action and returns its answer once it is committed; raises its refusal."""

    @abstractmethod
    def now(self) -> int:
        """The time that an action would have at present, seconds; never below that of the head."""

    def deliver(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
        """Applies deliveries of a counterparty in one transaction. Idempotent.

        Raises NotFound(CLIENT_NOT_FOUND); refusals of headers and items are in the results.
        """
        result: list[DeliveryResult] = self.run(actions.Deliver(tuple(deliveries)))
        return result

    def call(self, port: str, method: str, body: bytes, request_id: str = "") -> bytes:
        """One action of this node's operator or of an institution it serves (Contract.call).

        With a `request_id` the same call again gives the stored answer; another body under it is
        Refused(REQUEST_ID_REUSED).
        """
        if len(body) > actions.MAX_BODY_BYTES:
            raise Malformed("the body is too long", reason=Reason.LIMIT_EXCEEDED)
        actions.contract_on(self.channel, port)
        answer: bytes = self.run(actions.Call(port, method, body, request_id))
        return answer

    def call_each(
        self, port: str, method: str, bodies: Sequence[bytes]
    ) -> list[bytes | LianqiaoError]:
        """The same action for many bodies in one transaction; each stands or fails by itself.

        An answer for each body, or the error that it was refused with.
        """
        actions.contract_on(self.channel, port)
        result: list[bytes | LianqiaoError] = self.run(
            actions.CallEach(port, method, tuple(bodies))
        )
        return result

    def create_client(
        self,
        state: ClientState,
        anchor_header: bytes,
        request_id: str = "",
        counterparty: str = "",
    ) -> str:
        """Pins a chain: its id, algorithm, threshold, witnesses and first header; the client id.

        With a `counterparty` that is named in the same decision; else by register_counterparty.
        """
        asked: actions.Action = actions.CreateClient(state, anchor_header, request_id)
        if counterparty:
            asked = actions.CreateBound(state, anchor_header, counterparty, request_id)
        client_id: str = self.run(asked)
        return client_id

    def register_counterparty(self, client_id: str, counterparty_client_id: str) -> None:
        """Names the client on the other side, once. Raises COUNTERPARTY_EXISTS."""
        self.run(actions.RegisterCounterparty(client_id, counterparty_client_id))

    def submit_misbehaviour(self, client_id: str, evidence: bytes) -> None:
        """Freezes a client on verified evidence. Raises NOT_MISBEHAVIOUR."""
        self.run(actions.SubmitMisbehaviour(client_id, evidence))

    def propose_recovery(
        self,
        client_id: str,
        substitute: ClientState,
        anchor_header: bytes,
        delay: int = recovery.DEFAULT_DELAY,
    ) -> int:
        """Proposes a new state and anchor for a client that can judge no more; when it is due.

        Raises what relay.recovery.propose raises.
        """
        asked = actions.ProposeRecovery(client_id, substitute, anchor_header, delay)
        due: int = self.run(asked)
        return due

    def cancel_recovery(self, client_id: str) -> None:
        """Withdraws what was proposed; nothing where nothing is pending."""
        self.run(actions.CancelRecovery(client_id))

    def complete_recovery(self, client_id: str) -> None:
        """Completes what was proposed, as `tick` does by itself once it is due.

        Raises what relay.recovery.complete raises.
        """
        self.run(actions.CompleteRecovery(client_id))

    def skip_sequences(self, client_id: str, next_sequence: int) -> None:
        """Passes over sequences that were used and forgotten. Raises SEQUENCE_USED."""
        self.run(actions.SkipSequences(client_id, next_sequence))

    def announce_set(self, next_set: ValidatorSet) -> None:
        """Announces the validator set that signs every size after the batch this lands in."""
        self.run(actions.AnnounceSet(next_set))

    def change_powers(self, powers: Sequence[Power]) -> None:
        """Changes who makes blocks. Raises Denied(NOT_PERMITTED) where nobody makes any."""
        raise Denied(
            Reason.NOT_PERMITTED,
            "this node is one institution's own: its validators are in its configuration",
            hint="a chain of several is made by lianqiao init --engine cometbft",
        )

    def operators(self) -> tuple[ValidatorSet, int]:
        """(who decides, how many of them must agree). Raises Denied(NOT_PERMITTED) where one
        institution does."""
        raise self._own()

    def change_operators(self, operators: ValidatorSet, quorum: int = 0) -> None:
        """Changes who decides, all of them are given, and how many must agree (0: as many as now).
        Raises as `operators` does."""
        raise self._own()

    def _own(self) -> Denied:
        return Denied(
            Reason.NOT_PERMITTED,
            "this node is one institution's own, whose operator decides alone",
            hint="a chain of several is made by lianqiao init --engine cometbft",
        )

    def heads_needed(self, packets: Sequence[Packet]) -> list[list[HeadNeed]]:
        """For each packet, which clients its contracts want younger before it is delivered. Pure.

        A contract that fails here needs nothing: it is asked again when it receives the packet.
        """
        with self.store.reading() as tx:
            now = self.now()
            return [self._needs_of(tx, packet, now) for packet in packets]

    def _needs_of(self, tx: Transaction, packet: Packet, now: int) -> list[HeadNeed]:
        needs: list[HeadNeed] = []
        for payload in packet.payloads:
            contract = self.channel.contracts.get(payload.destination_port)
            if contract is None:
                continue
            state = HostState(self.channel, tx, contract.port, now)
            try:
                needs.extend(contract.heads_needed(packet, payload, state, now))
            except CONTRACT_FAILURES:
                continue
        return needs
