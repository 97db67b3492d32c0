"""Calls to a node as a witness."""

from __future__ import annotations

from collections.abc import Sequence

from lianqiao.relay.v1 import witness_service_pb2 as pb
from lianqiao.relay.v1 import witness_service_pb2_grpc as rpc
from relay.client.base import Calls
from relay.client.connection import Connection
from relay.codec.fields import blobs, integer
from relay.views import Cosigned

MAX_LINES = 32
MAX_LINE_BYTES = 1024


class WitnessCalls(Calls):
    """WitnessService."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._witness = rpc.WitnessServiceStub(connection.channel)

    def add_checkpoint(
        self, old_size: int, proof: Sequence[bytes], note: bytes, validators: bytes
    ) -> Cosigned:
        """Shows a head to the witness. What it answers is checked by relay.cosigning."""
        request = pb.AddCheckpointRequest(
            old_size=old_size, consistency_proof=proof, note=note, validators=validators
        )
        response = self._connection.call(self._witness.AddCheckpoint, request)
        return Cosigned(
            blobs(response.cosignatures, "cosignatures", MAX_LINES, MAX_LINE_BYTES, least=1),
            integer(response.known_size, "known_size"),
        )
