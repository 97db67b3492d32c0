"""Which services a node offers: all have those of a chain, each role those of its contracts."""

from __future__ import annotations

import grpc

from lianqiao.relay.v1 import (
    client_service_pb2,
    client_service_pb2_grpc,
    evidence_service_pb2,
    evidence_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    packet_service_pb2,
    packet_service_pb2_grpc,
)
from relay.service.clients import ClientServicer
from relay.service.evidence import EvidenceServicer
from relay.service.operator import OperatorServicer
from relay.service.packets import PacketServicer
from relay.service.parts import Parts


def register_services(server: grpc.Server, parts: Parts) -> tuple[str, ...]:
    """Adds the services that this node has; their full names."""
    client_service_pb2_grpc.add_ClientServiceServicer_to_server(ClientServicer(parts), server)
    packet_service_pb2_grpc.add_PacketServiceServicer_to_server(PacketServicer(parts), server)
    evidence_service_pb2_grpc.add_EvidenceServiceServicer_to_server(EvidenceServicer(parts), server)
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(OperatorServicer(parts), server)
    files = [client_service_pb2, packet_service_pb2, evidence_service_pb2, operator_service_pb2]
    return tuple(
        service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()
    )
