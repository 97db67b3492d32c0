"""EvidenceService: what this node proves to others."""

from __future__ import annotations

import grpc

from lianqiao.relay.v1 import evidence_service_pb2 as pb
from lianqiao.relay.v1 import evidence_service_pb2_grpc as rpc
from relay import query
from relay.bundle_writer import MAX_PACKETS
from relay.codec.clients import MAX_ALGORITHM, witness_from_pb
from relay.codec.evidence import anchor_from_pb, head_to_pb
from relay.codec.fields import blobs, each, integer, malformed, name
from relay.codec.packets import key_from_pb
from relay.errors import NotFound, Reason
from relay.light.states import MAX_WITNESSES
from relay.service.parts import Parts
from relay.trust import MAX_CHAINS, encode_trust

MAX_PATHS = 2000
MAX_PATH_BYTES = 1024
DEFAULT_ALGORITHM = "ed25519"


class EvidenceServicer(rpc.EvidenceServiceServicer):
    """Heads, headers, inclusion, consistency, bundles."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def GetHead(
        self, request: pb.GetHeadRequest, context: grpc.ServicerContext
    ) -> pb.GetHeadResponse:
        """query.head."""
        view = query.head(self._parts.node.store, self._parts.node.shown)
        if view is None:
            raise NotFound(Reason.HEIGHT_NOT_FOUND, "no head is signed yet", hint="ask again")
        return head_to_pb(view)

    def GetHeaders(
        self, request: pb.GetHeadersRequest, context: grpc.ServicerContext
    ) -> pb.GetHeadersResponse:
        """Evidence.headers."""
        trusted = integer(request.trusted_height, "trusted_height")
        height = integer(request.height, "height", low=1)
        algorithm = name(request.algorithm or DEFAULT_ALGORITHM, "algorithm", MAX_ALGORITHM)
        witnesses = each(request.witnesses, "witnesses", MAX_WITNESSES, witness_from_pb)
        evidence = self._parts.evidence
        headers = evidence.headers(trusted, height, algorithm, witnesses)
        return pb.GetHeadersResponse(client_type=evidence.client_type.name, headers=headers)

    def Prove(self, request: pb.ProveRequest, context: grpc.ServicerContext) -> pb.ProveResponse:
        """Evidence.prove."""
        paths = blobs(request.paths, "paths", MAX_PATHS, MAX_PATH_BYTES, least=1, few=1)
        height = integer(request.height, "height", low=1)
        return pb.ProveResponse(proof=self._parts.evidence.prove(paths, height))

    def GetConsistency(
        self, request: pb.GetConsistencyRequest, context: grpc.ServicerContext
    ) -> pb.GetConsistencyResponse:
        """Evidence.consistency."""
        old = integer(request.old_size, "old_size", low=1)
        new = integer(request.new_size, "new_size", low=old)
        return pb.GetConsistencyResponse(hashes=self._parts.evidence.consistency(old, new))

    def GetBundle(
        self, request: pb.GetBundleRequest, context: grpc.ServicerContext
    ) -> pb.GetBundleResponse:
        """BundleWriter.bundle."""
        keys = each(request.keys, "keys", MAX_PACKETS, key_from_pb, least=1)
        anchors = dict(each(request.anchors, "anchors", MAX_CHAINS, anchor_from_pb))
        if len(anchors) < len(request.anchors):
            raise malformed("anchors", "must name each chain once")
        return pb.GetBundleResponse(bundle=self._parts.bundles.bundle(keys, anchors))

    def GetTrust(
        self, request: pb.GetTrustRequest, context: grpc.ServicerContext
    ) -> pb.GetTrustResponse:
        """BundleWriter.trust."""
        return pb.GetTrustResponse(trust=encode_trust(self._parts.bundles.trust()))
