"""RecognitionService: what a relay decided, and what clinicians did with it."""

from __future__ import annotations

from collections.abc import Iterator

from lianqiao.relay.v1 import recognition_service_pb2 as pb
from lianqiao.relay.v1 import recognition_service_pb2_grpc as rpc
from relay.client.base import Calls
from relay.client.connection import Connection
from relay.codec.decisions import count_from_pb, decision_from_pb
from relay.codec.fields import document
from relay.contracts.payloads import Decision, Outcome
from relay.ledger_views import DecisionView, OutcomeCount


class RecognitionCalls(Calls):
    """RecognitionService; relays alone serve it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._recognition = rpc.RecognitionServiceStub(connection.channel)

    def decision(self, origin: str, request: bytes) -> Decision:
        """The decision on a request of the ledger `origin`. Raises NotFound(NOT_FOUND)."""
        asked = pb.GetDecisionRequest(origin=origin, request_hash=request)
        response = self._connection.call(self._recognition.GetDecision, asked)
        return decision_from_pb(response.decision).decision

    def decisions(self, origin: str = "") -> Iterator[DecisionView]:
        """Decisions, on requests of one ledger or all."""
        request = pb.ListDecisionsRequest(origin=origin)
        return self._pages(self._recognition.ListDecisions, request, "decisions", decision_from_pb)

    def outcomes(self, origin: str = "") -> Iterator[Outcome]:
        """Outcomes, from one ledger or all."""
        request = pb.ListOutcomesRequest(origin=origin)
        return self._pages(
            self._recognition.ListOutcomes,
            request,
            "outcomes",
            lambda raw: document(raw, "outcome", Outcome.decode),
        )

    def count_outcomes(self, institution: str = "") -> list[OutcomeCount]:
        """How often results were adopted, or examined again and why."""
        request = pb.CountOutcomesRequest(institution=institution)
        response = self._connection.call(self._recognition.CountOutcomes, request)
        return [count_from_pb(c, f"counts[{i}]") for i, c in enumerate(response.counts)]
