"""ClientService: the light clients of this node."""

from __future__ import annotations

import grpc

from lianqiao.relay.v1 import client_service_pb2 as pb
from lianqiao.relay.v1 import client_service_pb2_grpc as rpc
from relay import query
from relay.codec import pages
from relay.codec.clients import client_state_from_pb, client_to_pb
from relay.codec.fields import blob, integer, name, present
from relay.light.types import MAX_HEADER_BYTES
from relay.recovery import DEFAULT_DELAY
from relay.service.parts import Parts

MAX_REQUEST_ID = 64
MAX_EVIDENCE_BYTES = 1024 * 1024


class ClientServicer(rpc.ClientServiceServicer):
    """Creates, shows, freezes and recovers clients."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def CreateClient(
        self, request: pb.CreateClientRequest, context: grpc.ServicerContext
    ) -> pb.CreateClientResponse:
        """Node.create_client."""
        request_id = name(request.request_id, "request_id", MAX_REQUEST_ID)
        present(request, "state")
        state = client_state_from_pb(request.state)
        anchor = blob(request.anchor_header, "anchor_header", MAX_HEADER_BYTES, least=1)
        bound = request.counterparty_client_id
        counterparty = name(bound, "counterparty_client_id") if bound else ""
        client_id = self._parts.node.create_client(state, anchor, request_id, counterparty)
        return pb.CreateClientResponse(client_id=client_id)

    def RegisterCounterparty(
        self, request: pb.RegisterCounterpartyRequest, context: grpc.ServicerContext
    ) -> pb.RegisterCounterpartyResponse:
        """Node.register_counterparty."""
        self._parts.node.register_counterparty(
            name(request.client_id, "client_id"),
            name(request.counterparty_client_id, "counterparty_client_id"),
        )
        return pb.RegisterCounterpartyResponse()

    def GetClient(
        self, request: pb.GetClientRequest, context: grpc.ServicerContext
    ) -> pb.GetClientResponse:
        """query.get_client."""
        view = query.get_client(self._parts.node.store, name(request.client_id, "client_id"))
        return pb.GetClientResponse(client=client_to_pb(view, self._parts.clock()))

    def GetVerifiedHeader(
        self, request: pb.GetVerifiedHeaderRequest, context: grpc.ServicerContext
    ) -> pb.GetVerifiedHeaderResponse:
        """query.verified_header, and Witness.newest of the same chain."""
        client_id = name(request.client_id, "client_id")
        store, witness = self._parts.node.store, self._parts.witness
        header, cosigned = query.verified_header(store, client_id), None
        if witness is not None:
            cosigned = witness.newest(query.get_client(store, client_id).state.chain_id)
        return pb.GetVerifiedHeaderResponse(header=header, cosigned_header=cosigned or b"")

    def ListClients(
        self, request: pb.ListClientsRequest, context: grpc.ServicerContext
    ) -> pb.ListClientsResponse:
        """query.list_clients."""
        size = pages.page_size(request.page_size)
        listing = pages.filter_hash("ListClients")
        after = pages.decode_text(pages.decode_token(request.page_token, listing))
        views = query.list_clients(self._parts.node.store, after, size)
        now = self._parts.clock()
        clients, token = pages.cut(
            listing,
            size,
            views,
            lambda v: client_to_pb(v, now),
            lambda v: v.client_id.encode(),
        )
        return pb.ListClientsResponse(clients=clients, next_page_token=token)

    def SubmitMisbehaviour(
        self, request: pb.SubmitMisbehaviourRequest, context: grpc.ServicerContext
    ) -> pb.SubmitMisbehaviourResponse:
        """Node.submit_misbehaviour."""
        self._parts.node.submit_misbehaviour(
            name(request.client_id, "client_id"),
            blob(request.evidence, "evidence", MAX_EVIDENCE_BYTES, least=1),
        )
        return pb.SubmitMisbehaviourResponse()

    def ProposeRecovery(
        self, request: pb.ProposeRecoveryRequest, context: grpc.ServicerContext
    ) -> pb.ProposeRecoveryResponse:
        """Node.propose_recovery."""
        client_id = name(request.client_id, "client_id")
        present(request, "state")
        state = client_state_from_pb(request.state)
        anchor = blob(request.anchor_header, "anchor_header", MAX_HEADER_BYTES, least=1)
        delay = integer(request.delay_seconds, "delay_seconds") or DEFAULT_DELAY
        due = self._parts.node.propose_recovery(client_id, state, anchor, delay)
        return pb.ProposeRecoveryResponse(due_time_seconds=due)

    def CancelRecovery(
        self, request: pb.CancelRecoveryRequest, context: grpc.ServicerContext
    ) -> pb.CancelRecoveryResponse:
        """Node.cancel_recovery."""
        self._parts.node.cancel_recovery(name(request.client_id, "client_id"))
        return pb.CancelRecoveryResponse()

    def SkipSequences(
        self, request: pb.SkipSequencesRequest, context: grpc.ServicerContext
    ) -> pb.SkipSequencesResponse:
        """Node.skip_sequences."""
        self._parts.node.skip_sequences(
            name(request.client_id, "client_id"),
            integer(request.next_sequence, "next_sequence", low=1),
        )
        return pb.SkipSequencesResponse()
