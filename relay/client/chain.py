"""Calls that every node answers: its clients, its packets, its evidence."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence

from lianqiao.relay.v1 import client_service_pb2 as cpb
from lianqiao.relay.v1 import client_service_pb2_grpc as crpc
from lianqiao.relay.v1 import evidence_service_pb2 as epb
from lianqiao.relay.v1 import evidence_service_pb2_grpc as erpc
from lianqiao.relay.v1 import packet_service_pb2 as ppb
from lianqiao.relay.v1 import packet_service_pb2_grpc as prpc
from relay.chain import MAX_SENT_CLAIMS, Delivery, DeliveryResult, PacketStep
from relay.client.base import Calls
from relay.client.connection import Connection
from relay.codec import packets as codec
from relay.codec.clients import client_from_pb, client_state_to_pb, witness_to_pb
from relay.codec.evidence import anchor_to_pb, head_from_pb
from relay.codec.fields import blob, blobs, integer, malformed
from relay.light.types import MAX_HEADER_BYTES, Claim, ClientState, Witness
from relay.trust import Anchor
from relay.views import (
    ClientView,
    Direction,
    HeadView,
    PacketState,
    PacketView,
    TraceStep,
)


class ClientCalls(Calls):
    """ClientService."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._clients = crpc.ClientServiceStub(connection.channel)

    def create_client(
        self,
        state: ClientState,
        anchor_header: bytes,
        request_id: str | None = None,
        counterparty_client_id: str = "",
    ) -> str:
        """Creates a client; its id. Give a `request_id` of your own to be able to repeat it.

        With `counterparty_client_id` that is named in the same step. Raises
        Refused(APPROVAL_PENDING) on a chain of several operators, until enough have asked.
        """
        request = cpb.CreateClientRequest(
            request_id=request_id or str(uuid.uuid4()),
            state=client_state_to_pb(state),
            anchor_header=anchor_header,
            counterparty_client_id=counterparty_client_id,
        )
        return self._connection.call(self._clients.CreateClient, request).client_id

    def register_counterparty(self, client_id: str, counterparty_client_id: str) -> None:
        """Names the node's client on the followed chain, once."""
        request = cpb.RegisterCounterpartyRequest(
            client_id=client_id, counterparty_client_id=counterparty_client_id
        )
        self._connection.call(self._clients.RegisterCounterparty, request)

    def client(self, client_id: str) -> ClientView:
        """One client. Raises NotFound(CLIENT_NOT_FOUND)."""
        request = cpb.GetClientRequest(client_id=client_id)
        return client_from_pb(self._connection.call(self._clients.GetClient, request).client)

    def shown_headers(self, client_id: str) -> tuple[bytes, bytes]:
        """The newest header that one of the node's clients has verified, and the head of the same
        chain that the node has co-signed last, both raw; empty where it has co-signed none."""
        request = cpb.GetVerifiedHeaderRequest(client_id=client_id)
        response = self._connection.call(self._clients.GetVerifiedHeader, request)
        return (
            blob(response.header, "header", MAX_HEADER_BYTES, least=1),
            blob(response.cosigned_header, "cosigned_header", MAX_HEADER_BYTES),
        )

    def clients(self, seconds: float | None = None) -> Iterator[ClientView]:
        """All clients; `seconds`: see Calls._pages."""
        request = cpb.ListClientsRequest()
        return self._pages(self._clients.ListClients, request, "clients", client_from_pb, seconds)

    def submit_misbehaviour(self, client_id: str, evidence: bytes) -> None:
        """Freezes a client by proof. Raises Invalid(NOT_MISBEHAVIOUR)."""
        request = cpb.SubmitMisbehaviourRequest(client_id=client_id, evidence=evidence)
        self._connection.call(self._clients.SubmitMisbehaviour, request)

    def propose_recovery(
        self, client_id: str, state: ClientState, anchor_header: bytes, delay: int = 0
    ) -> int:
        """Proposes a new state and anchor for a client; when it takes effect. 0: a day's delay.

        Raises Refused(RECOVERY_PENDING, RECOVERY_NOT_NEEDED, CHAIN_ID_MISMATCH).
        """
        request = cpb.ProposeRecoveryRequest(
            client_id=client_id,
            state=client_state_to_pb(state),
            anchor_header=anchor_header,
            delay_seconds=delay,
        )
        response = self._connection.call(self._clients.ProposeRecovery, request)
        return integer(response.due_time_seconds, "due_time_seconds")

    def cancel_recovery(self, client_id: str) -> None:
        """Withdraws what was proposed."""
        request = cpb.CancelRecoveryRequest(client_id=client_id)
        self._connection.call(self._clients.CancelRecovery, request)

    def skip_sequences(self, client_id: str, next_sequence: int) -> None:
        """Passes over sequences that were used and lost. Raises Refused(SEQUENCE_USED)."""
        request = cpb.SkipSequencesRequest(client_id=client_id, next_sequence=next_sequence)
        self._connection.call(self._clients.SkipSequences, request)


class PacketCalls(Calls):
    """PacketService."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._packets = prpc.PacketServiceStub(connection.channel)

    def deliver(self, deliveries: Sequence[Delivery]) -> list[DeliveryResult]:
        """Delivers headers and packets with their proofs; one result a delivery."""
        request = ppb.DeliverRequest(deliveries=[codec.delivery_to_pb(d) for d in deliveries])
        response = self._connection.call(self._packets.Deliver, request)
        results = [codec.result_from_pb(r, f"results[{i}]") for i, r in enumerate(response.results)]
        wanted = [len(d.items) for d in deliveries]
        if [len(r.items) for r in results] != wanted:
            raise malformed("results", "do not match the deliveries")
        return results

    def steps(self, client_id: str, after: int, limit: int) -> list[PacketStep]:
        """Up to `limit` (at most 1000) packet steps of a client with cursor > `after`."""
        request = ppb.ListStepsRequest(client_id=client_id, after_cursor=after, page_size=limit)
        response = self._connection.call(self._packets.ListSteps, request)
        return [codec.step_from_pb(s, f"steps[{i}]") for i, s in enumerate(response.steps)]

    def sent(self, client_id: str, height: int, before: int) -> tuple[Claim, ...]:
        """What a client had sent by when, as claims to be proven under `height`; empty for none."""
        request = ppb.GetSentRequest(client_id=client_id, height=height, before_sequence=before)
        response = self._connection.call(self._packets.GetSent, request)
        return codec.entries_from_pb(response.claims, "claims", MAX_SENT_CLAIMS)

    def packet(self, client_id: str, sequence: int, direction: Direction) -> PacketView:
        """One packet. Raises NotFound(PACKET_NOT_FOUND)."""
        request = ppb.GetPacketRequest(key=codec.key_to_pb(client_id, sequence, direction))
        return codec.view_from_pb(self._connection.call(self._packets.GetPacket, request).packet)

    def packets(
        self, *, client_id: str = "", state: PacketState | None = None
    ) -> Iterator[PacketView]:
        """Packets, oldest first, of one client or all, in one state or any."""
        request = ppb.ListPacketsRequest(client_id=client_id, state=codec.state_to_pb(state))
        return self._pages(self._packets.ListPackets, request, "packets", codec.view_from_pb)

    def trace(self, client_id: str, sequence: int, direction: Direction) -> list[TraceStep]:
        """Everything the node journaled about a packet."""
        request = ppb.TracePacketRequest(key=codec.key_to_pb(client_id, sequence, direction))
        response = self._connection.call(self._packets.TracePacket, request)
        return [codec.trace_from_pb(s, f"steps[{i}]") for i, s in enumerate(response.steps)]

    def watch(
        self, client_id: str, after: int = 0, timeout: float = 3600.0
    ) -> Iterator[tuple[int, PacketStep | None]]:
        """(cursor, step) as they come, step None for a heartbeat; ends after `timeout` seconds."""
        request = ppb.WatchPacketsRequest(client_id=client_id, after_cursor=after)
        for answer in self._connection.stream(self._packets.WatchPackets, request, timeout):
            step = codec.step_from_pb(answer.step) if answer.HasField("step") else None
            yield answer.cursor, step


class EvidenceCalls(Calls):
    """EvidenceService. What it answers is evidence: verify it with relay.light before use."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._evidence = erpc.EvidenceServiceStub(connection.channel)

    def head(self) -> HeadView:
        """The newest signed head. Raises NotFound(HEIGHT_NOT_FOUND) while there is none."""
        return head_from_pb(self._connection.call(self._evidence.GetHead, epb.GetHeadRequest()))

    def headers(
        self,
        trusted_height: int,
        height: int,
        algorithm: str = "ed25519",
        witnesses: Sequence[Witness] = (),
    ) -> list[bytes]:
        """The raw headers that lead a client from one height to another, with the lines that it
        counts: those of `algorithm`, and co-signatures of `witnesses`."""
        request = epb.GetHeadersRequest(
            trusted_height=trusted_height,
            height=height,
            algorithm=algorithm,
            witnesses=[witness_to_pb(witness) for witness in witnesses],
        )
        response = self._connection.call(self._evidence.GetHeaders, request)
        return list(blobs(response.headers, "headers", codec.MAX_HEADERS, MAX_HEADER_BYTES))

    def prove(self, paths: Sequence[bytes], height: int) -> bytes:
        """One proof that `paths` are written at `height`."""
        request = epb.ProveRequest(paths=paths, height=height)
        return self._connection.call(self._evidence.Prove, request).proof

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """The RFC 9162 proof that the journal only grew."""
        request = epb.GetConsistencyRequest(old_size=old_size, new_size=new_size)
        return list(self._connection.call(self._evidence.GetConsistency, request).hashes)

    def bundle(
        self,
        client_id: str,
        sequence: int,
        direction: Direction,
        anchors: Mapping[str, Anchor] | None = None,
    ) -> bytes:
        """The bundle of a packet, for `lianqiao verify`."""
        return self.bundle_of([(client_id, sequence, direction)], anchors)

    def bundle_of(
        self,
        keys: Sequence[tuple[str, int, Direction]],
        anchors: Mapping[str, Anchor] | None = None,
    ) -> bytes:
        """One bundle of several packets (client id, sequence, direction).

        `anchors`: chain id -> the head that its reader trusts and the witnesses that he counts,
        where that is not as in `trust()`.
        """
        request = epb.GetBundleRequest(
            keys=[codec.key_to_pb(*key) for key in keys],
            anchors=[anchor_to_pb(chain, one) for chain, one in (anchors or {}).items()],
        )
        return self._connection.call(self._evidence.GetBundle, request).bundle

    def trust(self) -> bytes:
        """The trust file of what the node itself trusts, for `lianqiao verify`."""
        return self._connection.call(self._evidence.GetTrust, epb.GetTrustRequest()).trust
