"""OperatorService: what an operator asks of his own node.

Policy documents belong to the contract `recognition`, so only a relay has them; its journal keeps
every version for ever.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import grpc

from lianqiao.relay.v1 import operator_service_pb2 as pb
from lianqiao.relay.v1 import operator_service_pb2_grpc as rpc
from relay import canonical, query
from relay.codec import pages
from relay.codec.evidence import (
    lane_from_pb,
    lane_to_pb,
    operator_from_pb,
    operator_to_pb,
    policy_to_pb,
    power_from_pb,
    status_to_pb,
)
from relay.codec.fields import blob, each, integer, malformed, name, present
from relay.codec.undelivered import undelivered_to_pb
from relay.contracts.payloads import RECOGNITION_PORT, fields
from relay.contracts.policy import MAX_POLICY_BYTES, Line, in_force, index, read
from relay.light.validators import validator_set
from relay.packet import MAX_INT
from relay.powers import MAX_VALIDATORS
from relay.service.parts import Parts
from relay.undelivered import FIRST, Key, list_undelivered
from relay.views import PolicyView, Undelivered

RESEND_BATCH = 1000
MAX_RESENDS = 1000
"""Batches in one call."""


def program_version() -> str:
    """Version of the installed distribution; `0+source` where it runs from a bare checkout."""
    try:
        return version("lianqiao")
    except PackageNotFoundError:
        return "0+source"


class OperatorServicer(rpc.OperatorServiceServicer):
    """Shows the node."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetStatusResponse:
        """query.status."""
        node = self._parts.node
        view = query.status(
            node.store,
            chain_id=node.chain_id,
            role=node.role,
            version=program_version(),
            ports=sorted(node.contracts),
            shown=node.shown,
        )
        own = self._parts.witness
        witnesses = tuple(self._parts.witnesses())
        pinned = self._parts.evidence.client_state(node.origin)
        return status_to_pb(
            replace(
                view,
                witnesses=witnesses,
                own_witness=own.pinned if own else None,
                client_type=pinned.client_type,
                proof_kind=pinned.proof_kind,
                algorithm="" if pinned.client_type == "checkpoint" else pinned.algorithm,
            )
        )

    def ProposePowers(
        self, request: pb.ProposePowersRequest, context: grpc.ServicerContext
    ) -> pb.ProposePowersResponse:
        """Node.change_powers."""
        powers = each(request.powers, "powers", MAX_VALIDATORS, power_from_pb, least=1)
        self._parts.node.change_powers(powers)
        return pb.ProposePowersResponse()

    def GetOperators(
        self, request: pb.GetOperatorsRequest, context: grpc.ServicerContext
    ) -> pb.GetOperatorsResponse:
        """Node.operators."""
        operators, quorum = self._parts.node.operators()
        found = [operator_to_pb(one) for one in operators.validators]
        return pb.GetOperatorsResponse(operators=found, quorum=quorum)

    def ProposeOperators(
        self, request: pb.ProposeOperatorsRequest, context: grpc.ServicerContext
    ) -> pb.ProposeOperatorsResponse:
        """Node.change_operators."""
        found = each(request.operators, "operators", MAX_VALIDATORS, operator_from_pb, least=1)
        quorum = integer(request.quorum, "quorum", high=MAX_VALIDATORS)
        self._parts.node.change_operators(validator_set(found), quorum)
        return pb.ProposeOperatorsResponse()

    def LoadPolicy(
        self, request: pb.LoadPolicyRequest, context: grpc.ServicerContext
    ) -> pb.LoadPolicyResponse:
        """`policy.load` of the contract."""
        raw = blob(request.document, "document", MAX_POLICY_BYTES, least=1)
        answer = self._parts.node.call(RECOGNITION_PORT, "policy.load", raw)
        line = fields.document(answer)
        loaded = (str(line["kind"]), str(line["name"]), int(str(line["version"])))
        return pb.LoadPolicyResponse(policy=policy_to_pb(self._policy(*loaded)[0]))

    def GetPolicy(
        self, request: pb.GetPolicyRequest, context: grpc.ServicerContext
    ) -> pb.GetPolicyResponse:
        """One document with its content."""
        view, document = self._policy(
            name(request.kind, "kind"),
            name(request.name, "name"),
            integer(request.version, "version", low=1),
        )
        return pb.GetPolicyResponse(policy=policy_to_pb(view), document=document)

    def ListPolicies(
        self, request: pb.ListPoliciesRequest, context: grpc.ServicerContext
    ) -> pb.ListPoliciesResponse:
        """Documents after the one that the token names, in order of kind, name and version."""
        size = pages.page_size(request.page_size)
        kind = name(request.kind, "kind") if request.kind else ""
        listing = pages.filter_hash("ListPolicies", kind)
        after = pages.decode_text(pages.decode_token(request.page_token, listing))
        with self._parts.state(RECOGNITION_PORT) as state:
            lines = index(state)
        found = [v for v in self._views(lines) if kind in ("", v.kind) and _key(v) > after]
        policies, token = pages.cut(listing, size, found, policy_to_pb, lambda v: _key(v).encode())
        return pb.ListPoliciesResponse(policies=policies, next_page_token=token)

    def RegisterLane(
        self, request: pb.RegisterLaneRequest, context: grpc.ServicerContext
    ) -> pb.RegisterLaneResponse:
        """Lanes.add, for a client that is there."""
        lanes = self._parts.require_lanes()
        present(request, "lane")
        lane = lane_from_pb(request.lane)
        query.get_client(self._parts.node.store, lane.client_id)
        lanes.add(lane)
        return pb.RegisterLaneResponse()

    def ListLanes(
        self, request: pb.ListLanesRequest, context: grpc.ServicerContext
    ) -> pb.ListLanesResponse:
        """Lanes.list, after the one that the token names."""
        size = pages.page_size(request.page_size)
        listing = pages.filter_hash("ListLanes")
        after = pages.decode_text(pages.decode_token(request.page_token, listing))
        found = [v for v in self._parts.require_lanes().list() if v.client_id > after]
        lanes, token = pages.cut(listing, size, found, lane_to_pb, lambda v: v.client_id.encode())
        return pb.ListLanesResponse(lanes=lanes, next_page_token=token)

    def RequestResend(
        self, request: pb.RequestResendRequest, context: grpc.ServicerContext
    ) -> pb.RequestResendResponse:
        """`resend` of the contract, until it has looked at everything."""
        port = name(request.port, "port")
        sent = failed = 0
        for _ in range(MAX_RESENDS):
            body = canonical.encode({"limit": RESEND_BATCH})
            answer = fields.document(self._parts.node.call(port, "resend", body))
            more = fields.integer(answer, "sent")
            sent, failed = sent + more, fields.integer(answer, "failed")
            if more < RESEND_BATCH:
                break
        return pb.RequestResendResponse(sent=sent, failed=failed)

    def ClearPackets(
        self, request: pb.ClearPacketsRequest, context: grpc.ServicerContext
    ) -> pb.ClearPacketsResponse:
        """Relayer.clear."""
        first = integer(request.first_sequence, "first_sequence") or 1
        last = integer(request.last_sequence, "last_sequence") or MAX_INT
        client_id = name(request.client_id, "client_id")
        lanes = self._parts.require_lanes()
        done = lanes.clear(client_id, self._parts.clock(), (first, last))
        return pb.ClearPacketsResponse(
            waiting=done.waiting, dead=done.dead, forgotten=done.forgotten, reread=done.reread
        )

    def ListUndelivered(
        self, request: pb.ListUndeliveredRequest, context: grpc.ServicerContext
    ) -> pb.ListUndeliveredResponse:
        """list_undelivered, after the step that the token names."""
        self._parts.require_lanes()
        size = pages.page_size(request.page_size)
        client = name(request.client_id, "client_id") if request.client_id else ""
        sequence = integer(request.sequence, "sequence")
        listing = pages.filter_hash("ListUndelivered", client, sequence)
        after = _decode_key(pages.decode_text(pages.decode_token(request.page_token, listing)))
        store = self._parts.node.store
        found = list_undelivered(store, after, size + 1, client_id=client, sequence=sequence)
        steps, token = pages.cut(
            listing, size, found, lambda pair: undelivered_to_pb(pair[1]), _encode_key
        )
        return pb.ListUndeliveredResponse(undelivered=steps, next_page_token=token)

    def _policy(self, kind: str, named: str, version: int) -> tuple[PolicyView, bytes]:
        with self._parts.state(RECOGNITION_PORT) as state:
            lines = index(state)
            raw = read(state, kind, named, version)
        views = {(v.kind, v.name, v.version): v for v in self._views(lines)}
        return views[kind, named, version], raw

    def _views(self, lines: tuple[Line, ...]) -> list[PolicyView]:
        current = set(in_force(lines, self._parts.clock()))
        return [
            PolicyView(
                kind=line.kind.value,
                name=line.name,
                version=line.version,
                effective_from=line.effective_from,
                digest=line.digest,
                in_force=line in current,
            )
            for line in lines
        ]


def _key(view: PolicyView) -> str:
    return f"{view.kind}/{view.name}/{view.version:08d}"


def _encode_key(pair: tuple[Key, Undelivered]) -> bytes:
    client_id, side, cursor = pair[0]
    return f"{client_id} {side} {cursor}".encode()


def _decode_key(text: str) -> Key:
    """The key in a cursor; FIRST for the empty one."""
    if not text:
        return FIRST
    parts = text.split(" ")
    cursor = parts[-1][:20]
    number = cursor.isascii() and cursor.isdigit() and int(cursor) <= MAX_INT
    if not (len(parts) == 3 and all(parts) and number):
        raise malformed("page_token", "is not a token of this listing")
    return parts[0], parts[1], int(cursor)
