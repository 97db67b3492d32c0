"""WitnessService: this node co-signs the heads of chains that it follows."""

from __future__ import annotations

import grpc

from lianqiao.relay.v1 import witness_service_pb2 as pb
from lianqiao.relay.v1 import witness_service_pb2_grpc as rpc
from relay.codec.fields import blob, blobs, integer
from relay.errors import Denied, Reason
from relay.light.checkpoint_client import MAX_LINK_HASHES
from relay.light.note import MAX_NOTE_BYTES
from relay.light.validators import MAX_SET_BYTES
from relay.service.parts import Parts


class WitnessServicer(rpc.WitnessServiceServicer):
    """Answers by relay.witness."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def AddCheckpoint(
        self, request: pb.AddCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.AddCheckpointResponse:
        """Witness.add_checkpoint."""
        witness = self._parts.witness
        if witness is None:
            raise Denied(
                Reason.NOT_PERMITTED,
                f"{self._parts.node.chain_id} has no witness key",
                hint="[witness] in its configuration names one; lianqiao init makes it",
            )
        answer = witness.add_checkpoint(
            integer(request.old_size, "old_size"),
            blobs(request.consistency_proof, "consistency_proof", MAX_LINK_HASHES, 32, least=32),
            blob(request.note, "note", MAX_NOTE_BYTES, least=1),
            blob(request.validators, "validators", MAX_SET_BYTES),
            self._parts.clock(),
        )
        return pb.AddCheckpointResponse(cosignatures=answer.lines, known_size=answer.size)
