"""Decisions and counts of a relay."""

from __future__ import annotations

from lianqiao.relay.v1 import recognition_service_pb2 as pb
from relay.codec.fields import digest, document, identifier, integer, malformed, name
from relay.contracts.payloads import Decision
from relay.ledger_views import DecisionView, OutcomeCount


def decision_to_pb(view: DecisionView) -> pb.Decision:
    """DecisionView as a message."""
    return pb.Decision(
        origin=view.origin,
        request_hash=view.decision.request,
        decision=view.decision.encode(),
    )


def decision_from_pb(message: pb.Decision, where: str = "decision") -> DecisionView:
    """DecisionView whose id is that of its decision."""
    view = DecisionView(
        identifier(message.origin, f"{where}.origin"),
        document(message.decision, f"{where}.decision", Decision.decode),
    )
    if digest(message.request_hash, f"{where}.request_hash") != view.decision.request:
        raise malformed(f"{where}.request_hash", "is another than the decision's")
    return view


def count_to_pb(count: OutcomeCount) -> pb.OutcomeCount:
    """OutcomeCount as a message."""
    return pb.OutcomeCount(
        institution=count.institution, item=count.item, result=count.result, count=count.count
    )


def count_from_pb(message: pb.OutcomeCount, where: str = "count") -> OutcomeCount:
    """OutcomeCount."""
    return OutcomeCount(
        identifier(message.institution, f"{where}.institution"),
        name(message.item, f"{where}.item"),
        name(message.result, f"{where}.result"),
        integer(message.count, f"{where}.count"),
    )
