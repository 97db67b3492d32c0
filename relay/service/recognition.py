"""RecognitionService: a relay's decisions, outcomes and counts, read from its contract's keys."""

from __future__ import annotations

import grpc

from lianqiao.relay.v1 import recognition_service_pb2 as pb
from lianqiao.relay.v1 import recognition_service_pb2_grpc as rpc
from relay import query
from relay.codec import pages
from relay.codec.decisions import count_to_pb, decision_to_pb
from relay.codec.fields import digest, identifier
from relay.contracts.base import key
from relay.contracts.payloads import RECOGNITION_PORT, Decision
from relay.errors import Exhausted, NotFound, Reason
from relay.ledger_views import DecisionView, OutcomeCount
from relay.service.parts import Parts

MAX_COUNTED = 1_000_000
"""Reported items that one call counts."""


class RecognitionServicer(rpc.RecognitionServiceServicer):
    """Shows what the contract `recognition` keeps."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def GetDecision(
        self, request: pb.GetDecisionRequest, context: grpc.ServicerContext
    ) -> pb.GetDecisionResponse:
        """decision/<origin>/<request>."""
        origin = identifier(request.origin, "origin")
        wanted = digest(request.request_hash, "request_hash")
        name = key("decision", origin, wanted)
        value = query.get_record(self._parts.node.store, RECOGNITION_PORT, name)
        if value is None:
            raise NotFound(
                Reason.NOT_FOUND, "no such request was decided here", request=wanted.hex()
            )
        view = DecisionView(origin, Decision.decode(value))
        return pb.GetDecisionResponse(decision=decision_to_pb(view))

    def ListDecisions(
        self, request: pb.ListDecisionsRequest, context: grpc.ServicerContext
    ) -> pb.ListDecisionsResponse:
        """Keys under decision/."""
        listing, size, found = self._page("decision", request)
        decisions, token = pages.cut(
            listing, size, found, lambda f: decision_to_pb(_decision(*f)), lambda f: f[0]
        )
        return pb.ListDecisionsResponse(decisions=decisions, next_page_token=token)

    def ListOutcomes(
        self, request: pb.ListOutcomesRequest, context: grpc.ServicerContext
    ) -> pb.ListOutcomesResponse:
        """Keys under outcome/."""
        listing, size, found = self._page("outcome", request)
        outcomes, token = pages.cut_bytes(listing, size, found)
        return pb.ListOutcomesResponse(outcomes=outcomes, next_page_token=token)

    def CountOutcomes(
        self, request: pb.CountOutcomesRequest, context: grpc.ServicerContext
    ) -> pb.CountOutcomesResponse:
        """Keys under tally/, counted."""
        prefix = "tally/"
        if request.institution:
            prefix += identifier(request.institution, "institution") + "/"
        counts: dict[tuple[str, str, str], int] = {}
        after, seen = b"", 0
        while True:
            page = query.list_records(
                self._parts.node.store, RECOGNITION_PORT, prefix.encode(), after, pages.MAX_PAGE
            )
            for name, _ in page:
                institution, item, result = name.decode().split("/")[1:4]
                where = (institution, item, result)
                counts[where] = counts.get(where, 0) + 1
            seen += len(page)
            if len(page) < pages.MAX_PAGE:
                break
            if seen >= MAX_COUNTED:
                raise Exhausted(
                    Reason.LIMIT_EXCEEDED, "too many outcomes", hint="count one institution's"
                )
            after = page[-1][0]
        return pb.CountOutcomesResponse(
            counts=[count_to_pb(OutcomeCount(*w, n)) for w, n in sorted(counts.items())]
        )

    def _page(
        self, what: str, request: pb.ListDecisionsRequest | pb.ListOutcomesRequest
    ) -> tuple[bytes, int, list[tuple[bytes, bytes]]]:
        """(listing, page size, keys and values) under `what`, of one origin or all."""
        size = pages.page_size(request.page_size)
        origin = identifier(request.origin, "origin") if request.origin else ""
        prefix = f"{what}/{origin}/" if origin else f"{what}/"
        listing = pages.filter_hash(what, origin)
        after = pages.decode_token(request.page_token, listing) or b""
        found = query.list_records(
            self._parts.node.store, RECOGNITION_PORT, prefix.encode(), after, size
        )
        return listing, size, found


def _decision(name: bytes, value: bytes) -> DecisionView:
    return DecisionView(name.decode().split("/")[1], Decision.decode(value))
