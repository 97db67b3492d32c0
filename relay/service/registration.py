"""Which services a node offers: all have those of a chain, each role those of its contracts."""

from __future__ import annotations

from typing import Any

import grpc

from lianqiao.ledger.v1 import (
    escrow_service_pb2,
    escrow_service_pb2_grpc,
    record_service_pb2,
    record_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)
from lianqiao.relay.v1 import (
    client_service_pb2,
    client_service_pb2_grpc,
    evidence_service_pb2,
    evidence_service_pb2_grpc,
    operator_service_pb2,
    operator_service_pb2_grpc,
    packet_service_pb2,
    packet_service_pb2_grpc,
    recognition_service_pb2,
    recognition_service_pb2_grpc,
    settlement_service_pb2,
    settlement_service_pb2_grpc,
    witness_service_pb2,
    witness_service_pb2_grpc,
)
from relay.contracts.payloads import (
    ESCROW_PORT,
    RECOGNITION_PORT,
    REGISTRY_PORT,
    SETTLEMENT_PORT,
)
from relay.service.clients import ClientServicer
from relay.service.escrow import EscrowServicer
from relay.service.evidence import EvidenceServicer
from relay.service.operator import OperatorServicer
from relay.service.packets import PacketServicer
from relay.service.parts import Parts, Source
from relay.service.recognition import RecognitionServicer
from relay.service.records import RecordServicer
from relay.service.registry import RegistryServicer
from relay.service.settlement import SettlementServicer
from relay.service.witness import WitnessServicer


def register_services(server: grpc.Server, parts: Parts, source: Source | None) -> tuple[str, ...]:
    """Adds the services that this node has; their full names.

    A ledger's records are served where there is a `source` to keep them.
    """
    client_service_pb2_grpc.add_ClientServiceServicer_to_server(ClientServicer(parts), server)
    packet_service_pb2_grpc.add_PacketServiceServicer_to_server(PacketServicer(parts), server)
    evidence_service_pb2_grpc.add_EvidenceServiceServicer_to_server(EvidenceServicer(parts), server)
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(OperatorServicer(parts), server)
    witness_service_pb2_grpc.add_WitnessServiceServicer_to_server(WitnessServicer(parts), server)
    files: list[Any] = [
        client_service_pb2,
        packet_service_pb2,
        evidence_service_pb2,
        operator_service_pb2,
        witness_service_pb2,
    ]
    if RECOGNITION_PORT in parts.node.contracts:
        recognition_service_pb2_grpc.add_RecognitionServiceServicer_to_server(
            RecognitionServicer(parts), server
        )
        files.append(recognition_service_pb2)
    if SETTLEMENT_PORT in parts.node.contracts:
        settlement_service_pb2_grpc.add_SettlementServiceServicer_to_server(
            SettlementServicer(parts), server
        )
        files.append(settlement_service_pb2)
    if ESCROW_PORT in parts.node.contracts:
        escrow_service_pb2_grpc.add_EscrowServiceServicer_to_server(EscrowServicer(parts), server)
        files.append(escrow_service_pb2)
    if source is not None and REGISTRY_PORT in parts.node.contracts:
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(
            RegistryServicer(parts, source), server
        )
        record_service_pb2_grpc.add_RecordServiceServicer_to_server(
            RecordServicer(parts, source), server
        )
        files += [registry_service_pb2, record_service_pb2]
    return tuple(
        service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()
    )
